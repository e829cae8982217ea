//! Evaluation, from memory; and events, which are stored.

use std::collections::HashSet;
use std::sync::Arc;

use tonic::metadata::MetadataMap;
use tonic::{Request, Response};

use super::assignments::{Assignments, Settled};
use super::convert::{context, evaluation, explanation};
use super::front::{Application, Deadline};
use super::states::States;
use super::track::{self, Destination};
use super::{Answer, Refusal};
use crate::domain::access::KeyKind;
use crate::domain::context::Context;
use crate::domain::invalid::Violations;
use crate::domain::limits;
use crate::evaluate::{Flag, Need, Outcome};
use crate::pb::evaluation::v1 as pb;
use crate::pb::evaluation::v1::evaluation_service_server::EvaluationService;
use crate::watch::{Age, Answered, Environment, Hub, State};

/// Answers from the hub's newest states.
pub struct Evaluation {
    states: States,
    assignments: Assignments,
    events: Destination,
}

/// An answer, or the revision that was asked and which assignments have to be found out first.
type Asked<T> = Result<T, (u64, Vec<Need>)>;

impl Evaluation {
    /// Answers from this hub, with these assignments, and takes events to there.
    pub fn new(hub: Arc<Hub>, assignments: Assignments, events: Destination) -> Self {
        Self {
            states: States::new(hub),
            assignments,
            events,
        }
    }

    /// Calls `answer` with the newest state of the caller's environment, once it has reached `min_revision`.
    async fn with_state<T>(
        &self,
        application: &Application,
        deadline: Deadline,
        min_revision: u64,
        answer: impl FnOnce(&State, &Age, &Environment) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let environment = application.environment;
        self.states.with(environment, deadline, min_revision, answer).await
    }
}

#[tonic::async_trait]
impl EvaluationService for Evaluation {
    async fn evaluate(&self, request: Request<pb::EvaluateRequest>) -> Answer<pb::EvaluateResponse> {
        let (application, caller, asked) = parts(request)?;
        let deadline = application.deadline;
        let pb::EvaluateRequest {
            flag,
            context,
            min_revision,
            explain,
        } = asked;
        if explain && application.kind == KeyKind::Client {
            return Err(Refusal::ExplanationDenied.into());
        }
        let context = question(("flag", &flag), context)?;
        let mut settled = Settled::new(&self.assignments, deadline);
        loop {
            let asked = self.with_state(&application, deadline, min_revision, |state, age, environment| {
                let asked = state
                    .snapshot
                    .get(&flag)
                    .filter(|flag| flag.visible_to(application.kind));
                let asked = asked.ok_or_else(|| unknown("flag", &flag))?;
                let (fresh, known) = (age.freshness(), |experiment: &_, unit: &_| {
                    settled.get(experiment, unit)
                });
                let answer = if explain {
                    let explained = asked.explain_knowing(&context, &state.snapshot, fresh, &known);
                    explained.map(|(answer, explanation)| (answer, Some(explanation::write(&explanation))))
                } else {
                    let answer = asked.evaluate_knowing(&context, &state.snapshot, fresh, &known);
                    answer.map(|answer| (answer, None))
                };
                let answer = answer.map(|(answer, explanation)| {
                    environment.answered().count(answer.reason);
                    pb::EvaluateResponse {
                        evaluation: Some(evaluation::write(asked, &answer, state.head.revision, application.kind)),
                        explanation,
                    }
                });
                Ok(answer.map_err(|need| (state.head.revision, vec![*need])))
            });
            match answer(asked.await?) {
                Ok(response) => return Ok(response),
                Err((revision, needs)) => settled.settle(&context, revision, needs, &caller).await,
            }
        }
    }

    async fn evaluate_all(&self, request: Request<pb::EvaluateAllRequest>) -> Answer<pb::EvaluateAllResponse> {
        let (application, caller, asked) = parts(request)?;
        let deadline = application.deadline;
        let pb::EvaluateAllRequest {
            context,
            flags,
            min_revision,
        } = asked;
        let context = read_question(context, &flags)?;
        let mut settled = Settled::new(&self.assignments, deadline);
        loop {
            let asked = self.with_state(&application, deadline, min_revision, |state, age, environment| {
                let revision = state.head.revision;
                let known = |experiment: &_, unit: &_| settled.get(experiment, unit);
                let (mut evaluations, mut needs) = (Vec::new(), Vec::new());
                let mut reasons = Answered::none();
                // All are asked before anything is found out, so that one statement does for them.
                let mut ask =
                    |flag: &Flag| match flag.evaluate_knowing(&context, &state.snapshot, age.freshness(), &known) {
                        Ok(answer) => {
                            reasons.add(answer.reason);
                            evaluations.push(evaluation::write(flag, &answer, revision, application.kind));
                        }
                        Err(need) => needs.push(*need),
                    };
                let visible = |flag: &&Flag| flag.visible_to(application.kind);
                if flags.is_empty() {
                    state.snapshot.flags().filter(visible).for_each(&mut ask);
                } else {
                    let mut answered = HashSet::new();
                    let named = flags.iter().filter(|flag| answered.insert(flag.as_str()));
                    let named = named.filter_map(|flag| state.snapshot.get(flag));
                    named.filter(visible).for_each(&mut ask);
                }
                Ok(if needs.is_empty() {
                    environment.answered().count_all(&reasons);
                    Ok(pb::EvaluateAllResponse { evaluations, revision })
                } else {
                    Err((revision, needs))
                })
            });
            match answer(asked.await?) {
                Ok(response) => return Ok(response),
                Err((revision, needs)) => settled.settle(&context, revision, needs, &caller).await,
            }
        }
    }

