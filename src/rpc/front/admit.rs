//! Whether a caller is let in: the credential against what this replica knows, in memory.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::Request;
use tonic::body::Body;
use uuid::Uuid;

use super::caller::{Application, Caller, Peer, bearer};
use super::deadline::Deadline;
use super::openid::{Asked, OpenId, Visitor};
use super::uses::Uses;
use crate::auth::{jwt, keys, service_tokens};
use crate::domain::access::{Directory, KeyKind, Principal, Term};
use crate::rpc::Refusal;
use crate::rpc::methods::{Method, Needs};
use crate::watch::Hub;

/// Lets callers in.
pub struct Authenticator {
    hub: Arc<Hub>,
    /// `None`: nobody administrates here.
    tokens: Option<Arc<jwt::Tokens>>,
    /// The key as which callers without a credential are let in. `None`: they are not.
    anonymous: Option<&'static str>,
    uses: Arc<Uses>,
    openid: Option<OpenId>,
}

/// Who was let in, for the log.
#[derive(Debug, Default)]
pub(super) struct Who {
    /// A person's account, or a service token.
    pub principal: Option<Principal>,
    /// An application's key, by its id.
    pub key: Option<Arc<str>>,
}

/// Whoever administrates, and the directory that knows them.
struct Admitted {
    principal: Principal,
    credential: String,
    session: Option<Uuid>,
    directory: Arc<Directory>,
}

impl From<Visitor> for Admitted {
    fn from(visitor: Visitor) -> Self {
        let Visitor {
            user,
            credential,
            directory,
        } = visitor;
        Self {
            principal: Principal::User(user),
            credential,
            session: None,
            directory,
        }
    }
}

/// What a credential turned out to be.
enum Verdict<T> {
    Known(T),
    /// Well formed, but nothing that this replica knows.
    Unknown,
    /// Wrong, whatever there is to know.
    Wrong,
}

impl Authenticator {
    /// Checks keys and service tokens against the hub's directory, access tokens with `tokens`.
    pub fn new(hub: Arc<Hub>, tokens: Arc<jwt::Tokens>) -> Self {
        Self {
            hub,
            tokens: Some(tokens),
            anonymous: None,
            uses: Arc::default(),
            openid: None,
        }
    }

    /// Checks keys against the hub's directory, and lets in nobody else; who shows no credential at all has the key `anonymous`, if
    /// there is one.
    pub fn for_applications(hub: Arc<Hub>, anonymous: Option<&'static str>) -> Self {
        Self {
            hub,
            tokens: None,
            anonymous,
            uses: Arc::default(),
            openid: None,
        }
    }

    /// Lets an issuer's people in too.
    #[must_use]
    pub fn with_openid(self, openid: Option<OpenId>) -> Self {
        Self { openid, ..self }
    }

    /// What it knows callers by.
    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Which keys and service tokens have let somebody in.
    pub fn uses(&self) -> Arc<Uses> {
        self.uses.clone()
    }

    /// Puts the caller into the request's extensions, or refuses.
    pub(super) async fn admit(
        &self,
        method: &'static Method,
        request: &mut Request<Body>,
        deadline: Deadline,
    ) -> Result<Who, Refusal> {
        match method.needs {
            Needs::Nothing => Ok(Who::default()),
            Needs::AnyKey => Ok(self.application(request, deadline).await?.1),
            Needs::ServerKey => match self.application(request, deadline).await? {
                (KeyKind::Server, who) => Ok(who),
                (KeyKind::Client, _) => Err(Refusal::Denied),
            },
            Needs::MaybeUser if !request.headers().contains_key(http::header::AUTHORIZATION) => Ok(Who::default()),
            Needs::MaybeUser | Needs::User => match self.administrator(method, request, deadline).await? {
                who @ Who {
                    principal: Some(Principal::User(_)),
                    key: _,
                } => Ok(who),
                Who { .. } => Err(Refusal::Denied),
            },
            Needs::Principal | Needs::Permission(_) => self.administrator(method, request, deadline).await,
        }
    }

    /// Whether the caller is known here, without asking anybody, by what is not public: client keys are.
    pub(super) fn trusts(&self, method: &'static Method, request: &mut Request<Body>) -> bool {
        if method.is_open() {
            return false;
        }
        let admitted = self.admit(method, request, Deadline::default()).now_or_never();
        let Some(Ok(Who { principal, key: _ })) = admitted else {
            return false;
        };
        let application = request.extensions().get::<Application>();
        principal.is_some() || application.is_some_and(|application| application.kind == KeyKind::Server)
    }

    async fn application(&self, request: &mut Request<Body>, deadline: Deadline) -> Result<(KeyKind, Who), Refusal> {
        if let Some(id) = self.anonymous
            && !request.headers().contains_key(http::header::AUTHORIZATION)
        {
            // It is in the directory as soon as there is a state that it could open.
            let anonymous = anonymous(id, &self.hub.directory()).ok_or_else(Refusal::not_loaded)?;
            return Ok(self.let_in(Application { deadline, ..anonymous }, request));
        }
        let known = {
            let presented = bearer(request).and_then(keys::parse).ok_or(Refusal::Unauthenticated)?;
            match application(&presented, &self.hub.directory()) {
                // Of a key that was rotated a moment ago at another replica, the new secret looks wrong here.
                Verdict::Unknown => application(&presented, &*self.newer().await?),
                verdict @ (Verdict::Known(_) | Verdict::Wrong) => verdict,
            }
        };
        let Verdict::Known(application) = known else {
            return Err(Refusal::Unauthenticated);
        };
        Ok(self.let_in(
            Application {
                deadline,
                ..application
            },
            request,
        ))
    }

