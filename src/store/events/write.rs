//! One group of events in one transaction.

use std::collections::HashSet;
use std::pin::pin;

use deadpool_postgres::{Object, Transaction};
use jiff::Timestamp;
use jiff::civil::Date;
use tokio_postgres::IsolationLevel;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::catalogue::{Catalogue, Exposed, Missing};
use super::days::{self, Day};
use super::intake::Batch;
use super::numeric::Numeric;
use crate::domain::access::KeyKind;
use crate::domain::change::EnvironmentId;
use crate::domain::decimal::Decimal;
use crate::domain::event::{Event, Exposure, Measure, Measurement, Outcome, Subject, Window, first_received};
use crate::domain::experiment::stored_unit;
use crate::store::error::{Cause, Error};
use crate::store::{pipeline, rows};

/// Notes the ids that are new. What another transaction is noting at the same moment is waited for, always in one order. The days
/// before are asked one id at a time, each by its index: a join might be planned to read all of them, since a day's statistics are
/// those of its beginning.
const CLAIM: &str = "
    insert into event_ids (day, environment_id, id)
    select $1::date, given.environment_id, given.id
    from unnest($2::bigint[], $3::uuid[], $4::date[]) as given (environment_id, id, since)
    where given.since >= $1 or (
        select true from event_ids known
        where known.environment_id = given.environment_id and known.id = given.id
            and known.day >= given.since and known.day < $1
        limit 1
    ) is null
    order by given.environment_id, given.id
    on conflict do nothing
    returning environment_id, id";
const COPY_EXPOSURES: &str = "
    copy exposures (day, experiment_id, iteration, counts, received_at, occurred_at, arm, unit) from stdin (format binary)";
const EXPOSURES: &[Type] = &[
    Type::DATE,
    Type::INT8,
    Type::INT4,
    Type::BOOL,
    Type::TIMESTAMPTZ,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::TEXT,
];
const COPY_METRIC_EVENTS: &str = "
    copy metric_events (day, environment_id, measure, received_at, occurred_at, value, metric, attribute, unit)
    from stdin (format binary)";
const METRIC_EVENTS: &[Type] = &[
    Type::DATE,
    Type::INT8,
    Type::INT2,
    Type::TIMESTAMPTZ,
    Type::TIMESTAMPTZ,
    Type::NUMERIC,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
];

/// How often a transaction begins anew because the day is over: once, unless somebody plays with the clock.
const DAYS: usize = 3;

/// An event of a group, and what becomes of it.
struct Entry<'a> {
    environment: EnvironmentId,
    key: KeyKind,
    event: &'a Event,
    occurred_at: Timestamp,
    fate: Result<Row<'a>, Outcome>,
}

/// Where an event goes.
#[derive(Clone, Copy)]
enum Row<'a> {
    Exposure(&'a Exposure, Exposed),
    Metric(&'a Measurement),
}

/// Writes batches in one transaction, and says of each event what became of it, batch by batch. An error: nothing of them was
/// written, unless PostgreSQL went away in the middle of the commit.
pub(super) async fn write(
    client: &mut Object,
    catalogue: &mut Catalogue,
    window: Window,
    batches: &[&Batch],
) -> Result<Vec<Vec<Outcome>>, Error> {
    let mut entries: Vec<Entry<'_>> = batches.iter().copied().flat_map(entries).collect();
    resolve(client, catalogue, &mut entries).await?;
    drop_repeated(&mut entries);
    if entries.iter().any(|entry| entry.fate.is_ok()) {
        store(client, window, &mut entries).await?;
    }
    let mut outcomes = entries.into_iter().map(|entry| match entry.fate {
        Ok(Row::Exposure(_, Exposed { counts: false, .. })) => Outcome::Excluded,
        Ok(Row::Exposure(..) | Row::Metric(_)) => Outcome::Accepted,
        Err(outcome) => outcome,
    });
    Ok(batches
        .iter()
        .map(|batch| outcomes.by_ref().take(batch.events.len()).collect())
        .collect())
}

fn entries(batch: &Batch) -> impl Iterator<Item = Entry<'_>> {
    batch.events.iter().map(|(event, occurred_at)| Entry {
        environment: batch.environment,
        key: batch.key,
        event,
        occurred_at: *occurred_at,
        // Until it is found.
        fate: Err(Outcome::Malformed),
    })
}

