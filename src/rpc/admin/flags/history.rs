//! What was: revisions, going back to one, and evaluating as of one.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response};

use super::Flags;
use super::messages::write_configuration;
use crate::domain::access::KeyKind;
use crate::domain::context::{Attribute, Context};
use crate::domain::invalid::Violations;
use crate::domain::{key, limits};
use crate::evaluate::{Flag, Snapshot};
use crate::pb::admin::v1 as pb;
use crate::rpc::admin::{Call, answer, at, recorded, write_revisions, write_warning};
use crate::rpc::convert::common::{PageSizes, finish, key, place, timestamp};
use crate::rpc::convert::{context, evaluation, explanation, flag};
use crate::rpc::front::Deadline;
use crate::rpc::{Answer, Refusal};
use crate::store::Written;
use crate::store::configurations::FlagConfiguration;
use crate::store::history::{FlagChange, FlagRevision, Part, PastState};

/// How many past states are in memory at a time: each may be as large as a whole environment.
const PAST_STATES: usize = 2;
/// The longest wait for one of the others to be done with.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whose turn it is to hold a past state in memory.
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PAST_STATES)))
    }
}

impl Turns {
    /// Waits for a turn.
    async fn take(&self, deadline: Deadline) -> Result<OwnedSemaphorePermit, Refusal> {
        let turn = Arc::clone(&self.0).acquire_owned();
        let turn = tokio::time::timeout_at(deadline.patience(PATIENCE).into(), turn).await;
        turn.ok().and_then(Result::ok).ok_or(Refusal::Busy {
            what: "other past states are being evaluated",
            retry_after: Duration::from_secs(1),
        })
    }
}

impl Flags {
    pub(super) async fn revisions(
        &self,
        request: Request<pb::ListRevisionsRequest>,
    ) -> Answer<pb::ListRevisionsResponse> {
        let (call, mut message) = Call::open(request)?;
        let mut violations = Violations::new();
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let paging = call.page_of(PageSizes::REVISIONS, &mut violations, page, &message);
        let pb::ListRevisionsRequest {
            project,
            environment,
            flag: flag_key,
            page_size: _,
            page_token: _,
        } = message;
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        let flag = key(&mut violations, "flag", &flag_key);
        let before = match paging.request.after.as_str() {
            "" => Ok(None),
            revision => revision.parse().map(Some),
        };
        let before = before.unwrap_or_else(|_| {
            violations.add("page_token", "is not the token of a page before");
            None
        });
        let ((project, environment), flag) = finish(violations, place.zip(flag)).map_err(Refusal::Invalid)?;
        let found = self
            .store
            .list_revisions(at(&project, &environment), &flag, before, paging.request.size)
            .await;
        let write = |revision: &FlagRevision| write_revision(flag.as_str(), revision);
        let (revisions, next_page_token) = paging.write(found.map_err(Refusal::Store)?, write);
        Ok(Response::new(pb::ListRevisionsResponse {
            revisions,
            next_page_token,
        }))
    }

