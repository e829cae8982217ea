//! How long what was committed takes to get somewhere: histograms that many threads add to at once.
//!
//! What happens for each of many streams is counted on a shard of the thread's own, so that workers do not take each other's cache
//! lines away. An observation reads the clock and adds to two numbers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// Up to where each bucket reaches; one more takes what is longer.
pub const BOUNDS: [Duration; 16] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_mins(1),
];

/// What is longer counts as this, so that the sum of very many still fits into 64 bits of nanoseconds.
const LONGEST: Duration = Duration::from_hours(1);
const SHARDS: usize = 8;

/// One of something for each thread, or for a few threads if there are many.
#[derive(Debug, Default)]
pub struct Sharded<T>([Line<T>; SHARDS]);

/// On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

impl<T> Sharded<T> {
    /// This thread's.
    pub(super) fn here(&self) -> &T {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        // A thread that is ending has no place of its own any more.
        let shard = SHARD.try_with(|shard| *shard).unwrap_or_default();
        let [first, ..] = &self.0;
        &self.0.get(shard).unwrap_or(first).0
    }

    /// All of them together.
    pub fn sum(&self, of: impl Fn(&T) -> u64) -> u64 {
        self.0.iter().map(|Line(shard)| of(shard)).sum()
    }
}

/// A histogram of durations since a commit.
#[derive(Debug, Default)]
pub struct Latency(Sharded<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len()],
    longer: AtomicU64,
    sum_ns: AtomicU64,
}

/// What a histogram holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// How many there were in each bucket alone, in the order of [`BOUNDS`].
    pub counts: [u64; BOUNDS.len()],
    /// How many were longer.
    pub longer: u64,
    /// All of them together.
    pub sum: Duration,
}

impl Latency {
    /// Something that was committed then has got here now. By two clocks: the database's, and this machine's. What seems to come
    /// from the future took no time.
    pub(super) fn observe(&self, committed_at: Timestamp) {
        let latency = Timestamp::now().duration_since(committed_at);
        self.add(Duration::try_from(latency).unwrap_or_default());
    }

    fn add(&self, latency: Duration) {
        let latency = latency.min(LONGEST);
        let buckets = self.0.here();
        let bucket = BOUNDS.partition_point(|bound| *bound < latency);
        let count = buckets.counts.get(bucket).unwrap_or(&buckets.longer);
        count.fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(latency.as_nanos()).unwrap_or_default();
        buckets.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// What it holds now. What is being added meanwhile may be in one of the numbers only.
    pub fn read(&self) -> Distribution {
        let mut counts = [0; BOUNDS.len()];
        for (n, count) in counts.iter_mut().enumerate() {
            *count = self
                .0
                .sum(|buckets| buckets.counts.get(n).map_or(0, |count| count.load(Ordering::Relaxed)));
        }
        Distribution {
            counts,
            longer: self.0.sum(|buckets| buckets.longer.load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.0.sum(|buckets| buckets.sum_ns.load(Ordering::Relaxed))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(latencies: &[Duration]) -> Distribution {
        let histogram = Latency::default();
        for latency in latencies {
            histogram.add(*latency);
        }
        histogram.read()
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        for (n, bound) in BOUNDS.into_iter().enumerate() {
            assert_eq!(added(&[bound]).counts[n], 1, "{bound:?}");
            let above = added(&[bound + Duration::from_nanos(1)]);
            let next = above.counts.get(n + 1).unwrap_or(&above.longer);
            assert_eq!(*next, 1, "{bound:?}");
        }
    }

    #[test]
    fn what_took_very_long_counts_as_an_hour_and_what_comes_from_the_future_as_nothing() {
        let distribution = added(&[Duration::MAX, Duration::ZERO]);
        assert_eq!((distribution.longer, distribution.counts[0]), (1, 1));
        assert_eq!(distribution.sum, LONGEST);
        let histogram = Latency::default();
        histogram.observe(Timestamp::MAX);
        histogram.observe(Timestamp::MIN);
        assert_eq!(histogram.read(), distribution);
    }

    #[test]
    fn threads_add_up() {
        let histogram = Latency::default();
        std::thread::scope(|scope| {
            for _ in 0..3 * SHARDS {
                scope.spawn(|| (0..1_000).for_each(|_| histogram.add(Duration::from_millis(7))));
            }
        });
        let distribution = histogram.read();
        let total = 3 * SHARDS as u64 * 1_000;
        assert_eq!(distribution.counts[4], total);
        assert_eq!(distribution.sum, Duration::from_millis(7 * total));
    }
}
