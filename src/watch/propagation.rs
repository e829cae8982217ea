//! How far the streams of this replica have come, and what clients say of streams that are elsewhere.
//!
//! An acknowledgement is a call of its own, which a balancer may bring to another replica than the one that has the stream. It is
//! kept there for a few seconds, in which the replica that has the stream fetches it. Nothing here waits for that: an
//! acknowledgement alters memory only.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use tokio::time::Instant;

use super::hub::Hub;
use super::message::StreamId;
use super::open::Shell;
use crate::domain::change::EnvironmentId;
use crate::domain::limits;
use crate::domain::propagation::{Acknowledgement, Order, Place, Report};

/// How long an acknowledgement of a stream that is elsewhere is kept: several times as long as replicas take to look for it.
const KEPT: Duration = Duration::from_secs(5);

/// Why an acknowledgement was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Another key opened the stream.
    #[error("the stream is another key's")]
    NotYours,
    /// The stream was never sent that.
    #[error("the stream was not sent that revision")]
    NotSent,
    /// Too many came of streams that are elsewhere.
    #[error("too many acknowledgements of streams at other replicas")]
    TooMany,
}

/// Acknowledgements of streams that are not here.
#[derive(Default)]
pub(super) struct Elsewhere(Mutex<HashMap<(EnvironmentId, StreamId), Kept, RandomState>>);

struct Kept {
    key: Arc<str>,
    order: Order,
    until: Instant,
}

impl Hub {
    /// Takes a client's word, shown with a key of the environment, that it has applied what a stream sent it. A generation of 0 is
    /// whichever the stream is in.
    pub fn acknowledge(
        &self,
        (environment, key): (EnvironmentId, &Arc<str>),
        stream: StreamId,
        order: Order,
    ) -> Result<(), NotTaken> {
        match self.open_streams().get(stream) {
            Some(shell) if shell.environment != environment || shell.client.key != *key => Err(NotTaken::NotYours),
            Some(shell) => take(&shell, order),
            None => self.elsewhere().keep(environment, key, stream, order),
        }
    }

    /// Takes over what clients said at other replicas. What is of no stream here, or cannot be, alters nothing.
    pub fn take_over(&self, environment: EnvironmentId, acknowledgements: Vec<Acknowledgement>) {
        for Acknowledgement { stream, key, order } in acknowledgements {
            let shell = self.open_streams().get(StreamId(stream));
            if let Some(shell) = shell.filter(|it| it.environment == environment && *it.client.key == *key) {
                // Its client was told at the other replica that its word would be passed on.
                let _ = take(&shell, order);
            }
        }
    }

    /// Where the open streams stand, and what was said of others, by environment.
    pub fn propagation(&self) -> BTreeMap<EnvironmentId, (Option<Report>, Vec<Acknowledgement>)> {
        let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for shell in self.open_streams().all() {
            if let Some(place) = place(&shell) {
                places.entry(shell.environment).or_default().push(place);
            }
        }
        let mut told: BTreeMap<_, (_, Vec<_>)> = BTreeMap::new();
        for (id, places) in places {
            if let Some(environment) = self.environment(id) {
                let head = environment.state().commit.position.order();
                told.insert(id, (Some(Report::of(head, places)), Vec::new()));
            }
        }
        for (id, acknowledgement) in self.elsewhere().all() {
            told.entry(id).or_default().1.push(acknowledgement);
        }
        told
    }
}

fn take(shell: &Shell, order: Order) -> Result<(), NotTaken> {
    if shell.acknowledge(order, Timestamp::now()) {
        Ok(())
    } else {
        Err(NotTaken::NotSent)
    }
}

fn place(shell: &Shell) -> Option<Place> {
    let standing = shell.standing()?;
    Some(Place {
        stream: shell.id.to_string(),
        client: shell.client.name.to_string(),
        library: shell.client.library.to_string(),
        sent: standing.sent,
        applied: standing.applied,
        since: standing.since,
    })
}

impl Elsewhere {
    fn keep(&self, environment: EnvironmentId, key: &Arc<str>, stream: StreamId, order: Order) -> Result<(), NotTaken> {
        let now = Instant::now();
        let mut kept = self.lock();
        if kept.len() >= limits::PROPAGATION_ELSEWHERE && !kept.contains_key(&(environment, stream)) {
            kept.retain(|_, kept| kept.until > now);
            if kept.len() >= limits::PROPAGATION_ELSEWHERE {
                return Err(NotTaken::TooMany);
            }
        }
        let acknowledgement = Kept {
            key: Arc::clone(key),
            order,
            until: now + KEPT,
        };
        kept.insert((environment, stream), acknowledgement);
        Ok(())
    }

    fn all(&self) -> Vec<(EnvironmentId, Acknowledgement)> {
        let now = Instant::now();
        let mut kept = self.lock();
        kept.retain(|_, kept| kept.until > now);
        let all = kept.iter().map(|((environment, stream), kept)| {
            let acknowledgement = Acknowledgement {
                stream: stream.0,
                key: kept.key.to_string(),
                order: kept.order,
            };
            (*environment, acknowledgement)
        });
        all.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(EnvironmentId, StreamId), Kept, RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
