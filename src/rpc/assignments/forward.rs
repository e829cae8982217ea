//! A sidecar's assignments: asked of the server that it is fed by, and kept in memory.
//!
//! The server is away, or late: whoever asks while that is known does not wait. Now and then one does, so that it is noticed when it
//! is back.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::join_all;
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::domain::context::Context;
use crate::domain::key;
use crate::evaluate::{Assigned, Need};
use crate::pb::evaluation::v1 as pb;
use crate::rpc::convert::context;
use crate::rpc::upstream::Line;
use crate::store::assignments::{Known, Options, PATIENCE};

/// Calls on their way at a time. One question may need as many as it has flags.
const CALLS: usize = 64;
/// How long nobody waits for a server that did not answer.
const PAUSE: Duration = Duration::from_millis(250);

/// Asks another server's GetAssignment.
pub struct Forwarding {
    line: Line,
    known: Known,
    calls: Semaphore,
    /// When somebody may wait again for the server, which did not answer. `None`: it does.
    away_until: Mutex<Option<Instant>>,
}

/// The server did not answer.
struct Silent;

impl Forwarding {
    /// Asks the server there, with this key. Connects to nothing yet. `None`: the key cannot be shown.
    pub fn new(channel: Channel, key: &SecretString) -> Option<Self> {
        let Options {
            cache_bytes,
            believed_for,
            queue_bytes: _,
            patience: _,
        } = Options::default();
        Some(Self {
            line: Line::new(channel, key)?,
            known: Known::new(cache_bytes, believed_for),
            calls: Semaphore::new(CALLS),
            away_until: Mutex::new(None),
        })
    }

    /// Those that are known.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// In the order of the needs, which are of one context and of one revision. What cannot be found out is as it was when it was
    /// found out last.
    pub(super) async fn settle(
        &self,
        context: &Context,
        revision: u64,
        needs: &[Need],
        deadline: Instant,
        caller: &MetadataMap,
    ) -> Vec<Assigned> {
        let may_ask = self.may_ask();
        let context = may_ask.then(|| context::write(context));
        let asked = needs.iter().map(async |need| {
            let Need { experiment, unit, .. } = need;
            let assigned = match &context {
                Some(context) => self.ask(need, context, revision, deadline, caller).await,
                None => Assigned::Unreachable,
            };
            self.known
                .note(experiment.salt(), experiment.iteration(), unit, &assigned);
            match assigned {
                Assigned::Unreachable => self.known.last(experiment.salt(), unit).unwrap_or(assigned),
                Assigned::Arm { .. } | Assigned::Nothing | Assigned::Unknown => assigned,
            }
        });
        join_all(asked).await
    }

    async fn ask(
        &self,
        need: &Need,
        context: &pb::Context,
        revision: u64,
        deadline: Instant,
        caller: &MetadataMap,
    ) -> Assigned {
        let Ok(Ok(_call)) = timeout_at(deadline, self.calls.acquire()).await else {
            return Assigned::Unreachable;
        };
        let asked_at = Instant::now();
        match timeout_at(deadline, self.call(need, context.clone(), revision, caller)).await {
            Ok(Ok(assigned)) => {
                self.note_away(false);
                assigned
            }
            Ok(Err(Silent)) => {
                self.note_away(true);
                Assigned::Unreachable
            }
            Err(_) => {
                // It may have had no time to answer.
                if asked_at.elapsed() >= PATIENCE / 2 {
                    self.note_away(true);
                }
                Assigned::Unreachable
            }
        }
    }

    async fn call(
        &self,
        need: &Need,
        context: pb::Context,
        revision: u64,
        caller: &MetadataMap,
    ) -> Result<Assigned, Silent> {
        let question = pb::GetAssignmentRequest {
            experiment: need.experiment.key().to_owned(),
            context: Some(context),
            // What an older state says of the unit may be no longer so.
            min_revision: revision,
        };
        let (request, asking) = self.line.ask("GetAssignment", question, caller);
        let answer = self.line.client().get_assignment(request).await;
        asking.answered(&answer);
        match answer {
            Ok(answer) => Ok(assigned(need, answer.into_inner())),
            Err(status) if is_silence(&status) => Err(Silent),
            Err(_) => Ok(Assigned::Unreachable),
        }
    }

    /// Whether the server can be asked now. While it is away, one in a while may try.
    fn may_ask(&self) -> bool {
        let mut away_until = self.away_until.lock().unwrap_or_else(PoisonError::into_inner);
        match *away_until {
            None => true,
            Some(until) if until <= Instant::now() => {
                *away_until = Some(Instant::now() + PAUSE);
                true
            }
            Some(_) => false,
        }
    }

    /// Notes whether the server answers, and says so when that has changed.
    fn note_away(&self, is_away: bool) {
        let mut away_until = self.away_until.lock().unwrap_or_else(PoisonError::into_inner);
        let was = away_until.is_some();
        *away_until = is_away.then(|| Instant::now() + PAUSE);
        drop(away_until);
        match (was, is_away) {
            (false, true) => tracing::warn!(
                "the server does not answer for assignments in time: units that are not known get what the hash says"
            ),
            (true, false) => tracing::info!("the server answers for assignments again"),
            (false, false) | (true, true) => {}
        }
    }
}

/// What an answer says of a unit. Where the server sees the experiment otherwise than we do, nothing.
fn assigned(need: &Need, answer: pb::GetAssignmentResponse) -> Assigned {
    let outcome = answer.outcome();
    let pb::GetAssignmentResponse {
        participation,
        outcome: _,
        revision: _,
        flag: _,
    } = answer;
    match participation {
        None if outcome == pb::ExperimentOutcome::OutsideAllocation && need.arm.is_none() => Assigned::Nothing,
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
        None | Some(_) => Assigned::Unreachable,
    }
}

/// Whether it is not the server that says so, or only that it cannot answer now.
fn is_silence(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

#[cfg(test)]
mod tests;
