//! Writes into the audit log who was denied what: at once after a quiet minute, otherwise once a minute, and at the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::rpc::front::Denials;
use crate::store::Store;

/// Between two entries about the same caller and method, unless it is set otherwise.
pub const DENIALS_EVERY: Duration = Duration::from_mins(1);
/// How long the last ones may take: less than tasks have to end.
const LAST: Duration = Duration::from_secs(1);

/// Runs until `stop`, and then once more.
pub(super) async fn keep(store: Store, denials: Arc<Denials>, every: Duration, stop: CancellationToken) {
    let rounds = async {
        loop {
            denials.arrived().await;
            write(&store, &denials).await;
            sleep(every).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = rounds => {}
    }
    if timeout(LAST, write(&store, &denials)).await.is_err() {
        tracing::warn!("the database does not answer; the last denials are not written down");
    }
}

/// What cannot be written now is tried again next time.
async fn write(store: &Store, denials: &Denials) {
    while let Some(denial) = denials.take() {
        if let Err(error) = store.record_denial(&denial).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a denial could not be written down; next time"
            );
            denials.put_back(denial);
            return;
        }
    }
}
