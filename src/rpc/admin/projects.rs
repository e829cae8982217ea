//! Projects.

use std::mem::take;
use std::sync::Arc;

use tonic::{Request, Response};

use super::accounts::Accounts;
use super::{Call, answer, name_or, recorded, texts};
use crate::domain::access::Principal;
use crate::domain::invalid::Violations;
use crate::domain::key;
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::project_service_server::ProjectService;
use crate::rpc::convert::common::{Mask, finish, key, required, timestamp};
use crate::rpc::front::Caller;
use crate::rpc::{Answer, Refusal};
use crate::store::projects::{NewProject, Project, ProjectPatch, Viewer};
use crate::store::{Store, Written};

/// The service.
pub struct Projects {
    pub(super) store: Store,
    pub(super) accounts: Arc<Accounts>,
}

impl Projects {
    /// Keeps projects in this store, and looks their people up among these accounts.
    pub fn new(store: Store, accounts: Arc<Accounts>) -> Self {
        Self { store, accounts }
    }
}

#[tonic::async_trait]
impl ProjectService for Projects {
    async fn create_project(&self, request: Request<pb::CreateProjectRequest>) -> Answer<pb::CreateProjectResponse> {
        let (call, message) = Call::open(request)?;
        let pb::CreateProjectRequest {
            project,
            validate_only,
            request_id,
        } = message;
        call.caller.authorise(None).await?;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let new = required(&mut violations, "project", project).and_then(|project| read_new(&mut violations, project));
        let new = finish(violations, new).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Project>| pb::CreateProjectResponse {
            project: Some(write(&written.entity)),
        };
        let outcome = self.store.create_project(&mutation, new, recorded(response)).await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn get_project(&self, request: Request<pb::GetProjectRequest>) -> Answer<pb::GetProjectResponse> {
        let (call, pb::GetProjectRequest { project }) = Call::open(request)?;
        let mut violations = Violations::new();
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        call.authorise(project.as_ref()).await?;
        let project = finish(violations, project).map_err(Refusal::Invalid)?;
        let project = self.store.get_project(&project).await.map_err(Refusal::Store)?;
        Ok(Response::new(pb::GetProjectResponse {
            project: Some(write(&project)),
        }))
    }

    async fn list_projects(&self, request: Request<pb::ListProjectsRequest>) -> Answer<pb::ListProjectsResponse> {
        let (call, mut message) = Call::open(request)?;
        let mut violations = Violations::new();
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let paging = call.page(&mut violations, page, &message);
        let pb::ListProjectsRequest {
            page_size: _,
            page_token: _,
        } = message;
        violations.or(()).map_err(Refusal::Invalid)?;
        let viewer = viewer(&call.caller)?;
        let found = self.store.list_projects(viewer, &paging.request).await;
        let (projects, next_page_token) = paging.write(found.map_err(Refusal::Store)?, write);
        Ok(Response::new(pb::ListProjectsResponse {
            projects,
            next_page_token,
        }))
    }

    async fn update_project(&self, request: Request<pb::UpdateProjectRequest>) -> Answer<pb::UpdateProjectResponse> {
        let (call, message) = Call::open(request)?;
        let pb::UpdateProjectRequest {
            project,
            update_mask,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let mask = Mask::read(&mut violations, update_mask.as_ref(), &["name", "description"]);
        let change = required(&mut violations, "project", project)
            .and_then(|project| read_patch(&mut violations, &mask, project));
        call.authorise(change.as_ref().map(|(project, _)| project)).await?;
        let (project, patch) = finish(violations, change).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Project>| pb::UpdateProjectResponse {
            project: Some(write(&written.entity)),
            changed: written.changed,
        };
        let outcome = self
            .store
            .update_project(&mutation, &project, patch, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn delete_project(&self, request: Request<pb::DeleteProjectRequest>) -> Answer<pb::DeleteProjectResponse> {
        let (call, message) = Call::open(request)?;
        let pb::DeleteProjectRequest {
            project,
            confirm,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        if confirm != project {
            violations.add(
                "confirm",
                "is not the project's key; repeat the key to delete everything in the project",
            );
        }
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        let replay = call.authorise_or_replay(project.as_ref(), &self.store, &mutation);
        if let Some(replay) = replay.await? {
            return Ok(replay);
        }
        let project = finish(violations, project).map_err(Refusal::Invalid)?;
        let response = |_: &Written<Project>| pb::DeleteProjectResponse {};
        let outcome = self
            .store
            .delete_project(&mutation, &project, &etag, recorded(response))
            .await;
        answer(outcome.map_err(Refusal::Store)?, response)
    }

    async fn list_members(&self, request: Request<pb::ListMembersRequest>) -> Answer<pb::ListMembersResponse> {
        self.list_people(request).await
    }

    async fn set_member(&self, request: Request<pb::SetMemberRequest>) -> Answer<pb::SetMemberResponse> {
        self.set_role(request).await
    }

    async fn remove_member(&self, request: Request<pb::RemoveMemberRequest>) -> Answer<pb::RemoveMemberResponse> {
        self.take_role(request).await
    }

    async fn create_invitation(
        &self,
        request: Request<pb::CreateInvitationRequest>,
    ) -> Answer<pb::CreateInvitationResponse> {
        self.invite(request).await
    }

    async fn list_invitations(
        &self,
        request: Request<pb::ListInvitationsRequest>,
    ) -> Answer<pb::ListInvitationsResponse> {
        self.list_invited(request).await
    }

    async fn revoke_invitation(
        &self,
        request: Request<pb::RevokeInvitationRequest>,
    ) -> Answer<pb::RevokeInvitationResponse> {
        self.uninvite(request).await
    }
}

/// Whose projects the caller may see.
fn viewer(caller: &Caller) -> Result<Viewer, Refusal> {
    match caller.principal {
        Principal::User(_) if caller.is_administrator() => Ok(Viewer::Administrator),
        Principal::User(id) => Ok(Viewer::Member(id)),
        Principal::ServiceToken(id) => {
            let token = caller.directory.tokens.get(&id).ok_or(Refusal::Unauthenticated)?;
            Ok(Viewer::Machine(token.project.clone()))
        }
    }
}

fn read_new(violations: &mut Violations, project: pb::Project) -> Option<NewProject> {
    let pb::Project {
        key: project,
        name,
        description,
        create_time: _,
        update_time: _,
        etag: _,
    } = project;
    texts(violations, "project", &name, &description);
    let key: Option<key::Project> = key(violations, "project.key", &project);
    let name = name_or(name, key.as_ref());
    key.map(|key| NewProject { key, name, description })
}

fn read_patch(
    violations: &mut Violations,
    mask: &Mask<'_>,
    project: pb::Project,
) -> Option<(key::Project, ProjectPatch)> {
    let NewProject { key, name, description } = read_new(violations, project)?;
    let patch = ProjectPatch {
        name: mask.pick("name", name),
        description: mask.pick("description", description),
    };
    Some((key, patch))
}

fn write(project: &Project) -> pb::Project {
    let Project {
        key,
        name,
        description,
        created_at,
        updated_at,
        etag,
    } = project;
    pb::Project {
        key: key.to_string(),
        name: name.clone(),
        description: description.clone(),
        create_time: Some(timestamp(*created_at)),
        update_time: Some(timestamp(*updated_at)),
        etag: etag.clone(),
    }
}
