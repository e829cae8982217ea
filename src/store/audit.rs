//! The audit log: hash-chained entries, appended with what they are about, in the same transaction.

use tokio_postgres::Row;
use uuid::Uuid;

use super::error::{Cause, Entity, Error};
use super::mutation::Mutation;
use super::{Store, pipeline, rows};
use crate::domain::access::Role;
use crate::domain::audit::Entry;
use crate::domain::change::Digest;

/// The chain of what concerns no project.
pub const INSTANCE: &str = "instance";

/// Entries read at a time when a chain is verified.
const BATCH: i64 = 1_000;
/// Locks the installation's chain.
pub(super) const LOCK_INSTANCE: &str =
    "select chain, sequence, hash from audit_heads where chain = 'instance' for update";
const HEAD: &str = "select chain, sequence, hash from audit_heads where chain = $1";
const ENTRIES: &str = "
    select sequence, id, at, actor, actor_name, credential, action, entity, entity_key, project, environment, before, after,
        request_id, peer, reason, previous_hash, hash
    from audit_entries where chain = $1 and sequence > $2 and sequence <= $3
    order by sequence limit $4";

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

/// What the verification of a chain found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every entry is as it was written, up to this head.
    Intact {
        /// How many entries there are.
        sequence: u64,
        /// The hash of the last, to compare with one kept elsewhere.
        hash: Digest,
    },
    /// The entry at this place is missing, was altered, or does not follow the one before; or the head is not that of the last
    /// entry, and this is where the next would be.
    Broken {
        /// The first such place.
        sequence: u64,
    },
}

impl Store {
    /// Recomputes a chain. `None`: there is no such chain. Entries appended meanwhile are not looked at.
    pub async fn verify_chain(&self, chain: &str) -> Result<Option<Verdict>, Error> {
        let client = self.reader().await?;
        let found = pipeline::one(&client, (HEAD, &[&chain])).await?;
        let Some(head) = found.first().map(head_from_row).transpose()? else {
            return Ok(None);
        };
        let mut last = (0, Digest::default());
        loop {
            let parameters = [rows::to_sql(last.0), rows::to_sql(head.sequence)];
            let query: pipeline::Query<'_> = (ENTRIES, &[&chain, &parameters[0], &parameters[1], &BATCH]);
            let entries = pipeline::one(&client, query).await?;
            if entries.is_empty() {
                break;
            }
            for row in &entries {
                match follow(last, row)? {
                    Some(next) => last = next,
                    None => return Ok(Some(Verdict::Broken { sequence: last.0 + 1 })),
                }
            }
        }
        let (sequence, hash) = last;
        Ok(Some(if (sequence, hash) == (head.sequence, head.hash) {
            Verdict::Intact { sequence, hash }
        } else {
            Verdict::Broken { sequence: sequence + 1 }
        }))
    }
}

/// The place and hash of the entry in a row, if it follows the last.
fn follow(last: (u64, Digest), row: &Row) -> Result<Option<(u64, Digest)>, Error> {
    let (sequence, previous) = (last.0 + 1, last.1);
    let hash = entry_from_row(row)?.hash(previous, sequence);
    let follows = rows::number(row, "sequence")? == sequence
        && rows::digest(row, "previous_hash")? == previous
        && rows::digest(row, "hash")? == hash;
    Ok(follows.then_some((sequence, hash)))
}

fn entry_from_row(row: &Row) -> Result<Entry, Error> {
    Ok(Entry {
        id: rows::get(row, "id")?,
        at: rows::get(row, "at")?,
        actor: rows::get(row, "actor")?,
        actor_name: rows::get(row, "actor_name")?,
        credential: rows::get(row, "credential")?,
        action: rows::get(row, "action")?,
        entity: rows::get(row, "entity")?,
        entity_key: rows::get(row, "entity_key")?,
        project: rows::get(row, "project")?,
        environment: rows::get(row, "environment")?,
        before: rows::get(row, "before")?,
        after: rows::get(row, "after")?,
        request_id: rows::get(row, "request_id")?,
        peer: rows::get(row, "peer")?,
        reason: rows::get(row, "reason")?,
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
