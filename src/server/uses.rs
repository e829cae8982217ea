//! Writes down, once a minute and at the end, which credentials were used.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use crate::rpc::front::Uses;
use crate::store::Store;
use crate::watch::Hub;

const INTERVAL: Duration = Duration::from_mins(1);
/// How long the last one may take: less than tasks have to end.
const LAST: Duration = Duration::from_secs(1);

/// Runs until `stop`, and then once more.
pub(super) async fn keep(store: Store, hub: Arc<Hub>, uses: Arc<Uses>, stop: CancellationToken) {
    let mut rounds = interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = rounds.tick() => flush(&store, &hub, &uses).await,
        }
    }
    if timeout(LAST, flush(&store, &hub, &uses)).await.is_err() {
        tracing::warn!("the database does not answer; the last uses of credentials are not written down");
    }
}

async fn flush(store: &Store, hub: &Hub, uses: &Uses) {
    let taken = uses.take(&hub.directory());
    if taken.is_empty() {
        return;
    }
    if let Err(error) = store.record_uses(&taken.keys, &taken.tokens).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "uses of credentials could not be written down; next time"
        );
        uses.put_back(&taken);
    }
}
