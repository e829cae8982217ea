//! Writing segments themselves, under the lock of the whole project: any environment may use them.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::chunks::chunk_number;
use super::configurations::{chunk_item, configuration_item};
use super::{FIND, NewSegment, Segment, SegmentPatch, SegmentRow, from_row};
use crate::domain::access::Permission;
use crate::domain::invalid::Violations;
use crate::domain::segment::Metadata;
use crate::domain::{check, key, limits};
use crate::store::audit::{self, Record};
use crate::store::error::{Entity, Error};
use crate::store::journal::{Item, Journal};
use crate::store::lock::{self, LockedEnvironment, Scope};
use crate::store::mutation::{Mutation, Written, set};
use crate::store::page::{check_etag, etag};
use crate::store::{pipeline, rows};

const COUNT: &str = "
    select count(*) as segments from segments s join projects p on p.id = s.project_id where p.key = $1";
const INSERT: &str = "
    insert into segments (project_id, key, name, description, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $5)
    returning id, version";
const UPDATE: &str = "
    update segments set name = $2, description = $3, version = $4, updated_at = $5 where id = $1";
const DELETE: &str = "delete from segments where id = $1";
const CONFIGURATIONS: &str = "
    select c.environment_id, c.version
    from segment_configurations c
    join segments s on s.id = c.segment_id
    join projects p on p.id = s.project_id
    where p.key = $1 and s.key = $2";
const CHUNKS: &str = "
    select c.environment_id, c.chunk, c.version
    from segment_key_chunks c
    join segments s on s.id = c.segment_id
    join projects p on p.id = s.project_id
    where p.key = $1 and s.key = $2
    order by c.environment_id, c.chunk";
/// One more than are named, to know whether there are more.
const USERS: &str = "
    select 'flag' as kind, f.key, e.key as environment
    from projects p
    join segments s on s.project_id = p.id
    join flag_segments u on u.segment_id = s.id
    join flags f on f.id = u.flag_id
    join environments e on e.id = u.environment_id
    where p.key = $1 and s.key = $2
    union all
    select 'segment', whole.key, e.key
    from projects p
    join segments s on s.project_id = p.id
    join segment_parts u on u.part_id = s.id
    join segments whole on whole.id = u.segment_id
    join environments e on e.id = u.environment_id
    where p.key = $1 and s.key = $2
    union all
    select 'experiment', x.key, e.key
    from projects p
    join segments s on s.project_id = p.id
    join experiment_segments u on u.segment_id = s.id
    join experiments x on x.id = u.experiment_id
    join environments e on e.id = u.environment_id
    where p.key = $1 and s.key = $2
    order by 1, 2, 3
    limit $3";

/// How many users of a segment are named to who wants to delete it.
const NAMED_USERS: usize = 20;

pub(super) async fn create(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    new: NewSegment,
) -> Result<Written<Segment>, Error> {
    let NewSegment { key, metadata } = new;
    let reads: [pipeline::Query<'_>; 2] = [
        (FIND, &[&project.as_str(), &key.as_str()]),
        (COUNT, &[&project.as_str()]),
    ];
    let (locked, [existing, counted]) =
        lock::acquire(transaction, &mutation.caller, Scope::Project(project), reads).await?;
    // Nobody can refer to it yet, so it alters no answer, not even a protected environment's.
    locked.require(Permission::Change)?;
    check_metadata(&metadata)?;
    if !existing.is_empty() {
        return Err(Error::AlreadyExists {
            entity: Entity::Segment,
            key: key.to_string(),
        });
    }
    let segments = counted.first().map(|row| rows::number(row, "segments")).transpose()?;
    if segments >= Some(limits::SEGMENTS as u64) {
        return Err(Error::LimitReached {
            entity: Entity::Segment,
            limit: limits::SEGMENTS,
        });
    }

    let (now, Metadata { name, description }) = (locked.now, &metadata);
    let insert: pipeline::Query<'_> = (INSERT, &[&locked.project.id, &key.as_str(), name, description, &now]);
    let row = pipeline::row(transaction, insert).await?;
    let segment = Segment {
        project: project.clone(),
        key,
        metadata,
        created_at: now,
        updated_at: now,
        etag: etag([rows::get(&row, "id")?, rows::get(&row, "version")?]),
    };
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("segment.create", None, Some(&segment))?);
    journal.write(transaction, &[], segment).await
}

