//! Tells the other replicas how far the streams here have come, and takes over what clients told them of streams here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::change::EnvironmentId;
use crate::domain::propagation::{Acknowledgement, Report};
use crate::store::Store;
use crate::store::propagation::Told;
use crate::watch::Hub;

const INTERVAL: Duration = Duration::from_secs(1);
/// How often is told what has not changed, so that the others know that this replica is alive.
const REMINDER: Duration = Duration::from_secs(10);
/// How long a round may take, and the last one: less than tasks have to end.
const PATIENCE: Duration = Duration::from_secs(5);
const LAST: Duration = Duration::from_secs(1);

/// What was told last of an environment, and when.
struct Last {
    report: Option<Report>,
    elsewhere: Vec<Acknowledgement>,
    at: Instant,
}

/// What the others know of this replica.
struct Known {
    replica: Uuid,
    last: BTreeMap<EnvironmentId, Last>,
    /// A round has failed: not every one is a line in the log.
    failing: bool,
}

/// Runs until `stop`, and then takes back what it told.
pub(super) async fn keep(store: Store, hub: Arc<Hub>, stop: CancellationToken) {
    let mut known = Known {
        replica: Uuid::new_v4(),
        last: BTreeMap::new(),
        failing: false,
    };
    let mut rounds = interval_at(Instant::now() + INTERVAL, INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(rounds.tick()).await.is_some() {
        let round = timeout(PATIENCE, known.round(&store, &hub));
        match stop.run_until_cancelled(round).await {
            Some(Ok(())) => {}
            Some(Err(_)) => known.failed(&"the database does not answer"),
            None => break,
        }
    }
    let over: Vec<_> = known.last.into_keys().collect();
    if !over.is_empty() {
        // Otherwise it expires.
        let _ = timeout(LAST, store.tell_propagation(known.replica, &[], &over)).await;
    }
}

impl Known {
    async fn round(&mut self, store: &Store, hub: &Hub) {
        let mut now = hub.propagation();
        let over: Vec<_> = self.last.keys().filter(|id| !now.contains_key(id)).copied().collect();
        if now.is_empty() && over.is_empty() {
            return;
        }
        let at = Instant::now();
        now.retain(|id, (report, elsewhere)| {
            let last = self.last.get(id);
            !last.is_some_and(|last| {
                last.report == *report && last.elsewhere == *elsewhere && at.duration_since(last.at) < REMINDER
            })
        });
        let told: Vec<_> = now
            .into_iter()
            .map(|(environment, (report, elsewhere))| Told {
                environment,
                report,
                elsewhere,
            })
            .collect();
        match store.tell_propagation(self.replica, &told, &over).await {
            Ok(acknowledged) => {
                self.failing = false;
                self.last.retain(|id, _| !over.contains(id));
                for Told {
                    environment,
                    report,
                    elsewhere,
                } in told
                {
                    hub.passed_on(environment, &elsewhere);
                    self.last.insert(environment, Last { report, elsewhere, at });
                }
                for (environment, acknowledgements) in acknowledged {
                    hub.take_over(environment, acknowledgements);
                }
            }
            Err(error) => self.failed(&error.summary()),
        }
    }

    fn failed(&mut self, why: &dyn std::fmt::Display) {
        if !self.failing {
            tracing::warn!(%why, "the other replicas cannot be told how far the streams here have come; trying on");
        }
        self.failing = true;
    }
}
