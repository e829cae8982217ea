//! Flags by themselves: what is the same in every environment.

use std::mem::take;

use tonic::{Request, Response};

use super::Flags;
use super::filter::Filter;
use super::messages::{read_new, read_patch, write, write_configuration};
use crate::domain::invalid::Violations;
use crate::domain::key;
use crate::pb::admin::v1 as pb;
use crate::rpc::admin::{Call, answer, recorded, write_revisions};
use crate::rpc::convert::common::{Mask, finish, key, required};
use crate::rpc::{Answer, Refusal};
use crate::store::Written;
use crate::store::flags::Flag;

/// What an update of a flag may write.
const FIELDS: &[&str] = &[
    "name",
    "description",
    "tags",
    "owner",
    "lifecycle",
    "expected_removal_time",
    "variants",
    "off_variant",
    "default_variant",
    "client_visible",
];

impl Flags {
    pub(super) async fn create(&self, request: Request<pb::CreateFlagRequest>) -> Answer<pb::CreateFlagResponse> {
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

    pub(super) async fn get(&self, request: Request<pb::GetFlagRequest>) -> Answer<pb::GetFlagResponse> {
        let (call, pb::GetFlagRequest { project, flag }) = Call::open(request)?;
        let (project, flag) = call.one(Violations::new(), &project, ("flag", &flag)).await?;
        let flag = self.store.get_flag(&project, &flag).await.map_err(Refusal::Store)?;
        Ok(Response::new(pb::GetFlagResponse {
            flag: Some(write(&flag)),
        }))
    }

    pub(super) async fn list(&self, request: Request<pb::ListFlagsRequest>) -> Answer<pb::ListFlagsResponse> {
        let (call, mut message) = Call::open(request)?;
        let mut violations = Violations::new();
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let paging = call.page(&mut violations, page, &message);
        let project: Option<key::Project> = key(&mut violations, "project", &message.project);
        call.authorise(project.as_ref()).await?;
        let filter = Filter::read(&mut violations, message);
        let project = finish(violations, project).map_err(Refusal::Invalid)?;
        let found = self
            .store
            .list_flags(&project, filter.as_store(), &paging.request)
            .await;
        let (flags, next_page_token) = paging.write(found.map_err(Refusal::Store)?, |(flag, configuration)| {
            pb::FlagWithConfiguration {
                flag: Some(write(flag)),
                configuration: configuration.as_ref().map(write_configuration),
            }
        });
        Ok(Response::new(pb::ListFlagsResponse { flags, next_page_token }))
    }

    pub(super) async fn update(&self, request: Request<pb::UpdateFlagRequest>) -> Answer<pb::UpdateFlagResponse> {
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
        let mask = Mask::read(&mut violations, update_mask.as_ref(), FIELDS);
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

    pub(super) async fn archive(&self, request: Request<pb::ArchiveFlagRequest>) -> Answer<pb::ArchiveFlagResponse> {
        let (call, message) = Call::open(request)?;
        let pb::ArchiveFlagRequest {
            project,
            flag,
            etag,
            validate_only,
            request_id,
        } = message;
        let (mutation, project, flag) = call
            .alter(&project, ("flag", &flag), (&request_id, validate_only))
            .await?;
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

    pub(super) async fn restore(&self, request: Request<pb::RestoreFlagRequest>) -> Answer<pb::RestoreFlagResponse> {
        let (call, message) = Call::open(request)?;
        let pb::RestoreFlagRequest {
            project,
            flag,
            etag,
            validate_only,
            request_id,
        } = message;
        let (mutation, project, flag) = call
            .alter(&project, ("flag", &flag), (&request_id, validate_only))
            .await?;
        let response = |written: &Written<Flag>| pb::RestoreFlagResponse {
            flag: Some(write(&written.entity)),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
        };
        let outcome = self
            .store
            .restore_flag(&mutation, &project, &flag, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    pub(super) async fn delete(&self, request: Request<pb::DeleteFlagRequest>) -> Answer<pb::DeleteFlagResponse> {
        let (call, message) = Call::open(request)?;
        let pb::DeleteFlagRequest {
            project,
            flag,
            etag,
            validate_only,
            request_id,
        } = message;
        let (mutation, project, flag) = call
            .alter(&project, ("flag", &flag), (&request_id, validate_only))
            .await?;
        let response = |written: &Written<Flag>| pb::DeleteFlagResponse {
            revisions: write_revisions(&written.revisions),
        };
        let outcome = self
            .store
            .delete_flag(&mutation, &project, &flag, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }
}
