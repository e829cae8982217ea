//! First answers of experiments: durable before they are given, many at a time.
//!
//! Whoever meets a unit that is not known puts it into a bounded queue and waits, for 50 ms at most. A task takes all that wait
//! and writes them with one statement and one commit; while that is on its way the next lot gathers, and another connection takes it,
//! so that one is written while others wait for the disk. What others had written before stays: the first answer of a unit is the
//! one that all replicas give.
//!
//! PostgreSQL away, or late: nobody waits for it longer than that, and once it is known to be away nobody waits at all; units go on
//! being put into the queue, so that it is noticed when it is back.

mod batch;
mod known;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Settings;
use super::connect;
use super::error::Error;
use super::lease::Lease;
use crate::domain::experiment::stored_unit;
use crate::domain::key;
use crate::evaluate::{Assigned, Need};
use crate::store::pool::Pool;

pub use known::Known;

/// How long anyone waits for an assignment, unless it is set otherwise.
pub const PATIENCE: Duration = Duration::from_millis(50);
/// Requests that wait to be written; more are answered without.
const WAITING: usize = 10_000;
/// Connections that write and read assignments.
pub(super) const CONNECTIONS: usize = 3;
/// Units of one statement. One request may bring more.
const BATCH: usize = 2_000;
/// After so many times what anyone waits PostgreSQL counts as away for whoever comes, though the statement may still succeed.
const LATE: u32 = 4;
/// After so long it is given up.
const GIVEN_UP: Duration = Duration::from_secs(5);
/// How long to wait after a failure before PostgreSQL is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// How assignments are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What the known ones may take in memory.
    pub cache_bytes: u64,
    /// For how long a known one is believed to be stored, before it is looked up again.
    pub believed_for: Duration,
    /// What requests that wait to be written may take in memory.
    pub queue_bytes: usize,
    /// How long anyone waits for one that is not known.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            believed_for: Duration::from_hours(1),
            queue_bytes: 32 * 1024 * 1024,
            patience: PATIENCE,
        }
    }
}

/// The assignments of all experiments, as far as they are known, and the way to the others.
pub struct Assignments {
    patience: Duration,
    known: Arc<Known>,
    queue: mpsc::Sender<Request>,
    queue_bytes: usize,
    /// What of it is free.
    room: Arc<Semaphore>,
    state: Arc<State>,
}

/// How it goes.
#[derive(Debug, Default)]
struct State {
    /// PostgreSQL did not answer, or not in time.
    away: AtomicBool,
    counts: Counts,
}

/// What was done so far.
#[derive(Debug, Default)]
struct Counts {
    batches: AtomicU64,
    units: AtomicU64,
    unreached: AtomicU64,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Statements that wrote or read assignments.
    pub batches: u64,
    /// Units that they found out about.
    pub units: u64,
    /// Units that could not be found out about in time.
    pub unreached: u64,
}

/// A unit whose assignment is wanted.
#[derive(Debug, Clone)]
struct Wanted {
    experiment: Uuid,
    /// The iteration that assigns it, if it is not assigned yet.
    iteration: u32,
    /// As it is stored. Those of one request share it.
    unit: Arc<str>,
    /// `None`: nothing is to be stored.
    arm: Option<key::Variant>,
}

struct Request {
    wanted: Vec<Wanted>,
    /// Its part of the room, until it is answered.
    room: OwnedSemaphorePermit,
    /// What was found out, in the order of what was wanted.
    found: oneshot::Sender<Vec<Assigned>>,
}

impl Assignments {
    /// Prepares them, and the task that writes them. Connects to nothing yet.
    pub fn new(settings: &Settings) -> Result<(Self, Writer), Error> {
        let Options {
            cache_bytes,
            believed_for,
            queue_bytes,
            patience,
        } = settings.assignments;
        let queue_bytes = queue_bytes.min(Semaphore::MAX_PERMITS);
        let known = Arc::new(Known::new(cache_bytes, believed_for));
        let (queue, requests) = mpsc::channel(WAITING);
        let state = Arc::new(State::default());
        let writer = Writer {
            pool: connect::assignment_pool(settings)?,
            tls: settings.target.tls().clone(),
            requests: Mutex::new(requests),
            late: patience.saturating_mul(LATE),
            known: known.clone(),
            state: state.clone(),
        };
        let assignments = Self {
            patience,
            known,
            queue,
            queue_bytes,
            room: Arc::new(Semaphore::new(queue_bytes)),
            state,
        };
        Ok((assignments, writer))
    }

