//! What can be configured of the feed.

use std::time::Duration;

use crate::trace::Tracer;

/// How the feed asks, waits and bounds itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time between polls of the heads that have changed, and between `Status` events.
    pub poll_interval: Duration,
    /// Time after which a poll looks at every head, changed or not.
    pub scan_interval: Duration,
    /// Time between probes of the listener's connection.
    pub probe_interval: Duration,
    /// Time within which a probe must come back.
    pub probe_timeout: Duration,
    /// Time between two rounds of the notifier, so that hints which come in close succession are sent together: this for each hint of
    /// the first, ten times this at most. A round waits for nothing where none was shortly before.
    pub coalesce: Duration,
    /// Time between two readings of what was hinted at, so that what changes in close succession is read together: this for each hint
    /// of the first, ten times this at most. A reading waits for nothing where none was shortly before.
    pub gather: Duration,
    /// Time within which the listener must be connected.
    pub connect_timeout: Duration,
    /// Time within which a small query must be answered, waiting for a connection included.
    pub query_timeout: Duration,
    /// Time within which a whole environment or the directory must be read.
    pub load_timeout: Duration,
    /// Wait before the listener connects again, at first.
    pub reconnect_least: Duration,
    /// Wait before the listener connects again, at most.
    pub reconnect_most: Duration,
    /// Wait before the listener tries again on a path that does not carry notifications, such as a transaction pooler.
    pub deaf_retry: Duration,
    /// Least time between two reads made for callers of `confirm_head` and `confirm_access`.
    pub confirm_spacing: Duration,
    /// Revisions that a `Reset` brings along, at most.
    pub recent_revisions: u32,
    /// Bytes of forms in the revisions that a `Reset` brings along, at most.
    pub recent_bytes: u64,
    /// Revisions read at once when an environment is behind.
    pub batch_revisions: u32,
    /// Bytes of forms read at once when an environment is behind; one revision is read however large.
    pub batch_bytes: u64,
    /// Environments read at the same time, each on a connection of the pool. Fewer than the pool has: polls must come through.
    pub parallel_fetches: usize,
    /// Events that wait for the hub before the feed does.
    pub event_capacity: usize,
    /// Traces what is read. `None`: nobody does.
    pub tracer: Option<Tracer>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(1),
            scan_interval: Duration::from_secs(30),
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(2),
            coalesce: Duration::from_millis(2),
            gather: Duration::from_millis(2),
            connect_timeout: Duration::from_secs(5),
            query_timeout: Duration::from_secs(2),
            load_timeout: Duration::from_secs(15),
            reconnect_least: Duration::from_millis(100),
            reconnect_most: Duration::from_secs(5),
            deaf_retry: Duration::from_secs(10),
            confirm_spacing: Duration::from_millis(10),
            recent_revisions: 1000,
            recent_bytes: 16 * 1024 * 1024,
            batch_revisions: 100,
            batch_bytes: 4 * 1024 * 1024,
            parallel_fetches: 2,
            event_capacity: 64,
            tracer: None,
        }
    }
}
