//! Looks after the days that events are received on: their partitions, and the end of old ones. Every replica tries; whoever comes
//! first does it.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::store::Store;
use crate::store::events::Kept;

/// How often days are looked after: partitions are made a day ahead.
const ROUND: Duration = Duration::from_mins(10);

/// How events of experiments are taken in and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events {
    /// How long they are taken, and kept.
    pub kept: Kept,
    /// How many bytes of them may wait to be written.
    pub queue_bytes: usize,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            kept: Kept::default(),
            queue_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Runs until `stop`.
pub(super) async fn keep_days(store: Store, kept: Kept, stop: CancellationToken) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(rounds.tick()).await.is_some() {
        match stop.run_until_cancelled(store.keep_event_days(&kept)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the days of events could not be looked after; next time"
            ),
            None => return,
        }
    }
}
