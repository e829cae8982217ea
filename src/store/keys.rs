//! Environment keys: the credentials of applications. The store knows the hash of a secret, never the secret.

use std::time::Duration;

use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::audit::{self, Record};
use super::environments::{Address, Environment};
use super::error::{Entity, Error};
use super::journal::Journal;
use super::lock::{self, Locked, Scope};
use super::mutation::{Mutation, Outcome, Versioned, Written};
use super::page::{Page, PageRequest};
use super::{Store, pipeline, rows};
use crate::domain::access::{KeyKind, Permission};
use crate::domain::change::Digest;
use crate::domain::invalid::Violations;
use crate::domain::{check, limits};

/// Creates keys of an environment; see [`Columns`].
pub(super) const INSERT: &str = "
    insert into environment_keys (id, environment_id, kind, name, secret_hash, created_at, expires_at)
    select k.id, $1::bigint, k.kind, k.name, k.secret_hash, $2::timestamptz, k.expires_at
    from unnest($3::text[], $4::text[], $5::text[], $6::bytea[], $7::timestamptz[])
        as k (id, kind, name, secret_hash, expires_at)";
const COUNT: &str = "
    select count(*) as live from environment_keys k
    join environments e on e.id = k.environment_id
    join projects p on p.id = e.project_id
    where p.key = $1 and e.key = $2 and k.revoked_at is null and (k.expires_at is null or k.expires_at > clock_timestamp())";
const FIND: &str = "
    select k.id, k.kind, k.name, k.created_at, k.expires_at, k.revoked_at, k.rotated_at, k.previous_expires_at, u.used_at
    from environment_keys k
    join environments e on e.id = k.environment_id
    join projects p on p.id = e.project_id
    left join credential_uses u on u.kind = 'key' and u.id = k.id
    where p.key = $1 and e.key = $2 and k.id = $3";
const LIST: &str = "
    select k.id, k.kind, k.name, k.created_at, k.expires_at, k.revoked_at, k.rotated_at, k.previous_expires_at, u.used_at
    from environment_keys k
    left join environment_keys a on a.environment_id = $1 and a.id = $2
    left join credential_uses u on u.kind = 'key' and u.id = k.id
    where k.environment_id = $1
        and ($2 = '' or k.created_at < a.created_at or (k.created_at = a.created_at and k.id > a.id))
    order by k.created_at desc, k.id limit $3";
const REVOKE: &str = "update environment_keys set revoked_at = $2 where id = $1";
const ROTATE: &str = "
    update environment_keys
    set previous_secret_hash = secret_hash, previous_expires_at = $3, secret_hash = $4, rotated_at = $2
    where id = $1";

/// The credential of an application, without its secret. What serialises is what audit entries keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Key {
    /// Names it; not secret.
    pub id: String,
    /// What it may do.
    #[serde(serialize_with = "kind_name")]
    pub kind: KeyKind,
    /// For people. Empty: none.
    pub name: String,
    /// When it was made.
    #[serde(skip)]
    pub created_at: Timestamp,
    /// When it stops working. `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked. `None`: it was not.
    pub revoked_at: Option<Timestamp>,
    /// When its secret was last replaced. `None`: never.
    pub rotated_at: Option<Timestamp>,
    /// Until when the secret before works. `None`: there was none.
    pub previous_expires_at: Option<Timestamp>,
    /// When it was last used, as far as replicas have told. `None`: never.
    #[serde(skip)]
    pub last_used_at: Option<Timestamp>,
}

/// Another secret for a key. What kind of key it is, and so how its secret is written, is known only once it is found: there is
/// one of each.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// SHA-256 of the secret, if it is a server key.
    pub server_hash: Digest,
    /// SHA-256 of the secret, if it is a client key.
    pub client_hash: Digest,
    /// How long the secret before works on.
    pub overlap: Duration,
}

/// A key to be.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Names it; not secret.
    pub id: String,
    /// What it may do.
    pub kind: KeyKind,
    /// For people. Empty: none.
    pub name: String,
    /// SHA-256 of its secret.
    pub secret_hash: Digest,
    /// When it stops working. `None`: never.
    pub expires_at: Option<Timestamp>,
}

impl Versioned for Key {}

