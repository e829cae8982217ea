//! The administrative services. What they have in common is here: how a request is taken apart, and how a mutation is answered.

mod audit;
mod auth;
mod environments;
mod flags;
mod paging;
mod projects;
mod segments;

use std::net::IpAddr;

use prost::Message;
use tonic::{Request, Response};
use uuid::Uuid;

pub use audit::Audit;
pub use auth::Auth;
pub use environments::Environments;
pub use flags::Flags;
pub use projects::Projects;
pub use segments::Segments;

use self::paging::Paging;
use super::convert::common::PageSizes;
use super::front::{Caller, Deadline};
use super::{Answer, Refusal};
use crate::domain::change::{Digest, form_hash};
use crate::domain::invalid::Violations;
use crate::domain::{check, key, limits};
use crate::pb::admin::v1 as pb;
use crate::store::environments::Address;
use crate::store::{self, Actor, EnvironmentRevision, Mutation, Outcome, RequestId, Written};

/// The metadata with which a caller says why.
const REASON: &str = "x-halyard-reason";

/// A request, taken apart.
struct Call {
    caller: Caller,
    peer: Option<IpAddr>,
    reason: String,
    /// By when it must be answered.
    deadline: Deadline,
    /// Of the message, for telling a replay from another request with the same id.
    hash: Digest,
}

impl Call {
    /// Takes a request apart.
    fn open<M: Message>(request: Request<M>) -> Result<(Self, M), Refusal> {
        let caller = request
            .extensions()
            .get::<Caller>()
            .cloned()
            .ok_or(Refusal::Unauthenticated)?;
        let deadline = request.extensions().get::<Deadline>().copied().unwrap_or_default();
        let peer = request.extensions().get::<IpAddr>().copied();
        let reason = request.metadata().get(REASON).and_then(|reason| reason.to_str().ok());
        let reason = reason.unwrap_or_default().to_owned();
        let message = request.into_inner();
        let hash = form_hash(&message.encode_to_vec());
        let call = Self {
            caller,
            peer,
            reason,
            deadline,
            hash,
        };
        Ok((call, message))
    }

    /// Refuses unless the caller may call this method in the project that it names. A malformed key names no project, and the
    /// violation is told in due course.
    fn authorise(&self, project: Option<&key::Project>) -> Result<(), Refusal> {
        match project {
            Some(project) => self.caller.authorise(Some(project)),
            None => Ok(()),
        }
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
                actor: Actor::User(self.caller.user),
                name: self.caller.email().to_owned(),
                credential: self.caller.credential.clone(),
                peer: self.peer.map(|peer| peer.to_string()).unwrap_or_default(),
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
        Outcome::Replayed(stored) => R::decode(stored.as_slice()).map_err(|error| {
            tracing::error!(%error, "a stored response cannot be read");
            Refusal::Internal
        })?,
    };
    Ok(Response::new(response))
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
