//! `halyard create-admin`: makes sure that there is an administrator. Running it again changes nothing.

use anyhow::anyhow;
use secrecy::SecretString;
use uuid::Uuid;

use super::database::Opened;
use super::prompt;
use crate::auth::password;
use crate::config::{CreateAdmin, Password};
use crate::domain::email::Email;
use crate::store::connect::Target;
use crate::store::feed::Hints;
use crate::store::users::{Administrator, NewAdministrator};
use crate::store::{self, Actor, Caller, Settings, Store};

/// Creates the administrator, and says what became of it.
pub async fn run(create: CreateAdmin) -> anyhow::Result<()> {
    let CreateAdmin {
        database,
        email,
        password,
    } = create;
    let password = tokio::task::spawn_blocking(move || chosen(password)).await??;
    password::check_new(&password, &email).map_err(|violations| anyhow!("the password {violations}"))?;
    let database = Opened::open(database).await?;
    let created = create_in(&database.target, &email, password).await;
    database.close().await?;
    super::say(&match created? {
        Administrator::Created(user) => format!("{} is administrator now.", user.email),
        Administrator::Promoted(user) => format!(
            "{} had an account, and is administrator now with this password.",
            user.email
        ),
        Administrator::Existed(user) => format!("{} was administrator already; nothing was changed.", user.email),
    });
    Ok(())
}

async fn create_in(target: &Target, email: &Email, password: SecretString) -> anyhow::Result<Administrator> {
    store::migrate::run(target).await?;
    // Servers that run learn of it by their poll, a second later.
    let store = Store::connect(&Settings::new(target), Hints::new()).await?;
    create_administrator(&store, email, password).await
}

/// Makes sure that there is an administrator of this address.
pub async fn create_administrator(
    store: &Store,
    email: &Email,
    password: SecretString,
) -> anyhow::Result<Administrator> {
    let hash = tokio::task::spawn_blocking(move || password::hash(&password)).await??;
    let caller = Caller {
        actor: Actor::CommandLine,
        name: String::new(),
        credential: String::new(),
        peer: String::new(),
        reason: String::new(),
    };
    let new = NewAdministrator {
        id: Uuid::now_v7(),
        email: email.clone(),
        password_hash: hash,
    };
    Ok(store.create_administrator(caller, &new).await?)
}

fn chosen(password: Password) -> anyhow::Result<SecretString> {
    match password {
        Password::Given(password) => Ok(password.into()),
        Password::Prompt => Ok(prompt::new_password("Password: ")?),
    }
}
