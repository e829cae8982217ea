//! Compaction: how far back streams may resume, and, where it is asked for, how far back there is history.
//!
//! The horizon (`compacted_revision`) follows the head of each environment. Moving it deletes nothing: it says what a replica that
//! starts need not read. Rows go only under a retention, and then only those that a newer one of the same item at or below the
//! floor (`history_revision`) has made superfluous: every state from the floor on can still be rebuilt. The floor never passes the
//! horizon, and is moved before anything goes, so that whoever reads history can tell by it whether what was read was whole.
//!
//! Each statement is a transaction of its own, bounded, and does its work only if no other replica is at it.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::error::Error;
use super::{Store, pipeline, rows};

/// Names the lock that lets one replica compact: "compact" in ASCII.
const TURN: i64 = 0x0063_6f6d_7061_6374;
/// How many revisions a statement looks at, at most.
const STEP: i64 = 10_000;
/// How many rows a statement deletes, at most.
const BATCH: i64 = 1_000;

/// Environments in which something may have to move, or, under a retention, may be left to be deleted.
const ENVIRONMENTS: &str = "
    select environment_id from environment_heads
    where compacted_revision < revision - $1 or $2
    order by environment_id";
/// Moves the horizon over what is older than the age, up to so many revisions before the head. A head that a write holds is passed
/// over: there is a next time.
const ADVANCE: &str = "
    with turn as materialized (
        select pg_try_advisory_xact_lock($1) as ours
    ), head as (
        select h.environment_id, h.revision, h.compacted_revision from environment_heads h, turn
        where turn.ours and h.environment_id = $2 for update of h skip locked
    ), looked as (
        select coalesce(
                min(c.revision) filter (where c.committed_at >= now() - make_interval(secs => $4)) - 1, max(c.revision)
            ) as horizon,
            count(*) = $5 as more
        from head cross join lateral (
            select revision, committed_at from changes
            where environment_id = head.environment_id and revision > head.compacted_revision
                and revision <= head.revision - $3
            order by revision limit $5
        ) c
    ), moved as (
        update environment_heads h set compacted_revision = looked.horizon from looked
        where h.environment_id = $2 and looked.horizon > h.compacted_revision
        returning h.compacted_revision
    )
    select turn.ours, (select count(*) from moved) as moved, looked.more from turn, looked";
/// Moves the floor over what is older than the retention, up to the horizon.
const RAISE: &str = "
    with turn as materialized (
        select pg_try_advisory_xact_lock($1) as ours
    ), head as (
        select h.environment_id, h.compacted_revision, h.history_revision from environment_heads h, turn
        where turn.ours and h.environment_id = $2 for update of h skip locked
    ), looked as (
        select coalesce(
                min(c.revision) filter (where c.committed_at >= now() - make_interval(secs => $3)) - 1, max(c.revision)
            ) as floor,
            count(*) = $4 as more
        from head cross join lateral (
            select revision, committed_at from changes
            where environment_id = head.environment_id and revision > head.history_revision
                and revision <= head.compacted_revision
            order by revision limit $4
        ) c
    ), moved as (
        update environment_heads h set history_revision = looked.floor from looked
        where h.environment_id = $2 and looked.floor > h.history_revision
        returning h.history_revision
    )
    select turn.ours, (select count(*) from moved) as moved, looked.more from turn, looked";
/// Deletes items that a newer one at or below the floor has replaced, from a revision on.
const DELETE_ITEMS: &str = "
    with turn as materialized (
        select pg_try_advisory_xact_lock($1) as ours
    ), gone as (
        select i.revision, i.kind, i.key
        from environment_heads h, turn, change_items i
        where turn.ours and h.environment_id = $2 and i.environment_id = $2
            and i.revision >= $3 and i.revision < h.history_revision
            and exists (
                select from change_items n
                where n.environment_id = $2 and n.kind = i.kind and n.key = i.key
                    and n.revision > i.revision and n.revision <= h.history_revision
            )
        order by i.revision limit $4
    ), deleted as (
        delete from change_items d using gone
        where d.environment_id = $2 and d.revision = gone.revision and d.kind = gone.kind and d.key = gone.key
        returning d.revision
    )
    select turn.ours, (select count(*) from deleted) as deleted, (select max(revision) from deleted) as last from turn";
