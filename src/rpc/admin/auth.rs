//! Logging in, and saying who one is. Accepting invitations is in [`accept`](super::accept).

use std::net::IpAddr;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;
use tonic::{Request, Response};
use uuid::Uuid;

use super::Call;
use super::roles::{write_instance_role, write_permissions, write_role};
use crate::auth::{jwt, password};
use crate::domain::access::{self, Principal, Role};
use crate::domain::email::Email;
use crate::domain::invalid::Violations;
use crate::domain::key;
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::auth_service_server::AuthService;
use crate::rpc::convert::common::timestamp;
use crate::rpc::{Answer, Refusal};
use crate::store::Store;
use crate::store::users::{self, LoginAttempt};

/// Passwords that are hashed at the same time: each takes a core for tens of milliseconds, and evaluations want the cores.
const HASHES: usize = 2;

/// The service.
pub struct Auth {
    pub(super) store: Store,
    tokens: Arc<jwt::Tokens>,
    hashing: Arc<Semaphore>,
}

impl Auth {
    /// Knows users from this store, and issues tokens.
    pub fn new(store: Store, tokens: Arc<jwt::Tokens>) -> Self {
        Self {
            store,
            tokens,
            hashing: Arc::new(Semaphore::new(HASHES)),
        }
    }

    /// Whether the password is right, in a time that does not tell whether there is such a user.
    async fn verify(&self, password: SecretString, stored: Option<String>) -> Result<bool, Refusal> {
        self.in_turn(move || password::verify(&password, stored.as_deref()))
            .await
    }

    /// Hashes a password that somebody chose.
    pub(super) async fn hash(&self, password: SecretString) -> Result<String, Refusal> {
        self.in_turn(move || password::hash(&password))
            .await?
            .map_err(super::unmade)
    }

    /// Does what takes a core for a while, when it is its turn.
    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let hashing = self.hashing.clone().acquire_owned().await;
        let hashing = hashing.map_err(|_| Refusal::Internal)?;
        let done = tokio::task::spawn_blocking(move || {
            let _hashing = hashing;
            work()
        });
        done.await.map_err(|_| Refusal::Internal)
    }
}

#[tonic::async_trait]
impl AuthService for Auth {
    async fn login(&self, request: Request<pb::LoginRequest>) -> Answer<pb::LoginResponse> {
        let peer = request
            .extensions()
            .get::<IpAddr>()
            .map(ToString::to_string)
            .unwrap_or_default();
        let pb::LoginRequest { email, password } = request.into_inner();
        let password = SecretString::from(password);
        let email = read(&email, &password).map_err(Refusal::Invalid)?;

        let known = self.store.find_for_login(&email).await.map_err(Refusal::Store)?;
        let hash = known
            .as_ref()
            .filter(|known| known.user.active)
            .and_then(|known| known.password_hash.clone());
        let accepted = self.verify(password, hash).await?;
        let user = known.map(|known| known.user);
        let attempt = LoginAttempt {
            user: user.as_ref(),
            accepted,
            peer,
        };
        self.store.record_login(&attempt).await.map_err(Refusal::Store)?;
        let user = user.filter(|_| accepted).ok_or(Refusal::Unauthenticated)?;

        let holder = jwt::Holder {
            user: user.id,
            session: Uuid::now_v7(),
            token: Uuid::now_v7(),
        };
        let issued = self.tokens.issue(holder, jiff::Timestamp::now()).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "a token could not be signed");
            Refusal::Internal
        })?;
        Ok(Response::new(pb::LoginResponse {
            access_token: issued.token.expose_secret().to_owned(),
            expire_time: Some(timestamp(issued.expires_at)),
            user: Some(write_stored_user(&user)),
        }))
    }

    async fn who_am_i(&self, request: Request<pb::WhoAmIRequest>) -> Answer<pb::WhoAmIResponse> {
        let (call, pb::WhoAmIRequest {}) = Call::open(request)?;
        let (principal, directory) = (call.caller.principal, &call.caller.directory);
        let (user, service_token_id, memberships) = match principal {
            Principal::User(id) => {
                let user = directory.users.get(&id).ok_or(Refusal::Unauthenticated)?;
                let memberships = user.memberships.iter().map(|(project, role)| (project, *role));
                (Some(write_user(id, user)), String::new(), memberships.collect())
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

fn read(email: &str, password: &SecretString) -> Result<Email, Violations> {
    let mut violations = Violations::new();
    let email = violations.take("email", Email::new(email));
    if password.expose_secret().is_empty() {
        violations.add("password", "is empty");
    }
    crate::rpc::convert::common::finish(violations, email)
}

/// Whoever is in the directory is active.
fn write_user(id: Uuid, user: &access::User) -> pb::User {
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
    }
}

pub(super) fn write_membership(project: &key::Project, role: Role) -> pb::Membership {
    pb::Membership {
        project: project.to_string(),
        role: write_role(role).into(),
    }
}

/// An account as the store has it.
pub(super) fn write_stored_user(user: &users::User) -> pb::User {
    let users::User {
        id,
        email,
        role,
        active,
        created_at,
    } = user;
    pb::User {
        id: id.to_string(),
        email: email.clone(),
        role: write_instance_role(*role).into(),
        active: *active,
        create_time: Some(timestamp(*created_at)),
    }
}
