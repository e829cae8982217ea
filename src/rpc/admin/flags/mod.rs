//! Flags and their configurations.
//!
//! | file | what |
//! |---|---|
//! | here | configurations, and where each method is |
//! | `definitions` | flags by themselves, and lists of them |
//! | `history` | revisions, rollback, answers as of a revision |
//! | `playground` | trying a flag out |
//! | `messages`, `filter` | what callers say, and what they are told |

mod definitions;
mod filter;
mod history;
mod messages;
mod playground;

use std::sync::Arc;

use tonic::{Request, Response};

use self::history::Turns;
use self::messages::{read_configuration, read_toggles, write_configuration};
use super::{Call, answer, at, recorded, write_revisions, write_warning};
use crate::domain::invalid::Violations;
use crate::domain::key;
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::flag_service_server::FlagService;
use crate::rpc::convert::common::{Mask, finish, key, place, required};
use crate::rpc::states::States;
use crate::rpc::{Answer, Refusal};
use crate::store::configurations::FlagConfiguration;
use crate::store::{Store, Written};
use crate::watch::Hub;

/// What an update of a configuration may write.
const CONFIGURATION_FIELDS: &[&str] = &["enabled", "prerequisites", "rules", "default_serve", "salt"];

/// The service.
pub struct Flags {
    store: Store,
    states: States,
    turns: Turns,
}

impl Flags {
    /// Keeps flags in this store, and tries them out in the states of this hub.
    pub fn new(store: Store, hub: Arc<Hub>) -> Self {
        Self {
            store,
            states: States::new(hub),
            turns: Turns::default(),
        }
    }
}

#[tonic::async_trait]
impl FlagService for Flags {
    async fn create_flag(&self, request: Request<pb::CreateFlagRequest>) -> Answer<pb::CreateFlagResponse> {
        self.create(request).await
    }

    async fn get_flag(&self, request: Request<pb::GetFlagRequest>) -> Answer<pb::GetFlagResponse> {
        self.get(request).await
    }

    async fn list_flags(&self, request: Request<pb::ListFlagsRequest>) -> Answer<pb::ListFlagsResponse> {
        self.list(request).await
    }

    async fn update_flag(&self, request: Request<pb::UpdateFlagRequest>) -> Answer<pb::UpdateFlagResponse> {
        self.update(request).await
    }

    async fn archive_flag(&self, request: Request<pb::ArchiveFlagRequest>) -> Answer<pb::ArchiveFlagResponse> {
        self.archive(request).await
    }

    async fn restore_flag(&self, request: Request<pb::RestoreFlagRequest>) -> Answer<pb::RestoreFlagResponse> {
        self.restore(request).await
    }

    async fn delete_flag(&self, request: Request<pb::DeleteFlagRequest>) -> Answer<pb::DeleteFlagResponse> {
        self.delete(request).await
    }

    async fn get_flag_configuration(
        &self,
        request: Request<pb::GetFlagConfigurationRequest>,
    ) -> Answer<pb::GetFlagConfigurationResponse> {
        let (call, message) = Call::open(request)?;
        let pb::GetFlagConfigurationRequest {
            project,
            environment,
            flag,
        } = message;
        let mut violations = Violations::new();
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project))?;
        let flag = key(&mut violations, "flag", &flag);
        let ((project, environment), flag) = finish(violations, place.zip(flag)).map_err(Refusal::Invalid)?;
        let found = self.store.get_configuration(at(&project, &environment), &flag).await;
        Ok(Response::new(pb::GetFlagConfigurationResponse {
            configuration: Some(write_configuration(&found.map_err(Refusal::Store)?)),
        }))
    }

    async fn update_flag_configuration(
        &self,
        request: Request<pb::UpdateFlagConfigurationRequest>,
    ) -> Answer<pb::UpdateFlagConfigurationResponse> {
        let (call, message) = Call::open(request)?;
        let pb::UpdateFlagConfigurationRequest {
            configuration,
            update_mask,
            etag,
            validate_only,
            request_id,
            strict,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let mask = Mask::read(&mut violations, update_mask.as_ref(), CONFIGURATION_FIELDS);
        let configuration = required(&mut violations, "configuration", configuration);
        let project: Option<key::Project> = configuration
            .as_ref()
            .and_then(|it| key(&mut violations, "configuration.project", &it.project));
        call.authorise(project.as_ref())?;
        let change = configuration.and_then(|it| {
            let change = read_configuration(it, &mask, strict);
            violations.take("configuration", change)
        });
        let (project, (environment, flag, patch)) =
            finish(violations, project.zip(change)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<FlagConfiguration>| pb::UpdateFlagConfigurationResponse {
            configuration: Some(write_configuration(&written.entity)),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
            warnings: written.warnings.iter().map(write_warning).collect(),
        };
        let recorded = recorded(response);
        let outcome = self
            .store
            .update_configuration(&mutation, at(&project, &environment), &flag, patch, &etag, recorded)
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn toggle_flags(&self, request: Request<pb::ToggleFlagsRequest>) -> Answer<pb::ToggleFlagsResponse> {
        let (call, message) = Call::open(request)?;
        let pb::ToggleFlagsRequest {
            project,
            environment,
            toggles,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project))?;
        let toggles = read_toggles(&mut violations, toggles);
        let (project, environment) = finish(violations, place).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Vec<FlagConfiguration>>| pb::ToggleFlagsResponse {
            configurations: written.entity.iter().map(write_configuration).collect(),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
        };
        let outcome = self
            .store
            .toggle_flags(&mutation, at(&project, &environment), &toggles, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn list_revisions(&self, request: Request<pb::ListRevisionsRequest>) -> Answer<pb::ListRevisionsResponse> {
        self.revisions(request).await
    }

    async fn rollback_flag_configuration(
        &self,
        request: Request<pb::RollbackFlagConfigurationRequest>,
    ) -> Answer<pb::RollbackFlagConfigurationResponse> {
        self.rollback(request).await
    }

    async fn test_evaluate(&self, request: Request<pb::TestEvaluateRequest>) -> Answer<pb::TestEvaluateResponse> {
        self.test(request).await
    }

    async fn evaluate_at(&self, request: Request<pb::EvaluateAtRequest>) -> Answer<pb::EvaluateAtResponse> {
        self.answer_at(request).await
    }
}
