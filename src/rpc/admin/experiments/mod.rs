//! Experiments and layers.

mod assignments;
mod read;
mod results;
mod write;

use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use self::read::{Place, read_layer, read_new, read_patch, read_place, read_state};
use self::write::{write, write_assignment, write_layer};
use super::{Call, answer, at, recorded, write_revisions, write_warning};
use crate::domain::invalid::Violations;
use crate::domain::key;
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::experiment_service_server::ExperimentService;
use crate::rpc::convert::common::{Mask, finish, optional_key, place, required};
use crate::rpc::{Answer, Refusal};
use crate::store::assignments::Assignments;
use crate::store::experiments::assignments::Deleted;
use crate::store::experiments::layers::Layer;
use crate::store::experiments::{Experiment, ExperimentFilter, Step};
use crate::store::{Mutation, Outcome, Store, Written};

/// What an update may write.
const FIELDS: &[&str] = &[
    "name",
    "description",
    "hypothesis",
    "owner",
    "arms",
    "audience",
    "allocation_millionths",
    "unit_attribute",
    "without_storage",
    "layer",
    "layer_share_millionths",
    "before_rule",
    "primary_metric",
    "guardrail_metrics",
];

/// Results that are counted at the same time, others wait: each may keep a core of PostgreSQL busy for minutes.
const COUNTS: usize = 2;

/// Exports of assignments that are open at the same time; others are told to come again.
const EXPORTS: usize = 16;

/// The service.
pub struct Experiments {
    store: Store,
    /// What this replica gives to units, of which deleted ones are forgotten at once.
    assignments: Arc<Assignments>,
    /// Turns at counting results.
    counts: Semaphore,
    /// Turns at exporting assignments.
    exports: Arc<Semaphore>,
}

impl Experiments {
    /// Keeps experiments in this store, with these assignments.
    pub fn new(store: Store, assignments: Arc<Assignments>) -> Self {
        let counts = Semaphore::new(COUNTS);
        Self {
            store,
            assignments,
            counts,
            exports: Arc::new(Semaphore::new(EXPORTS)),
        }
    }

    /// Takes a step with an experiment; what is answered is the same for all of them.
    async fn step(
        &self,
        (mutation, place): (Mutation, Place<key::Experiment>),
        step: Step,
        etag: &str,
        respond: impl FnOnce(&Written<Experiment>) -> Vec<u8>,
    ) -> Result<Outcome<Experiment>, Refusal> {
        let at = at(&place.project, &place.environment);
        let outcome = self
            .store
            .step_experiment(&mutation, at, &place.named, step, etag, respond)
            .await;
        outcome.map_err(Refusal::Store)
    }
}

/// The place that a mutation of one experiment names, and what the store is told of it, if the caller may call this method there.
async fn altered<K>(
    call: &Call,
    (project, environment): (&str, &str),
    named: (&str, &str),
    (request_id, validate_only): (&str, bool),
) -> Result<(Mutation, Place<K>), Refusal>
where
    K: std::str::FromStr<Err = Violations>,
{
    let mut violations = Violations::new();
    let mutation = call.mutation(&mut violations, request_id, validate_only);
    let (project, environment, named) = call.one_at(violations, (project, environment), named).await?;
    let place = Place {
        project,
        environment,
        named,
    };
    Ok((mutation, place))
}

#[tonic::async_trait]
impl ExperimentService for Experiments {
    type ExportAssignmentsStream = Pin<Box<dyn Stream<Item = Result<pb::ExportAssignmentsResponse, Status>> + Send>>;

