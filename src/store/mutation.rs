//! What every mutation is told, and what it answers.

use std::fmt;

use uuid::Uuid;

use super::feed::Hint;
use crate::domain::access::{Principal, TokenId};
use crate::domain::change::{Digest, EnvironmentId};
use crate::domain::check::Warning;
use crate::domain::key;

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A user; what it may do is read inside the transaction.
    User(Uuid),
    /// A machine, by its service token; what it may do is read inside the transaction.
    ServiceToken(TokenId),
    /// Someone with access to the machine, who may do anything.
    CommandLine,
    /// Halyard itself, which may do anything.
    System,
    /// Someone with a connection to the database, who edited rows by hand.
    Database,
}

impl From<Principal> for Actor {
    fn from(principal: Principal) -> Self {
        match principal {
            Principal::User(id) => Self::User(id),
            Principal::ServiceToken(id) => Self::ServiceToken(id),
        }
    }
}

impl fmt::Display for Actor {
    /// As it is stored: `user:<id>`, `token:<id>`, `command-line`, `system`, `database`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::ServiceToken(id) => write!(f, "token:{id}"),
            Self::CommandLine => f.write_str("command-line"),
            Self::System => f.write_str("system"),
            Self::Database => f.write_str("database"),
        }
    }
}

/// Who is calling, as the audit log has it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub actor: Actor,
    /// Who, for people: an e-mail address, or a service token's name. Empty: none.
    pub name: String,
    /// The id of the credential, never the credential. Empty: none.
    pub credential: String,
    /// The network address. Empty: none.
    pub peer: String,
    /// The reason given. Empty: none.
    pub reason: String,
}

/// What makes a mutation idempotent.
#[derive(Debug, Clone, Copy)]
pub struct RequestId {
    /// Chosen by the caller; scoped to the actor, kept 24 hours.
    pub id: Uuid,
    /// Of the request's content: the same id with other content is refused.
    pub hash: Digest,
}

/// What all mutations have in common.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// Who is calling.
    pub caller: Caller,
    /// The method, such as `halyard.admin.v1.FlagService/CreateFlag`: part of what a request id stands for.
    pub method: &'static str,
    /// `None`: not idempotent.
    pub request: Option<RequestId>,
    /// Check everything and write nothing.
    pub validate_only: bool,
}

/// What became of a mutation.
#[derive(Debug)]
pub enum Outcome<T> {
    /// It was carried out.
    Done(Written<T>),
    /// It was carried out before: the response that was stored then.
    Replayed(Vec<u8>),
}

/// The revision that a write made of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentRevision {
    /// Its key.
    pub environment: key::Environment,
    /// Its id.
    pub id: EnvironmentId,
    /// The revision.
    pub revision: u64,
}

/// What a write left behind.
#[derive(Debug, Clone)]
pub struct Written<T> {
    /// The entity after the write.
    pub entity: T,
    /// Every environment that has a new revision, in the order of their ids. None of a request that was only validated.
    pub revisions: Vec<EnvironmentRevision>,
    /// The new revision of the `access` head, if access depends on what was written.
    pub access_revision: Option<u64>,
    /// False: everything was so already, and nothing was written.
    pub changed: bool,
    /// What is odd about what was written, with paths as in the request.
    pub warnings: Vec<Warning>,
}

impl<T> Written<T> {
    /// Nothing was written.
    pub(super) fn unchanged(entity: T) -> Self {
        Self {
            entity,
            revisions: Vec::new(),
            access_revision: None,
            changed: false,
            warnings: Vec::new(),
        }
    }

    /// The same write, with what is made of its entity.
    pub(super) fn try_map<U, E>(self, map: impl FnOnce(T) -> Result<U, E>) -> Result<Written<U>, E> {
        Ok(Written {
            entity: map(self.entity)?,
            revisions: self.revisions,
            access_revision: self.access_revision,
            changed: self.changed,
            warnings: self.warnings,
        })
    }

    /// The same write, with what is odd about it.
    pub(super) fn with_warnings(self, warnings: Vec<Warning>) -> Self {
        Self { warnings, ..self }
    }

    /// What would have been written, once it is rolled back: its revisions and etags will be another write's.
    pub(super) fn unmade(mut self) -> Self
    where
        T: Versioned,
    {
        self.entity.forget_etag();
        Self {
            revisions: Vec::new(),
            access_revision: None,
            ..self
        }
    }

    /// What other replicas should look for.
    pub(super) fn hints(&self) -> impl Iterator<Item = Hint> {
        let environments = self.revisions.iter().map(|touched| Hint::Environment {
            id: touched.id,
            revision: touched.revision,
        });
        let access = self.access_revision.map(|revision| Hint::Access { revision });
        environments.chain(access)
    }
}

/// What a write answers with.
pub(super) trait Versioned {
    /// Empties the etags, where there are any.
    fn forget_etag(&mut self) {}
}

impl Versioned for () {}

impl<T: Versioned> Versioned for Vec<T> {
    fn forget_etag(&mut self) {
        self.iter_mut().for_each(Versioned::forget_etag);
    }
}

/// Sets a field that a patch names.
pub(super) fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}
