//! How far the streams of this replica have come, and what clients say of streams that are elsewhere.
//!
//! An acknowledgement is a call of its own, which a balancer may bring to another replica than the one that has the stream. It is
//! kept there until it was told and the replica that has the stream had time to fetch it. Nothing here waits for that: an
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

/// How long an acknowledgement of a stream that is elsewhere is kept once it was told: several times as long as replicas take to look
/// for it.
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
pub(super) struct Elsewhere(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    kept: HashMap<(EnvironmentId, StreamId), Kept, RandomState>,
    /// How many there are of each key.
    of_key: HashMap<Arc<str>, usize, RandomState>,
}

struct Kept {
    key: Arc<str>,
    order: Order,
    /// `None`: nobody was told yet.
    until: Option<Instant>,
}

impl Hub {
    /// Takes a client's word, shown with a key of the environment, that it has applied what a stream sent it. A generation of 0 is the
    /// only one that the stream has been in.
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

    /// What was said of streams elsewhere has been told to the other replicas.
    pub fn passed_on(&self, environment: EnvironmentId, told: &[Acknowledgement]) {
        self.elsewhere().told(environment, told);
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
        let mut table = self.lock();
        if let Some(known) = table.kept.get_mut(&(environment, stream)) {
            if known.key == *key && order > known.order {
                (known.order, known.until) = (order, None);
            }
            return Ok(());
        }
        let of_key = table.of_key.get(key).copied().unwrap_or_default();
        if of_key >= limits::PROPAGATION_ELSEWHERE_OF_KEY || table.kept.len() >= limits::PROPAGATION_ELSEWHERE {
            return Err(NotTaken::TooMany);
        }
        table.of_key.insert(Arc::clone(key), of_key + 1);
        let kept = Kept {
            key: Arc::clone(key),
            order,
            until: None,
        };
        table.kept.insert((environment, stream), kept);
        Ok(())
    }

    fn all(&self) -> Vec<(EnvironmentId, Acknowledgement)> {
        let mut table = self.lock();
        table.forget_expired(Instant::now());
        let all = table.kept.iter().map(|((environment, stream), kept)| {
            let acknowledgement = Acknowledgement {
                stream: stream.0,
                key: kept.key.to_string(),
                order: kept.order,
            };
            (*environment, acknowledgement)
        });
        all.collect()
    }

    /// They were told: whoever looks for them does so soon, and then they can go. What came meanwhile stays.
    fn told(&self, environment: EnvironmentId, told: &[Acknowledgement]) {
        let until = Some(Instant::now() + KEPT);
        let mut table = self.lock();
        for acknowledgement in told {
            let id = (environment, StreamId(acknowledgement.stream));
            if let Some(kept) = table.kept.get_mut(&id)
                && kept.order == acknowledgement.order
            {
                kept.until = kept.until.or(until);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn forget_expired(&mut self, now: Instant) {
        let Self { kept, of_key } = self;
        kept.retain(|_, kept| {
            let stays = kept.until.is_none_or(|until| until > now);
            if !stays && let Some(count) = of_key.get_mut(&kept.key) {
                *count -= 1;
                if *count == 0 {
                    of_key.remove(&kept.key);
                }
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: EnvironmentId = EnvironmentId(1);

    fn key(name: &str) -> Arc<str> {
        name.into()
    }

    fn orders(elsewhere: &Elsewhere) -> Vec<(u64, Order)> {
        let mut all: Vec<_> = elsewhere
            .all()
            .into_iter()
            .map(|(_, it)| (it.stream, it.order))
            .collect();
        all.sort_unstable();
        all
    }

    fn tell(elsewhere: &Elsewhere) {
        let told: Vec<_> = elsewhere.all().into_iter().map(|(_, it)| it).collect();
        elsewhere.told(HERE, &told);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_told_is_kept_and_what_was_told_goes() {
        let elsewhere = Elsewhere::default();
        elsewhere.keep(HERE, &key("a"), StreamId(7), (1, 5)).unwrap();
        tokio::time::advance(10 * KEPT).await;
        assert_eq!(orders(&elsewhere), [(7, (1, 5))], "the database was away");
        tell(&elsewhere);
        elsewhere.keep(HERE, &key("a"), StreamId(8), (1, 5)).unwrap();
        tokio::time::advance(2 * KEPT).await;
        assert_eq!(orders(&elsewhere), [(8, (1, 5))]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_furthest_is_kept_and_told_again() {
        let elsewhere = Elsewhere::default();
        for order in [(1, 5), (1, 9), (1, 7)] {
            elsewhere.keep(HERE, &key("a"), StreamId(7), order).unwrap();
        }
        assert_eq!(orders(&elsewhere), [(7, (1, 9))]);
        tell(&elsewhere);
        elsewhere.keep(HERE, &key("a"), StreamId(7), (2, 1)).unwrap();
        elsewhere.keep(HERE, &key("b"), StreamId(7), (3, 1)).unwrap();
        tokio::time::advance(2 * KEPT).await;
        assert_eq!(orders(&elsewhere), [(7, (2, 1))], "news is kept, another key's is not");
    }

    #[tokio::test(start_paused = true)]
    async fn one_key_leaves_room_for_others() {
        let elsewhere = Elsewhere::default();
        let flood = 0..limits::PROPAGATION_ELSEWHERE as u64;
        let taken = flood.filter(|n| elsewhere.keep(HERE, &key("a"), StreamId(*n), (1, 1)).is_ok());
        assert_eq!(taken.count(), limits::PROPAGATION_ELSEWHERE_OF_KEY);
        assert!(elsewhere.keep(HERE, &key("b"), StreamId(u64::MAX), (1, 1)).is_ok());
        tell(&elsewhere);
        tokio::time::advance(2 * KEPT).await;
        assert!(orders(&elsewhere).is_empty());
        assert!(elsewhere.keep(HERE, &key("a"), StreamId(0), (1, 1)).is_ok());
    }
}
