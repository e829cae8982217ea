//! How a server ends: not ready, goodbyes on the streams, requests finish, everything stops.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::workers::Workers;
use crate::shutdown::{Fault, Tasks};
use crate::watch::Hub;

/// How long after the drain window the last goodbyes may take to arrive.
const LAST_GOODBYES: Duration = Duration::from_millis(500);
/// How long tasks may take to notice that they are to end; all of them wait for that.
const TASKS_END: Duration = Duration::from_secs(5);

/// What ends in order.
pub(super) struct Ending {
    pub hub: Arc<Hub>,
    pub workers: Workers,
    pub draining: CancellationToken,
    pub leaving: CancellationToken,
    pub tasks: Tasks,
    pub drain_window: Duration,
    pub grace: Duration,
}

impl Ending {
    /// Takes the drain window and the grace at most, and a moment.
    pub async fn run(self) -> Result<(), Fault> {
        let drained = Instant::now() + self.drain_window;
        let deadline = drained + self.grace;
        self.draining.cancel();
        self.hub.drain();
        if tokio::time::timeout_at(drained + LAST_GOODBYES, without_streams(&self.hub))
            .await
            .is_err()
        {
            tracing::warn!(
                streams = self.hub.streams(),
                "streams are still open after the drain window"
            );
        }
        self.leaving.cancel();
        self.workers.stop(deadline).await;
        self.tasks.stop().cancel();
        self.tasks.finish(TASKS_END).await
    }
}

/// Returns once no stream is open. Nobody is told of the last one's end; a look now and then is enough.
async fn without_streams(hub: &Hub) {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    while hub.streams() > 0 {
        looks.tick().await;
    }
}
