//! Trying a flag out: an answer with its explanation, also from a configuration that is not saved.

use tonic::{Request, Response};

use super::Flags;
use super::messages::read_draft;
use crate::domain::access::KeyKind;
use crate::domain::check::{Checked, Warning};
use crate::domain::context::Context;
use crate::domain::form::{self, ItemId, Kind};
use crate::domain::invalid::Violations;
use crate::domain::key;
use crate::pb::admin::v1 as pb;
use crate::rpc::admin::{Call, at, write_warning};
use crate::rpc::convert::common::{finish, key, place};
use crate::rpc::convert::{context, evaluation, explanation};
use crate::rpc::{Answer, Refusal};
use crate::watch::State;

impl Flags {
    pub(super) async fn test(&self, request: Request<pb::TestEvaluateRequest>) -> Answer<pb::TestEvaluateResponse> {
        let (call, message) = Call::open(request)?;
        let pb::TestEvaluateRequest {
            project,
            environment,
            flag,
            context,
            draft,
            min_revision,
        } = message;
        let mut violations = Violations::new();
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        let flag = key(&mut violations, "flag", &flag);
        let context = violations.take("", context::read(context));
        let asked = finish(violations, place.zip(flag).zip(context)).map_err(Refusal::Invalid)?;
        let (((project, environment), flag), context): (_, Context) = asked;

        let environment = self.store.get_environment(at(&project, &environment)).await;
        let environment = environment.map_err(Refusal::Store)?;
        let checked = match draft {
            Some(draft) => {
                let checked = self
                    .store
                    .check_configuration(&environment, &flag, &read_draft(draft))
                    .await;
                Some(checked.map_err(Refusal::Store)?)
            }
            None => None,
        };
        let trial = Trial::new(flag, context, checked);
        let answer = self
            .states
            .with(environment.id, call.deadline, min_revision, |state, _, _| {
                trial.answer(state)
            });
        Ok(Response::new(answer.await?))
    }
}

/// What is tried.
struct Trial {
    flag: key::Flag,
    context: Context,
    /// The form of the draft.
    draft: Option<Vec<u8>>,
    warnings: Vec<Warning>,
}

impl Trial {
    fn new(flag: key::Flag, context: Context, checked: Option<Checked<crate::domain::flag::Configuration>>) -> Self {
        let (draft, warnings) = match checked {
            Some(Checked { value, warnings }) => (Some(form::write_configuration(&value)), warnings),
            None => (None, Vec::new()),
        };
        Self {
            flag,
            context,
            draft,
            warnings,
        }
    }

    /// The draft goes into a copy of the state, which shares all else with it.
    fn answer(&self, state: &State) -> Result<pb::TestEvaluateResponse, Refusal> {
        let mut snapshot = state.snapshot.clone();
        if let Some(form) = &self.draft {
            let id = ItemId {
                kind: Kind::FlagConfiguration,
                key: self.flag.clone().into(),
            };
            snapshot.put(&id, form);
        }
        let flag = snapshot.get(self.flag.as_str()).ok_or_else(|| Refusal::NotFound {
            entity: "flag",
            key: self.flag.to_string(),
        })?;
        let (answer, told) = flag.explain(&self.context, &snapshot);
        Ok(pb::TestEvaluateResponse {
            evaluation: Some(evaluation::write(flag, &answer, state.head.revision, KeyKind::Server)),
            explanation: Some(explanation::write(&told)),
            warnings: self.warnings.iter().map(write_warning).collect(),
        })
    }
}
