//! Accounts of people: what they are, how they are read, and what the audit log keeps of them. How they come about and change is
//! in the modules below; logins are in [`sessions`](super::sessions).

mod administrator;
mod identities;
mod logins;
mod manage;
mod sign_up;
mod update;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;
use uuid::Uuid;

pub use administrator::{Administrator, NewAdministrator};
pub use logins::{FailedLogins, PEERS};
pub(super) use manage::OTHER_ADMINISTRATORS;
pub use manage::{NewUser, Selector};
pub use sign_up::NewAccount;
pub use update::UserPatch;

use super::audit::Record;
use super::error::{Entity, Error};
use super::mutation::{Actor, Caller, Mutation, Outcome, Versioned};
use super::page::etag;
use super::{Store, pipeline, rows};
use crate::domain::access::InstanceRole;
use crate::domain::email::Email;
use crate::domain::identity::IdentityKey;

/// What is read of an account. Its identities are three columns of lists in the same order.
macro_rules! columns {
    () => {
        "id, email, email_normalized, password_hash, instance_role, active, version, created_at, updated_at,
        array(select i.issuer from identities i where i.user_id = users.id order by i.issuer, i.subject) as issuers,
        array(select i.subject from identities i where i.user_id = users.id order by i.issuer, i.subject) as subjects,
        array(select i.email from identities i where i.user_id = users.id order by i.issuer, i.subject) as identity_emails"
    };
}
use columns;

const FIND: &str = concat!("select ", columns!(), " from users where email_normalized = $1");
pub(super) const FIND_BY_ID: &str = concat!("select ", columns!(), " from users where id = $1");
const INSERT: &str = "
    insert into users (id, email, email_normalized, password_hash, instance_role, active, created_at, updated_at)
    values ($1, $2, $3, $4, $5, true, $6, $6)";

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Names it.
    pub id: Uuid,
    /// As it was given. Of an account without an address of its own what its identity is called, for people to read: nothing finds
    /// the account by it.
    pub email: String,
    /// Its role in the installation.
    pub role: Option<InstanceRole>,
    /// Whether it may log in.
    pub active: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Changes with every change. Empty: nothing was written, only validated.
    pub etag: String,
    /// Who else opens it, sorted. Empty also where nobody asked for them.
    pub identities: Vec<Linked>,
}

/// An identity that opens an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// Which.
    pub key: IdentityKey,
    /// The e-mail address that the issuer told last. Empty: none.
    pub email: String,
}

/// What a login is checked against.
#[derive(Clone)]
pub struct Credentials {
    /// Whose they are.
    pub user: User,
    /// The hash of the password. `None`: there is none to log in with.
    pub password_hash: Option<String>,
}

/// An account with what only the store knows of it.
struct UserRow {
    version: i64,
    credentials: Credentials,
}

impl Versioned for User {
    fn forget_etag(&mut self) {
        self.etag.clear();
    }
}

impl Store {
    /// What a login with this address is checked against. `None`: there is no such account.
    pub async fn find_for_login(&self, email: &Email) -> Result<Option<Credentials>, Error> {
        let client = self.reader().await?;
        let found = pipeline::one(&*client, (FIND, &[&email.normalized()])).await?;
        found.first().map(credentials).transpose()
    }

    /// What the password of this account is checked against. `None`: there is no such account.
    pub async fn find_credentials(&self, id: Uuid) -> Result<Option<Credentials>, Error> {
        let client = self.reader().await?;
        let found = pipeline::one(&*client, (FIND_BY_ID, &[&id])).await?;
        found.first().map(credentials).transpose()
    }
}

/// A mutation that no mutating request with an id made.
pub(super) fn internal(caller: Caller, method: &'static str) -> Mutation {
    Mutation {
        caller,
        method,
        request: None,
        validate_only: false,
    }
}

/// Somebody who acts for themselves, without a credential yet.
pub(super) fn themselves(user: Option<&User>, peer: &str) -> Caller {
    Caller {
        actor: user.map_or(Actor::System, |user| Actor::User(user.id)),
        name: user.map(|user| user.email.clone()).unwrap_or_default(),
        credential: String::new(),
        peer: peer.to_owned(),
        reason: String::new(),
    }
}

/// What a mutation without a request id did: it cannot have been replayed.
pub(super) fn done<T>(outcome: Outcome<T>) -> Result<T, Error> {
    match outcome {
        Outcome::Done(written) => Ok(written.entity),
        Outcome::Replayed(_) => Err(Error::RequestIdReused),
    }
}

/// What a login is checked against, of a row.
pub(super) fn credentials(row: &Row) -> Result<Credentials, Error> {
    Ok(from_row(row)?.credentials)
}

fn from_row(row: &Row) -> Result<UserRow, Error> {
    let version = rows::get(row, "version")?;
    let user = User {
        id: rows::get(row, "id")?,
        email: rows::get(row, "email")?,
        role: rows::named_option(row, "instance_role", InstanceRole::from_name)?,
        active: rows::get(row, "active")?,
        created_at: rows::get(row, "created_at")?,
        updated_at: rows::get(row, "updated_at")?,
        etag: etag([version]),
        identities: Vec::new(),
    };
    let password_hash = rows::get(row, "password_hash")?;
    Ok(UserRow {
        version,
        credentials: Credentials { user, password_hash },
    })
}

/// An account with its identities, of a row with [`columns`].
fn with_identities(row: &Row) -> Result<UserRow, Error> {
    let list = |column| rows::get::<Vec<String>>(row, column);
    let (issuers, subjects, emails) = (list("issuers")?, list("subjects")?, list("identity_emails")?);
    let linked = issuers.into_iter().zip(subjects).zip(emails);
    let mut read = from_row(row)?;
    read.credentials.user.identities = linked
        .map(|((issuer, subject), email)| Linked {
            key: IdentityKey { issuer, subject },
            email,
        })
        .collect();
    Ok(read)
}

/// What the audit log says of an account.
pub(super) fn record(action: &'static str, before: Option<&User>, after: Option<&User>) -> Record {
    Record {
        action,
        entity: Entity::User,
        key: before.or(after).map(|user| user.id.to_string()).unwrap_or_default(),
        project: String::new(),
        environment: String::new(),
        before: before.map(|user| json(user).to_string()),
        after: after.map(|user| json(user).to_string()),
    }
}

/// An account as audit entries keep it.
pub(super) fn json(user: &User) -> Value {
    let role = user.role.map(InstanceRole::name);
    let mut content = json!({ "email": user.email, "role": role, "active": user.active });
    if !user.identities.is_empty() {
        let keys = user.identities.iter().map(|linked| &linked.key);
        content["identities"] = keys
            .map(|IdentityKey { issuer, subject }| json!({ "issuer": issuer, "subject": subject }))
            .collect();
    }
    content
}

/// What the audit log says of something that happened to an account and did not change it.
pub(super) fn mention(action: &'static str, user: Uuid) -> Record {
    Record {
        key: user.to_string(),
        ..record(action, None, None)
    }
}
