//! Durations and sizes of the watch side, and the dice that spread them.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::limits;
use crate::domain::staleness::Limits;

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How often a stream says that it is alive, when its client does not ask for another interval.
    pub heartbeat: Duration,
    /// What a client may ask for; anything beyond is moved to the nearer bound.
    pub heartbeat_bounds: RangeInclusive<Duration>,
    /// How long a stream lives, give or take a fifth.
    pub rotation: Duration,
    /// The longest that a client of a rotated stream is asked to wait.
    pub rotation_pause: Duration,
    /// Over how long the Goodbyes of a drain are spread, and the longest that a client is asked to wait after its own.
    pub drain_window: Duration,
    /// How long a client that is ahead of this replica, or shows an unknown key, waits for the replica to catch up.
    pub ahead_wait: Duration,
    /// How long a client may leave what it was sent unread before its stream is taken away.
    pub stall: Duration,
    /// How many bytes of snapshots may be on their way to streams of items at a time; other streams wait for their turn.
    pub snapshot_bytes: usize,
    /// How long a client may leave what it was sent of a snapshot unread before others come before it, if any wait.
    pub snapshot_patience: Duration,
    /// How many streams may be open.
    pub streams: usize,
    /// How many of them one key may have opened.
    pub key_streams: usize,
    /// How many bytes the questions of all streams of answers may take.
    pub question_bytes: usize,
    /// How many bytes those of one key's streams may take.
    pub key_question_bytes: usize,
    /// How old the state may be that answers for a flag. None of the limits: any age.
    pub staleness: Arc<Limits>,
    /// How many revisions an environment keeps for clients to resume from.
    pub ring_revisions: usize,
    /// How many bytes those may take.
    pub ring_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(10),
            heartbeat_bounds: Duration::from_secs(1)..=Duration::from_mins(1),
            rotation: Duration::from_mins(30),
            rotation_pause: Duration::from_secs(1),
            drain_window: Duration::from_secs(5),
            ahead_wait: Duration::from_secs(3),
            stall: Duration::from_secs(30),
            snapshot_bytes: 128 * 1024 * 1024,
            snapshot_patience: Duration::from_secs(1),
            streams: limits::STREAMS,
            key_streams: limits::KEY_STREAMS,
            question_bytes: limits::QUESTION_BYTES,
            key_question_bytes: limits::KEY_QUESTION_BYTES,
            staleness: Arc::default(),
            ring_revisions: 1_000,
            ring_bytes: 16 * 1024 * 1024,
        }
    }
}

impl Options {
    /// The interval for a client that asks for `wanted`.
    pub(super) fn heartbeat_for(&self, wanted: Option<Duration>) -> Duration {
        let (shortest, longest) = (self.heartbeat_bounds.start(), self.heartbeat_bounds.end());
        wanted.unwrap_or(self.heartbeat).min(*longest).max(*shortest)
    }
}

/// A random duration around `middle`: at most `share` of it away.
pub(super) fn around(middle: Duration, share: f64) -> Duration {
    middle.mul_f64(1.0 - share + 2.0 * share * fastrand::f64())
}

/// A random duration up to `longest`.
pub(super) fn up_to(longest: Duration) -> Duration {
    longest.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_heartbeat(wanted: Option<u64>, expected: u64) {
        let heartbeat = Options::default().heartbeat_for(wanted.map(Duration::from_secs));
        assert_eq!(heartbeat, Duration::from_secs(expected));
    }

    #[test]
    fn a_client_gets_the_heartbeat_it_asks_for_within_bounds() {
        check_heartbeat(None, 10);
        check_heartbeat(Some(5), 5);
        check_heartbeat(Some(0), 1);
        check_heartbeat(Some(3_600), 60);
    }

    #[test]
    fn jitter_stays_within_its_share_and_uses_it() {
        let drawn: Vec<_> = (0..1_000).map(|_| around(Duration::from_secs(100), 0.1)).collect();
        assert!(drawn.iter().all(|d| (90.0..=110.0).contains(&d.as_secs_f64())));
        assert!(drawn.iter().any(|d| d.as_secs_f64() < 92.0));
        assert!(drawn.iter().any(|d| d.as_secs_f64() > 108.0));
    }
}