pub(super) async fn update(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    segment: &key::Segment,
    patch: SegmentPatch,
    etag: &str,
) -> Result<Written<Segment>, Error> {
    let reads: [pipeline::Query<'_>; 1] = [(FIND, &[&project.as_str(), &segment.as_str()])];
    let (locked, [found]) = lock::acquire(transaction, &mutation.caller, Scope::Project(project), reads).await?;
    locked.require(Permission::Change)?;
    let before = one(&found, segment)?;
    check_etag(etag, &before.segment.etag, Entity::Segment, segment.as_str())?;
    let mut after = before.segment.clone();
    let SegmentPatch { name, description } = patch;
    set(&mut after.metadata.name, name);
    set(&mut after.metadata.description, description);
    check_metadata(&after.metadata)?;
    if after == before.segment {
        return Ok(Written::unchanged(after));
    }
    let (id, version, now) = (before.id, before.version + 1, locked.now);
    after.updated_at = now;
    after.etag = self::etag([id, version]);
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("segment.update", Some(&before.segment), Some(&after))?);
    let Metadata { name, description } = after.metadata.clone();
    let update: pipeline::Query<'_> = (UPDATE, &[&id, &name, &description, &version, &now]);
    journal.write(transaction, &[update], after).await
}

pub(super) async fn delete(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    segment: &key::Segment,
    etag: &str,
) -> Result<Written<Segment>, Error> {
    let (of, key) = (project.as_str(), segment.as_str());
    let limit = rows::to_sql(NAMED_USERS as u64 + 1);
    let reads: [pipeline::Query<'_>; 4] = [
        (FIND, &[&of, &key]),
        (USERS, &[&of, &key, &limit]),
        (CONFIGURATIONS, &[&of, &key]),
        (CHUNKS, &[&of, &key]),
    ];
    let (locked, [found, users, configurations, chunks]) =
        lock::acquire(transaction, &mutation.caller, Scope::Project(project), reads).await?;
    locked.require(Permission::Delete)?;
    let before = one(&found, segment)?;
    check_etag(etag, &before.segment.etag, Entity::Segment, key)?;
    refuse_use(segment, &users)?;
    let mut journal = Journal::new(mutation, &locked);
    for environment in &locked.environments {
        journal.change(environment, lost(environment, segment, &configurations, &chunks)?);
    }
    journal.record(record("segment.delete", Some(&before.segment), None)?);
    let delete: [pipeline::Query<'_>; 2] = [pipeline::LONG, (DELETE, &[&before.id])];
    journal.write(transaction, &delete, before.segment).await
}

fn one(found: &[Row], segment: &key::Segment) -> Result<SegmentRow, Error> {
    from_row(
        found
            .first()
            .ok_or_else(|| Error::not_found(Entity::Segment, segment))?,
    )
}

/// Refuses to delete what flags and segments use, saying which and where.
fn refuse_use(segment: &key::Segment, users: &[Row]) -> Result<(), Error> {
    if users.is_empty() {
        return Ok(());
    }
    let mut named = Vec::with_capacity(users.len());
    for row in users.iter().take(NAMED_USERS) {
        let (kind, key): (&str, &str) = (rows::get(row, "kind")?, rows::get(row, "key")?);
        let environment: &str = rows::get(row, "environment")?;
        named.push(format!("{kind} {key} in {environment}"));
    }
    if users.len() > NAMED_USERS {
        named.push("others".to_owned());
    }
    Err(Error::Blocked {
        entity: Entity::Segment,
        key: segment.to_string(),
        description: format!("is used by {}", named.join(", ")),
    })
}

/// The segment's items in an environment, deleted.
fn lost(
    environment: &LockedEnvironment,
    segment: &key::Segment,
    configurations: &[Row],
    chunks: &[Row],
) -> Result<Vec<Item>, Error> {
    let id = environment.environment.id;
    let mut items = Vec::new();
    for row in configurations {
        if rows::environment_id(row, "environment_id")? == id {
            items.push(configuration_item(segment, rows::number(row, "version")?, None));
        }
    }
    for row in chunks {
        if rows::environment_id(row, "environment_id")? == id {
            let chunk = chunk_number(row)?;
            items.push(chunk_item(segment, chunk, rows::number(row, "version")?, None));
        }
    }
    Ok(items)
}

fn check_metadata(metadata: &Metadata) -> Result<(), Violations> {
    let Metadata { name, description } = metadata;
    let mut violations = Violations::new();
    check::text(&mut violations, "segment.name", name, limits::NAME_CHARS);
    check::text(
        &mut violations,
        "segment.description",
        description,
        limits::DESCRIPTION_CHARS,
    );
    violations.or(())
}

fn record(action: &'static str, before: Option<&Segment>, after: Option<&Segment>) -> Result<Record, Error> {
    let segment = before.or(after);
    Ok(Record {
        action,
        entity: Entity::Segment,
        key: segment.map(|segment| segment.key.to_string()).unwrap_or_default(),
        project: segment.map(|segment| segment.project.to_string()).unwrap_or_default(),
        environment: String::new(),
        before: before.map(audit::json).transpose()?,
        after: after.map(audit::json).transpose()?,
    })
}
