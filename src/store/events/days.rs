//! Days: which one events are received on, the partitions that hold them, and the end of those that are old.
//!
//! All of it is done by whichever replica comes first; the others find it done. No day begins and none ends by a clock of the database
//! that is far ahead of the replica's: what it would drop does not come back when the clock is set right.

use deadpool_postgres::{GenericClient, Transaction};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};
use tokio_postgres::IsolationLevel;

use crate::domain::event::{Event, Window, first_received_at};
use crate::store::error::{Cause, Error};
use crate::store::{Store, pipeline, rows};

/// Held shared by every transaction that writes events, and alone by the one that moves the day: "eventday" in ASCII.
pub(super) const GATE: i64 = 0x6576_656e_7464_6179;
/// Held by whoever makes or drops partitions: "eventprt" in ASCII.
const PARTITIONS: i64 = 0x6576_656e_7470_7274;

/// What is partitioned. Ids first, as everywhere: whoever locks them all takes them in this order.
const TABLES: [&str; 3] = [IDS, EXPOSURES, METRIC_EVENTS];
const IDS: &str = "event_ids";
const EXPOSURES: &str = "exposures";
const METRIC_EVENTS: &str = "metric_events";

/// How long a table that is to be dropped waits for those who read or write it, and lets others wait behind it. Not long: there is
/// a next time.
const DROP_PATIENCE: &str = "set local lock_timeout = '200ms'";
/// The same, once it should have been dropped a day ago.
const DROP_PATIENCE_OVERDUE: &str = "set local lock_timeout = '1s'";
/// How many days ahead of today there are partitions.
const AHEAD: i64 = 1;
/// By how many days the database's clock may be ahead of ours.
const LEAP: i64 = 2;

pub(super) const SHARE_GATE: &str = "select pg_advisory_xact_lock_shared($1)";
const LOCK: &str = "select pg_advisory_xact_lock($1)";
pub(super) const DAY: &str = "
    select day, ids_since, (clock_timestamp() at time zone 'utc')::date as today, clock_timestamp() as now from event_day";
const MOVE_DAY: &str = "update event_day set day = $1 where day < $1";
/// Noted with the first drop of a day: results from before lack some of their events.
const NOTE_DROP: &str = "update event_day set kept_since = $1 where kept_since is null or kept_since < $1";
/// The same of ids: whether events of before were counted cannot be told any more.
const NOTE_FORGOTTEN: &str = "update event_day set ids_since = $1 where ids_since is null or ids_since < $1";
const EXISTING: &str = "
    select parent.relname::text as parent, child.relname::text as child
    from pg_inherits i
    join pg_class parent on parent.oid = i.inhparent
    join pg_class child on child.oid = i.inhrelid
    where i.inhparent = any(array['event_ids'::regclass, 'exposures'::regclass, 'metric_events'::regclass]::oid[])";

/// How long events are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// For how long events are taken, and so ids remembered.
    pub window: Window,
    /// For how many days exposures and metric events are kept. `None`: for ever.
    pub days: Option<u16>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            window: Window::default(),
            days: Some(400),
        }
    }
}

impl Store {
    /// Makes the partitions of today and tomorrow, and drops those whose events are older than what is kept; returns how many were
    /// dropped. For a task that calls it now and then. What somebody is reading is dropped the next time.
    pub async fn keep_event_days(&self, kept: &Kept) -> Result<u64, Error> {
        let mut client = self.reader().await?;
        let today = make_partitions(&mut client).await?;
        let existing = existing(&*client).await?;
        let mut dropped = 0;
        for partition in existing {
            let days = match partition.parent {
                IDS => Some(i64::from(kept.window.remembered_days())),
                _ => kept.days.map(i64::from),
            };
            let oldest = days.map(|days| shifted(today, -days)).transpose()?;
            if oldest.is_some_and(|oldest| partition.day < oldest) {
                let name = partition.name();
                // One that is overdue was in somebody's hands each time: it is worth a longer wait.
                let overdue =
                    shifted(today, -days.unwrap_or_default() - 1).is_ok_and(|overdue| partition.day < overdue);
                let patience = if overdue { DROP_PATIENCE_OVERDUE } else { DROP_PATIENCE };
                if drop_partition(&mut client, partition, patience).await? {
                    dropped += 1;
                } else if overdue {
                    tracing::warn!(
                        partition = name,
                        "events beyond the retention are in use, and could not be dropped for a day"
                    );
                }
            }
        }
        Ok(dropped)
    }
}

