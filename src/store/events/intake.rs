//! Where batches of events wait: bounded in bytes, so that a batch which finds no room is refused at once, and its sender told to come
//! again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::writer::{self, Writer};
use crate::domain::access::KeyKind;
use crate::domain::change::EnvironmentId;
use crate::domain::event::{Event, Outcome, Window};
use crate::store::connect::{self, Settings};
use crate::store::error::Error;

/// Batches that wait, however small.
const BATCHES: usize = 8_192;

/// How events are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// For how long events are taken.
    pub window: Window,
    /// How many bytes of events may wait to be written. A batch may be a few megabytes.
    pub queue_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            window: Window::default(),
            queue_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Events of one request, which its sender is told of together.
#[derive(Debug)]
pub struct Batch {
    /// The environment of the sender's key.
    pub environment: EnvironmentId,
    /// What the key may do.
    pub key: KeyKind,
    /// The events, with when each happened.
    pub events: Vec<(Event, Timestamp)>,
}

/// Why a batch was not written. Nothing of it counts, except where said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// So much waits already that it found no room.
    #[error("too many events wait to be written")]
    Behind,
    /// PostgreSQL cannot be asked, or does not answer in time. If it went away at the end, the batch may have been written; sending
    /// it again is safe.
    #[error("the database is not available")]
    Away,
    /// A bug of ours, which was logged.
    #[error("the events cannot be written")]
    Broken,
}

/// What has been counted.
#[derive(Debug, Default)]
pub struct Counts {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    /// Batches that found no room.
    pub behind: AtomicU64,
    /// Batches that could not be written.
    pub failed: AtomicU64,
    /// Transactions that wrote events.
    pub groups: AtomicU64,
}

impl Counts {
    /// How many events came to this.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.slot(outcome).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn note(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        for outcome in outcomes {
            if let Some(count) = self.slot(outcome) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn slot(&self, outcome: Outcome) -> Option<&AtomicU64> {
        let place = Outcome::ALL.iter().position(|known| *known == outcome)?;
        self.outcomes.get(place)
    }
}

/// Where batches are handed in.
#[derive(Debug)]
pub struct Intake {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    options: Options,
    counts: Counts,
}

/// A batch that waits to be written.
#[derive(Debug)]
pub(super) struct Waiting {
    pub batch: Batch,
    answer: oneshot::Sender<Result<Vec<Outcome>, Refused>>,
    /// Its part of the room, until it is answered.
    _room: OwnedSemaphorePermit,
}

impl Intake {
    /// An intake, and what empties it. Connects to nothing yet.
    pub fn new(settings: &Settings, options: Options) -> Result<(Arc<Self>, Writer), Error> {
        let mut settings = settings.clone();
        settings.target = settings.target.named("halyard events");
        settings.pool_size = writer::CONNECTIONS;
        let (sender, receiver) = mpsc::channel(BATCHES);
        let intake = Arc::new(Self {
            queue: sender,
            room: Arc::new(Semaphore::new(options.queue_bytes.min(Semaphore::MAX_PERMITS))),
            options,
            counts: Counts::default(),
        });
        let writer = Writer::new(
            (connect::pool("events", &settings)?, settings.target.tls().clone()),
            receiver,
            Arc::clone(&intake),
        );
        Ok((intake, writer))
    }

    /// Takes events that were received now, and says of each, in their order, what became of it. Returns only when all that is
    /// accepted is there for good.
    pub async fn take(
        &self,
        environment: EnvironmentId,
        key: KeyKind,
        events: Vec<Event>,
        now: Timestamp,
    ) -> Result<Vec<Outcome>, Refused> {
        let mut admitted = Vec::with_capacity(events.len());
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            match self.options.window.admit(event.id, event.occurred_at, now) {
                Ok(occurred_at) => {
                    admitted.push((event, occurred_at));
                    outcomes.push(None);
                }
                Err(outcome) => outcomes.push(Some(outcome)),
            }
        }
        let mut written = Vec::new();
        if !admitted.is_empty() {
            let batch = Batch {
                environment,
                key,
                events: admitted,
            };
            written = self.submit(batch).await?;
        }
        self.counts.note(outcomes.iter().flatten().copied());
        let mut written = written.into_iter();
        // There is one for each that was admitted.
        let outcome = |early: Option<Outcome>| early.or_else(|| written.next()).unwrap_or(Outcome::Malformed);
        Ok(outcomes.into_iter().map(outcome).collect())
    }

    /// Counts events that were not even handed in, since they make no sense.
    pub fn note_malformed(&self, events: usize) {
        self.counts.note(std::iter::repeat_n(Outcome::Malformed, events));
    }

    /// What has been counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many bytes wait, or are being written.
    pub fn bytes(&self) -> usize {
        self.limit() - self.room.available_permits().min(self.limit())
    }

    /// For how long events are taken.
    pub(super) fn window(&self) -> Window {
        self.options.window
    }

    /// How many bytes may wait.
    pub fn limit(&self) -> usize {
        self.options.queue_bytes
    }

    async fn submit(&self, batch: Batch) -> Result<Vec<Outcome>, Refused> {
        let (answer, answered) = oneshot::channel();
        // One that is larger than the room finds its place when it is empty.
        let bytes = u32::try_from(batch.size_bytes().min(self.limit())).unwrap_or(u32::MAX);
        let queued = Arc::clone(&self.room)
            .try_acquire_many_owned(bytes)
            .ok()
            .and_then(|room| {
                let waiting = Waiting {
                    batch,
                    answer,
                    _room: room,
                };
                self.queue.try_send(waiting).ok()
            });
        if queued.is_none() {
            self.counts.behind.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Behind);
        }
        // The writer is gone: the server is stopping.
        answered.await.unwrap_or(Err(Refused::Away))
    }
}

impl Batch {
    fn size_bytes(&self) -> usize {
        let events = self
            .events
            .iter()
            .map(|(event, _)| event.size_bytes() + size_of::<Timestamp>());
        size_of::<Waiting>() + events.sum::<usize>()
    }
}

impl Waiting {
    /// Whether nobody waits for the answer any more.
    pub fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    /// Whoever asked may be gone.
    pub fn answer(self, outcome: Result<Vec<Outcome>, Refused>) {
        let _ = self.answer.send(outcome);
    }
}
