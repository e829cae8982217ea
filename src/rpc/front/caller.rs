//! Who is calling, as the services see it.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use http::Request;
use jiff::Timestamp;
use tonic::body::Body;
use uuid::Uuid;

use super::deadline::Deadline;
use crate::domain::access::{Directory, KeyKind, Permission, Principal, Term};
use crate::domain::change::{Digest, EnvironmentId};
use crate::domain::key;
use crate::rpc::Refusal;
use crate::rpc::methods::{Method, Needs};
use crate::watch::Hub;

/// The metadata with which a caller says why.
pub const REASON: &str = "x-halyard-reason";

/// An application, by its environment key.
#[derive(Debug, Clone)]
pub struct Application {
    /// The environment that its key opens.
    pub environment: EnvironmentId,
    /// What the key may do.
    pub kind: KeyKind,
    /// The key's id.
    pub key_id: Arc<str>,
    /// SHA-256 of the secret that was shown: a key that is being rotated has two.
    pub secret_hash: Digest,
    /// By when it must be answered.
    pub deadline: Deadline,
}

/// A person by an access token, or a machine by a service token.
#[derive(Clone)]
pub struct Caller {
    /// Whose credential it is.
    pub principal: Principal,
    /// The credential's id, for the audit log.
    pub credential: String,
    /// The login that the credential comes from. `None`: it comes from none of ours.
    pub session: Option<Uuid>,
    /// The method that is called.
    pub method: &'static Method,
    /// What access depends on, as of this request.
    pub directory: Arc<Directory>,
    /// The project that the request turned out to be about, should it be denied.
    pub(super) subject: Arc<OnceLock<key::Project>>,
    pub(super) hub: Arc<Hub>,
}

impl Caller {
    /// The account, where only a person may call.
    pub fn person(&self) -> Result<Uuid, Refusal> {
        match self.principal {
            Principal::User(id) => Ok(id),
            Principal::ServiceToken(_) => Err(Refusal::Denied),
        }
    }

    /// For people: an account's e-mail address, or a service token's name.
    pub fn name(&self) -> &str {
        match self.principal {
            Principal::User(id) => self.directory.users.get(&id).map_or("", |user| user.email.as_str()),
            Principal::ServiceToken(id) => self.directory.tokens.get(&id).map_or("", |token| token.name.as_str()),
        }
    }

    /// Whether the caller has a role in a project.
    pub(super) fn is_member(&self, project: &key::Project) -> bool {
        let standing = self.directory.standing(self.principal, Some(project));
        standing.is_some_and(|standing| standing.project.is_some())
    }

    /// Whether the caller manages the installation.
    pub fn is_administrator(&self) -> bool {
        self.may(&self.directory, Permission::ManageInstance, None)
    }

    /// Refuses unless the caller has what the method needs in this project. What this replica does not know of may have been
    /// granted a moment ago at another: before it refuses, the origin is asked once, together with all others who wait for that.
    pub async fn authorise(&self, project: Option<&key::Project>) -> Result<(), Refusal> {
        if let Some(project) = project {
            // A request is about one project.
            let _ = self.subject.set(project.clone());
        }
        let permission = match self.method.needs {
            Needs::Permission(permission) => permission,
            Needs::Nothing | Needs::MaybeUser | Needs::User | Needs::Principal | Needs::AnyKey | Needs::ServerKey => {
                return Ok(());
            }
        };
        if self.may(&self.directory, permission, project) {
            return Ok(());
        }
        let newest = self.hub.confirm_access().await?;
        if self.may(&newest, permission, project) {
            Ok(())
        } else {
            Err(Refusal::Denied)
        }
    }

    /// The same for what goes on for long, before each part of it: by what is known now, of the credential too.
    pub async fn authorise_again(&self, project: Option<&key::Project>) -> Result<(), Refusal> {
        if self.is_allowed(&self.hub.directory(), project).is_ok() {
            return Ok(());
        }
        // It may be newer than what this replica knows.
        let newest = self.hub.confirm_access().await?;
        self.is_allowed(&newest, project)
    }

