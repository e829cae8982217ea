//! Accounts of people, as far as logging in and the first administrator go.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::audit::{self, Record};
use super::error::{Entity, Error};
use super::journal::Journal;
use super::mutation::{Actor, Caller, Mutation, Outcome, Versioned, Written};
use super::{Store, lock, pipeline, rows};
use crate::domain::access::{InstanceRole, Permission};
use crate::domain::email::Email;

const FIND: &str = "
    select id, email, password_hash, instance_role, active, created_at from users where email_normalized = $1";
const INSERT: &str = "
    insert into users (id, email, email_normalized, password_hash, instance_role, created_at, updated_at)
    values ($1, $2, $3, $4, 'administrator', $5, $5)";
const PROMOTE: &str = "
    update users set instance_role = 'administrator', active = true, password_hash = $2, version = version + 1, updated_at = $3
    where id = $1";

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Names it.
    pub id: Uuid,
    /// As it was given.
    pub email: String,
    /// Its role in the installation.
    pub role: Option<InstanceRole>,
    /// Whether it may log in.
    pub active: bool,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What a login is checked against.
#[derive(Clone)]
pub struct Credentials {
    /// Whose they are.
    pub user: User,
    /// The hash of the password. `None`: there is none to log in with.
    pub password_hash: Option<String>,
}

/// An administrator to be.
#[derive(Clone)]
pub struct NewAdministrator {
    /// Names the account if it is new.
    pub id: Uuid,
    /// The address, which also tells whether there is an account already.
    pub email: Email,
    /// The hash of the password.
    pub password_hash: String,
}

/// How an administrator came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Administrator {
    /// The account is new.
    Created(User),
    /// An account without the role has it now, is active, and has the given password instead of its own: whoever opened the
    /// account must not become administrator by a password that the operator does not know.
    Promoted(User),
    /// The account was an administrator's; its password, and whether it is active, stay as they are.
    Existed(User),
}

/// An attempt to log in, for the audit log.
#[derive(Debug, Clone)]
pub struct LoginAttempt<'a> {
    /// Whose account it was. `None`: nobody's; the address that was tried is not kept, people type passwords there.
    pub user: Option<&'a User>,
    /// Whether it succeeded.
    pub accepted: bool,
    /// The network address. Empty: unknown.
    pub peer: String,
}

impl Versioned for Administrator {}

impl Store {
    /// Makes sure that there is an administrator of this address.
    pub async fn create_administrator(&self, caller: Caller, new: &NewAdministrator) -> Result<Administrator, Error> {
        let mutation = internal(caller, "create-admin");
        let outcome = self
            .mutate(
                &mutation,
                |_| Vec::new(),
                async |transaction| create_administrator(transaction, &mutation, new).await,
            )
            .await?;
        done(outcome)
    }

    /// What a login with this address is checked against. `None`: there is no such account.
    pub async fn find_for_login(&self, email: &Email) -> Result<Option<Credentials>, Error> {
        let client = self.reader().await?;
        let found = pipeline::one(&client, (FIND, &[&email.normalized()])).await?;
        found.first().map(from_row).transpose()
    }

    /// Records an attempt to log in.
    pub async fn record_login(&self, attempt: &LoginAttempt<'_>) -> Result<(), Error> {
        let caller = Caller {
            actor: attempt.user.map_or(Actor::System, |user| Actor::User(user.id)),
            name: attempt.user.map(|user| user.email.clone()).unwrap_or_default(),
            credential: String::new(),
            peer: attempt.peer.clone(),
            reason: String::new(),
        };
        let mutation = internal(caller, "login");
        let outcome = self
            .mutate(
                &mutation,
                |_| Vec::new(),
                async |transaction| record_login(transaction, &mutation, attempt).await,
            )
            .await?;
        done(outcome)
    }
}

/// A mutation that no request made.
fn internal(caller: Caller, method: &'static str) -> Mutation {
    Mutation {
        caller,
        method,
        request: None,
        validate_only: false,
    }
}

