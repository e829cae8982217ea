//! Signing up, logging in and out, and saying who one is. Accepting invitations is in [`accept`](super::accept).

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Response};
use uuid::Uuid;

use super::Call;
use super::accounts::{Accounts, LoggedIn, Wanted};
use super::roles::{write_instance_role, write_permissions, write_role};
use super::users::write_user;
use crate::auth::password;
use crate::domain::access::{self, Principal, Role};
use crate::domain::email::Email;
use crate::domain::invalid::Violations;
use crate::domain::key;
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::auth_service_server::AuthService;
use crate::rpc::convert::common::{finish, timestamp};
use crate::rpc::front::Peer;
use crate::rpc::{Answer, Refusal};
use crate::store::sessions::PasswordChange;

/// The service.
pub struct Auth {
    pub(super) accounts: Arc<Accounts>,
}

impl Auth {
    /// Lets people in who have an account.
    pub fn new(accounts: Arc<Accounts>) -> Self {
        Self { accounts }
    }
}

#[tonic::async_trait]
impl AuthService for Auth {
    async fn sign_up(&self, request: Request<pb::SignUpRequest>) -> Answer<pb::SignUpResponse> {
        self.accounts.allow_sign_up()?;
        let peer = Peer::of(request.extensions());
        let pb::SignUpRequest {
            email,
            password,
            password_confirmation,
        } = request.into_inner();
        let (password, confirmation) = (SecretString::from(password), SecretString::from(password_confirmation));
        let mut violations = Violations::new();
        let email = violations.take("email", Email::new(&email));
        check_new(&mut violations, "password", email.as_ref(), &password);
        check_confirmation(&mut violations, &password, &confirmation);
        let email = finish(violations, email).map_err(Refusal::Invalid)?;
        self.accounts.sign_up(email, password, &peer).await?;
        Ok(Response::new(pb::SignUpResponse {}))
    }

    async fn login(&self, request: Request<pb::LoginRequest>) -> Answer<pb::LoginResponse> {
        let peer = Peer::of(request.extensions());
        let pb::LoginRequest {
            email,
            password,
            access_only,
        } = request.into_inner();
        let password = SecretString::from(password);
        let email = read(&email, &password)?;
        let wanted = if access_only {
            Wanted::AccessOnly
        } else {
            Wanted::Refreshable
        };
        let logged_in = self.accounts.login(&email, password, wanted, &peer).await?;
        let refresh_expire_time = logged_in.refresh.is_some().then_some(logged_in.session.expires_at);
        Ok(Response::new(pb::LoginResponse {
            access_token: logged_in.access.token.expose_secret().to_owned(),
            expire_time: Some(timestamp(logged_in.access.expires_at)),
            user: Some(write_user(&logged_in.session.user)),
            refresh_token: shown(logged_in.refresh.as_ref()),
            refresh_expire_time: refresh_expire_time.map(timestamp),
        }))
    }

    async fn refresh(&self, request: Request<pb::RefreshRequest>) -> Answer<pb::RefreshResponse> {
        let peer = Peer::of(request.extensions());
        let pb::RefreshRequest { refresh_token } = request.into_inner();
        let refresh_token = SecretString::from(refresh_token);
        if refresh_token.expose_secret().is_empty() {
            return Err(Refusal::Invalid(Violations::one("refresh_token", "is empty")).into());
        }
        let LoggedIn {
            session,
            access,
            refresh,
        } = self.accounts.refresh(refresh_token.expose_secret(), &peer).await?;
        Ok(Response::new(pb::RefreshResponse {
            access_token: access.token.expose_secret().to_owned(),
            expire_time: Some(timestamp(access.expires_at)),
            refresh_token: shown(refresh.as_ref()),
            refresh_expire_time: Some(timestamp(session.expires_at)),
        }))
    }

