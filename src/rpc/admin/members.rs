//! The people of a project: the part of the service for projects that sets their roles.

use std::mem::take;

use tonic::{Request, Response};

use super::roles::{read_account, read_role, write_role};
use super::{Call, Projects, answer, recorded};
use crate::domain::invalid::Violations;
use crate::domain::key;
use crate::pb::admin::v1 as pb;
use crate::rpc::convert::common::{finish, key};
use crate::rpc::{Answer, Refusal};
use crate::store::Written;
use crate::store::members::Member;

impl Projects {
    pub(super) async fn list_people(
        &self,
        request: Request<pb::ListMembersRequest>,
    ) -> Answer<pb::ListMembersResponse> {
        let (call, mut message) = Call::open(request)?;
        let mut violations = Violations::new();
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let paging = call.page(&mut violations, page, &message);
        let pb::ListMembersRequest {
            project,
            page_size: _,
            page_token: _,
        } = message;
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        call.authorise(project.as_ref()).await?;
        let project = finish(violations, project).map_err(Refusal::Invalid)?;
        let found = self.store.list_members(&project, &paging.request).await;
        let (members, next_page_token) = paging.write(found.map_err(Refusal::Store)?, write);
        Ok(Response::new(pb::ListMembersResponse {
            members,
            next_page_token,
        }))
    }

    pub(super) async fn set_role(&self, request: Request<pb::SetMemberRequest>) -> Answer<pb::SetMemberResponse> {
        let (call, message) = Call::open(request)?;
        let pb::SetMemberRequest {
            project,
            user,
            role,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        let replay = call.authorise_or_replay(project.as_ref(), &self.store, &mutation);
        if let Some(replay) = replay.await? {
            return Ok(replay);
        }
        let account = read_account(&mut violations, &user);
        let role = read_role(&mut violations, role);
        let ((project, account), role) =
            finish(violations, project.zip(account).zip(role)).map_err(Refusal::Invalid)?;
        if !call.caller.is_administrator() {
            self.accounts.look_up(call.caller.principal)?;
        }
        let response = |written: &Written<Member>| pb::SetMemberResponse {
            member: Some(write(&written.entity)),
            changed: written.changed,
        };
        let outcome = self
            .store
            .set_member(&mutation, &project, &account, role, &etag, recorded(response));
        answer(outcome.await.map_err(Refusal::Store)?, response)
    }

    pub(super) async fn take_role(
        &self,
        request: Request<pb::RemoveMemberRequest>,
    ) -> Answer<pb::RemoveMemberResponse> {
        let (call, message) = Call::open(request)?;
        let pb::RemoveMemberRequest {
            project,
            user,
            etag,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        let replay = call.authorise_or_replay(project.as_ref(), &self.store, &mutation);
        if let Some(replay) = replay.await? {
            return Ok(replay);
        }
        let account = read_account(&mut violations, &user);
        let (project, account) = finish(violations, project.zip(account)).map_err(Refusal::Invalid)?;
        let response = |_: &Written<Member>| pb::RemoveMemberResponse {};
        let outcome = self
            .store
            .remove_member(&mutation, &project, &account, &etag, recorded(response));
        answer(outcome.await.map_err(Refusal::Store)?, response)
    }
}

fn write(member: &Member) -> pb::Member {
    let Member {
        user,
        email,
        role,
        active,
        etag,
    } = member;
    pb::Member {
        user: user.to_string(),
        email: email.clone(),
        role: write_role(*role).into(),
        active: *active,
        etag: etag.clone(),
    }
}
