//! Invitations: the part of the service for projects that makes them. Accepting one is [`Auth`](super::Auth)'s.

use std::mem::take;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Response};

use super::roles::{read_role, write_role};
use super::{Call, Projects, answer, recorded};
use crate::auth::invitations;
use crate::domain::invalid::Violations;
use crate::domain::{check, key, limits};
use crate::pb::admin::v1 as pb;
use crate::rpc::convert::common::{finish, key, read_timestamp, timestamp};
use crate::rpc::{Answer, Refusal};
use crate::store::Written;
use crate::store::invitations::{Invitation, NewInvitation};
use crate::store::makers::Maker;

/// How long an invitation lasts when nobody says.
const LIFETIME: Duration = Duration::from_hours(7 * 24);
const LONGEST: Duration = Duration::from_hours(limits::INVITATION_DAYS as u64 * 24);

impl Projects {
    pub(super) async fn invite(
        &self,
        request: Request<pb::CreateInvitationRequest>,
    ) -> Answer<pb::CreateInvitationResponse> {
        let (call, message) = Call::open(request)?;
        let pb::CreateInvitationRequest {
            project,
            role,
            name,
            expire_time,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        call.authorise(project.as_ref()).await?;
        let role = read_role(&mut violations, role);
        check::text(&mut violations, "name", &name, limits::NAME_CHARS);
        let expires_at = read_end(&mut violations, expire_time);
        let ((project, role), expires_at) =
            finish(violations, project.zip(role).zip(expires_at)).map_err(Refusal::Invalid)?;
        let invitations::Generated { id, secret, hash } =
            invitations::generate().map_err(|error| super::unmade(&error))?;
        let new = NewInvitation {
            id,
            name,
            role,
            secret_hash: hash,
            expires_at,
        };
        let response = |written: &Written<Invitation>, secret: Option<&SecretString>| pb::CreateInvitationResponse {
            invitation: Some(write(&written.entity)),
            token: secret
                .map(|secret| secret.expose_secret().to_owned())
                .unwrap_or_default(),
            secret_omitted: secret.is_none(),
        };
        let recorded = recorded(|written| response(written, None));
        let outcome = self.store.create_invitation(&mutation, &project, new, recorded).await;
        let secret = (!validate_only).then_some(&secret);
        answer(outcome.map_err(Refusal::Store)?, |written| response(written, secret))
    }

    pub(super) async fn list_invited(
        &self,
        request: Request<pb::ListInvitationsRequest>,
    ) -> Answer<pb::ListInvitationsResponse> {
        let (call, mut message) = Call::open(request)?;
        let mut violations = Violations::new();
        let page = (take(&mut message.page_size), take(&mut message.page_token));
        let paging = call.page(&mut violations, page, &message);
        let pb::ListInvitationsRequest {
            project,
            page_size: _,
            page_token: _,
        } = message;
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        call.authorise(project.as_ref()).await?;
        let project = finish(violations, project).map_err(Refusal::Invalid)?;
        let found = self.store.list_invitations(&project, &paging.request).await;
        let (invitations, next_page_token) = paging.write(found.map_err(Refusal::Store)?, write);
        Ok(Response::new(pb::ListInvitationsResponse {
            invitations,
            next_page_token,
        }))
    }

    pub(super) async fn uninvite(
        &self,
        request: Request<pb::RevokeInvitationRequest>,
    ) -> Answer<pb::RevokeInvitationResponse> {
        let (call, message) = Call::open(request)?;
        let pb::RevokeInvitationRequest {
            project,
            invitation_id,
            validate_only,
            request_id,
        } = message;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, &request_id, validate_only);
        let project: Option<key::Project> = key(&mut violations, "project", &project);
        call.authorise(project.as_ref()).await?;
        check::id(&mut violations, "invitation_id", &invitation_id, "an invitation");
        let project = finish(violations, project).map_err(Refusal::Invalid)?;
        let response = |written: &Written<Invitation>| pb::RevokeInvitationResponse {
            invitation: Some(write(&written.entity)),
            changed: written.changed,
        };
        let outcome = self
            .store
            .revoke_invitation(&mutation, &project, &invitation_id, recorded(response));
        answer(outcome.await.map_err(Refusal::Store)?, response)
    }
}

/// When an invitation is to end.
fn read_end(violations: &mut Violations, given: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    let now = Timestamp::now();
    let Some(given) = given else {
        return Some(now.saturating_add(LIFETIME).unwrap_or(Timestamp::MAX));
    };
    let end = read_timestamp(violations, "expire_time", given)?;
    if end <= now {
        violations.add("expire_time", "is in the past");
    } else if end.duration_since(now).unsigned_abs() > LONGEST {
        let description = format!("is more than {} days from now", limits::INVITATION_DAYS);
        violations.add("expire_time", description);
    }
    Some(end)
}

fn write(invitation: &Invitation) -> pb::Invitation {
    let Invitation {
        id,
        name,
        role,
        created_at,
        expires_at,
        revoked_at,
        accepted_at,
        accepted_by,
        created_by,
    } = invitation;
    pb::Invitation {
        id: id.clone(),
        name: name.clone(),
        role: write_role(*role).into(),
        create_time: Some(timestamp(*created_at)),
        expire_time: Some(timestamp(*expires_at)),
        revoke_time: revoked_at.map(timestamp),
        accept_time: accepted_at.map(timestamp),
        accepted_by: accepted_by.map(|user| user.to_string()).unwrap_or_default(),
        created_by: created_by.as_ref().map(Maker::to_string).unwrap_or_default(),
        created_by_name: created_by.as_ref().map(|maker| maker.name.clone()).unwrap_or_default(),
    }
}
