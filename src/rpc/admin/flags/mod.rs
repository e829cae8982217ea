//! Flags and their configurations.

mod messages;

use tonic::{Request, Response};

use self::messages::{read_configuration, read_new, read_patch, read_toggles, write, write_configuration};
use super::{Call, answer, at, page, recorded, write_page, write_revisions};
use crate::domain::invalid::Violations;
use crate::domain::key;
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::flag_service_server::FlagService;
use crate::rpc::convert::common::{Mask, finish, key, optional_key, place, required};
use crate::rpc::{Answer, Refusal};
use crate::store::configurations::FlagConfiguration;
use crate::store::flags::{Flag, FlagFilter};
use crate::store::{Store, Written};

/// What an update of a flag may write.
const FLAG_FIELDS: &[&str] = &[
    "name",
    "description",
    "tags",
    "owner",
    "variants",
    "off_variant",
    "default_variant",
    "client_visible",
];
/// What an update of a configuration may write.
const CONFIGURATION_FIELDS: &[&str] = &["enabled", "rules", "default_serve", "salt"];

/// The service.
pub struct Flags {
    store: Store,
}

impl Flags {
    /// Keeps flags in this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl FlagService for Flags {
    async fn create_flag(&self, request: Request<pb::CreateFlagRequest>) -> Answer<pb::CreateFlagResponse> {
        let (call, message) = Call::open(request)?;
        let pb::CreateFlagRequest {
            flag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let flag = required(&mut violations, "flag", flag);
        let project: Option<key::Project> = flag
            .as_ref()
            .and_then(|flag| key(&mut violations, "flag.project", &flag.project));
        call.authorise(project.as_ref()).await?;
        let new = flag.and_then(|flag| violations.take("flag", read_new(flag)));
        let (project, new) = finish(violations, project.zip(new)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Flag>| pb::CreateFlagResponse {
            flag: Some(write(&written.entity)),
            revisions: write_revisions(&written.revisions),
        };
        let outcome = self
            .store
            .create_flag(&mutation, &project, new, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn get_flag(&self, request: Request<pb::GetFlagRequest>) -> Answer<pb::GetFlagResponse> {
        let (call, pb::GetFlagRequest { project, flag }) = Call::open(request)?;
        let mut violations = Violations::new();
        let (project, flag) = (
            key(&mut violations, "project", &project),
            key(&mut violations, "flag", &flag),
        );
        call.authorise(project.as_ref()).await?;
        let (project, flag) = finish(violations, project.zip(flag)).map_err(Refusal::Invalid)?;
        let flag = self.store.get_flag(&project, &flag).await.map_err(Refusal::Store)?;
        Ok(Response::new(pb::GetFlagResponse {
            flag: Some(write(&flag)),
        }))
    }

    async fn list_flags(&self, request: Request<pb::ListFlagsRequest>) -> Answer<pb::ListFlagsResponse> {
        let (call, message) = Call::open(request)?;
        let pb::ListFlagsRequest {
            project,
            environment,
            show_archived,
            text: _,
            tags: _,
            r#type: _,
            owner: _,
            state: _,
            lifecycle: _,
            page_size,
            page_token,
        } = message;
        let mut violations = Violations::new();
        let page = page(&mut violations, page_size, page_token);
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        let environment: Option<key::Environment> = optional_key(&mut violations, "environment", &environment);
        call.authorise(project.as_ref()).await?;
        let project = finish(violations, project).map_err(Refusal::Invalid)?;
        let filter = FlagFilter {
            environment: environment.as_ref(),
            archived: show_archived,
        };
        let found = self
            .store
            .list_flags(&project, filter, &page)
            .await
            .map_err(Refusal::Store)?;
        let (flags, next_page_token) = write_page(found, |(flag, configuration)| pb::FlagWithConfiguration {
            flag: Some(write(flag)),
            configuration: configuration.as_ref().map(write_configuration),
        });
        Ok(Response::new(pb::ListFlagsResponse { flags, next_page_token }))
    }

    async fn update_flag(&self, request: Request<pb::UpdateFlagRequest>) -> Answer<pb::UpdateFlagResponse> {
        let (call, message) = Call::open(request)?;
        let pb::UpdateFlagRequest {
            flag,
            update_mask,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let mask = Mask::read(&mut violations, update_mask.as_ref(), FLAG_FIELDS);
        let flag = required(&mut violations, "flag", flag);
        let project: Option<key::Project> = flag
            .as_ref()
            .and_then(|flag| key(&mut violations, "flag.project", &flag.project));
        call.authorise(project.as_ref()).await?;
        let change = flag.and_then(|flag| violations.take("flag", read_patch(flag, &mask)));
        let (project, (flag, patch)) = finish(violations, project.zip(change)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Flag>| pb::UpdateFlagResponse {
            flag: Some(write(&written.entity)),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
        };
        let outcome = self
            .store
            .update_flag(&mutation, &project, &flag, patch, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn archive_flag(&self, request: Request<pb::ArchiveFlagRequest>) -> Answer<pb::ArchiveFlagResponse> {
        let (call, message) = Call::open(request)?;
        let pb::ArchiveFlagRequest {
            project,
            flag,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let (project, flag) = (
            key(&mut violations, "project", &project),
            key(&mut violations, "flag", &flag),
        );
        call.authorise(project.as_ref()).await?;
        let (project, flag) = finish(violations, project.zip(flag)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Flag>| pb::ArchiveFlagResponse {
            flag: Some(write(&written.entity)),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
        };
        let outcome = self
            .store
            .archive_flag(&mutation, &project, &flag, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn delete_flag(&self, request: Request<pb::DeleteFlagRequest>) -> Answer<pb::DeleteFlagResponse> {
        let (call, message) = Call::open(request)?;
        let pb::DeleteFlagRequest {
            project,
            flag,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let (project, flag) = (
            key(&mut violations, "project", &project),
            key(&mut violations, "flag", &flag),
        );
        call.authorise(project.as_ref()).await?;
        let (project, flag) = finish(violations, project.zip(flag)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Flag>| pb::DeleteFlagResponse {
            revisions: write_revisions(&written.revisions),
        };
        let outcome = self
            .store
            .delete_flag(&mutation, &project, &flag, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
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
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
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
            strict: _,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let mask = Mask::read(&mut violations, update_mask.as_ref(), CONFIGURATION_FIELDS);
        let configuration = required(&mut violations, "configuration", configuration);
        let project: Option<key::Project> = configuration
            .as_ref()
            .and_then(|it| key(&mut violations, "configuration.project", &it.project));
        call.authorise(project.as_ref()).await?;
        let change = configuration.and_then(|it| violations.take("configuration", read_configuration(it, &mask)));
        let (project, (environment, flag, patch)) =
            finish(violations, project.zip(change)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<FlagConfiguration>| pb::UpdateFlagConfigurationResponse {
            configuration: Some(write_configuration(&written.entity)),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
            warnings: Vec::new(),
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
        call.authorise(place.as_ref().map(|(project, _)| project)).await?;
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

    async fn restore_flag(&self, _: Request<pb::RestoreFlagRequest>) -> Answer<pb::RestoreFlagResponse> {
        Err(tonic::Status::unimplemented(""))
    }

    async fn list_revisions(&self, _: Request<pb::ListRevisionsRequest>) -> Answer<pb::ListRevisionsResponse> {
        Err(tonic::Status::unimplemented(""))
    }

    async fn rollback_flag_configuration(
        &self,
        _: Request<pb::RollbackFlagConfigurationRequest>,
    ) -> Answer<pb::RollbackFlagConfigurationResponse> {
        Err(tonic::Status::unimplemented(""))
    }

    async fn test_evaluate(&self, _: Request<pb::TestEvaluateRequest>) -> Answer<pb::TestEvaluateResponse> {
        Err(tonic::Status::unimplemented(""))
    }

    async fn evaluate_at(&self, _: Request<pb::EvaluateAtRequest>) -> Answer<pb::EvaluateAtResponse> {
        Err(tonic::Status::unimplemented(""))
    }
}
