//! What all streams saw, together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::recorder::{Failures, Latencies};
use super::End;
use super::arrivals::{Arrivals, Propagation};
use super::order::Disorder;
use crate::pb::evaluation::v1::{Intent, SourceState};

/// What all streams saw.
#[derive(Debug)]
pub(in crate::cli::bench) struct Board {
    streams: usize,
    /// How many have had their first state.
    ready: AtomicUsize,
    noted: Mutex<Noted>,
}

#[derive(Debug)]
struct Noted {
    seen: Seen,
    arrivals: Arrivals,
}

/// What streams saw, since they were opened.
#[derive(Debug, Clone, Default)]
pub(in crate::cli::bench) struct Seen {
    /// From asking for a stream to its first state. One for each stream that got one.
    pub first_state: Latencies,
    pub steps: u64,
    /// Those of them that were everything anew, the first ones included.
    pub snapshots: u64,
    pub heartbeats: u64,
    /// How old the server's own state was, by its heartbeats.
    pub staleness: Latencies,
    /// Heartbeats that did not say, or that the server never knew.
    pub staleness_unknown: u64,
    /// Heartbeats by how the server learned of changes.
    pub sources: BTreeMap<&'static str, u64>,
    /// The longest that a stream was silent.
    pub longest_silence: Duration,
    /// Streams that the server ended in good order.
    pub goodbyes: u64,
    pub closed: u64,
    pub silent: u64,
    pub disorders: BTreeMap<Disorder, u64>,
    /// Streams that failed, by the number of the code.
    pub failures: BTreeMap<i32, Failures>,
}

/// More than any server has been up for: it never knew.
const UNKNOWN: Duration = Duration::from_hours(24 * 365);

impl Board {
    pub fn new(streams: usize) -> Self {
        Self {
            streams,
            ready: AtomicUsize::new(0),
            noted: Mutex::new(Noted {
                seen: Seen::default(),
                arrivals: Arrivals::on(streams),
            }),
        }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        // Nothing is left half done under this lock.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many streams there are to be.
    pub fn streams(&self) -> usize {
        self.streams
    }

    /// How many have had their first state.
    pub fn ready(&self) -> usize {
        self.ready.load(Ordering::Acquire)
    }

    /// From now on changes are expected on the streams that have had their first state.
    pub fn expect_ready(&self) {
        let ready = self.ready().max(1);
        self.noted().arrivals.expect(ready);
    }

    /// How many changes have not arrived everywhere.
    pub fn on_their_way(&self) -> usize {
        self.noted().arrivals.on_their_way()
    }

    /// A change of ours was acknowledged.
    pub fn acknowledged(&self, revision: u64, sent: Instant, acknowledged: Instant) {
        self.noted().arrivals.acknowledged(revision, sent, acknowledged);
    }

    /// What has been seen so far, and how long changes took.
    pub fn seen(&self) -> (Seen, Propagation) {
        let noted = self.noted();
        (noted.seen.clone(), noted.arrivals.propagation())
    }

    /// A stream has its first state.
    pub(super) fn is_ready(&self, after: Duration) {
        self.noted().seen.first_state.record(after);
        self.ready.fetch_add(1, Ordering::Release);
    }

    /// A step has arrived on a stream that held something, or nothing, before.
    pub(super) fn step(&self, intent: Intent, from: Option<u64>, to: u64, at: Instant) {
        let mut noted = self.noted();
        noted.seen.steps += 1;
        noted.seen.snapshots += u64::from(intent == Intent::Snapshot);
        if let Some(from) = from {
            noted.arrivals.arrived(from, to, at);
        }
    }

    pub(super) fn heartbeat(&self, source: SourceState, staleness: Option<Duration>, longest_silence: Duration) {
        let source = source.as_str_name();
        let source = source.strip_prefix("SOURCE_STATE_").unwrap_or(source);
        let seen = &mut self.noted().seen;
        seen.heartbeats += 1;
        *seen.sources.entry(source).or_default() += 1;
        seen.longest_silence = seen.longest_silence.max(longest_silence);
        match staleness {
            Some(staleness) if staleness < UNKNOWN => seen.staleness.record(staleness),
            Some(_) | None => seen.staleness_unknown += 1,
        }
    }

    pub(super) fn ended(&self, end: &End) {
        let seen = &mut self.noted().seen;
        match end {
            End::Goodbye(_) => seen.goodbyes += 1,
            End::Closed => seen.closed += 1,
            End::Silent => seen.silent += 1,
            End::Disorder(disorder) => *seen.disorders.entry(*disorder).or_default() += 1,
            End::Failed(status) => {
                let failures = seen.failures.entry(status.code().into()).or_insert_with(|| Failures {
                    count: 0,
                    first: status.message().to_owned(),
                });
                failures.count += 1;
            }
        }
    }
}

impl Seen {
    /// How often a stream ended as none should.
    pub fn broken(&self) -> u64 {
        let failed: u64 = self.failures.values().map(|failures| failures.count).sum();
        failed + self.closed + self.silent
    }

    /// How often the contract was broken.
    pub fn disordered(&self) -> u64 {
        self.disorders.values().sum()
    }
}
