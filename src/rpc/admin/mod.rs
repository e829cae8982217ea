//! The administrative services. What they have in common is here: how a request is taken apart, and how a mutation is answered.

mod accept;
pub mod accounts;
mod audit;
mod auth;
mod environments;
mod experiments;
mod flags;
mod invitations;
mod members;
mod paging;
mod projects;
mod roles;
mod segments;
mod service_tokens;
mod users;

use std::str::FromStr;

use prost::Message;
use tonic::{Request, Response};
use uuid::Uuid;

pub use audit::Audit;
pub use auth::Auth;
pub use environments::Environments;
pub use experiments::Experiments;
pub use flags::Flags;
pub use projects::Projects;
pub use segments::Segments;
pub use service_tokens::ServiceTokens;
pub use users::Users;

use self::paging::Paging;
use super::convert::common;
use super::convert::common::PageSizes;
use super::front::{self, Caller, Deadline, Peer, REASON};
use super::{Answer, Refusal};
use crate::domain::change::{Digest, form_hash};
use crate::domain::invalid::Violations;
use crate::domain::{check, key, limits};
use crate::pb::admin::v1 as pb;
use crate::store::environments::Address;
use crate::store::{self, Actor, EnvironmentRevision, Mutation, Outcome, RequestId, Store, Written};

/// A request, taken apart.
struct Call {
    caller: Caller,
    peer: Peer,
    reason: String,
    /// By when it must be answered.
    deadline: Deadline,
    /// Of the message, for telling a replay from another request with the same id.
    hash: Digest,
}

impl Call {
    /// Takes a request apart.
    fn open<M: Message>(request: Request<M>) -> Result<(Self, M), Refusal> {
        let (call, message, ()) = Self::open_without(request, |_| ())?;
        Ok((call, message))
    }

    /// Takes a request apart, and out of it first what must not be hashed: the hash is kept for a day, and so quickly computed that
    /// a password could be guessed from it.
    fn open_without<M: Message, S>(
        request: Request<M>,
        take: impl FnOnce(&mut M) -> S,
    ) -> Result<(Self, M, S), Refusal> {
        let caller = request
            .extensions()
            .get::<Caller>()
            .cloned()
            .ok_or(Refusal::Unauthenticated)?;
        let deadline = request.extensions().get::<Deadline>().copied().unwrap_or_default();
        let peer = Peer::of(request.extensions());
        let reason = front::reason(request.metadata().as_ref()).to_owned();
        let mut message = request.into_inner();
        let secrets = take(&mut message);
        let hash = form_hash(&message.encode_to_vec());
        let call = Self {
            caller,
            peer,
            reason,
            deadline,
            hash,
        };
        Ok((call, message, secrets))
    }

    /// Refuses unless the caller may call this method in the project that it names. A malformed key names no project, and the
    /// violation is told in due course.
    async fn authorise(&self, project: Option<&key::Project>) -> Result<(), Refusal> {
        match project {
            Some(project) => self.caller.authorise(Some(project)).await,
            None => Ok(()),
        }
    }

    /// The project and the key of one thing in it, as requests about that thing name them, if the caller may call this method
    /// there. `named` is the field of the key and its text.
    async fn one<K>(
        &self,
        mut violations: Violations,
        project: &str,
        named: (&str, &str),
    ) -> Result<(key::Project, K), Refusal>
    where
        K: FromStr<Err = Violations>,
    {
        let project = common::key(&mut violations, "project", project);
        let (field, text) = named;
        let key = common::key(&mut violations, field, text);
        self.authorise(project.as_ref()).await?;
        common::finish(violations, project.zip(key)).map_err(Refusal::Invalid)
    }

    /// The same of one thing in an environment.
    async fn one_at<K>(
        &self,
        mut violations: Violations,
        (project, environment): (&str, &str),
        named: (&str, &str),
    ) -> Result<(key::Project, key::Environment, K), Refusal>
    where
        K: FromStr<Err = Violations>,
    {
        let place = common::place(&mut violations, project, environment);
        self.authorise(place.as_ref().map(|(project, _)| project)).await?;
        let (field, text) = named;
        let key = common::key(&mut violations, field, text);
        let ((project, environment), key) = common::finish(violations, place.zip(key)).map_err(Refusal::Invalid)?;
        Ok((project, environment, key))
    }

    /// What a mutation of one thing as a whole is told, which ends with the request's id and whether it is only to be checked.
    async fn alter<K>(
        &self,
        project: &str,
        named: (&str, &str),
        (request_id, validate_only): (&str, bool),
    ) -> Result<(Mutation, key::Project, K), Refusal>
    where
        K: FromStr<Err = Violations>,
    {
        let mut violations = Violations::new();
        let mutation = self.mutation(&mut violations, request_id, validate_only);
        let (project, key) = self.one(violations, project, named).await?;
        Ok((mutation, project, key))
    }

