//! Segments, their configurations and their lists.

mod messages;

use std::mem::take;

use prost::Message as _;
use tonic::{Request, Response};

use self::messages::{
    read_configuration, read_mode, read_new, read_patch, read_place, read_upload, write, write_configuration,
    write_place,
};
use super::{Call, answer, at, recorded, write_revisions, write_warning};
use crate::domain::invalid::Violations;
use crate::domain::{check, key, limits};
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::segment_service_server::SegmentService;
use crate::rpc::convert::common::{Mask, finish, key, optional_key, place, required, timestamp};
use crate::rpc::{Answer, Refusal};
use crate::store::segments::configurations::SegmentConfiguration;
use crate::store::segments::uploads::{Piece, PutAside, Upload};
use crate::store::segments::{Activation, Segment, SegmentFilter};
use crate::store::{Page, Store, Written};

/// What an update of a segment may write.
const SEGMENT_FIELDS: &[&str] = &["name", "description"];
/// What an update of a configuration may write.
const CONFIGURATION_FIELDS: &[&str] = &["included", "excluded", "segments", "conditions"];

/// The service.
pub struct Segments {
    store: Store,
}

impl Segments {
    /// Keeps segments in this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl SegmentService for Segments {
    async fn create_segment(&self, request: Request<pb::CreateSegmentRequest>) -> Answer<pb::CreateSegmentResponse> {
        let (call, message) = Call::open(request)?;
        let pb::CreateSegmentRequest {
            segment,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let segment = required(&mut violations, "segment", segment);
        let project: Option<key::Project> = segment
            .as_ref()
            .and_then(|segment| key(&mut violations, "segment.project", &segment.project));
        call.authorise(project.as_ref())?;
        let new = segment.and_then(|segment| violations.take("segment", read_new(segment)));
        let (project, new) = finish(violations, project.zip(new)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Segment>| pb::CreateSegmentResponse {
            segment: Some(write(&written.entity)),
        };
        let outcome = self
            .store
            .create_segment(&mutation, &project, new, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn get_segment(&self, request: Request<pb::GetSegmentRequest>) -> Answer<pb::GetSegmentResponse> {
        let (call, pb::GetSegmentRequest { project, segment }) = Call::open(request)?;
        let mut violations = Violations::new();
        let (project, segment) = (
            key(&mut violations, "project", &project),
            key(&mut violations, "segment", &segment),
        );
        call.authorise(project.as_ref())?;
        let (project, segment) = finish(violations, project.zip(segment)).map_err(Refusal::Invalid)?;
        let found = self.store.get_segment(&project, &segment).await;
        Ok(Response::new(pb::GetSegmentResponse {
            segment: Some(write(&found.map_err(Refusal::Store)?)),
        }))
    }

    async fn list_segments(&self, request: Request<pb::ListSegmentsRequest>) -> Answer<pb::ListSegmentsResponse> {
        let (call, mut message) = Call::open(request)?;
        let mut violations = Violations::new();
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let paging = call.page(&mut violations, page, &message);
        let pb::ListSegmentsRequest {
            project,
            environment,
            text,
            page_size: _,
            page_token: _,
        } = message;
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        let environment: Option<key::Environment> = optional_key(&mut violations, "environment", &environment);
        check::text(&mut violations, "text", &text, limits::NAME_CHARS);
        call.authorise(project.as_ref())?;
        let project = finish(violations, project).map_err(Refusal::Invalid)?;
        let filter = SegmentFilter {
            environment: environment.as_ref(),
            text: &text,
        };
        let found = self.store.list_segments(&project, filter, &paging.request).await;
        let found = found.map_err(Refusal::Store)?;
        let (segments, next_page_token) =
            paging.write(found, |(segment, configuration)| pb::SegmentWithConfiguration {
                segment: Some(write(segment)),
                configuration: configuration.as_ref().map(write_configuration),
            });
        Ok(Response::new(pb::ListSegmentsResponse {
            segments,
            next_page_token,
        }))
    }

    async fn update_segment(&self, request: Request<pb::UpdateSegmentRequest>) -> Answer<pb::UpdateSegmentResponse> {
        let (call, message) = Call::open(request)?;
        let pb::UpdateSegmentRequest {
            segment,
            update_mask,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let mask = Mask::read(&mut violations, update_mask.as_ref(), SEGMENT_FIELDS);
        let segment = required(&mut violations, "segment", segment);
        let project: Option<key::Project> = segment
            .as_ref()
            .and_then(|segment| key(&mut violations, "segment.project", &segment.project));
        call.authorise(project.as_ref())?;
        let change = segment.and_then(|segment| violations.take("segment", read_patch(segment, &mask)));
        let (project, (segment, patch)) = finish(violations, project.zip(change)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Segment>| pb::UpdateSegmentResponse {
            segment: Some(write(&written.entity)),
            changed: written.changed,
        };
        let outcome = self
            .store
            .update_segment(&mutation, &project, &segment, patch, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn delete_segment(&self, request: Request<pb::DeleteSegmentRequest>) -> Answer<pb::DeleteSegmentResponse> {
        let (call, message) = Call::open(request)?;
        let pb::DeleteSegmentRequest {
            project,
            segment,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let (project, segment) = (
            key(&mut violations, "project", &project),
            key(&mut violations, "segment", &segment),
        );
        call.authorise(project.as_ref())?;
        let (project, segment) = finish(violations, project.zip(segment)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Segment>| pb::DeleteSegmentResponse {
            revisions: write_revisions(&written.revisions),
        };
        let outcome = self
            .store
            .delete_segment(&mutation, &project, &segment, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn get_segment_configuration(
        &self,
        request: Request<pb::GetSegmentConfigurationRequest>,
    ) -> Answer<pb::GetSegmentConfigurationResponse> {
        let (call, message) = Call::open(request)?;
        let pb::GetSegmentConfigurationRequest {
            project,
            environment,
            segment,
        } = message;
        let mut violations = Violations::new();
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project))?;
        let segment = key(&mut violations, "segment", &segment);
        let ((project, environment), segment) = finish(violations, place.zip(segment)).map_err(Refusal::Invalid)?;
        let at = at(&project, &environment);
        let found = self.store.get_segment_configuration(at, &segment).await;
        Ok(Response::new(pb::GetSegmentConfigurationResponse {
            configuration: Some(write_configuration(&found.map_err(Refusal::Store)?)),
        }))
    }

    async fn update_segment_configuration(
        &self,
        request: Request<pb::UpdateSegmentConfigurationRequest>,
    ) -> Answer<pb::UpdateSegmentConfigurationResponse> {
        let (call, message) = Call::open(request)?;
        let pb::UpdateSegmentConfigurationRequest {
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
        let change =
            configuration.and_then(|it| violations.take("configuration", read_configuration(it, &mask, strict)));
        let (project, (environment, segment, patch)) =
            finish(violations, project.zip(change)).map_err(Refusal::Invalid)?;
        let response = |written: &Written<SegmentConfiguration>| pb::UpdateSegmentConfigurationResponse {
            configuration: Some(write_configuration(&written.entity)),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
            warnings: written.warnings.iter().map(write_warning).collect(),
        };
        let (at, recorded) = (at(&project, &environment), recorded(response));
        let outcome = self
            .store
            .update_segment_configuration(&mutation, at, &segment, patch, &etag, recorded)
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn create_segment_upload(
        &self,
        request: Request<pb::CreateSegmentUploadRequest>,
    ) -> Answer<pb::CreateSegmentUploadResponse> {
        let (call, message) = Call::open(request)?;
        let pb::CreateSegmentUploadRequest {
            project,
            environment,
            segment,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, "", false);
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project))?;
        let segment = key(&mut violations, "segment", &segment);
        let ((project, environment), segment) = finish(violations, place.zip(segment)).map_err(Refusal::Invalid)?;
        let at = at(&project, &environment);
        let outcome = self.store.create_segment_upload(&mutation, at, &segment).await;
        answer(outcome.map_err(Refusal::Store)?, |written: &Written<Upload>| {
            let Upload { id, expires_at } = written.entity;
            pb::CreateSegmentUploadResponse {
                upload: id.to_string(),
                expire_time: Some(timestamp(expires_at)),
            }
        })
    }

    async fn upload_segment_keys(
        &self,
        request: Request<pb::UploadSegmentKeysRequest>,
    ) -> Answer<pb::UploadSegmentKeysResponse> {
        let (call, message) = Call::open(request)?;
        let pb::UploadSegmentKeysRequest {
            project,
            upload,
            piece,
            keys,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, "", false);
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        call.authorise(project.as_ref())?;
        let upload = read_upload(&mut violations, &upload);
        let (project, upload) = finish(violations, project.zip(upload)).map_err(Refusal::Invalid)?;
        let piece = Piece { number: piece, keys };
        let outcome = self.store.put_segment_keys(&mutation, &project, upload, piece).await;
        answer(outcome.map_err(Refusal::Store)?, |written: &Written<PutAside>| {
            let PutAside(keys) = written.entity;
            pb::UploadSegmentKeysResponse { keys }
        })
    }

    async fn activate_segment_upload(
        &self,
        request: Request<pb::ActivateSegmentUploadRequest>,
    ) -> Answer<pb::ActivateSegmentUploadResponse> {
        let (call, message) = Call::open(request)?;
        let pb::ActivateSegmentUploadRequest {
            project,
            upload,
            mode,
            etag,
            pieces,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        call.authorise(project.as_ref())?;
        let upload = read_upload(&mut violations, &upload);
        let mode = read_mode(&mut violations, mode);
        let (project, (upload, mode)) = finish(violations, project.zip(upload.zip(mode))).map_err(Refusal::Invalid)?;
        let activation = Activation {
            upload,
            mode,
            pieces: (pieces > 0).then_some(pieces),
            etag: &etag,
        };
        let response = |written: &Written<SegmentConfiguration>| pb::ActivateSegmentUploadResponse {
            configuration: Some(write_configuration(&written.entity)),
            revisions: write_revisions(&written.revisions),
            changed: written.changed,
        };
        let outcome = self
            .store
            .activate_segment_upload(&mutation, &project, activation, |written: &Written<_>| {
                response(written).encode_to_vec()
            })
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn list_segment_keys(
        &self,
        request: Request<pb::ListSegmentKeysRequest>,
    ) -> Answer<pb::ListSegmentKeysResponse> {
        let (call, mut message) = Call::open(request)?;
        let mut violations = Violations::new();
        let page = (0, take(&mut message.page_token));
        let paging = call.page(&mut violations, page, &message);
        let pb::ListSegmentKeysRequest {
            project,
            environment,
            segment,
            page_token: _,
        } = message;
        let place = place(&mut violations, &project, &environment);
        call.authorise(place.as_ref().map(|(project, _)| project))?;
        let segment = key(&mut violations, "segment", &segment);
        let ((project, environment), segment) = finish(violations, place.zip(segment)).map_err(Refusal::Invalid)?;
        let at = at(&project, &environment);
        let from = read_place(&paging.request.after);
        let found = self.store.list_segment_keys(at, &segment, from).await;
        let found = found.map_err(Refusal::Store)?;
        let page = Page {
            items: found.keys,
            next: found.next.map(write_place),
        };
        let (keys, next_page_token) = paging.write(page, String::clone);
        Ok(Response::new(pb::ListSegmentKeysResponse { keys, next_page_token }))
    }
}