    async fn create_experiment(
        &self,
        request: Request<pb::CreateExperimentRequest>,
    ) -> Answer<pb::CreateExperimentResponse> {
        let (call, message) = Call::open(request)?;
        let pb::CreateExperimentRequest {
            experiment,
            validate_only,
            request_id,
            strict,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let experiment = required(&mut violations, "experiment", experiment);
        let place = experiment
            .as_ref()
            .and_then(|it| violations.take("experiment", read_place(&it.project, &it.environment)));
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        let new = experiment.and_then(|it| violations.take("experiment", read_new(it, strict)));
        let ((project, environment), new) = finish(violations, place.zip(new)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Experiment>| pb::CreateExperimentResponse {
            experiment: Some(write(&written.entity)),
            warnings: written.warnings.iter().map(write_warning).collect(),
        };
        let outcome = self
            .store
            .create_experiment(&mutation, at(&project, &environment), new, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn get_experiment(&self, request: Request<pb::GetExperimentRequest>) -> Answer<pb::GetExperimentResponse> {
        let (call, message) = Call::open(request)?;
        let pb::GetExperimentRequest {
            project,
            environment,
            experiment,
        } = message;
        let named = ("experiment", experiment.as_str());
        let (project, environment, experiment) =
            call.one_at(Violations::new(), (&project, &environment), named).await?;
        let found = self.store.get_experiment(at(&project, &environment), &experiment).await;
        Ok(Response::new(pb::GetExperimentResponse {
            experiment: Some(write(&found.map_err(Refusal::Store)?)),
        }))
    }

    async fn get_results(&self, request: Request<pb::GetResultsRequest>) -> Answer<pb::GetResultsResponse> {
        let (call, message) = Call::open(request)?;
        let pb::GetResultsRequest {
            project,
            environment,
            experiment,
        } = message;
        let named = ("experiment", experiment.as_str());
        let (project, environment, experiment) =
            call.one_at(Violations::new(), (&project, &environment), named).await?;
        // Never closed.
        let _turn = self.counts.acquire().await.map_err(|_| Refusal::Internal)?;
        let found = self.store.get_results(at(&project, &environment), &experiment).await;
        Ok(Response::new(results::write(found.map_err(Refusal::Store)?)))
    }

    async fn list_experiments(
        &self,
        request: Request<pb::ListExperimentsRequest>,
    ) -> Answer<pb::ListExperimentsResponse> {
        let (call, mut message) = Call::open(request)?;
        let mut violations = Violations::new();
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let paging = call.page(&mut violations, page, &message);
        let pb::ListExperimentsRequest {
            project,
            environment,
            flag,
            state,
            page_size: _,
            page_token: _,
        } = message;
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        let flag: Option<key::Flag> = optional_key(&mut violations, "flag", &flag);
        let state = read_state(&mut violations, state);
        let (project, environment) = finish(violations, place).map_err(Refusal::Invalid)?;
        let filter = ExperimentFilter {
            flag: flag.as_ref(),
            state,
        };
        let found = self
            .store
            .list_experiments(at(&project, &environment), filter, &paging.request)
            .await;
        let (experiments, next_page_token) = paging.write(found.map_err(Refusal::Store)?, write);
        Ok(Response::new(pb::ListExperimentsResponse {
            experiments,
            next_page_token,
        }))
    }

    async fn update_experiment(
        &self,
        request: Request<pb::UpdateExperimentRequest>,
    ) -> Answer<pb::UpdateExperimentResponse> {
        let (call, message) = Call::open(request)?;
        let pb::UpdateExperimentRequest {
            experiment,
            update_mask,
            etag,
            validate_only,
            request_id,
            strict,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let mask = Mask::read(&mut violations, update_mask.as_ref(), FIELDS);
        let experiment = required(&mut violations, "experiment", experiment);
        let place = experiment
            .as_ref()
            .and_then(|it| violations.take("experiment", read_place(&it.project, &it.environment)));
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        let change = experiment.and_then(|it| violations.take("experiment", read_patch(it, &mask, strict)));
        let ((project, environment), (experiment, patch)) =
            finish(violations, place.zip(change)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Experiment>| pb::UpdateExperimentResponse {
            experiment: Some(write(&written.entity)),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
            warnings: written.warnings.iter().map(write_warning).collect(),
        };
        let (at, recorded) = (at(&project, &environment), recorded(response));
        let outcome = self
            .store
            .update_experiment(&mutation, at, &experiment, patch, &etag, recorded)
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn start_experiment(
        &self,
        request: Request<pb::StartExperimentRequest>,
    ) -> Answer<pb::StartExperimentResponse> {
        let (call, message) = Call::open(request)?;
        let pb::StartExperimentRequest {
            project,
            environment,
            experiment,
            etag,
            validate_only,
            request_id,
        } = message;
        let named = ("experiment", experiment.as_str());
        let of = altered(&call, (&project, &environment), named, (&request_id, validate_only)).await?;
        let response = |written: &Written<Experiment>| pb::StartExperimentResponse {
            experiment: Some(write(&written.entity)),
            revisions: write_revisions(&written.revisions),
            warnings: written.warnings.iter().map(write_warning).collect(),
        };
        answer(self.step(of, Step::Start, &etag, recorded(response)).await?, response)
    }

    async fn pause_experiment(
        &self,
        request: Request<pb::PauseExperimentRequest>,
    ) -> Answer<pb::PauseExperimentResponse> {
        let (call, message) = Call::open(request)?;
        let pb::PauseExperimentRequest {
            project,
            environment,
            experiment,
            etag,
            validate_only,
            request_id,
        } = message;
        let named = ("experiment", experiment.as_str());
        let of = altered(&call, (&project, &environment), named, (&request_id, validate_only)).await?;
        let response = |written: &Written<Experiment>| pb::PauseExperimentResponse {
            experiment: Some(write(&written.entity)),
            revisions: write_revisions(&written.revisions),
        };
        answer(self.step(of, Step::Pause, &etag, recorded(response)).await?, response)
    }

    async fn resume_experiment(
        &self,
        request: Request<pb::ResumeExperimentRequest>,
    ) -> Answer<pb::ResumeExperimentResponse> {
        let (call, message) = Call::open(request)?;
        let pb::ResumeExperimentRequest {
            project,
            environment,
            experiment,
            etag,
            validate_only,
            request_id,
        } = message;
        let named = ("experiment", experiment.as_str());
        let of = altered(&call, (&project, &environment), named, (&request_id, validate_only)).await?;
        let response = |written: &Written<Experiment>| pb::ResumeExperimentResponse {
            experiment: Some(write(&written.entity)),
            revisions: write_revisions(&written.revisions),
            warnings: written.warnings.iter().map(write_warning).collect(),
        };
        answer(self.step(of, Step::Resume, &etag, recorded(response)).await?, response)
    }

    async fn stop_experiment(&self, request: Request<pb::StopExperimentRequest>) -> Answer<pb::StopExperimentResponse> {
        let (call, message) = Call::open(request)?;
        let pb::StopExperimentRequest {
            project,
            environment,
            experiment,
            winner,
            make_default,
            etag,
            validate_only,
            request_id,
        } = message;
        let named = ("experiment", experiment.as_str());
        let of = altered(&call, (&project, &environment), named, (&request_id, validate_only)).await?;
        let mut violations = Violations::new();
        let winner = optional_key(&mut violations, "winner", &winner);
        let winner = violations.or(winner).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Experiment>| pb::StopExperimentResponse {
            experiment: Some(write(&written.entity)),
            revisions: write_revisions(&written.revisions),
        };
        let step = Step::Stop { winner, make_default };
        answer(self.step(of, step, &etag, recorded(response)).await?, response)
    }

    async fn create_layer(&self, request: Request<pb::CreateLayerRequest>) -> Answer<pb::CreateLayerResponse> {
        let (call, message) = Call::open(request)?;
        let pb::CreateLayerRequest {
            layer,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let layer = required(&mut violations, "layer", layer);
        let place = layer
            .as_ref()
            .and_then(|it| violations.take("layer", read_place(&it.project, &it.environment)));
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        let new = layer.and_then(|it| violations.take("layer", read_layer(it)));
        let ((project, environment), new) = finish(violations, place.zip(new)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Layer>| pb::CreateLayerResponse {
            layer: Some(write_layer(&written.entity)),
        };
        let outcome = self
            .store
            .create_layer(&mutation, at(&project, &environment), new, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn list_layers(&self, request: Request<pb::ListLayersRequest>) -> Answer<pb::ListLayersResponse> {
        let (call, mut message) = Call::open(request)?;
        let mut violations = Violations::new();
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let paging = call.page(&mut violations, page, &message);
        let pb::ListLayersRequest {
            project,
            environment,
            page_size: _,
            page_token: _,
        } = message;
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
        let (project, environment) = finish(violations, place).map_err(Refusal::Invalid)?;
        let found = self
            .store
            .list_layers(at(&project, &environment), &paging.request)
            .await;
        let (layers, next_page_token) = paging.write(found.map_err(Refusal::Store)?, write_layer);
        Ok(Response::new(pb::ListLayersResponse {
            layers,
            next_page_token,
        }))
    }

    async fn delete_layer(&self, request: Request<pb::DeleteLayerRequest>) -> Answer<pb::DeleteLayerResponse> {
        let (call, message) = Call::open(request)?;
        let pb::DeleteLayerRequest {
            project,
            environment,
            layer,
            etag,
            validate_only,
            request_id,
        } = message;
        let named = ("layer", layer.as_str());
        let (mutation, place): (_, Place<key::Layer>) =
            altered(&call, (&project, &environment), named, (&request_id, validate_only)).await?;
        let response = |_: &Written<Layer>| pb::DeleteLayerResponse {};
        let at = at(&place.project, &place.environment);
        let outcome = self
            .store
            .delete_layer(&mutation, at, &place.named, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn list_unit_assignments(
        &self,
        request: Request<pb::ListUnitAssignmentsRequest>,
    ) -> Answer<pb::ListUnitAssignmentsResponse> {
        let (call, message) = Call::open(request)?;
        let pb::ListUnitAssignmentsRequest {
            project,
            environment,
            unit,
        } = message;
        let (project, environment) =
            assignments::place_of_unit(&call, Violations::new(), (&project, &environment), &unit).await?;
        let found = self.store.unit_assignments(at(&project, &environment), &unit).await;
        let found = found.map_err(Refusal::Store)?;
        Ok(Response::new(pb::ListUnitAssignmentsResponse {
            assignments: found.iter().map(write_assignment).collect(),
        }))
    }

    async fn delete_unit_assignments(
        &self,
        request: Request<pb::DeleteUnitAssignmentsRequest>,
    ) -> Answer<pb::DeleteUnitAssignmentsResponse> {
        let (call, message) = Call::open(request)?;
        let pb::DeleteUnitAssignmentsRequest {
            project,
            environment,
            unit,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let (project, environment) =
            assignments::place_of_unit(&call, violations, (&project, &environment), &unit).await?;
        let response = |written: &Written<Deleted>| pb::DeleteUnitAssignmentsResponse {
            deleted: written.entity.0.len() as u64,
        };
        let outcome = self
            .store
            .delete_unit_assignments(&mutation, at(&project, &environment), &unit, recorded(response))
            .await;
        if let Ok(Outcome::Done(written)) = &outcome
            && !mutation.validate_only
        {
            for experiment in &written.entity.0 {
                self.assignments.known().forget(*experiment, &unit);
            }
        }
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn export_assignments(
        &self,
        request: Request<pb::ExportAssignmentsRequest>,
    ) -> Result<Response<Self::ExportAssignmentsStream>, Status> {
        let (call, message) = Call::open(request)?;
        let pb::ExportAssignmentsRequest {
            project,
            environment,
            experiment,
        } = message;
        let named = ("experiment", experiment.as_str());
        let (project, environment, experiment) =
            call.one_at(Violations::new(), (&project, &environment), named).await?;
        // Told before the stream begins that there is no such experiment.
        let found = self.store.get_experiment(at(&project, &environment), &experiment).await;
        found.map_err(Refusal::Store)?;
        let place = Place {
            project,
            environment,
            named: experiment,
        };
        let turn = self.exports.clone().try_acquire_owned().map_err(|_| Refusal::Busy {
            what: "too many exports are open here; try again",
            retry_after: Duration::from_secs(5),
        })?;
        let export = assignments::export(self.store.clone(), (call.caller, call.deadline), place, turn);
        Ok(Response::new(Box::pin(export)))
    }
}
