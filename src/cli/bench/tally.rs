//! Counts what many tasks do at once: what became of requests, in all and since it was last asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::recorder::{Latencies, Outcome, Recorder};

/// What became of the requests of one kind of load.
#[derive(Debug)]
pub(super) struct Tally {
    /// Several, so that tasks seldom wait for each other.
    shards: Vec<Mutex<Shard>>,
    in_flight: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    /// Of requests that count.
    all: Recorder,
    /// Of every request since it was last asked.
    lately: Lately,
}

/// What became of requests since it was last asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Lately {
    pub latency: Latencies,
    pub failed: u64,
    pub missed: u64,
    /// Now.
    pub in_flight: usize,
}

impl Tally {
    pub fn new() -> Self {
        let shards = std::thread::available_parallelism().map_or(1, usize::from).min(64);
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            in_flight: AtomicUsize::new(0),
        }
    }

    fn shard(&self, n: u64) -> MutexGuard<'_, Shard> {
        let at = n % self.shards.len() as u64;
        // Nothing is left half done under these locks, and there is at least one.
        #[expect(clippy::indexing_slicing, reason = "below the length")]
        #[expect(clippy::cast_possible_truncation, reason = "below a length")]
        let shard = &self.shards[at as usize];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another request may be sent while so many may be without an answer. If so it counts as one of them.
    pub fn begin(&self, most: usize) -> bool {
        let begun = self
            .in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < most).then_some(count + 1)
            });
        begun.is_ok()
    }

    /// A request that had begun has ended.
    pub fn end(&self, n: u64, counts: bool, outcome: Outcome) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let mut shard = self.shard(n);
        match &outcome.result {
            Ok(_) => shard.lately.latency.record(outcome.latency),
            Err(_) => shard.lately.failed += 1,
        }
        if counts {
            shard.all.record(outcome);
        }
    }

    /// A request that had begun is given up.
    pub fn give_up(&self, n: u64, counts: bool) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if counts {
            self.shard(n).all.unanswered += 1;
        }
    }

    /// A request was due, and is not sent.
    pub fn miss(&self, n: u64, counts: bool) {
        let mut shard = self.shard(n);
        shard.lately.missed += 1;
        if counts {
            shard.all.missed += 1;
        }
    }

    pub fn lately(&self) -> Lately {
        let mut lately = Lately::default();
        for n in 0..self.shards.len() as u64 {
            let Lately {
                latency,
                failed,
                missed,
                in_flight: _,
            } = std::mem::take(&mut self.shard(n).lately);
            lately.latency.add(&latency);
            lately.failed += failed;
            lately.missed += missed;
        }
        lately.in_flight = self.in_flight.load(Ordering::Relaxed);
        lately
    }

    /// Everything that counts, so far.
    pub fn total(&self) -> Recorder {
        let mut total = Recorder::default();
        for n in 0..self.shards.len() as u64 {
            total.add(&self.shard(n).all);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            latency: Duration::from_millis(1),
            delay: Duration::ZERO,
            in_time: true,
            result: Ok("STATIC"),
        }
    }

    #[test]
    fn no_more_than_the_most_are_in_flight() {
        let tally = Tally::new();
        assert!(tally.begin(2) && tally.begin(2) && !tally.begin(2));
        tally.end(0, true, outcome());
        assert!(tally.begin(2));
        assert_eq!(tally.lately().in_flight, 2);
    }

    #[test]
    fn lately_is_since_it_was_last_asked_and_the_total_is_what_counts() {
        let tally = Tally::new();
        for n in 0..100 {
            assert!(tally.begin(1));
            tally.end(n, n >= 10, outcome());
        }
        tally.miss(0, false);
        tally.miss(1, true);
        assert!(tally.begin(1));
        tally.give_up(2, true);
        let lately = tally.lately();
        assert_eq!((lately.latency.count(), lately.missed, lately.in_flight), (100, 2, 0));
        assert_eq!(tally.lately().latency.count(), 0);
        let total = tally.total();
        assert_eq!((total.answered(), total.missed, total.unanswered), (90, 1, 1));
    }
}