    pub(super) async fn rollback(
        &self,
        request: Request<pb::RollbackFlagConfigurationRequest>,
    ) -> Answer<pb::RollbackFlagConfigurationResponse> {
        let (call, message) = Call::open(request)?;
        let pb::RollbackFlagConfigurationRequest {
            project,
            environment,
            flag: flag_key,
            revision,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        let flag = key(&mut violations, "flag", &flag_key);
        require_revision(&mut violations, revision);
        let ((project, environment), flag) = finish(violations, place.zip(flag)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<FlagConfiguration>| pb::RollbackFlagConfigurationResponse {
            configuration: Some(write_configuration(&written.entity)),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
            warnings: written.warnings.iter().map(write_warning).collect(),
        };
        let (at, recorded) = (at(&project, &environment), recorded(response));
        let outcome = self
            .store
            .rollback_configuration(&mutation, at, &flag, revision, &etag, recorded)
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    pub(super) async fn answer_at(&self, request: Request<pb::EvaluateAtRequest>) -> Answer<pb::EvaluateAtResponse> {
        let (call, message) = Call::open(request)?;
        let pb::EvaluateAtRequest {
            project,
            environment,
            revision,
            flags,
            context,
            explain,
        } = message;
        let mut violations = Violations::new();
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        require_revision(&mut violations, revision);
        check_flags(&mut violations, flags.len(), explain);
        let context = violations.take("", context::read(context));
        let ((project, environment), context) = finish(violations, place.zip(context)).map_err(Refusal::Invalid)?;
        let question = Question {
            revision,
            flags: named(&flags),
            context,
            explain,
        };
        let turn = self.turns.take(call.deadline).await?;
        let (flags, targeting_key) = (question.flags.as_deref(), question.targeting_key());
        let state = self
            .store
            .state_at(at(&project, &environment), revision, flags, targeting_key)
            .await;
        let state = state.map_err(Refusal::Store)?;
        let answers = tokio::task::spawn_blocking(move || {
            let answers = question.answer(state);
            drop(turn);
            answers
        });
        let answers = answers.await.map_err(|error| {
            tracing::error!(%error, "a past state could not be evaluated");
            Refusal::Internal
        })?;
        Ok(Response::new(answers))
    }
}

/// What is asked of a past state.
struct Question {
    revision: u64,
    /// `None`: all.
    flags: Option<Vec<key::Flag>>,
    context: Context,
    explain: bool,
}

impl Question {
    fn targeting_key(&self) -> Option<&str> {
        match self.context.targeting_key() {
            Some(Attribute::String(key)) => Some(key),
            Some(Attribute::Bool(_) | Attribute::Number(_) | Attribute::List(_) | Attribute::Object(_)) | None => None,
        }
    }

    fn answer(&self, state: PastState) -> pb::EvaluateAtResponse {
        let PastState { committed_at, items } = state;
        let mut snapshot = Snapshot::default();
        for (id, form) in items {
            snapshot.put(&id, &form);
        }
        let mut response = pb::EvaluateAtResponse {
            commit_time: Some(timestamp(committed_at)),
            ..pb::EvaluateAtResponse::default()
        };
        let mut answer = |flag: &Flag| {
            let given = if self.explain {
                let (given, told) = flag.explain(&self.context, &snapshot);
                response.explanations.push(explanation::write(&told));
                given
            } else {
                flag.evaluate(&self.context, &snapshot)
            };
            let evaluation = evaluation::write(flag, &given, self.revision, KeyKind::Server);
            response.evaluations.push(evaluation);
        };
        match &self.flags {
            None => snapshot.flags().for_each(&mut answer),
            Some(named) => named
                .iter()
                .filter_map(|flag| snapshot.get(flag.as_str()))
                .for_each(&mut answer),
        }
        response
    }
}

/// The flags that are named, each once; `None` if none is. What cannot be a flag's key is unknown, and left out like it.
fn named(flags: &[String]) -> Option<Vec<key::Flag>> {
    let mut seen = std::collections::HashSet::new();
    let once = flags.iter().filter(|&flag| seen.insert(flag));
    (!flags.is_empty()).then(|| once.filter_map(|flag| flag.parse().ok()).collect())
}

fn require_revision(violations: &mut Violations, revision: u64) {
    if revision == 0 {
        violations.add("revision", "is zero; revisions begin at 1");
    }
}

fn check_flags(violations: &mut Violations, count: usize, explain: bool) {
    if count > limits::EVALUATED_FLAGS {
        let limit = limits::EVALUATED_FLAGS;
        violations.add("flags", format!("names {count} flags; the limit is {limit}"));
    } else if explain && (count == 0 || count > limits::EXPLAINED_FLAGS) {
        let limit = limits::EXPLAINED_FLAGS;
        violations.add("flags", format!("names {count} flags; 1 to {limit} can be explained"));
    }
}

fn write_revision(flag: &str, revision: &FlagRevision) -> pb::FlagRevision {
    let FlagRevision {
        revision,
        committed_at,
        actor,
        actor_name,
        changes,
    } = revision;
    pb::FlagRevision {
        revision: *revision,
        commit_time: Some(timestamp(*committed_at)),
        actor: actor.clone(),
        actor_name: actor_name.clone(),
        changes: changes.iter().map(|change| write_change(flag, change)).collect(),
    }
}

fn write_change(key: &str, change: &FlagChange) -> pb::FlagChange {
    use pb::flag_change::After;
    let FlagChange {
        part,
        fields,
        unreadable,
    } = change;
    let (part, after) = match part {
        Part::Definition(after) => {
            let after = after.as_ref().map(flag::write_definition);
            (pb::FlagPart::Definition, after.map(After::Definition))
        }
        Part::Configuration(after) => {
            let after = after.as_ref().map(|after| flag::write_configuration(key, after));
            (pb::FlagPart::Configuration, after.map(After::Configuration))
        }
    };
    pb::FlagChange {
        part: part.into(),
        changed_fields: fields.iter().map(ToString::to_string).collect(),
        unreadable: *unreadable,
        after,
    }
}