/// Deletes revisions before the floor of which no item is left, from a revision on.
const DELETE_CHANGES: &str = "
    with turn as materialized (
        select pg_try_advisory_xact_lock($1) as ours
    ), gone as (
        select c.revision
        from environment_heads h, turn, changes c
        where turn.ours and h.environment_id = $2 and c.environment_id = $2
            and c.revision >= $3 and c.revision < h.history_revision
            and not exists (select from change_items i where i.environment_id = $2 and i.revision = c.revision)
        order by c.revision limit $4
    ), deleted as (
        delete from changes d using gone
        where d.environment_id = $2 and d.revision = gone.revision
        returning d.revision
    )
    select turn.ours, (select count(*) from deleted) as deleted, (select max(revision) from deleted) as last from turn";

/// What is kept. Whatever is kept by either of the first two is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// How many revisions streams may resume from, at least.
    pub revisions: u64,
    /// For how long a stream may resume from where it was, at least.
    pub age: Duration,
    /// How long history is kept, at least. `None`: for ever.
    pub history: Option<Duration>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// How often a horizon was moved.
    pub horizons: u64,
    /// How many rows of the change log were deleted.
    pub deleted: u64,
    /// Whether another replica was at it, so that not everything was looked at.
    pub passed: bool,
}

/// Another replica is at it.
struct Passed;

impl Default for Kept {
    fn default() -> Self {
        Self {
            revisions: 10_000,
            age: Duration::from_hours(24),
            history: None,
        }
    }
}

impl Store {
    /// Compacts every environment. For a task that calls it now and then; it can be stopped at any moment and goes on the next
    /// time.
    pub async fn compact(&self, kept: &Kept) -> Result<Compacted, Error> {
        let mut compacted = Compacted::default();
        let client = self.reader().await?;
        let environments: pipeline::Query<'_> =
            (ENVIRONMENTS, &[&rows::to_sql(kept.revisions), &kept.history.is_some()]);
        let environments = pipeline::one(&*client, environments).await?;
        // Not kept meanwhile: others may need a connection.
        drop(client);
        for row in environments {
            let environment: i64 = rows::get(&row, "environment_id")?;
            if let Err(Passed) = self.compact_one(environment, kept, &mut compacted).await? {
                compacted.passed = true;
                break;
            }
        }
        Ok(compacted)
    }

    async fn compact_one(
        &self,
        environment: i64,
        kept: &Kept,
        compacted: &mut Compacted,
    ) -> Result<Result<(), Passed>, Error> {
        let (revisions, age) = (rows::to_sql(kept.revisions), kept.age.as_secs_f64());
        let parameters: [&(dyn ToSql + Sync); 5] = [&TURN, &environment, &revisions, &age, &STEP];
        match self.step((ADVANCE, &parameters)).await? {
            Ok(moved) => compacted.horizons += moved,
            Err(Passed) => return Ok(Err(Passed)),
        }
        let Some(history) = kept.history else {
            return Ok(Ok(()));
        };
        let parameters: [&(dyn ToSql + Sync); 4] = [&TURN, &environment, &history.as_secs_f64(), &STEP];
        if let Err(Passed) = self.step((RAISE, &parameters)).await? {
            return Ok(Err(Passed));
        }
        for delete in [DELETE_ITEMS, DELETE_CHANGES] {
            let mut from = 0;
            loop {
                let parameters: [&(dyn ToSql + Sync); 4] = [&TURN, &environment, &from, &BATCH];
                let row = pipeline::row(&*self.reader().await?, (delete, &parameters)).await?;
                if !rows::get::<bool>(&row, "ours")? {
                    return Ok(Err(Passed));
                }
                let deleted = rows::number(&row, "deleted")?;
                compacted.deleted += deleted;
                match rows::get::<Option<i64>>(&row, "last")? {
                    Some(last) if deleted >= BATCH.unsigned_abs() => from = last,
                    Some(_) | None => break,
                }
            }
        }
        Ok(Ok(()))
    }

    /// Repeats a statement that moves something while there is more to look at, and returns how often it moved.
    async fn step(&self, query: pipeline::Query<'_>) -> Result<Result<u64, Passed>, Error> {
        let mut moved = 0;
        loop {
            let row = pipeline::row(&*self.reader().await?, query).await?;
            if !rows::get::<bool>(&row, "ours")? {
                return Ok(Err(Passed));
            }
            let now = rows::number(&row, "moved")?;
            moved += now;
            if now == 0 || !more(&row)? {
                return Ok(Ok(moved));
            }
        }
    }
}

fn more(row: &Row) -> Result<bool, Error> {
    Ok(rows::get::<Option<bool>>(row, "more")?.unwrap_or_default())
}