/// Makes what is missing, and returns the day it is.
async fn make_partitions(client: &mut deadpool_postgres::Object) -> Result<Date, Error> {
    let transaction = begin(client).await?;
    let lock: pipeline::Query<'_> = (LOCK, &[&PARTITIONS]);
    let [_, days] = pipeline::all(&transaction, [lock, (DAY, &[])]).await?;
    let day = days.first().map(Day::read).ok_or(Error::Bug(Cause::NoRow))??;
    day.check_clock(Timestamp::now())?;
    let today = day.newest();
    make(&transaction, today).await?;
    transaction.commit().await?;
    Ok(today)
}

/// Moves the day to today, after everything that is being written to the one before.
pub(super) async fn advance(client: &mut deadpool_postgres::Object) -> Result<(), Error> {
    let transaction = begin(client).await?;
    let (gate, partitions): (pipeline::Query<'_>, pipeline::Query<'_>) = ((LOCK, &[&GATE]), (LOCK, &[&PARTITIONS]));
    let [_, _, days] = pipeline::all(&transaction, [gate, partitions, (DAY, &[])]).await?;
    let day = days.first().map(Day::read).ok_or(Error::Bug(Cause::NoRow))??;
    if day.is_over() {
        day.check_clock(Timestamp::now())?;
        make(&transaction, day.today).await?;
        pipeline::one(&transaction, (MOVE_DAY, &[&day.today])).await?;
        tracing::info!(day = %day.today, "events are received on a new day");
    }
    Ok(transaction.commit().await?)
}

/// The day that events are received on, and the one that it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Day {
    pub received_on: Date,
    /// Ids that were received before are forgotten. `None`: none are.
    ids_since: Option<Date>,
    today: Date,
    pub now: Timestamp,
}

impl Day {
    pub(super) fn read(row: &tokio_postgres::Row) -> Result<Self, Error> {
        Ok(Self {
            received_on: rows::get(row, "day")?,
            ids_since: rows::get(row, "ids_since")?,
            today: rows::get(row, "today")?,
            now: rows::get(row, "now")?,
        })
    }

    /// Whether events must be received on another day from now on. A clock that was set back changes nothing.
    pub(super) fn is_over(&self) -> bool {
        self.received_on < self.today
    }

    /// Whether an event may have been counted already, and its id be forgotten. Of one without a time nobody can tell.
    pub(super) fn may_have_forgotten(&self, event: &Event) -> bool {
        let first = event.occurred_at.map(|at| first_received_at(event.id, at));
        first.is_some_and(|first| self.ids_since.is_some_and(|since| first < since))
    }

    /// Refuses a clock of the database that is far ahead of ours: one of them is wrong.
    fn check_clock(&self, now: Timestamp) -> Result<(), Error> {
        let here = now.to_zoned(TimeZone::UTC).date();
        if self.today <= shifted(here, LEAP)? {
            return Ok(());
        }
        Err(Error::Unavailable(Cause::Clock {
            database: self.today,
            here,
        }))
    }

    fn newest(&self) -> Date {
        self.received_on.max(self.today)
    }
}

/// The first day that ids are looked up on.
pub(super) fn remembered_since(day: Date, window: Window) -> Result<Date, Error> {
    shifted(day, -i64::from(window.remembered_days()))
}

