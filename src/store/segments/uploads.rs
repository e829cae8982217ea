//! Lists on their way: targeting keys put aside, piece by piece. No answer depends on them, so there is neither a revision nor an
//! audit entry until they are activated.

use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Row;
use uuid::Uuid;

use super::configurations;
use crate::domain::access::Permission;
use crate::domain::invalid::Violations;
use crate::domain::{key, limits};
use crate::store::environments::Address;
use crate::store::error::{Entity, Error};
use crate::store::lock::{self, Scope};
use crate::store::mutation::{Mutation, Outcome, Versioned, Written};
use crate::store::{Store, pipeline, rows};

/// How long an upload waits to be activated.
const LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// An upload that has not lived for a day. Whoever is putting a piece of it or activating it has it alone.
pub(super) const HOLD: &str = "
    select u.version, e.protected
    from segment_uploads u
    join projects p on p.id = u.project_id
    join environments e on e.id = u.environment_id
    where p.key = $1 and u.id = $2 and u.created_at > clock_timestamp() - interval '24 hours'
    for update of u";
const INSERT: &str = "
    insert into segment_uploads (id, project_id, environment_id, segment_id, created_at) values ($1, $2, $3, $4, $5)";
/// Of any project; those that someone is busy with are left to the next time.
const DROP_OLD: &str = "
    delete from segment_uploads where id in (
        select id from segment_uploads where created_at <= clock_timestamp() - interval '24 hours' for update skip locked)";
const OTHER_PIECES: &str = "
    select coalesce(sum(key_count), 0)::bigint as keys, coalesce(sum(key_bytes), 0)::bigint as bytes
    from segment_upload_pieces where upload_id = $1 and piece <> $2";
const PUT: &str = "
    with upload as (
        update segment_uploads set version = version + 1 where id = $1
    )
    insert into segment_upload_pieces (upload_id, piece, keys, key_count, key_bytes) values ($1, $2, $3, $4, $5)
    on conflict (upload_id, piece) do update
    set keys = excluded.keys, key_count = excluded.key_count, key_bytes = excluded.key_bytes";

/// An upload that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    /// Names it.
    pub id: Uuid,
    /// When it will be dropped.
    pub expires_at: Timestamp,
}

/// A piece of an upload.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Which one; one of the same number is replaced.
    pub number: u32,
    /// Targeting keys.
    pub keys: Vec<String>,
}

/// How many keys an upload has, those that are there again counted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutAside(pub u64);

impl Versioned for Upload {}
impl Versioned for PutAside {}

impl Store {
    /// Begins an upload, and drops those of all projects that have lived for a day.
    pub async fn create_segment_upload(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        segment: &key::Segment,
    ) -> Result<Outcome<Upload>, Error> {
        self.mutate(mutation, unanswered, async |transaction| {
            create(transaction, mutation, at, segment).await
        })
        .await
    }

    /// Puts a piece of an upload aside.
    pub async fn put_segment_keys(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        upload: Uuid,
        piece: Piece,
    ) -> Result<Outcome<PutAside>, Error> {
        check(&piece)?;
        self.mutate(mutation, unanswered, async |transaction| {
            put(transaction, mutation, project, upload, piece).await
        })
        .await
    }
}

/// These requests have no ids: to put a piece aside again changes nothing, and a second upload harms nobody.
fn unanswered<T>(_: &Written<T>) -> Vec<u8> {
    Vec::new()
}