/// Finds what the events name. What is not known is looked for again: it may be a moment old.
async fn resolve(client: &Object, catalogue: &mut Catalogue, entries: &mut [Entry<'_>]) -> Result<(), Error> {
    let mut environments: Vec<_> = entries.iter().map(|entry| entry.environment).collect();
    environments.sort_unstable();
    environments.dedup();
    catalogue.refresh(client, &environments).await?;
    find(catalogue, entries);
    let mut missing = Missing::default();
    for entry in entries.iter().filter(|entry| entry.fate.is_err()) {
        missing.add(entry.environment, entry.event);
    }
    if !missing.is_empty() {
        catalogue.look_for(client, &missing).await?;
        find(catalogue, entries);
    }
    Ok(())
}

/// Finds what was not found so far.
fn find(catalogue: &Catalogue, entries: &mut [Entry<'_>]) {
    for Entry {
        environment,
        key,
        event,
        occurred_at: _,
        fate,
    } in entries.iter_mut().filter(|entry| entry.fate.is_err())
    {
        *fate = match &event.subject {
            Subject::Exposure(exposure) => {
                let exposed = catalogue.exposure(*environment, *key, exposure);
                exposed.map(|exposed| Row::Exposure(exposure, exposed))
            }
            Subject::Metric(measurement) => {
                let known = catalogue.measurement(*environment, measurement);
                known.map(|()| Row::Metric(measurement))
            }
        };
    }
}

/// Of several events with one id the first counts.
fn drop_repeated(entries: &mut [Entry<'_>]) {
    let mut seen = HashSet::with_capacity(entries.len());
    for entry in entries.iter_mut().filter(|entry| entry.fate.is_ok()) {
        if !seen.insert((entry.environment, entry.event.id)) {
            entry.fate = Err(Outcome::Duplicate);
        }
    }
}

async fn store(client: &mut Object, window: Window, entries: &mut [Entry<'_>]) -> Result<(), Error> {
    for _ in 0..DAYS {
        let builder = client
            .build_transaction()
            .isolation_level(IsolationLevel::ReadCommitted);
        let transaction = builder.start().await?;
        let gate: pipeline::Query<'_> = (days::SHARE_GATE, &[&days::GATE]);
        // Each statement sees what was committed before the gate opened.
        let [_, day] = pipeline::all(&transaction, [gate, (days::DAY, &[])]).await?;
        let day = day.first().map(Day::read).ok_or(Error::Bug(Cause::NoRow))??;
        if day.is_over() {
            transaction.rollback().await?;
            days::advance(client).await?;
            continue;
        }
        refuse_forgotten(&day, entries);
        claim(&transaction, day.received_on, window, entries).await?;
        copy(&transaction, &day, entries).await?;
        return Ok(transaction.commit().await?);
    }
    Err(Error::Unavailable(Cause::NoRow))
}

/// Marks the events that may have been counted when ids were kept that are gone. Within the window there are none, unless somebody
/// has a shorter one, or this one was.
fn refuse_forgotten(day: &Day, entries: &mut [Entry<'_>]) {
    for entry in entries.iter_mut().filter(|entry| entry.fate.is_ok()) {
        if day.may_have_forgotten(entry.event) {
            entry.fate = Err(Outcome::Late);
        }
    }
}

/// Marks the events whose ids were there before.
async fn claim(
    transaction: &Transaction<'_>,
    day: Date,
    window: Window,
    entries: &mut [Entry<'_>],
) -> Result<(), Error> {
    let claimed = || entries.iter().filter(|entry| entry.fate.is_ok());
    let environments: Vec<i64> = claimed().map(|entry| entry.environment.0).collect();
    let ids: Vec<Uuid> = claimed().map(|entry| entry.event.id).collect();
    let remembered = days::remembered_since(day, window)?;
    // Most ids tell that they are of today: nothing before has to be searched for them.
    let since = |entry: &Entry<'_>| first_received(entry.event.id).map_or(remembered, |first| first.max(remembered));
    let since: Vec<Date> = claimed().map(since).collect();
    let parameters: [&(dyn ToSql + Sync); 4] = [&day, &environments, &ids, &since];
    let fresh = pipeline::one(transaction, (CLAIM, &parameters)).await?;
    if fresh.len() == ids.len() {
        return Ok(());
    }
    let mut new = HashSet::with_capacity(fresh.len());
    for row in &fresh {
        new.insert((
            rows::environment_id(row, "environment_id")?,
            rows::get::<Uuid>(row, "id")?,
        ));
    }
    for entry in entries.iter_mut().filter(|entry| entry.fate.is_ok()) {
        if !new.contains(&(entry.environment, entry.event.id)) {
            entry.fate = Err(Outcome::Duplicate);
        }
    }
    Ok(())
}

async fn copy(transaction: &Transaction<'_>, day: &Day, entries: &[Entry<'_>]) -> Result<(), Error> {
    let (date, now) = (day.received_on, day.now);
    let exposures = || {
        entries.iter().filter_map(|entry| match entry.fate {
            Ok(Row::Exposure(exposure, exposed)) => Some((entry, exposure, exposed)),
            Ok(Row::Metric(_)) | Err(_) => None,
        })
    };
    if exposures().next().is_some() {
        let sink = transaction.copy_in(COPY_EXPOSURES).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, EXPOSURES));
        for (entry, exposure, exposed) in exposures() {
            let unit = stored_unit(&entry.event.unit);
            let iteration = i32::try_from(exposure.iteration).unwrap_or(i32::MAX);
            let row: [&(dyn ToSql + Sync); 8] = [
                &date,
                &exposed.experiment,
                &iteration,
                &exposed.counts,
                &now,
                &entry.occurred_at,
                &exposure.arm,
                &&*unit,
            ];
            writer.as_mut().write(&row).await?;
        }
        writer.finish().await?;
    }
    let measurements = || {
        entries.iter().filter_map(|entry| match entry.fate {
            Ok(Row::Metric(measurement)) => Some((entry, measurement)),
            Ok(Row::Exposure(..)) | Err(_) => None,
        })
    };
    if measurements().next().is_some() {
        let sink = transaction.copy_in(COPY_METRIC_EVENTS).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, METRIC_EVENTS));
        for (entry, measurement) in measurements() {
            let Measurement {
                metric,
                attribute,
                measure,
            } = measurement;
            let unit = stored_unit(&entry.event.unit);
            let (measure, value) = stored(*measure);
            let row: [&(dyn ToSql + Sync); 9] = [
                &date,
                &entry.environment.0,
                &measure,
                &now,
                &entry.occurred_at,
                &Numeric(value),
                metric,
                attribute,
                &&*unit,
            ];
            writer.as_mut().write(&row).await?;
        }
        writer.finish().await?;
    }
    Ok(())
}

/// How a measure is stored.
fn stored(measure: Measure) -> (i16, Decimal) {
    match measure {
        Measure::Conversion => (1, Decimal::from(1)),
        Measure::Value(value) => (2, value),
        Measure::Count(count) => (3, Decimal::from(count)),
    }
}