    async fn get_assignment(&self, request: Request<pb::GetAssignmentRequest>) -> Answer<pb::GetAssignmentResponse> {
        let (application, caller, asked) = parts(request)?;
        let deadline = application.deadline;
        let pb::GetAssignmentRequest {
            experiment,
            context,
            min_revision,
        } = asked;
        let context = question(("experiment", &experiment), context)?;
        let mut settled = Settled::new(&self.assignments, deadline);
        loop {
            let asked = self.with_state(&application, deadline, min_revision, |state, _, _| {
                let asked = state.snapshot.experiment(&experiment);
                let asked = asked.filter(|(flag, _)| flag.visible_to(application.kind));
                let (flag, asked) = asked.ok_or_else(|| unknown("experiment", &experiment))?;
                let known = |experiment: &_, unit: &_| settled.get(experiment, unit);
                let assigned = asked.assign(&context, &state.snapshot, &known);
                let assigned = assigned.map(|outcome| pb::GetAssignmentResponse {
                    participation: match &outcome {
                        Outcome::Assigned(arm, part) => Some(evaluation::write_part(part, arm)),
                        Outcome::NoUnit
                        | Outcome::OutsideAudience
                        | Outcome::OutsideLayer
                        | Outcome::OutsideAllocation => None,
                    },
                    outcome: explanation::write_experiment_outcome((&outcome).into()).into(),
                    revision: state.head.revision,
                    flag: flag.key().to_owned(),
                });
                Ok(assigned.map_err(|need| (state.head.revision, vec![*need])))
            });
            match answer(asked.await?) {
                Ok(response) => return Ok(response),
                Err((revision, needs)) => settled.settle(&context, revision, needs, &caller).await,
            }
        }
    }

    async fn track(&self, request: Request<pb::TrackRequest>) -> Answer<pb::TrackResponse> {
        let (application, caller, events) = parts(request)?;
        let deadline = application.deadline;
        let taken = track::take(&self.events, &application, deadline, events, &caller);
        Ok(Response::new(taken.await?))
    }
}

/// What was asked, answered.
fn answer<T>(asked: Asked<T>) -> Asked<Response<T>> {
    asked.map(Response::new)
}

/// Who asks, until when, with which metadata, and what.
fn parts<M>(request: Request<M>) -> Result<(Application, MetadataMap, M), Refusal> {
    let (metadata, mut extensions, message) = request.into_parts();
    // Taken, since workers would wait for each other to count who holds its key.
    let application = extensions.remove::<Application>().ok_or(Refusal::Unauthenticated)?;
    Ok((application, metadata, message))
}

/// Reads who asks, and checks how much is asked for.
pub(super) fn read_question(context: Option<pb::Context>, flags: &[String]) -> Result<Context, Refusal> {
    let mut violations = Violations::new();
    if flags.len() > limits::EVALUATED_FLAGS {
        let description = format!("names {} flags; the limit is {}", flags.len(), limits::EVALUATED_FLAGS);
        violations.add("flags", description);
    }
    for (n, _) in flags
        .iter()
        .enumerate()
        .filter(|(_, flag)| flag.len() > limits::FLAG_KEY_BYTES)
    {
        let description = format!("is longer than {} characters", limits::FLAG_KEY_BYTES);
        violations.add(format!("flags[{n}]"), description);
    }
    let context = violations.take("", context::read(context));
    Ok(super::convert::common::finish(violations, context)?)
}

/// Reads who asks about one thing: `named` is what it is, which is also its field, and its key.
fn question((what, key): (&str, &str), context: Option<pb::Context>) -> Result<Context, Refusal> {
    let mut violations = Violations::new();
    if key.is_empty() {
        violations.add(what, format!("is empty; name the {what} to evaluate"));
    }
    if key.len() > limits::FLAG_KEY_BYTES {
        violations.add(what, format!("is longer than {} characters", limits::FLAG_KEY_BYTES));
    }
    let context = violations.take("", context::read(context));
    Ok(super::convert::common::finish(violations, context)?)
}

fn unknown(entity: &'static str, key: &str) -> Refusal {
    Refusal::NotFound {
        entity,
        key: key.to_owned(),
    }
}
