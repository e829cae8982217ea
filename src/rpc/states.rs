//! The newest state of an environment, once it is as new as the caller asks for.

use std::sync::Arc;
use std::time::Duration;

use super::Refusal;
use super::front::Deadline;
use crate::domain::change::EnvironmentId;
use crate::watch::{Age, Environment, Hub, State};

/// The longest wait for `min_revision`.
const PATIENCE: Duration = Duration::from_secs(5);

/// The hub's newest states.
pub(super) struct States {
    hub: Arc<Hub>,
}

impl States {
    /// Those of this hub.
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Calls `answer` with the newest state of an environment, once it has reached `min_revision`, and with how old it is, and the
    /// environment itself. The age is read before the state: read after it, it could be that of a newer one.
    pub(super) async fn with<T>(
        &self,
        environment: EnvironmentId,
        deadline: Deadline,
        min_revision: u64,
        answer: impl FnOnce(&State, &Age, &Environment) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let environment = if let Some(environment) = self.hub.environment(environment) {
            environment
        } else {
            Box::pin(self.arrival(environment, deadline)).await?
        };
        let age = self.hub.age();
        let state = environment.state();
        if state.head.revision >= min_revision {
            return answer(&state, &age, &environment);
        }
        drop(state);
        let patience = deadline.patience(PATIENCE);
        let reached = Box::pin(environment.wait_for(min_revision, patience.into())).await;
        let reached = reached.map_err(|_| Refusal::revision_not_reached())?;
        let age = self.hub.age();
        // A replica never goes back from what it has reached, unless its history was replaced meanwhile.
        let state = Arc::clone(&environment.state());
        let newest = if state.head.revision >= min_revision {
            state
        } else {
            reached
        };
        answer(&newest, &age, &environment)
    }

    /// An environment that was made a moment ago and is on its way here.
    async fn arrival(&self, environment: EnvironmentId, deadline: Deadline) -> Result<Arc<Environment>, Refusal> {
        let patience = deadline.patience(PATIENCE);
        let arrived = self.hub.await_environment(environment, patience.into());
        arrived.await.ok_or_else(Refusal::not_loaded)
    }
}