impl Store {
    /// Makes a key.
    pub async fn create_key(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        new: NewKey,
        respond: impl FnOnce(&Written<Key>) -> Vec<u8>,
    ) -> Result<Outcome<Key>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            create(transaction, mutation, at, new).await
        })
        .await
    }

    /// Revokes a key. One that is revoked already stays as it is.
    pub async fn revoke_key(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        id: &str,
        respond: impl FnOnce(&Written<Key>) -> Vec<u8>,
    ) -> Result<Outcome<Key>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            revoke(transaction, mutation, at, id).await
        })
        .await
    }

    /// Gives a key another secret. The one before works on for the overlap; the one before that ends at once.
    pub async fn rotate_key(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        id: &str,
        rotation: &Rotation,
        respond: impl FnOnce(&Written<Key>) -> Vec<u8>,
    ) -> Result<Outcome<Key>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            rotate(transaction, mutation, at, id, rotation).await
        })
        .await
    }

    /// Lists an environment's keys, newest first, revoked and expired ones too.
    pub async fn list_keys(&self, at: Address<'_>, page: &PageRequest) -> Result<Page<Key>, Error> {
        let environment = self.get_environment(at).await?.id.0;
        let client = self.reader().await?;
        let found = pipeline::one(&*client, (LIST, &[&environment, &page.after, &page.limit()])).await?;
        let keys = found.iter().map(from_row).collect::<Result<_, _>>()?;
        Ok(page.page(keys, |key: &Key| key.id.clone()))
    }
}

/// Keys to be, column by column, as [`INSERT`] takes them.
pub(super) struct Columns<'a> {
    ids: Vec<&'a str>,
    kinds: Vec<&'static str>,
    names: Vec<&'a str>,
    secret_hashes: Vec<&'a [u8]>,
    expiries: Vec<Option<Timestamp>>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(keys: &'a [NewKey]) -> Self {
        Self {
            ids: keys.iter().map(|key| key.id.as_str()).collect(),
            kinds: keys.iter().map(|key| key.kind.name()).collect(),
            names: keys.iter().map(|key| key.name.as_str()).collect(),
            secret_hashes: keys.iter().map(|key| key.secret_hash.0.as_slice()).collect(),
            expiries: keys.iter().map(|key| key.expires_at).collect(),
        }
    }

    pub(super) fn parameters<'b>(&'b self, environment: &'b i64, now: &'b Timestamp) -> [&'b (dyn ToSql + Sync); 7] {
        let Self {
            ids,
            kinds,
            names,
            secret_hashes,
            expiries,
        } = self;
        [environment, now, ids, kinds, names, secret_hashes, expiries]
    }
}

/// The key that a new one becomes.
pub(super) fn made(new: &NewKey, now: Timestamp) -> Key {
    let NewKey {
        id,
        kind,
        name,
        secret_hash: _,
        expires_at,
    } = new;
    Key {
        id: id.clone(),
        kind: *kind,
        name: name.clone(),
        created_at: now,
        expires_at: expires_at.map(rows::kept),
        revoked_at: None,
        rotated_at: None,
        previous_expires_at: None,
        last_used_at: None,
    }
}

/// What the audit log says of a key.
pub(super) fn record(
    action: &'static str,
    environment: &Environment,
    before: Option<&Key>,
    after: Option<&Key>,
) -> Result<Record, Error> {
    Ok(Record {
        action,
        entity: Entity::Key,
        key: before.or(after).map(|key| key.id.clone()).unwrap_or_default(),
        project: environment.project.to_string(),
        environment: environment.key.to_string(),
        before: before.map(audit::json).transpose()?,
        after: after.map(audit::json).transpose()?,
    })
}

fn from_row(row: &Row) -> Result<Key, Error> {
    Ok(Key {
        id: rows::get(row, "id")?,
        kind: rows::named(row, "kind", KeyKind::from_name)?,
        name: rows::get(row, "name")?,
        created_at: rows::get(row, "created_at")?,
        expires_at: rows::get(row, "expires_at")?,
        revoked_at: rows::get(row, "revoked_at")?,
        rotated_at: rows::get(row, "rotated_at")?,
        previous_expires_at: rows::get(row, "previous_expires_at")?,
        last_used_at: rows::get(row, "used_at")?,
    })
}

