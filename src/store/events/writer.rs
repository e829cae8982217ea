//! Writes batches of events in groups.
//!
//! Whatever waits when a connection is free is written together, in one transaction. Two connections take turns, so that one group is
//! written while the other waits for the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::catalogue::Catalogue;
use super::intake::{Batch, Intake, Refused, Waiting};
use super::write;
use crate::domain::event::Outcome;
use crate::store::connect::Tls;
use crate::store::error::Error;
use crate::store::lease::Lease;
use crate::store::pool::Pool;

/// Connections that write events.
pub(super) const CONNECTIONS: usize = 2;
/// After so long a group is given up: no statement of it may take longer than ten seconds, unless nobody answers.
const GIVEN_UP: Duration = Duration::from_secs(30);
/// Events of a group at most, and one batch more.
const GROUP: usize = 10_000;

/// What writes the batches. It comes to life with [`Writer::run`].
pub struct Writer {
    pool: Pool,
    tls: Tls,
    queue: Mutex<mpsc::Receiver<Waiting>>,
    intake: Arc<Intake>,
}

impl Writer {
    /// What empties this queue of this intake.
    pub(super) fn new((pool, tls): (Pool, Tls), queue: mpsc::Receiver<Waiting>, intake: Arc<Intake>) -> Self {
        Self {
            pool,
            tls,
            queue: Mutex::new(queue),
            intake,
        }
    }

    /// Writes until `stop`. What still waits then was not acknowledged, and is sent again to somebody else.
    pub async fn run(self, stop: CancellationToken) {
        let lanes = (0..CONNECTIONS).map(|_| self.write_groups());
        stop.run_until_cancelled(join_all(lanes)).await;
    }

    async fn write_groups(&self) {
        let mut catalogue = Catalogue::default();
        loop {
            let Some(group) = self.next_group().await else { return };
            let batches: Vec<_> = group.iter().map(|waiting| &waiting.batch).collect();
            match self.write(&mut catalogue, &batches).await {
                Ok(outcomes) => {
                    for (waiting, outcomes) in group.into_iter().zip(outcomes) {
                        waiting.answer(Ok(outcomes));
                    }
                }
                Err(Refused::Broken) if group.len() > 1 => self.write_alone(&mut catalogue, group).await,
                Err(refused) => self.refuse(group, refused),
            }
        }
    }

    /// Whatever waits, as soon as anything does. `None`: nobody is left who could send.
    async fn next_group(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue.lock().await;
        loop {
            let mut group = vec![queue.recv().await?];
            let mut events = 0;
            while events < GROUP {
                match queue.try_recv() {
                    Ok(waiting) => {
                        events += waiting.batch.events.len();
                        group.push(waiting);
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            // Nobody waits for the answer any more; whoever does not know what became of a batch sends it again.
            group.retain(|waiting| !waiting.is_abandoned());
            if !group.is_empty() {
                return Some(group);
            }
        }
    }

    /// One transaction.
    async fn write(&self, catalogue: &mut Catalogue, batches: &[&Batch]) -> Result<Vec<Vec<Outcome>>, Refused> {
        let mut lease = Lease::new(&self.tls);
        let written = timeout(GIVEN_UP, async {
            let client = lease.hold(self.pool.get().await?);
            write::write(client, catalogue, self.intake.window(), batches).await
        });
        let Ok(written) = written.await else {
            // The connection is closed with its lease: the next group would wait behind the statement.
            tracing::warn!("PostgreSQL did not answer; the senders of events are told to try again");
            return Err(Refused::Away);
        };
        lease.give_back();
        match written {
            Ok(outcomes) => {
                self.intake.counts().groups.fetch_add(1, Ordering::Relaxed);
                self.intake.counts().note(outcomes.iter().flatten().copied());
                Ok(outcomes)
            }
            Err(error) => Err(refusal(&error)),
        }
    }

    /// Each by itself: if one cannot be written, the others must not suffer for it.
    async fn write_alone(&self, catalogue: &mut Catalogue, group: Vec<Waiting>) {
        for waiting in group {
            let outcome = self.write(catalogue, &[&waiting.batch]).await;
            if outcome.is_err() {
                self.intake.counts().failed.fetch_add(1, Ordering::Relaxed);
            }
            waiting.answer(outcome.map(|outcomes| outcomes.into_iter().flatten().collect()));
        }
    }

    /// Refuses these; and without a database, everyone who waits: another replica may have one.
    fn refuse(&self, mut group: Vec<Waiting>, refused: Refused) {
        if refused == Refused::Away {
            // If somebody else is at the queue, it is empty, or they will find out as we did.
            if let Ok(mut queue) = self.queue.try_lock() {
                while let Ok(waiting) = queue.try_recv() {
                    group.push(waiting);
                }
            }
        }
        self.intake
            .counts()
            .failed
            .fetch_add(group.len() as u64, Ordering::Relaxed);
        for waiting in group {
            waiting.answer(Err(refused));
        }
    }
}

/// What a failure means to senders. Logged here, once for all of them.
fn refusal(error: &Error) -> Refused {
    match error {
        Error::Unavailable(_)
        | Error::Unanswered(_)
        | Error::Timeout(_)
        | Error::Conflict(_)
        | Error::Crowded
        | Error::Late => {
            tracing::warn!(
                error = error.summary(),
                "events could not be written; their senders are told to try again"
            );
            Refused::Away
        }
        Error::Invalid(_)
        | Error::NotFound { .. }
        | Error::AlreadyExists { .. }
        | Error::Stale { .. }
        | Error::Denied
        | Error::Blocked { .. }
        | Error::LimitReached { .. }
        | Error::Busy
        | Error::RequestIdReused
        | Error::HandEdited
        | Error::Corrupt { .. }
        | Error::Bug(_) => {
            tracing::error!(error = error.summary(), "events could not be written");
            Refused::Broken
        }
    }
}