    /// How long anyone waits for one that is not known.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Those that are known.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// How many bytes of requests wait, or are being written.
    pub fn waiting_bytes(&self) -> usize {
        self.queue_bytes - self.room.available_permits().min(self.queue_bytes)
    }

    /// What was done so far.
    pub fn counted(&self) -> Counted {
        let Counts {
            batches,
            units,
            unreached,
        } = &self.state.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counted {
            batches: read(batches),
            units: read(units),
            unreached: read(unreached),
        }
    }

    /// Finds out what is needed, by a deadline; in the order of the needs. Whatever is found out later is known from then on. What
    /// cannot be found out is as it was when it was found out last.
    pub async fn settle(&self, needs: &[Need], deadline: Instant) -> Vec<Assigned> {
        let settled = match self.send(needs) {
            Some(answer) if !self.state.away.load(Ordering::Relaxed) => {
                timeout_at(deadline, answer).await.ok().and_then(Result::ok)
            }
            Some(_) | None => None,
        };
        let mut settled = settled.unwrap_or_else(|| vec![Assigned::Unreachable; needs.len()]);
        for (assigned, need) in settled.iter_mut().zip(needs) {
            if *assigned == Assigned::Unreachable
                && let Some(last) = self.known.last(need.experiment.salt(), &need.unit)
            {
                *assigned = last;
            }
        }
        let unreached = settled.iter().filter(|assigned| **assigned == Assigned::Unreachable);
        let unreached = unreached.count() as u64;
        self.state.counts.unreached.fetch_add(unreached, Ordering::Relaxed);
        settled
    }

    /// Puts what is needed into the queue. `None`: there is no room.
    fn send(&self, needs: &[Need]) -> Option<oneshot::Receiver<Vec<Assigned>>> {
        let (found, answer) = oneshot::channel();
        let (wanted, bytes) = wanted(needs);
        // One that is larger than the room finds its place when it is empty.
        let bytes = u32::try_from(bytes.min(self.queue_bytes)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes).ok()?;
        self.queue.try_send(Request { wanted, room, found }).ok()?;
        Some(answer)
    }
}

/// What is needed, and about what it takes in memory.
fn wanted(needs: &[Need]) -> (Vec<Wanted>, usize) {
    let mut units: Vec<(&str, Arc<str>)> = Vec::new();
    let mut wanted = Vec::with_capacity(needs.len());
    for Need { experiment, unit, arm } in needs {
        // Mostly there is one unit, and seldom are there more than a few.
        let met = units.iter().rev().find(|(met, _)| met == unit);
        let stored = met.map_or_else(|| stored_unit(unit).into(), |(_, stored)| Arc::clone(stored));
        if met.is_none() {
            units.push((unit, Arc::clone(&stored)));
        }
        wanted.push(Wanted {
            experiment: experiment.salt(),
            iteration: experiment.iteration(),
            unit: stored,
            arm: arm.clone(),
        });
    }
    let texts: usize = units.iter().map(|(_, stored)| stored.len()).sum();
    let each = size_of::<Wanted>() + size_of::<Assigned>();
    (wanted, size_of::<Request>() + needs.len() * each + texts)
}

impl Wanted {
    /// What tells it from others.
    fn key(&self) -> (Uuid, Arc<str>) {
        (self.experiment, Arc::clone(&self.unit))
    }
}

/// Writes assignments.
pub struct Writer {
    pool: Pool,
    tls: connect::Tls,
    requests: Mutex<mpsc::Receiver<Request>>,
    /// After so long without an answer PostgreSQL counts as away.
    late: Duration,
    known: Arc<Known>,
    state: Arc<State>,
}