async fn create(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    new: NewKey,
) -> Result<Written<Key>, Error> {
    let reads: [pipeline::Query<'_>; 1] = [(COUNT, &[&at.project.as_str(), &at.environment.as_str()])];
    let (locked, [counted]) = lock::acquire(transaction, &mutation.caller, Scope::Environment(at), reads).await?;
    locked.require(Permission::ManageEnvironments)?;
    let environment = &locked.environment(at.environment)?.environment;
    check_new(&new, locked.now)?;
    let live = counted.first().map(|row| rows::number(row, "live")).transpose()?;
    if live >= Some(limits::KEYS as u64) {
        return Err(Error::LimitReached {
            entity: Entity::Key,
            limit: limits::KEYS,
        });
    }
    let (id, key, now) = (environment.id.0, made(&new, locked.now), locked.now);
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("key.create", environment, None, Some(&key))?);
    journal.touch_access();
    let new = [new];
    let columns = Columns::of(&new);
    let written = journal
        .write(transaction, &[(INSERT, &columns.parameters(&id, &now))], key)
        .await;
    written.map_err(|error| error.about(columns.ids.first().copied().unwrap_or_default()))
}

/// Locks the environment, and finds one of its keys.
async fn hold(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    id: &str,
) -> Result<(Locked, Key), Error> {
    let reads: [pipeline::Query<'_>; 1] = [(FIND, &[&at.project.as_str(), &at.environment.as_str(), &id])];
    let (locked, [found]) = lock::acquire(transaction, &mutation.caller, Scope::Environment(at), reads).await?;
    locked.require(Permission::ManageEnvironments)?;
    locked.environment(at.environment)?;
    let key = from_row(found.first().ok_or_else(|| Error::not_found(Entity::Key, id))?)?;
    Ok((locked, key))
}

async fn rotate(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    id: &str,
    rotation: &Rotation,
) -> Result<Written<Key>, Error> {
    let (locked, before) = hold(transaction, mutation, at, id).await?;
    let environment = &locked.environment(at.environment)?.environment;
    let now = locked.now;
    let is_dead = if before.revoked_at.is_some() {
        Some("was revoked; create another key")
    } else {
        before
            .expires_at
            .is_some_and(|end| end <= now)
            .then_some("has expired; create another key")
    };
    if let Some(description) = is_dead {
        return Err(Error::blocked(Entity::Key, id, description));
    }
    let overlap = SignedDuration::try_from(rotation.overlap).unwrap_or(SignedDuration::MAX);
    let ends_at = rows::kept(now.saturating_add(overlap).unwrap_or(Timestamp::MAX));
    let after = Key {
        rotated_at: Some(now),
        previous_expires_at: Some(ends_at),
        ..before.clone()
    };
    let hash = match before.kind {
        KeyKind::Server => rotation.server_hash,
        KeyKind::Client => rotation.client_hash,
    };
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("key.rotate", environment, Some(&before), Some(&after))?);
    journal.touch_access();
    journal
        .write(
            transaction,
            &[(ROTATE, &[&id, &now, &ends_at, &hash.0.as_slice()])],
            after,
        )
        .await
}

async fn revoke(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    id: &str,
) -> Result<Written<Key>, Error> {
    let (locked, before) = hold(transaction, mutation, at, id).await?;
    let environment = &locked.environment(at.environment)?.environment;
    if before.revoked_at.is_some() {
        return Ok(Written::unchanged(before));
    }
    let after = Key {
        revoked_at: Some(locked.now),
        ..before.clone()
    };
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("key.revoke", environment, Some(&before), Some(&after))?);
    journal.touch_access();
    journal
        .write(transaction, &[(REVOKE, &[&id, &locked.now])], after)
        .await
}

/// Checks a key; paths are those of the request that makes one.
pub(super) fn check_new(new: &NewKey, now: Timestamp) -> Result<(), Violations> {
    let mut violations = Violations::new();
    check::text(&mut violations, "name", &new.name, limits::NAME_CHARS);
    if new.expires_at.is_some_and(|expiry| expiry <= now) {
        violations.add(
            "expire_time",
            "is in the past; leave it out for a key that never expires",
        );
    }
    violations.or(())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn kind_name<S: serde::Serializer>(kind: &KeyKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}
