//! Accounts that people open for themselves.

use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::{FIND, User, credentials, done, internal, mention, record, themselves};
use crate::domain::email::Email;
use crate::store::error::Error;
use crate::store::journal::Journal;
use crate::store::mutation::Written;
use crate::store::page::etag;
use crate::store::{Store, lock, pipeline};

const INSERT: &str = "
    insert into users (id, email, email_normalized, password_hash, active, created_at, updated_at)
    select $1, $2, $3, $4, true, $5, $5
    where not exists (select from users where email_normalized = $3)";

/// An account to be.
#[derive(Clone)]
pub struct NewAccount {
    /// Names it.
    pub id: Uuid,
    /// Its address.
    pub email: Email,
    /// The hash of the password.
    pub password_hash: String,
    /// The network address of whoever opens it. Empty: unknown.
    pub peer: String,
}

impl Store {
    /// Opens an account without a role. If there is one of this address it stays as it is, and the try is audited. Both take the
    /// same statements in the same round trips, so that the time does not tell which it was.
    pub async fn sign_up(&self, new: &NewAccount) -> Result<(), Error> {
        match self.try_sign_up(new).await {
            // Somebody who does not take the chain's lock opened it in between: the next try finds it.
            Err(Error::AlreadyExists { .. }) => self.try_sign_up(new).await,
            outcome => outcome,
        }
    }

    async fn try_sign_up(&self, new: &NewAccount) -> Result<(), Error> {
        let mutation = internal(themselves(None, &new.peer), "SignUp");
        let outcome = self.mutate(
            &mutation,
            |_| Vec::new(),
            async |transaction| sign_up(transaction, new).await,
        );
        done(outcome.await?)
    }
}

async fn sign_up(transaction: &Transaction<'_>, new: &NewAccount) -> Result<Written<()>, Error> {
    let email = new.email.normalized();
    let reads: [pipeline::Query<'_>; 1] = [(FIND, &[&email])];
    let (installation, [found]) = lock::installation(transaction, reads).await?;
    let now = installation.now;
    let taken = found.first().map(credentials).transpose()?.map(|found| found.user);
    let user = User {
        id: new.id,
        email: new.email.given().to_owned(),
        role: None,
        active: true,
        created_at: now,
        updated_at: now,
        etag: etag([1]),
        identities: Vec::new(),
    };
    let caller = themselves(Some(&user).filter(|_| taken.is_none()), &new.peer);
    let mutation = internal(caller, "SignUp");
    let mut journal = Journal::of_chain(&mutation, installation.audit, now);
    journal.record(match &taken {
        None => record("user.sign_up", None, Some(&user)),
        Some(taken) => mention("user.sign_up_refused", taken.id),
    });
    if taken.is_none() {
        journal.touch_access();
    }
    let write: pipeline::Query<'_> = (INSERT, &[&user.id, &user.email, &email, &new.password_hash, &now]);
    journal.write(transaction, &[write], ()).await
}