    fn let_in(&self, application: Application, request: &mut Request<Body>) -> (KeyKind, Who) {
        self.uses.mark_key(&application.key_id);
        let (kind, key) = (application.kind, Some(application.key_id.clone()));
        request.extensions_mut().insert(application);
        (kind, Who { principal: None, key })
    }

    /// Lets in whoever administrates: a person or a service token.
    async fn administrator(
        &self,
        method: &'static Method,
        request: &mut Request<Body>,
        deadline: Deadline,
    ) -> Result<Who, Refusal> {
        let text = bearer(request).ok_or(Refusal::Unauthenticated)?;
        let Admitted {
            principal,
            credential,
            session,
            directory,
        } = if service_tokens::is_meant(text) {
            self.machine(text).await?
        } else if let Some(openid) = self.openid.as_ref().filter(|openid| openid.is_meant(text)) {
            let peer = Peer::of(request.extensions()).to_string();
            let asked = Asked { peer, deadline };
            // Boxed for the same reason as below.
            Box::pin(openid.admit(text, method, &self.hub, asked)).await?.into()
        } else {
            self.person(text).await?
        };
        request.extensions_mut().insert(Caller {
            principal,
            credential,
            session,
            method,
            directory,
            subject: Arc::default(),
            hub: self.hub.clone(),
        });
        Ok(Who {
            principal: Some(principal),
            key: None,
        })
    }

    async fn machine(&self, text: &str) -> Result<Admitted, Refusal> {
        let presented = service_tokens::parse(text).ok_or(Refusal::Unauthenticated)?;
        let mut directory = self.hub.directory().clone();
        if !directory.tokens.contains_key(&presented.id) {
            directory = self.newer().await?;
        }
        let token = directory.tokens.get(&presented.id).ok_or(Refusal::Unauthenticated)?;
        let expired = Term::from(token.expires_at).is_over(jiff::Timestamp::now());
        if expired || !service_tokens::verify(&presented.hash, &token.secret_hash) {
            return Err(Refusal::Unauthenticated);
        }
        self.uses.mark_token(presented.id);
        Ok(Admitted {
            principal: Principal::ServiceToken(presented.id),
            credential: presented.id.to_string(),
            session: None,
            directory,
        })
    }

    async fn person(&self, text: &str) -> Result<Admitted, Refusal> {
        let tokens = self.tokens.as_ref().ok_or(Refusal::Unauthenticated)?;
        let verified = tokens.verify(text, jiff::Timestamp::now()).map_err(|rejected| {
            tracing::debug!(reason = rejected.reason.name(), "an access token was refused");
            Refusal::Unauthenticated
        })?;
        let holder = verified.holder;
        let mut directory = self.hub.directory().clone();
        if !directory.users.contains_key(&holder.user) {
            directory = self.newer().await?;
        }
        if !directory.users.contains_key(&holder.user) || directory.revoked_sessions.contains(&holder.session) {
            return Err(Refusal::Unauthenticated);
        }
        Ok(Admitted {
            principal: Principal::User(holder.user),
            credential: holder.session.to_string(),
            session: Some(holder.session),
            directory,
        })
    }

    /// What access depends on, as of now. A credential made a moment ago at another replica is known then; and while the database
    /// is away nobody is told that a credential is wrong which may only be new, since clients take that as final.
    ///
    /// It is boxed because it is rare: every request would carry its size around.
    fn newer(&self) -> BoxFuture<'_, Result<Arc<Directory>, Refusal>> {
        Box::pin(async { Ok(self.hub.confirm_access().await?) })
    }
}

/// Whoever shows nothing.
fn anonymous(id: &str, directory: &Directory) -> Option<Application> {
    let (id, key) = directory.keys.get_key_value(id)?;
    Some(Application {
        environment: key.environment,
        kind: key.kind,
        key_id: id.clone(),
        secret_hash: key.secret_hash,
        deadline: Deadline::default(),
    })
}

fn application(presented: &keys::Presented<'_>, directory: &Directory) -> Verdict<Application> {
    let Some((id, key)) = directory.keys.get_key_value(presented.id) else {
        return Verdict::Unknown;
    };
    if key.kind != presented.kind {
        return Verdict::Wrong;
    }
    match keys::term(key, &presented.hash) {
        None => Verdict::Unknown,
        // Most keys are endless, and cost no look at the clock.
        Some(Term::Until(end)) if end <= jiff::Timestamp::now() => Verdict::Wrong,
        Some(Term::Until(_) | Term::Endless) => Verdict::Known(Application {
            environment: key.environment,
            kind: key.kind,
            key_id: id.clone(),
            secret_hash: presented.hash,
            deadline: Deadline::default(),
        }),
    }
}
