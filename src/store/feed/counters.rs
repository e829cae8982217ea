//! What the feed counts. Plain numbers; whoever shows metrics reads them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start of the process. They only rise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Notifications that reached the listener and were hints, those of this replica included.
    pub notifications: AtomicU64,
    /// Notifications on our channel that nobody of ours wrote.
    pub malformed_notifications: AtomicU64,
    /// Hints taken up by the feed, wherever they came from.
    pub hints: AtomicU64,
    /// Hints that this replica passed on by NOTIFY.
    pub hints_sent: AtomicU64,
    /// Hints that could not be passed on; the others find the change by polling.
    pub hints_unsent: AtomicU64,
    /// Polls that were answered.
    pub polls: AtomicU64,
    /// Polls that failed or took too long.
    pub poll_failures: AtomicU64,
    /// Polled heads that were newer than ours without any hint while the listener was live. A few are only faster than their hint.
    pub missed_hints: AtomicU64,
    /// Times that the listener went live.
    pub connects: AtomicU64,
    /// Sessions of the listener that ended, and attempts that never became one.
    pub disconnects: AtomicU64,
    /// Probes that did not come back in time.
    pub probe_failures: AtomicU64,
    /// Revisions sent one by one.
    pub advances: AtomicU64,
    /// Environments sent whole.
    pub resets: AtomicU64,
    /// Revisions that did not follow what was sent before, by their number or by their digest.
    pub broken_chains: AtomicU64,
    /// Reads of environments or of the directory that failed or took too long.
    pub fetch_failures: AtomicU64,
    /// Environments that could not be read, or not quickly enough, while the database answered: from then on they alone were old.
    pub left_behind: AtomicU64,
    /// Reads that found a row which cannot be understood.
    pub malformed: AtomicU64,
    /// Environments found to have another history than the one that was sent.
    pub divergences: AtomicU64,
    /// Times that this replica raised the generation.
    pub generations_raised: AtomicU64,
    /// Reads made to confirm a head for a caller.
    pub confirmations: AtomicU64,
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