impl Writer {
    /// Writes until it is stopped. Whoever waits then gets no answer.
    pub async fn run(self, stop: CancellationToken) {
        let write = async {
            self.prepare().await;
            join_all((0..CONNECTIONS).map(|_| self.write_lots())).await;
            // Nobody can ask any more, so the server is about to stop.
            stop.cancelled().await;
        };
        stop.run_until_cancelled(write).await;
    }

    /// Connects, so that the first who asks need not wait for that. If it fails, they will.
    async fn prepare(&self) {
        let prepared = timeout(GIVEN_UP, try_join_all((0..CONNECTIONS).map(|_| self.prepare_one())));
        if let Ok(Err(error)) = prepared.await {
            self.report_away(true, Some(&error));
        }
    }

    async fn prepare_one(&self) -> Result<(), Error> {
        batch::prepare(&self.pool.get().await?).await
    }

    async fn write_lots(&self) {
        let mut read_first = false;
        while let Some(lot) = self.next_lot().await {
            match self.answer(lot, read_first).await {
                Some(was_there) => read_first = was_there,
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// All that wait, up to a bound. `None`: nobody is left who could ask.
    async fn next_lot(&self) -> Option<Vec<Request>> {
        let mut queue = self.requests.lock().await;
        let first = queue.recv().await?;
        let (mut units, mut requests) = (first.wanted.len(), vec![first]);
        while units < BATCH {
            let Ok(request) = queue.try_recv() else {
                break;
            };
            units += request.wanted.len();
            requests.push(request);
        }
        Some(requests)
    }

    /// Returns whether most of it was there before. `None`: PostgreSQL did not answer, and dropping what they wait for tells them.
    async fn answer(&self, requests: Vec<Request>, read_first: bool) -> Option<bool> {
        let wanted: Vec<&Wanted> = requests.iter().flat_map(|request| &request.wanted).collect();
        let found = self.settle(&wanted, read_first).await?;
        for (experiment, unit) in &found.refused {
            self.known.note_refused(*experiment, unit);
        }
        for request in requests {
            let Request {
                wanted,
                room,
                found: asked,
            } = request;
            let answers: Vec<_> = wanted.iter().map(|wanted| found.of(wanted)).collect();
            for (wanted, assigned) in wanted.iter().zip(&answers) {
                self.known
                    .note_stored(wanted.experiment, wanted.iteration, &wanted.unit, assigned);
            }
            // Who does not wait any more finds it among what is known.
            let _ = asked.send(answers);
            drop(room);
        }
        Some(found.was_there())
    }

    /// `None`: PostgreSQL did not answer.
    async fn settle(&self, wanted: &[&Wanted], read_first: bool) -> Option<batch::Found> {
        // A connection whose statement is given up is not used again: the next one would wait behind it.
        let mut lease = Lease::new(&self.tls);
        let settled = {
            let settling = async {
                let client = lease.hold(self.pool.get().await?);
                batch::settle(client, wanted, read_first).await
            };
            let mut settling = std::pin::pin!(timeout(GIVEN_UP, settling));
            if let Ok(settled) = timeout(self.late, &mut settling).await {
                settled
            } else {
                self.report_away(true, None);
                settling.await
            }
        };
        if settled.is_ok() {
            lease.give_back();
        }
        match settled {
            Ok(Ok(found)) => {
                self.report_away(false, None);
                let counts = &self.state.counts;
                counts.batches.fetch_add(1, Ordering::Relaxed);
                counts.units.fetch_add(wanted.len() as u64, Ordering::Relaxed);
                Some(found)
            }
            Ok(Err(error)) => {
                self.report_away(true, Some(&error));
                None
            }
            Err(_) => {
                self.report_away(true, None);
                None
            }
        }
    }

    /// Notes whether PostgreSQL answers, and says so when that has changed.
    fn report_away(&self, away: bool, error: Option<&Error>) {
        let was = self.state.away.swap(away, Ordering::Relaxed);
        match (was, away) {
            (false, true) => {
                let error = error.map(Error::summary);
                tracing::warn!(
                    error,
                    "assignments cannot be stored in time: units that are not known get what the hash says"
                );
            }
            (true, false) => tracing::info!("assignments are stored again"),
            (false, false) | (true, true) => {}
        }
    }
}
