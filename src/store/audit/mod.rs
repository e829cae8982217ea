//! The audit log: hash-chained entries, appended with what they are about, in the same transaction; read by whoever may
//! ([`read`]), and proved to be what was written ([`verify`]).

mod chains;
mod denials;
mod read;
mod verify;

use tokio_postgres::Row;
use uuid::Uuid;

use super::error::{Cause, Entity, Error};
use super::mutation::Mutation;
use super::rows;
use crate::domain::access::Role;
use crate::domain::audit::Entry;
use crate::domain::change::Digest;
pub use chains::{Chain, Which};
pub use denials::Denial;
pub use read::Filter;

/// The chain of what concerns no project.
pub const INSTANCE: &str = "instance";

/// Locks the installation's chain.
pub(super) const LOCK_INSTANCE: &str =
    "select chain, sequence, hash from audit_heads where chain = 'instance' for update";

/// Locks the chains of some projects, in the order of everyone who locks several.
pub(super) const LOCK_PROJECTS: &str = "
    select chain, sequence, hash from audit_heads
    where chain = any(select p::text from unnest($1::bigint[]) as p)
    order by chain
    for update";

/// Where a chain stands.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub chain: String,
    pub sequence: u64,
    pub hash: Digest,
}

/// What happened to what; who did it, and how, is the mutation's.
#[derive(Debug)]
pub(super) struct Record {
    /// Such as `flag.update`.
    pub action: &'static str,
    pub entity: Entity,
    pub key: String,
    /// The project's key. Empty: none.
    pub project: String,
    /// The environment's key. Empty: none.
    pub environment: String,
    /// JSON. `None`: it did not exist.
    pub before: Option<String>,
    /// JSON. `None`: it no longer exists.
    pub after: Option<String>,
}

/// An entry's place in its chain.
pub(super) struct Link {
    pub id: Uuid,
    pub sequence: u64,
    pub previous: Digest,
    pub hash: Digest,
}

impl Head {
    /// The beginning of a chain.
    pub(super) fn empty(chain: String) -> Self {
        Self {
            chain,
            sequence: 0,
            hash: Digest::default(),
        }
    }
}

/// Ties the records to the end of a chain.
pub(super) fn chain(mutation: &Mutation, head: &Head, at: jiff::Timestamp, records: &[Record]) -> Vec<Link> {
    let mut last = (head.sequence, head.hash);
    let links = records.iter().map(|record| {
        let entry = entry(mutation, at, record);
        let (sequence, previous) = (last.0 + 1, last.1);
        let hash = entry.hash(previous, sequence);
        last = (sequence, hash);
        Link {
            id: entry.id,
            sequence,
            previous,
            hash,
        }
    });
    links.collect()
}

fn entry(mutation: &Mutation, at: jiff::Timestamp, record: &Record) -> Entry {
    let caller = &mutation.caller;
    Entry {
        id: Uuid::now_v7(),
        at,
        actor: caller.actor.to_string(),
        actor_name: caller.name.clone(),
        credential: caller.credential.clone(),
        action: record.action.to_owned(),
        entity: record.entity.name().to_owned(),
        entity_key: record.key.clone(),
        project: record.project.clone(),
        environment: record.environment.clone(),
        before: record.before.clone(),
        after: record.after.clone(),
        request_id: mutation
            .request
            .as_ref()
            .map(|request| request.id.to_string())
            .unwrap_or_default(),
        peer: caller.peer.clone(),
        reason: caller.reason.clone(),
    }
}

pub(super) fn head_from_row(row: &Row) -> Result<Head, Error> {
    Ok(Head {
        chain: rows::get(row, "chain")?,
        sequence: rows::number(row, "sequence")?,
        hash: rows::digest(row, "hash")?,
    })
}

/// An entity as entries keep it.
pub(super) fn json<T: serde::Serialize>(entity: &T) -> Result<String, Error> {
    // No entry without its content: what cannot be audited is not done.
    serde_json::to_string(entity).map_err(|error| Error::Bug(Cause::Unserialisable(error)))
}

/// A role as entries keep it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
pub(super) fn role<S: serde::Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(role.name())
}

/// Anything that is written as a text.
pub(super) fn text<T: std::fmt::Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_is_an_error() {
        let keyed_by_lists = std::collections::HashMap::from([(vec![1], 1)]);
        assert!(matches!(
            json(&keyed_by_lists),
            Err(Error::Bug(Cause::Unserialisable(_)))
        ));
        assert!(matches!(json(&"text").as_deref(), Ok("\"text\"")));
    }
}