    fn is_allowed(&self, directory: &Directory, project: Option<&key::Project>) -> Result<(), Refusal> {
        let is_valid = match self.principal {
            Principal::User(id) => {
                let is_revoked = |session| directory.revoked_sessions.contains(&session);
                directory.users.contains_key(&id) && !self.session.is_some_and(is_revoked)
            }
            Principal::ServiceToken(id) => {
                let token = directory.tokens.get(&id);
                token.is_some_and(|token| !Term::from(token.expires_at).is_over(Timestamp::now()))
            }
        };
        if !is_valid {
            return Err(Refusal::Unauthenticated);
        }
        match self.method.needs {
            Needs::Permission(permission) if !self.may(directory, permission, project) => Err(Refusal::Denied),
            Needs::Permission(_)
            | Needs::Nothing
            | Needs::MaybeUser
            | Needs::User
            | Needs::Principal
            | Needs::AnyKey
            | Needs::ServerKey => Ok(()),
        }
    }

    fn may(&self, directory: &Directory, permission: Permission, project: Option<&key::Project>) -> bool {
        let standing = directory.standing(self.principal, project);
        standing.is_some_and(|standing| permission.granted_to(standing))
    }
}

/// Where a connection comes from. In the extensions of every request. Written as the audit log keeps it: the network address, and
/// behind it whose certificate was verified.
#[derive(Debug, Clone, Default)]
pub struct Peer(Arc<Origin>);

#[derive(Debug, Default)]
struct Origin {
    /// `None`: it is a unix socket.
    address: Option<IpAddr>,
    /// Whose certificate was verified. `None`: none was shown.
    certificate: Option<String>,
    /// A request has begun on it.
    has_asked: AtomicBool,
    /// Streams without a credential that have one of its own places.
    own_streams: AtomicUsize,
}

/// One of the places that a connection has for itself, until it is dropped.
#[derive(Debug)]
pub(super) struct Own(Peer);

impl Drop for Own {
    fn drop(&mut self) {
        let Peer(origin) = &self.0;
        origin.own_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Peer {
    /// Of a connection that has just been made.
    pub fn new(address: Option<IpAddr>, certificate: Option<String>) -> Self {
        Self(Arc::new(Origin {
            address,
            certificate,
            has_asked: AtomicBool::new(false),
            own_streams: AtomicUsize::new(0),
        }))
    }

    /// Of a request; of nobody, where it came over no connection of ours.
    pub fn of(extensions: &http::Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// The network address. `None` on a unix socket.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.address
    }

    /// One of so many places that the connection has for itself. `None`: it has taken all.
    pub(super) fn own_stream(&self, most: usize) -> Option<Own> {
        let one_more = |taken| (taken < most).then_some(taken + 1);
        let Self(origin) = self;
        let taken = origin
            .own_streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Own(self.clone()))
    }

    /// Notes that a request has begun on the connection.
    pub fn asks(&self) {
        // Written once, so that requests on different threads do not take the line from each other.
        if !self.has_asked() {
            self.0.has_asked.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a request has begun on the connection.
    pub fn has_asked(&self) -> bool {
        self.0.has_asked.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.0.address.map(|address| address.to_string());
        let mut parts = address.iter().chain(&self.0.certificate);
        if let Some(first) = parts.next() {
            f.write_str(first)?;
        }
        parts.try_for_each(|part| write!(f, " {part}"))
    }
}

/// The caller's network address. `None` on a unix socket.
pub fn address<B>(request: &Request<B>) -> Option<IpAddr> {
    request.extensions().get::<Peer>().and_then(Peer::address)
}

/// Why the caller calls, as it says. Empty: it does not, or not in words.
pub fn reason(headers: &http::HeaderMap) -> &str {
    let reason = headers.get(REASON).and_then(|reason| reason.to_str().ok());
    reason.unwrap_or_default()
}

/// The credential of a request: the text behind `authorization: Bearer `.
pub fn bearer(request: &Request<Body>) -> Option<&str> {
    let header = request.headers().get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(credential)
}
