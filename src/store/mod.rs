//! PostgreSQL: everything stored, and all the SQL.
//!
//! [`Store`] is the transaction boundary: it alone begins and commits. What happens inside are free functions on a transaction,
//! one file per aggregate. A mutation locks, authorises with the role read again, checks the etag, writes the entity, and writes
//! the journal ([`journal`]): a change per touched environment, the audit entries, the heads. All of it in one transaction, so
//! that there is no change without its audit entry.
//!
//! Lock order, for everyone: the project's row, the environments' heads in the order of their ids, the head of the audit chain,
//! the `access` head. See [`lock`].
//!
//! Architecture invariants: the store knows no proto; nothing but the database is awaited inside a transaction; no statement
//! lives outside this module.

pub mod assignments;
pub mod audit;
mod columns;
pub mod compaction;
pub mod configurations;
pub mod connect;
pub mod deadline;
pub mod environments;
pub mod error;
pub mod events;
pub mod experiments;
pub mod feed;
pub mod flags;
mod hand;
pub mod history;
mod identities;
pub mod invitations;
mod journal;
pub mod keys;
mod lease;
mod lock;
pub mod makers;
pub mod members;
pub mod migrate;
pub mod mutation;
mod named;
pub mod page;
mod pipeline;
pub mod pool;
pub mod projects;
pub mod propagation;
mod queue;
mod requests;
pub mod results;
mod rows;
pub mod segments;
pub mod service_tokens;
pub mod sessions;
pub mod users;
mod uses;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::IsolationLevel;

pub use connect::Settings;
pub use error::{Entity, Error};
pub use mutation::{Actor, Caller, EnvironmentRevision, Mutation, Outcome, RequestId, Written};
pub use page::{Page, PageRequest};
pub use queue::{Queue, WAITING_PER_CONNECTION};

use connect::Tls;
use feed::Hints;
use lease::{Announcement, Lease, Reader};
use mutation::Versioned;
use pool::Pool;
use segments::Turns;

use crate::trace;

/// Where everything is stored. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    queue: Arc<Queue>,
    /// How long a statement usually may take.
    statement_timeout: Duration,
    tls: Tls,
    hints: Hints,
    preparations: Turns,
}

impl Store {
    /// Reaches PostgreSQL once, to refuse a server that is too old, and keeps a pool from then on.
    pub async fn connect(settings: &Settings, hints: Hints) -> Result<Self, Error> {
        let pool = connect::pool("requests", settings)?;
        connect::check_version(&*pool.get().await?).await?;
        Ok(Self {
            pool,
            queue: Arc::new(Queue::of_pool(settings.pool_size)),
            statement_timeout: settings.statement_timeout,
            tls: settings.target.tls().clone(),
            hints,
            preparations: Turns::new(),
        })
    }

    /// The pool. The feed should have another, [`connect::feed_pool`].
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Those who wait for one of its connections.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Deletes the responses of requests that can no longer be replayed, and returns how many there were. For a task that calls
    /// it now and then; nothing depends on it but the size of the table.
    pub async fn purge_request_records(&self) -> Result<u64, Error> {
        requests::purge(&*self.reader().await?).await
    }

    /// What the same request was answered before. For a caller who may not make it, or no longer: a request that takes away its
    /// own maker's rights is answered again like any other. `None`: it was not made by this caller, or is not to be remembered.
    pub async fn replay(&self, mutation: &Mutation) -> Result<Option<Vec<u8>>, Error> {
        match mutation.request.as_ref().filter(|_| !mutation.validate_only) {
            Some(request) => requests::find(&*self.reader().await?, mutation, request).await,
            None => Ok(None),
        }
    }

    /// A connection for reading.
    async fn reader(&self) -> Result<Reader, Error> {
        Ok(Reader::new(self.connection().await?, self.statement_timeout, &self.tls))
    }

    /// A connection of the pool, once there is one.
    async fn connection(&self) -> Result<Object, Error> {
        let _place = self.queue.enter()?;
        let connection = self.pool.get().await?;
        deadline::in_time()?;
        Ok(connection)
    }

    /// Runs an operation in a transaction of its own, at most once per request id, and hints at what it committed.
    ///
    /// `respond` encodes the response that a replay returns, without secrets; it is called only if there is a request id.
    async fn mutate<T, R, F>(&self, mutation: &Mutation, respond: R, operation: F) -> Result<Outcome<T>, Error>
    where
        T: Versioned,
        R: FnOnce(&Written<T>) -> Vec<u8>,
        F: AsyncFnOnce(&Transaction<'_>) -> Result<Written<T>, Error>,
    {
        let mut lease = Lease::new(&self.tls);
        let client = lease.hold(self.connection().await?);
        let short = deadline::shorten(client, self.statement_timeout);
        // Boxed: whoever awaits it would carry its size around, through every layer.
        let transaction = Box::pin(self.transact(client, mutation, respond, operation));
        let outcome = trace::within("transaction", transaction).await;
        if short {
            deadline::restore(client);
        }
        lease.give_back();
        outcome
    }

    async fn transact<T, R, F>(
        &self,
        client: &mut Object,
        mutation: &Mutation,
        respond: R,
        operation: F,
    ) -> Result<Outcome<T>, Error>
    where
        T: Versioned,
        R: FnOnce(&Written<T>) -> Vec<u8>,
        F: AsyncFnOnce(&Transaction<'_>) -> Result<Written<T>, Error>,
    {
        // Whatever the server's default is: a statement must see what those before it waited for; see `pipeline`.
        let begin = client
            .build_transaction()
            .isolation_level(IsolationLevel::ReadCommitted);
        let transaction = begin.start().await?;
        // A request that is only validated neither replays nor is remembered: it has no effect to repeat.
        let request = mutation.request.as_ref().filter(|_| !mutation.validate_only);
        if let Some(request) = request
            && let Some(response) = requests::claim(&transaction, mutation, request).await?
        {
            return Ok(Outcome::Replayed(response));
        }
        let written = operation(&transaction).await?;
        if mutation.validate_only {
            transaction.rollback().await?;
            return Ok(Outcome::Done(written.unmade()));
        }
        if let Some(request) = request {
            requests::remember(&transaction, mutation, request, &respond(&written)).await?;
        }
        deadline::commit()?;
        let announcement = Announcement::new(written.hints(), |hint| self.hints.send(hint));
        let committed = named::statement("commit", transaction.commit()).await;
        committed.map_err(Error::of_commit)?;
        drop(announcement);
        Ok(Outcome::Done(written))
    }
}
