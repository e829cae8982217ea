//! Who is calling, as the services see it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use http::Request;
use tonic::body::Body;
use uuid::Uuid;

use crate::domain::access::{Directory, KeyKind, Permission};
use crate::domain::change::EnvironmentId;
use crate::domain::key;
use crate::rpc::Refusal;
use crate::rpc::methods::{Method, Needs};

/// An application, by its environment key.
#[derive(Debug, Clone)]
pub struct Application {
    /// The environment that its key opens.
    pub environment: EnvironmentId,
    /// What the key may do.
    pub kind: KeyKind,
    /// The key's id.
    pub key_id: Arc<str>,
    /// When the key stops working.
    pub expires_at: Option<jiff::Timestamp>,
}

/// A person, by an access token.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The account.
    pub user: Uuid,
    /// The credential's id, for the audit log.
    pub credential: String,
    /// The method that is called.
    pub method: &'static Method,
    /// What access depends on, as of this request.
    pub directory: Arc<Directory>,
    /// The project that the request turned out to be about, should it be denied.
    pub(super) subject: Arc<OnceLock<key::Project>>,
}

impl Caller {
    /// Whether the caller has a role in a project.
    pub(super) fn is_member(&self, project: &key::Project) -> bool {
        let user = self.directory.users.get(&self.user);
        user.is_some_and(|user| user.memberships.contains_key(project))
    }

    /// The account's e-mail address.
    pub fn email(&self) -> &str {
        self.directory
            .users
            .get(&self.user)
            .map_or("", |user| user.email.as_str())
    }

    /// Whether the caller manages the installation.
    pub fn is_administrator(&self) -> bool {
        self.may(Permission::ManageInstance, None)
    }

    /// Refuses unless the caller has what the method needs in this project.
    pub fn authorise(&self, project: Option<&key::Project>) -> Result<(), Refusal> {
        if let Some(project) = project {
            // A request is about one project.
            let _ = self.subject.set(project.clone());
        }
        match self.method.needs {
            Needs::Permission(permission) if !self.may(permission, project) => Err(Refusal::Denied),
            Needs::Permission(_) | Needs::Nothing | Needs::User | Needs::AnyKey | Needs::ServerKey => Ok(()),
        }
    }

    fn may(&self, permission: Permission, project: Option<&key::Project>) -> bool {
        let user = self.directory.users.get(&self.user);
        user.is_some_and(|user| permission.granted_to(user.standing(project)))
    }
}

/// The caller's network address. `None` on a unix socket.
pub fn peer<B>(request: &Request<B>) -> Option<IpAddr> {
    let connection = request.extensions().get::<tonic::transport::server::TcpConnectInfo>();
    connection
        .and_then(tonic::transport::server::TcpConnectInfo::remote_addr)
        .map(|address| address.ip())
}

/// The credential of a request: the text behind `authorization: Bearer `.
pub fn bearer(request: &Request<Body>) -> Option<&str> {
    let header = request.headers().get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(credential)
}
