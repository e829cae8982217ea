//! Whether a caller is let in: the credential against what this replica knows, in memory.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Request;
use tonic::body::Body;
use uuid::Uuid;

use super::caller::{Application, Caller, bearer};
use crate::auth::{jwt, keys};
use crate::domain::access::{Directory, KeyKind};
use crate::rpc::Refusal;
use crate::rpc::methods::{Method, Needs};
use crate::watch::Hub;

/// Lets callers in.
pub struct Authenticator {
    hub: Arc<Hub>,
    tokens: Arc<jwt::Tokens>,
}

/// Who was let in, for the log.
#[derive(Debug, Default)]
pub(super) struct Who {
    /// A person's account.
    pub user: Option<Uuid>,
    /// An application's key, by its id.
    pub key: Option<Arc<str>>,
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
    /// Checks environment keys against the hub's directory, access tokens with `tokens`.
    pub fn new(hub: Arc<Hub>, tokens: Arc<jwt::Tokens>) -> Self {
        Self { hub, tokens }
    }

    /// Puts the caller into the request's extensions, or refuses.
    pub(super) async fn admit(&self, method: &'static Method, request: &mut Request<Body>) -> Result<Who, Refusal> {
        match method.needs {
            Needs::Nothing => Ok(Who::default()),
            Needs::AnyKey => Ok(self.application(request).await?.1),
            Needs::ServerKey => match self.application(request).await? {
                (KeyKind::Server, who) => Ok(who),
                (KeyKind::Client, _) => Err(Refusal::Denied),
            },
            Needs::User | Needs::Permission(_) => self.person(method, request).await,
        }
    }

    async fn application(&self, request: &mut Request<Body>) -> Result<(KeyKind, Who), Refusal> {
        let known = {
            let presented = bearer(request).and_then(keys::parse).ok_or(Refusal::Unauthenticated)?;
            match application(&presented, &self.hub.directory()) {
                Verdict::Unknown => application(&presented, &*self.newer().await?),
                verdict @ (Verdict::Known(_) | Verdict::Wrong) => verdict,
            }
        };
        let Verdict::Known(application) = known else {
            return Err(Refusal::Unauthenticated);
        };
        let (kind, key) = (application.kind, Some(application.key_id.clone()));
        request.extensions_mut().insert(application);
        Ok((kind, Who { user: None, key }))
    }

    async fn person(&self, method: &'static Method, request: &mut Request<Body>) -> Result<Who, Refusal> {
        let token = bearer(request).ok_or(Refusal::Unauthenticated)?;
        let verified = self.tokens.verify(token, jiff::Timestamp::now()).map_err(|rejected| {
            tracing::debug!(reason = rejected.reason.name(), "an access token was refused");
            Refusal::Unauthenticated
        })?;
        let holder = verified.holder;
        let mut directory = self.hub.directory().clone();
        if !directory.users.contains_key(&holder.user) {
            directory = self.newer().await?;
        }
        if !directory.users.contains_key(&holder.user) {
            return Err(Refusal::Unauthenticated);
        }
        request.extensions_mut().insert(Caller {
            user: holder.user,
            credential: holder.session.to_string(),
            method,
            directory,
            subject: Arc::default(),
        });
        let user = Some(holder.user);
        Ok(Who { user, key: None })
    }

    /// What access depends on, as of now. A credential made a moment ago at another replica is known then; and while the database
    /// is away nobody is told that a credential is wrong which may only be new, since clients take that as final.
    ///
    /// It is boxed because it is rare: every request would carry its size around.
    fn newer(&self) -> BoxFuture<'_, Result<Arc<Directory>, Refusal>> {
        Box::pin(async { Ok(self.hub.confirm_access().await?) })
    }
}

fn application(presented: &keys::Presented<'_>, directory: &Directory) -> Verdict<Application> {
    let Some((id, key)) = directory.keys.get_key_value(presented.id) else {
        return Verdict::Unknown;
    };
    let expired = key.expires_at.is_some_and(|end| end <= jiff::Timestamp::now());
    if expired || key.kind != presented.kind || !keys::verify(&presented.hash, &key.secret_hash) {
        return Verdict::Wrong;
    }
    Verdict::Known(Application {
        environment: key.environment,
        kind: key.kind,
        key_id: id.clone(),
        expires_at: key.expires_at,
    })
}
