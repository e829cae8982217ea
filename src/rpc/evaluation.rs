//! Evaluation, from memory; and events, which are stored.

use std::collections::HashSet;
use std::sync::Arc;

use tonic::{Request, Response};

use super::convert::{context, evaluation, explanation};
use super::front::{Application, Deadline};
use super::states::States;
use super::{Answer, Refusal, track};
use crate::domain::access::KeyKind;
use crate::domain::context::Context;
use crate::domain::invalid::Violations;
use crate::domain::limits;
use crate::evaluate::Flag;
use crate::pb::evaluation::v1 as pb;
use crate::pb::evaluation::v1::evaluation_service_server::EvaluationService;
use crate::store::events::Intake;
use crate::watch::{Age, Hub, State};

/// Answers from the hub's newest states.
pub struct Evaluation {
    states: States,
    /// `None`: events are stored elsewhere.
    events: Option<Arc<Intake>>,
}

impl Evaluation {
    /// Answers from this hub, and takes no events.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self {
            states: States::new(hub),
            events: None,
        }
    }

    /// Takes events, too.
    #[must_use]
    pub fn with_events(self, events: Arc<Intake>) -> Self {
        Self {
            events: Some(events),
            ..self
        }
    }

    /// Calls `answer` with the newest state of the caller's environment, once it has reached `min_revision`.
    async fn with_state<T>(
        &self,
        application: &Application,
        deadline: Deadline,
        min_revision: u64,
        answer: impl FnOnce(&State, &Age) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let environment = application.environment;
        self.states.with(environment, deadline, min_revision, answer).await
    }
}

#[tonic::async_trait]
impl EvaluationService for Evaluation {
    async fn evaluate(&self, request: Request<pb::EvaluateRequest>) -> Answer<pb::EvaluateResponse> {
        let (application, deadline) = parts(&request)?;
        let pb::EvaluateRequest {
            flag,
            context,
            min_revision,
            explain,
        } = request.into_inner();
        if explain && application.kind == KeyKind::Client {
            return Err(Refusal::ExplanationDenied.into());
        }
        let context = question(&flag, context)?;
        let answer = self.with_state(&application, deadline, min_revision, |state, age| {
            let known = state
                .snapshot
                .get(&flag)
                .filter(|flag| flag.visible_to(application.kind));
            let known = known.ok_or_else(|| unknown(&flag))?;
            let (answer, explanation) = if explain {
                let (answer, explanation) = known.explain_fresh(&context, &state.snapshot, age.freshness());
                (answer, Some(explanation::write(&explanation)))
            } else {
                (known.evaluate_fresh(&context, &state.snapshot, age.freshness()), None)
            };
            let evaluation = evaluation::write(known, &answer, state.head.revision, application.kind);
            Ok(pb::EvaluateResponse {
                evaluation: Some(evaluation),
                explanation,
            })
        });
        Ok(Response::new(answer.await?))
    }

    async fn evaluate_all(&self, request: Request<pb::EvaluateAllRequest>) -> Answer<pb::EvaluateAllResponse> {
        let (application, deadline) = parts(&request)?;
        let pb::EvaluateAllRequest {
            context,
            flags,
            min_revision,
        } = request.into_inner();
        let context = read_question(context, &flags)?;
        let answer = self.with_state(&application, deadline, min_revision, |state, age| {
            let revision = state.head.revision;
            let write = |flag: &Flag| {
                let answer = flag.evaluate_fresh(&context, &state.snapshot, age.freshness());
                evaluation::write(flag, &answer, revision, application.kind)
            };
            let visible = |flag: &&Flag| flag.visible_to(application.kind);
            let evaluations = if flags.is_empty() {
                state.snapshot.flags().filter(visible).map(write).collect()
            } else {
                let mut answered = HashSet::new();
                let named = flags.iter().filter(|flag| answered.insert(flag.as_str()));
                let known = named.filter_map(|flag| state.snapshot.get(flag));
                known.filter(visible).map(write).collect()
            };
            Ok(pb::EvaluateAllResponse { evaluations, revision })
        });
        Ok(Response::new(answer.await?))
    }

    async fn track(&self, request: Request<pb::TrackRequest>) -> Answer<pb::TrackResponse> {
        let (application, _) = parts(&request)?;
        let pb::TrackRequest { events } = request.into_inner();
        let intake = self.events.as_ref().ok_or(Refusal::NoEvents)?;
        Ok(Response::new(track::take(intake, &application, events).await?))
    }
}

/// Who asks, and until when.
fn parts<M>(request: &Request<M>) -> Result<(Application, Deadline), Refusal> {
    let extensions = request.extensions();
    let application = extensions.get::<Application>().ok_or(Refusal::Unauthenticated)?;
    let deadline = extensions.get::<Deadline>().copied().unwrap_or_default();
    Ok((application.clone(), deadline))
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

fn question(flag: &str, context: Option<pb::Context>) -> Result<Context, Refusal> {
    let mut violations = Violations::new();
    if flag.is_empty() {
        violations.add("flag", "is empty; name the flag to evaluate");
    }
    if flag.len() > limits::FLAG_KEY_BYTES {
        violations.add("flag", format!("is longer than {} characters", limits::FLAG_KEY_BYTES));
    }
    let context = violations.take("", context::read(context));
    Ok(super::convert::common::finish(violations, context)?)
}

fn unknown(flag: &str) -> Refusal {
    Refusal::NotFound {
        entity: "flag",
        key: flag.to_owned(),
    }
}
