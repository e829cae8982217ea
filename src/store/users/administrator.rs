//! The first administrator, made by whoever runs the installation.

use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::{FIND, INSERT, User, done, from_row, internal, record};
use crate::domain::access::InstanceRole;
use crate::domain::email::Email;
use crate::store::error::Error;
use crate::store::journal::Journal;
use crate::store::mutation::{Caller, Mutation, Versioned, Written};
use crate::store::page::etag;
use crate::store::{Store, lock, pipeline, sessions};

const PROMOTE: &str = "
    update users set instance_role = 'administrator', active = true, password_hash = $2, version = version + 1, updated_at = $3
    where id = $1";

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
    /// account must not become administrator by a password, or a login, that the operator does not know of.
    Promoted(User),
    /// The account was an administrator's; its password, and whether it is active, stay as they are.
    Existed(User),
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
                async |transaction| create(transaction, &mutation, new).await,
            )
            .await?;
        done(outcome)
    }
}

async fn create(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    new: &NewAdministrator,
) -> Result<Written<Administrator>, Error> {
    let email = new.email.normalized();
    // The chain's lock comes first: of two that start together, the second finds what the first made.
    let reads: [pipeline::Query<'_>; 1] = [(FIND, &[&email])];
    let (installation, [found]) = lock::administration(transaction, &mutation.caller, [], reads).await?;
    let now = installation.now;
    let before = found.first().map(from_row).transpose()?;
    let version = before.as_ref().map_or(1, |row| row.version + 1);
    let before = before.map(|row| row.credentials.user);
    let after = User {
        id: before.as_ref().map_or(new.id, |user| user.id),
        email: before
            .as_ref()
            .map_or_else(|| new.email.given().to_owned(), |user| user.email.clone()),
        role: Some(InstanceRole::Administrator),
        active: true,
        created_at: before.as_ref().map_or(now, |user| user.created_at),
        updated_at: now,
        etag: etag([version]),
        identities: Vec::new(),
    };
    let mut journal = Journal::of_chain(mutation, installation.audit, now);
    journal.touch_access();
    match before {
        Some(user) if user.role.is_some() => Ok(Written::unchanged(Administrator::Existed(user))),
        Some(user) => {
            journal.record(record("user.promote", Some(&user), Some(&after)));
            let writes: [pipeline::Query<'_>; 2] = [
                (PROMOTE, &[&after.id, &new.password_hash, &now]),
                (sessions::REVOKE_ALL, &[&after.id, &now]),
            ];
            journal
                .write(transaction, &writes, Administrator::Promoted(after.clone()))
                .await
        }
        None => {
            journal.record(record("user.create", None, Some(&after)));
            let role = after.role.map(InstanceRole::name);
            let write: pipeline::Query<'_> = (
                INSERT,
                &[&after.id, &after.email, &email, &new.password_hash, &role, &now],
            );
            let written = journal
                .write(transaction, &[write], Administrator::Created(after.clone()))
                .await;
            written.map_err(|error| error.about(&after.email))
        }
    }
}
