//! Looks for rows that were edited by hand, once a second and at the start, and makes revisions of them. Every replica looks; what
//! one has adopted the others find adopted.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::store::Store;

const INTERVAL: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub(super) async fn adopt(store: Store, stop: CancellationToken) {
    let mut rounds = interval(INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Not every failing round is a line in the log.
    let mut failing = false;
    while stop.run_until_cancelled(rounds.tick()).await.is_some() {
        match stop.run_until_cancelled(store.adopt_hand_edits()).await {
            Some(Ok(_)) => failing = false,
            Some(Err(error)) => {
                if !failing {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "rows that were edited by hand cannot be looked for; trying on"
                    );
                }
                failing = true;
            }
            None => return,
        }
    }
}