async fn begin(client: &mut deadpool_postgres::Object) -> Result<Transaction<'_>, Error> {
    let builder = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted);
    Ok(builder.start().await?)
}

/// A partition that there is.
#[derive(Debug, Clone, Copy)]
struct Partition {
    parent: &'static str,
    day: Date,
}

impl Partition {
    fn name(self) -> String {
        format!("{}_{}", self.parent, self.day.strftime("%Y%m%d"))
    }

    fn make(self) -> Result<String, Error> {
        let (Self { parent, day }, name, next) = (self, self.name(), shifted(self.day, 1)?);
        Ok(format!(
            "create table {name} (like {parent} including all);
             alter table {parent} attach partition {name} for values from ('{day}') to ('{next}');"
        ))
    }

    /// `None`: its name is none of ours. Somebody made it by hand, and knows what for.
    fn read(row: &tokio_postgres::Row) -> Result<Option<Self>, Error> {
        let (parent, child): (&str, &str) = (rows::get(row, "parent")?, rows::get(row, "child")?);
        let parent = TABLES.into_iter().find(|table| *table == parent);
        Ok(parent.and_then(|parent| {
            let day = child.strip_prefix(parent)?.strip_prefix('_')?;
            let day = Date::strptime("%Y%m%d", day).ok()?;
            Some(Self { parent, day })
        }))
    }
}

async fn existing(client: &impl GenericClient) -> Result<Vec<Partition>, Error> {
    let rows = pipeline::one(client, (EXISTING, &[])).await?;
    rows.iter().filter_map(|row| Partition::read(row).transpose()).collect()
}

/// Makes the partitions of a day and of the next. Attached, and not made as partitions, since that locks out nobody.
async fn make(transaction: &Transaction<'_>, today: Date) -> Result<(), Error> {
    let existing: Vec<_> = existing(transaction).await?.into_iter().map(Partition::name).collect();
    let mut missing = Vec::new();
    for ahead in 0..=AHEAD {
        let day = shifted(today, ahead)?;
        let partitions = TABLES.map(|parent| Partition { parent, day });
        missing.extend(
            partitions
                .into_iter()
                .filter(|partition| !existing.contains(&partition.name())),
        );
    }
    let statements = missing
        .into_iter()
        .map(Partition::make)
        .collect::<Result<String, _>>()?;
    if !statements.is_empty() {
        transaction.batch_execute(&statements).await?;
    }
    Ok(())
}

/// Drops one. False: somebody holds it, and it stays for now.
async fn drop_partition(
    client: &mut deadpool_postgres::Object,
    partition: Partition,
    patience: &'static str,
) -> Result<bool, Error> {
    let name = partition.name();
    let transaction = begin(client).await?;
    pipeline::one(&transaction, (patience, &[])).await?;
    let dropped = async {
        if partition.parent == IDS {
            // Whoever writes has read which ids there are.
            pipeline::one(&transaction, (LOCK, &[&GATE])).await?;
        }
        pipeline::one(&transaction, (LOCK, &[&PARTITIONS])).await?;
        transaction
            .batch_execute(&format!("drop table if exists {name}"))
            .await?;
        let note = match partition.parent {
            IDS => NOTE_FORGOTTEN,
            _ => NOTE_DROP,
        };
        let next = shifted(partition.day, 1)?;
        pipeline::one(&transaction, (note, &[&next])).await?;
        Ok::<_, Error>(())
    };
    match dropped.await {
        Ok(()) => {
            transaction.commit().await?;
            tracing::info!(partition = name, "events beyond the retention were dropped");
            Ok(true)
        }
        Err(Error::Timeout(_) | Error::Conflict(_)) => {
            transaction.rollback().await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn shifted(day: Date, by: i64) -> Result<Date, Error> {
    let span: Span = by.days();
    day.checked_add(span)
        .map_err(|_| rows::corrupt("day", crate::store::error::Flaw::Range))
}