    /// Which page of a list of entities a request asks for: `page` is its size and its token, taken out of `asked`.
    fn page<M: Message>(&self, violations: &mut Violations, page: (i32, String), asked: &M) -> Paging {
        self.page_of(PageSizes::ENTITIES, violations, page, asked)
    }

    /// The same of a list whose pages have other sizes.
    fn page_of<M: Message>(
        &self,
        sizes: PageSizes,
        violations: &mut Violations,
        page: (i32, String),
        asked: &M,
    ) -> Paging {
        Paging::read(violations, self.caller.method.path, sizes, page, asked)
    }

    /// What a request for a page of something in a project is told, if the caller may call this method there: see
    /// [`page`](Self::page).
    async fn page_in<M: Message>(
        &self,
        page: (i32, String),
        asked: &M,
        project: &str,
    ) -> Result<(key::Project, Paging), Refusal> {
        let mut violations = Violations::new();
        let paging = self.page(&mut violations, page, asked);
        let project: Option<key::Project> = common::key(&mut violations, "project", project);
        self.authorise(project.as_ref()).await?;
        let project = common::finish(violations, project).map_err(Refusal::Invalid)?;
        Ok((project, paging))
    }

    /// The same as [`authorise`](Self::authorise) for a request that may take away its own maker's rights: a replay of it is answered, whoever its maker is by now.
    async fn authorise_or_replay<R: Message + Default>(
        &self,
        project: Option<&key::Project>,
        store: &Store,
        mutation: &Mutation,
    ) -> Result<Option<Response<R>>, Refusal> {
        match self.authorise(project).await {
            Err(Refusal::Denied) => match store.replay(mutation).await? {
                Some(stored) => Ok(Some(Response::new(decode(&stored)?))),
                None => Err(Refusal::Denied),
            },
            allowed => allowed.map(|()| None),
        }
    }

    /// What the store is told of the caller, and of the request if it has an id.
    fn mutation(&self, violations: &mut Violations, request_id: &str, validate_only: bool) -> Mutation {
        check::text(violations, REASON, &self.reason, limits::REASON_CHARS);
        let id = (!request_id.is_empty()).then(|| Uuid::parse_str(request_id));
        let id = id.transpose().unwrap_or_else(|_| {
            violations.add("request_id", "is not a UUID");
            None
        });
        Mutation {
            caller: store::Caller {
                actor: Actor::from(self.caller.principal),
                name: self.caller.name().to_owned(),
                credential: self.caller.credential.clone(),
                peer: self.peer.to_string(),
                reason: self.reason.clone(),
            },
            method: self.caller.method.path,
            request: id.map(|id| RequestId { id, hash: self.hash }),
            validate_only,
        }
    }
}

/// What a replay will be answered.
fn recorded<T, R: Message>(response: impl FnOnce(&Written<T>) -> R) -> impl FnOnce(&Written<T>) -> Vec<u8> {
    move |written| response(written).encode_to_vec()
}

/// The answer to a mutation, or to its replay.
fn answer<T, R: Message + Default>(outcome: Outcome<T>, response: impl FnOnce(&Written<T>) -> R) -> Answer<R> {
    let response = match outcome {
        Outcome::Done(written) => response(&written),
        Outcome::Replayed(stored) => decode(&stored)?,
    };
    Ok(Response::new(response))
}

fn decode<R: Message + Default>(stored: &[u8]) -> Result<R, Refusal> {
    R::decode(stored).map_err(|error| {
        tracing::error!(%error, "a stored response cannot be read");
        Refusal::Internal
    })
}

/// A secret could not be made.
fn unmade(error: &crate::auth::Error) -> Refusal {
    tracing::error!(error = error as &dyn std::error::Error, "a secret could not be made");
    Refusal::Internal
}

fn write_revisions(revisions: &[EnvironmentRevision]) -> Vec<pb::EnvironmentRevision> {
    let write = |revision: &EnvironmentRevision| pb::EnvironmentRevision {
        environment: revision.environment.to_string(),
        revision: revision.revision,
    };
    revisions.iter().map(write).collect()
}

fn write_warning(warning: &check::Warning) -> pb::Warning {
    let check::Warning { field, description } = warning;
    pb::Warning {
        field: field.clone(),
        description: description.clone(),
    }
}

/// A name, or the key where none is given.
fn name_or<K: std::fmt::Display>(name: String, key: Option<&K>) -> String {
    if name.is_empty() {
        key.map(ToString::to_string).unwrap_or_default()
    } else {
        name
    }
}

/// Checks a name and a description.
fn texts(violations: &mut Violations, prefix: &str, name: &str, description: &str) {
    check::text(violations, &format!("{prefix}.name"), name, limits::NAME_CHARS);
    check::text(
        violations,
        &format!("{prefix}.description"),
        description,
        limits::DESCRIPTION_CHARS,
    );
}

/// An environment, as the store addresses it.
fn at<'a>(project: &'a key::Project, environment: &'a key::Environment) -> Address<'a> {
    Address { project, environment }
}