async fn create(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    segment: &key::Segment,
) -> Result<Written<Upload>, Error> {
    let reads: [pipeline::Query<'_>; 1] = [(
        configurations::FIND,
        &[&at.project.as_str(), &at.environment.as_str(), &segment.as_str()],
    )];
    let (locked, [found]) = lock::acquire(transaction, &mutation.caller, Scope::Environment(at), reads).await?;
    locked.require_change()?;
    let environment = &locked.environment(at.environment)?.environment;
    let row = found
        .first()
        .ok_or_else(|| Error::not_found(Entity::Segment, segment))?;
    let (id, segment): (Uuid, i64) = (Uuid::new_v4(), rows::get(row, "id")?);
    let now = locked.now;
    let writes: [pipeline::Query<'_>; 2] = [
        (DROP_OLD, &[]),
        (INSERT, &[&id, &locked.project.id, &environment.id.0, &segment, &now]),
    ];
    pipeline::run(transaction, &writes).await?;
    let expires_at = now + LIFETIME;
    Ok(Written::unchanged(Upload { id, expires_at }))
}

async fn put(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    upload: Uuid,
    piece: Piece,
) -> Result<Written<PutAside>, Error> {
    let Piece { number, keys } = piece;
    let number = i32::try_from(number).unwrap_or(i32::MAX);
    let of = project.as_str();
    let reads: [pipeline::Query<'_>; 2] = [(HOLD, &[&of, &upload]), (OTHER_PIECES, &[&upload, &number])];
    // No lock but the upload's: megabytes on their way in must not keep anybody's change waiting.
    let needed = |found: &[Vec<Row>; 2]| permission(&found[0], upload);
    let [_, others] = lock::authorise(transaction, &mutation.caller, project, reads, needed).await?;
    let (other_keys, other_bytes) = match others.first() {
        Some(row) => (rows::number(row, "keys")?, rows::number(row, "bytes")?),
        None => (0, 0),
    };
    let bytes = keys.iter().map(String::len).sum::<usize>() as u64;
    let total = other_keys + keys.len() as u64;
    check_total(total, other_bytes + bytes)?;
    let (count, bytes) = (rows::to_sql(keys.len() as u64), rows::to_sql(bytes));
    pipeline::one(transaction, (PUT, &[&upload, &number, &keys, &count, &bytes])).await?;
    Ok(Written::unchanged(PutAside(total)))
}

/// What a caller needs to do anything with the upload in these rows.
fn permission(found: &[Row], upload: Uuid) -> Result<Permission, Error> {
    let row = found
        .first()
        .ok_or_else(|| Error::not_found(Entity::SegmentUpload, upload))?;
    Ok(if rows::get(row, "protected")? {
        Permission::ChangeProtected
    } else {
        Permission::Change
    })
}

/// Checks a piece by itself.
fn check(piece: &Piece) -> Result<(), Violations> {
    let Piece { number, keys } = piece;
    let mut violations = Violations::new();
    if *number as usize >= limits::SEGMENT_UPLOAD_PIECES {
        let last = limits::SEGMENT_UPLOAD_PIECES - 1;
        violations.add("piece", format!("is {number}; pieces are numbered from 0 to {last}"));
    }
    for (n, key) in keys.iter().enumerate() {
        if let Some(flaw) = flaw(key) {
            violations.add(format!("keys[{n}]"), flaw);
        }
    }
    violations.or(())
}

fn flaw(key: &str) -> Option<String> {
    if key.is_empty() {
        Some("is empty; nobody has an empty targeting key".to_owned())
    } else if key.len() > limits::TARGETING_KEY_BYTES {
        Some(format!("is longer than {} bytes", limits::TARGETING_KEY_BYTES))
    } else if key.contains('\0') {
        Some("holds a NUL character".to_owned())
    } else {
        None
    }
}

/// Checks what a list comes to.
pub(super) fn check_total(keys: u64, bytes: u64) -> Result<(), Violations> {
    let mut violations = Violations::new();
    let limit = limits::SEGMENT_KEYS as u64;
    if keys > limit {
        violations.add("keys", format!("would be {keys} in all; the limit is {limit}"));
    }
    let limit = limits::SEGMENT_LIST_BYTES as u64;
    if bytes > limit {
        violations.add("keys", format!("would have {bytes} bytes in all; the limit is {limit}"));
    }
    violations.or(())
}
