//! Logins that failed, for the audit log: counted together, so that who guesses passwords does not fill it.

use deadpool_postgres::Transaction;

use super::{User, done, internal, record, themselves};
use crate::store::error::Error;
use crate::store::journal::Journal;
use crate::store::mutation::{Mutation, Written};
use crate::store::{Store, lock};

/// The most network addresses that an entry names.
pub const PEERS: usize = 10;

/// Logins to one account that failed within a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedLogins {
    /// Whose account it was. `None`: nobody's; the addresses that were tried are not kept, people type passwords there.
    pub user: Option<User>,
    /// How many were refused since the password was wrong, or the user inactive or unknown.
    pub refused: u64,
    /// How many were refused unseen since there were too many.
    pub throttled: u64,
    /// The network addresses that they came from, at most [`PEERS`] of them. Empty: unknown.
    pub peers: Vec<String>,
}

impl Store {
    /// Records logins that failed, as one entry.
    pub async fn record_failed_logins(&self, failed: &FailedLogins) -> Result<(), Error> {
        let peer = match failed.peers.as_slice() {
            [peer] => peer.as_str(),
            _ => "",
        };
        let mutation = internal(themselves(failed.user.as_ref(), peer), "Login");
        let outcome = self
            .mutate(
                &mutation,
                |_| Vec::new(),
                async |transaction| write(transaction, &mutation, failed).await,
            )
            .await?;
        done(outcome)
    }
}

async fn write(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    failed: &FailedLogins,
) -> Result<Written<()>, Error> {
    let FailedLogins {
        user,
        refused,
        throttled,
        peers,
    } = failed;
    let (installation, []) = lock::installation(transaction, []).await?;
    let mut entry = record("user.login_refused", None, None);
    entry.key = user.as_ref().map(|user| user.id.to_string()).unwrap_or_default();
    let counts = serde_json::json!({ "refused": refused, "throttled": throttled, "peers": peers });
    entry.after = Some(counts.to_string());
    let mut journal = Journal::of_chain(mutation, installation.audit, installation.now);
    journal.record(entry);
    journal.write(transaction, &[], ()).await
}
