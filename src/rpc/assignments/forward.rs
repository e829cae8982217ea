//! A sidecar's assignments: asked of the server that it is fed by, and kept in memory.

use futures_util::future::join_all;
use http::Uri;
use secrecy::SecretString;
use tokio::time::{Instant, timeout_at};

use crate::domain::context::Context;
use crate::domain::key;
use crate::evaluate::{Assigned, Need};
use crate::pb::evaluation::v1 as pb;
use crate::rpc::convert::context;
use crate::rpc::upstream::Line;
use crate::store::assignments::{Known, Options};

/// Asks another server's GetAssignment.
pub struct Forwarding {
    line: Line,
    known: Known,
}

impl Forwarding {
    /// Asks the server there, with this key. Connects to nothing yet. `None`: the key cannot be shown.
    pub fn new(endpoint: Uri, key: &SecretString) -> Option<Self> {
        Some(Self {
            line: Line::new(endpoint, key)?,
            known: Known::new(Options::default().cache_bytes),
        })
    }

    /// Those that are known.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// In the order of the needs, which are of one context.
    pub(super) async fn settle(&self, context: &Context, needs: &[Need], deadline: Instant) -> Vec<Assigned> {
        let context = context::write(context);
        let asked = needs.iter().map(|need| async {
            let asked = timeout_at(deadline, self.ask(need, context.clone())).await;
            let assigned = asked.unwrap_or(Assigned::Unreachable);
            let Need { experiment, unit, .. } = need;
            self.known
                .note(experiment.salt(), experiment.iteration(), unit, &assigned);
            assigned
        });
        join_all(asked).await
    }

    async fn ask(&self, need: &Need, context: pb::Context) -> Assigned {
        let request = self.line.request(pb::GetAssignmentRequest {
            experiment: need.experiment.key().to_owned(),
            context: Some(context),
            min_revision: 0,
        });
        let Ok(answer) = self.line.client().get_assignment(request).await else {
            return Assigned::Unreachable;
        };
        let pb::GetAssignmentResponse {
            participation,
            outcome: _,
            revision: _,
            flag: _,
        } = answer.into_inner();
        match participation {
            None => Assigned::Nothing,
            Some(pb::Participation {
                experiment: _,
                iteration,
                arm,
                assignment_stored: true,
                sticky: _,
            }) => match key::Variant::new(&arm) {
                Ok(arm) => Assigned::Arm { arm, iteration },
                Err(_) => Assigned::Unreachable,
            },
            Some(_) => Assigned::Unreachable,
        }
    }
}