    async fn logout(&self, request: Request<pb::LogoutRequest>) -> Answer<pb::LogoutResponse> {
        let (call, pb::LogoutRequest {}) = Call::open(request)?;
        let session = call.caller.session.ok_or(Refusal::NoSession)?;
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, "", false);
        let mutation = violations.or(mutation).map_err(Refusal::Invalid)?;
        let closed = self.accounts.store.close_session(&mutation, session).await;
        Ok(Response::new(pb::LogoutResponse {
            changed: closed.map_err(Refusal::Store)?,
        }))
    }

    async fn change_password(&self, request: Request<pb::ChangePasswordRequest>) -> Answer<pb::ChangePasswordResponse> {
        let take = |message: &mut pb::ChangePasswordRequest| {
            [
                &mut message.current_password,
                &mut message.new_password,
                &mut message.password_confirmation,
            ]
            .map(|secret| SecretString::from(std::mem::take(secret)))
        };
        let (call, message, [current, new, confirmation]) = Call::open_without(request, take)?;
        let pb::ChangePasswordRequest {
            current_password: _,
            new_password: _,
            password_confirmation: _,
        } = message;
        let user = call.caller.person()?;
        let known = self.accounts.store.find_credentials(user).await;
        let known = known.map_err(Refusal::Store)?.ok_or(Refusal::Unauthenticated)?;
        if known.password_hash.is_none() {
            return Err(Refusal::NoPassword.into());
        }
        let mut violations = Violations::new();
        let mutation = call.mutation(&mut violations, "", false);
        if current.expose_secret().is_empty() {
            violations.add("current_password", "is empty");
        }
        let email = violations.take("email", Email::new(&known.user.email));
        check_new(&mut violations, "new_password", email.as_ref(), &new);
        check_confirmation(&mut violations, &new, &confirmation);
        let email = finish(violations, email).map_err(Refusal::Invalid)?;

        let wrong = || Refusal::Invalid(Violations::one("current_password", "is not the current password"));
        self.accounts.admit(&email, call.peer.address())?;
        let verified = self.accounts.verified(Some(&known), current).await?;
        let Some((user, verified_hash)) = verified else {
            self.accounts.refuse(Some(&known), call.peer.address());
            return Err(wrong().into());
        };
        let change = PasswordChange {
            user,
            verified_hash,
            new_hash: self.accounts.hashing.hash(new).await?,
            session: call.caller.session,
        };
        let changed = self.accounts.store.change_password(&mutation, &change).await;
        if !changed.map_err(Refusal::Store)? {
            return Err(wrong().into());
        }
        Ok(Response::new(pb::ChangePasswordResponse {}))
    }

    async fn who_am_i(&self, request: Request<pb::WhoAmIRequest>) -> Answer<pb::WhoAmIResponse> {
        let (call, pb::WhoAmIRequest {}) = Call::open(request)?;
        let (principal, directory) = (call.caller.principal, &call.caller.directory);
        let (user, service_token_id, memberships) = match principal {
            Principal::User(id) => {
                let user = directory.users.get(&id).ok_or(Refusal::Unauthenticated)?;
                let memberships = user.memberships.iter().map(|(project, role)| (project, *role));
                (Some(write_known(id, user)), String::new(), memberships.collect())
            }
            Principal::ServiceToken(id) => {
                let token = directory.tokens.get(&id).ok_or(Refusal::Unauthenticated)?;
                (None, id.to_string(), vec![(&token.project, token.role)])
            }
        };
        let permissions = |project| {
            let standing = directory.standing(principal, project);
            standing.map(write_permissions).unwrap_or_default()
        };
        let project_permissions = memberships.iter().map(|(project, _)| pb::ProjectPermissions {
            project: project.to_string(),
            permissions: permissions(Some(project)),
        });
        Ok(Response::new(pb::WhoAmIResponse {
            user,
            project_permissions: project_permissions.collect(),
            memberships: memberships
                .iter()
                .map(|(project, role)| write_membership(project, *role))
                .collect(),
            permissions: permissions(None),
            service_token_id,
        }))
    }

    async fn accept_invitation(
        &self,
        request: Request<pb::AcceptInvitationRequest>,
    ) -> Answer<pb::AcceptInvitationResponse> {
        self.accept(request).await
    }
}

fn read(email: &str, password: &SecretString) -> Result<Email, Refusal> {
    let mut violations = Violations::new();
    let email = violations.take("email", Email::new(email));
    if password.expose_secret().is_empty() {
        violations.add("password", "is empty");
    }
    finish(violations, email).map_err(Refusal::Invalid)
}

/// Checks a new password of an account, if its address can be read.
pub(super) fn check_new(violations: &mut Violations, field: &str, email: Option<&Email>, password: &SecretString) {
    if let Some(email) = email {
        violations.take(field, password::check_new(password, email));
    }
}

fn check_confirmation(violations: &mut Violations, password: &SecretString, confirmation: &SecretString) {
    if password.expose_secret() != confirmation.expose_secret() {
        violations.add("password_confirmation", "is not the same password");
    }
}

fn shown(token: Option<&SecretString>) -> String {
    token.map(|token| token.expose_secret().to_owned()).unwrap_or_default()
}

/// What this replica knows of a user. Whoever is in the directory is active.
fn write_known(id: Uuid, user: &access::User) -> pb::User {
    let access::User {
        email,
        role,
        created_at,
        memberships: _,
    } = user;
    pb::User {
        id: id.to_string(),
        email: email.clone(),
        role: write_instance_role(*role).into(),
        active: true,
        create_time: Some(timestamp(*created_at)),
        update_time: None,
        etag: String::new(),
        identities: Vec::new(),
    }
}

pub(super) fn write_membership(project: &key::Project, role: Role) -> pb::Membership {
    pb::Membership {
        project: project.to_string(),
        role: write_role(role).into(),
    }
}
