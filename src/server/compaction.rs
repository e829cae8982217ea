//! Compacts the change log now and then. Every replica tries; whoever finds another at it passes.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::store::Store;
use crate::store::compaction::Kept;

/// What is kept, and how often the rest is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// What is kept.
    pub kept: Kept,
    /// How long after one round the next begins.
    pub interval: Duration,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            kept: Kept::default(),
            interval: Duration::from_mins(10),
        }
    }
}

/// Runs until `stop`.
pub(super) async fn compact(store: Store, options: Compaction, stop: CancellationToken) {
    let mut rounds = interval(options.interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(rounds.tick()).await.is_some() {
        match stop.run_until_cancelled(store.compact(&options.kept)).await {
            Some(Ok(compacted)) if compacted.deleted > 0 => {
                tracing::info!(rows = compacted.deleted, "history beyond the retention was deleted");
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the change log could not be compacted; next time"
            ),
            None => return,
        }
    }
}
