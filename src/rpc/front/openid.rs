//! People who show a token of an OpenID Connect issuer.
//!
//! Who is known is let in from memory. The database is asked for who is not, and for whose token is newer than what was last
//! looked at and claims something else; while it is away, the known go on reading with the roles that they have.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::deadline::Deadline;
use super::spawn;
use crate::domain::access::Directory;
use crate::domain::identity::Presented;
use crate::issuer::{Issuer, Refused};
use crate::rpc::Refusal;
use crate::rpc::methods::Method;
use crate::store::{self, Store};
use crate::watch::Hub;

/// Lets an issuer's people in.
pub struct OpenId {
    issuer: Arc<Issuer>,
    store: Store,
    /// Where connections to the database live.
    administration: Handle,
}

/// From where is asked, and by when there must be an answer.
pub(super) struct Asked {
    pub peer: String,
    pub deadline: Deadline,
}

/// Somebody who was let in.
pub(super) struct Visitor {
    pub user: Uuid,
    pub credential: String,
    pub directory: Arc<Directory>,
}

impl OpenId {
    /// Lets this issuer's people in; their accounts are made in the store.
    pub fn new(issuer: Arc<Issuer>, store: Store, administration: Handle) -> Self {
        Self {
            issuer,
            store,
            administration,
        }
    }

    /// Whether a token says that the issuer made it.
    pub(super) fn is_meant(&self, token: &str) -> bool {
        self.issuer.is_meant(token)
    }

    /// Whose token it is, as of what is known now. To change something nobody goes on with roles that the token may have lost.
    pub(super) async fn admit(
        &self,
        token: &str,
        method: &Method,
        hub: &Hub,
        asked: Asked,
    ) -> Result<Visitor, Refusal> {
        let presented = self.issuer.verify(token, Timestamp::now()).await.map_err(refusal)?;
        let mut directory = hub.directory().clone();
        if !is_settled(&directory, &presented) {
            match self.catch_up(&presented, hub, asked).await {
                Ok(newer) => directory = newer,
                Err(refusal) if method.only_reads() && account(&directory, &presented).is_some() => note(&refusal),
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Visitor {
            user: account(&directory, &presented).ok_or(Refusal::Unauthenticated)?,
            credential: presented.audited_credential(),
            directory,
        })
    }

    /// What is known once everything is written that the token asks for.
    async fn catch_up(&self, presented: &Presented, hub: &Hub, asked: Asked) -> Result<Arc<Directory>, Refusal> {
        let Asked { peer, deadline } = asked;
        let newest = hub.confirm_access().await?;
        let inactive = newest.identities.contains_key(&presented.key) && account(&newest, presented).is_none();
        if inactive || is_settled(&newest, presented) {
            return Ok(newest);
        }
        let (store, presented) = (self.store.clone(), presented.clone());
        let work = async move { store.synchronise(&presented, Uuid::now_v7(), &peer).await };
        let work = store::deadline::by(deadline.instant(), work);
        // The runtime is shutting down, if there is no answer.
        let written = spawn(&self.administration, work)
            .await
            .map_err(|_| Refusal::database_away())?;
        written.map_err(Refusal::from)??;
        Ok(hub.confirm_access().await?)
    }
}

/// The active account that the token opens.
fn account(directory: &Directory, presented: &Presented) -> Option<Uuid> {
    let user = directory.identities.get(&presented.key)?.user;
    directory.users.contains_key(&user).then_some(user)
}

/// Whether nothing is to be written.
fn is_settled(directory: &Directory, presented: &Presented) -> bool {
    let identity = directory.identities.get(&presented.key);
    let user = identity.and_then(|identity| directory.users.get(&identity.user));
    let both = identity.zip(user);
    both.is_some_and(|(identity, user)| !identity.is_behind(presented, user, &directory.projects))
}

/// What a newer token claims cannot be written now: its bearer goes on with the roles that there are.
#[expect(clippy::wildcard_enum_match_arm, reason = "only the store says more")]
fn note(refusal: &Refusal) {
    let error = match refusal {
        Refusal::Store(error) => error.summary(),
        _ => "the database cannot be reached now".to_owned(),
    };
    tracing::warn!(error, "the roles that a token claims could not be written; next time");
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::Invalid(reason) => {
            tracing::debug!(
                reason = reason.name(),
                "a token of the OpenID Connect issuer was refused"
            );
            Refusal::Unauthenticated
        }
        Refused::Away => Refusal::issuer_away(),
    }
}
