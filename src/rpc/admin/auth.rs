//! Logging in, and saying who one is.

use std::net::IpAddr;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;
use tonic::{Request, Response};
use uuid::Uuid;

use super::Call;
use crate::auth::{jwt, password};
use crate::domain::access::{self, InstanceRole, Permission, Role, Standing};
use crate::domain::email::Email;
use crate::domain::invalid::Violations;
use crate::pb::admin::v1 as pb;
use crate::pb::admin::v1::auth_service_server::AuthService;
use crate::rpc::convert::common::timestamp;
use crate::rpc::{Answer, Refusal};
use crate::store::Store;
use crate::store::users::LoginAttempt;

/// Passwords that are hashed at the same time: each takes a core for tens of milliseconds, and evaluations want the cores.
const HASHES: usize = 2;

/// The service.
pub struct Auth {
    store: Store,
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
        let hashing = self
            .hashing
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Refusal::Internal)?;
        let verified = tokio::task::spawn_blocking(move || {
            let _hashing = hashing;
            password::verify(&password, stored.as_deref())
        });
        verified.await.map_err(|_| Refusal::Internal)
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
            user: Some(pb::User {
                id: user.id.to_string(),
                email: user.email,
                role: write_instance_role(user.role).into(),
                active: user.active,
                create_time: Some(timestamp(user.created_at)),
            }),
        }))
    }

    async fn who_am_i(&self, request: Request<pb::WhoAmIRequest>) -> Answer<pb::WhoAmIResponse> {
        let (call, pb::WhoAmIRequest {}) = Call::open(request)?;
        let id = call.caller.user;
        let user = call.caller.directory.users.get(&id).ok_or(Refusal::Unauthenticated)?;
        let memberships = user.memberships.iter().map(|(project, role)| pb::Membership {
            project: project.to_string(),
            role: write_role(*role).into(),
        });
        let project_permissions = user.memberships.keys().map(|project| pb::ProjectPermissions {
            project: project.to_string(),
            permissions: permissions(user.standing(Some(project))),
        });
        Ok(Response::new(pb::WhoAmIResponse {
            user: Some(write_user(id, user)),
            memberships: memberships.collect(),
            permissions: permissions(user.standing(None)),
            project_permissions: project_permissions.collect(),
        }))
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

fn permissions(standing: Standing) -> Vec<String> {
    let granted = Permission::ALL
        .into_iter()
        .filter(|permission| permission.granted_to(standing));
    let mut names: Vec<_> = granted.map(|permission| permission.name().to_owned()).collect();
    names.sort();
    names
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

fn write_instance_role(role: Option<InstanceRole>) -> pb::InstanceRole {
    match role {
        Some(InstanceRole::Administrator) => pb::InstanceRole::Administrator,
        None => pb::InstanceRole::Unspecified,
    }
}

fn write_role(role: Role) -> pb::ProjectRole {
    match role {
        Role::Owner => pb::ProjectRole::Owner,
        Role::Admin => pb::ProjectRole::Admin,
        Role::Developer => pb::ProjectRole::Developer,
        Role::Viewer => pb::ProjectRole::Viewer,
    }
}