/// What a mutation without a request id did: it cannot have been replayed.
fn done<T>(outcome: Outcome<T>) -> Result<T, Error> {
    match outcome {
        Outcome::Done(written) => Ok(written.entity),
        Outcome::Replayed(_) => Err(Error::RequestIdReused),
    }
}

/// An account from the columns that say who it is.
pub(super) fn from_columns(row: &Row) -> Result<User, Error> {
    Ok(User {
        id: rows::get(row, "id")?,
        email: rows::get(row, "email")?,
        role: rows::named_option(row, "instance_role", InstanceRole::from_name)?,
        active: rows::get(row, "active")?,
        created_at: rows::get(row, "created_at")?,
    })
}

fn from_row(row: &Row) -> Result<Credentials, Error> {
    Ok(Credentials {
        user: from_columns(row)?,
        password_hash: rows::get(row, "password_hash")?,
    })
}

async fn create_administrator(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    new: &NewAdministrator,
) -> Result<Written<Administrator>, Error> {
    // The chain's lock comes first: of two that start together, the second finds what the first made.
    let head = audit::lock_instance(transaction).await?;
    let (now, standing) = lock::instance_standing(transaction, &mutation.caller).await?;
    if !Permission::ManageInstance.granted_to(standing) {
        return Err(Error::Denied);
    }
    let email = new.email.normalized();
    let found = pipeline::one(transaction, (FIND, &[&email])).await?;
    let before = found
        .first()
        .map(from_row)
        .transpose()?
        .map(|credentials| credentials.user);
    let after = User {
        id: before.as_ref().map_or(new.id, |user| user.id),
        email: before
            .as_ref()
            .map_or_else(|| new.email.given().to_owned(), |user| user.email.clone()),
        role: Some(InstanceRole::Administrator),
        active: true,
        created_at: before.as_ref().map_or(now, |user| user.created_at),
    };
    let mut journal = Journal::of_chain(mutation, head, now);
    journal.touch_access();
    match before {
        Some(user) if user.role.is_some() => Ok(Written::unchanged(Administrator::Existed(user))),
        Some(user) => {
            journal.record(record("user.promote", Some(&user), Some(&after)));
            let write: pipeline::Query<'_> = (PROMOTE, &[&after.id, &new.password_hash, &now]);
            journal
                .write(transaction, &[write], Administrator::Promoted(after.clone()))
                .await
        }
        None => {
            journal.record(record("user.create", None, Some(&after)));
            let write: pipeline::Query<'_> = (INSERT, &[&after.id, &after.email, &email, &new.password_hash, &now]);
            let written = journal
                .write(transaction, &[write], Administrator::Created(after.clone()))
                .await;
            written.map_err(|error| error.about(&after.email))
        }
    }
}

async fn record_login(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    attempt: &LoginAttempt<'_>,
) -> Result<Written<()>, Error> {
    let head = audit::lock_instance(transaction).await?;
    let row = pipeline::row(transaction, ("select clock_timestamp() as now", &[])).await?;
    let mut journal = Journal::of_chain(mutation, head, rows::get(&row, "now")?);
    let action = if attempt.accepted {
        "user.login"
    } else {
        "user.login_refused"
    };
    let mut entry = record(action, None, None);
    entry.key = attempt.user.map(|user| user.id.to_string()).unwrap_or_default();
    journal.record(entry);
    journal.write(transaction, &[], ()).await
}

/// What the audit log says of an account.
pub(super) fn record(action: &'static str, before: Option<&User>, after: Option<&User>) -> Record {
    let json = |user: &User| {
        let role = user.role.map(InstanceRole::name);
        serde_json::json!({ "email": user.email, "role": role, "active": user.active }).to_string()
    };
    Record {
        action,
        entity: Entity::User,
        key: before.or(after).map(|user| user.id.to_string()).unwrap_or_default(),
        project: String::new(),
        environment: String::new(),
        before: before.map(json),
        after: after.map(json),
    }
}
