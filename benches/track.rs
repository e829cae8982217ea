//! What taking events costs beside writing them: `cargo bench --bench track`. The same events, half of them exposures, half of them
//! values, go through gRPC to `halyard serve`, and by bare binary COPY into the same tables with the same indexes, in transactions as
//! large as Halyard's groups can be. Both take turns on one durable PostgreSQL, whose days before are full of ids.
//!
//! `BENCH_ROUNDS`, `BENCH_BATCHES` (of 1 000 events, each turn), `BENCH_CALLERS` and `BENCH_KNOWN` (ids of each day before) make it
//! shorter or longer.

#![allow(clippy::print_stdout, reason = "a benchmark's output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on fails"
)]

mod support;

use std::fs;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::evaluation_service_client::EvaluationServiceClient;
use jiff::Timestamp;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls};
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Endpoint;
use uuid::Uuid;

use support::numbers::median;
use support::process::SHARED;
use support::world::{FLAG, Replica, World};
use support::{Result, setting, table};

/// Events of a batch: as many as one may have.
const BATCH: usize = 1_000;
/// Batches of a bare transaction: what Halyard writes at once, at most.
const GROUP: usize = 10;

fn main() -> Result<()> {
    let rounds = setting("BENCH_ROUNDS", 5)?;
    let batches = setting("BENCH_BATCHES", 200)? as usize;
    let callers = setting("BENCH_CALLERS", 32)? as usize;
    let known = setting("BENCH_KNOWN", 500_000)?;
    let world = World::start()?;
    let replica = world.serve(SHARED, 2, &[])?;
    let key = world.furnish(&world.administrator(&replica)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure(&world, &replica, &key, (rounds, batches, callers, known)))
}

async fn measure(
    world: &World,
    replica: &Replica,
    key: &str,
    (rounds, batches, callers, known): (u32, usize, usize, u32),
) -> Result<()> {
    let (mut sql, connection) = world.config()?.connect(NoTls).await?;
    tokio::spawn(connection);
    let place = prepare(&sql, known).await?;
    let token: AsciiMetadataValue = format!("Bearer {key}").parse()?;
    let (mut bare, mut tracked) = (Vec::new(), Vec::new());
    // The first turn of each warms up.
    for round in 0..=rounds {
        let events = make(batches);
        let begun = Instant::now();
        copy(&mut sql, &place, &events).await?;
        let copied = begun.elapsed();
        let messages = make(batches)
            .into_iter()
            .map(|batch| batch.into_iter().map(message).collect());
        let messages: Vec<Vec<pb::Event>> = messages.collect();
        let begun = Instant::now();
        track(replica, &token, messages, callers).await?;
        let lasted = begun.elapsed();
        if round > 0 {
            bare.push(rate(batches, copied));
            tracked.push(rate(batches, lasted));
        }
        sql.batch_execute("checkpoint").await?;
    }
    let ratios = tracked.iter().zip(&bare).map(|(tracked, bare)| tracked / bare);
    let (ratio, bare, tracked) = (median(ratios), median(bare), median(tracked));
    let row = |name: &str, rate: f64, ratio: f64| {
        vec![
            name.to_owned(),
            table::thousands(rate),
            format!("{:.0} %", ratio * 100.0),
        ]
    };
    table::print(
        &format!("{callers} callers with batches of {BATCH}, {known} ids on each of four days before"),
        &["written", "events/s", "to bare"],
        &[row("bare binary COPY", bare, 1.0), row("Track", tracked, ratio)],
    );
    println!(
        "\nThe server's memory at most: {} MiB, of which events may take 64 while they wait.",
        peak_mib(replica)?
    );
    Ok(())
}

/// Where events go.
struct Place {
    environment: i64,
    experiment: i64,
}

/// An event, without any message or row around it.
struct Event {
    id: Uuid,
    unit: String,
    at: Timestamp,
    /// Of a value; `None`: an exposure.
    cents: Option<u32>,
}

/// An experiment, and days before that are full of ids.
async fn prepare(sql: &Client, known: u32) -> Result<Place> {
    sql.batch_execute("set halyard.journal = 'on'").await?;
    let experiment = "
        insert into experiments (project_id, environment_id, flag_id, key, name, description, hypothesis, owner, state, audience,
            allocation, largest_allocation, sticky, primary_metric, guardrail_metrics, salt, iteration, created_at, updated_at,
            started_at)
        select e.project_id, e.id, f.id, 'checkout', '', '', '', '', 'paused', '[]', 1000000, 1000000, true,
            '{\"key\": \"revenue\", \"kind\": \"value\", \"goal\": \"increase\"}', '[]', gen_random_uuid(), 1, now(), now(), now()
        from environments e join flags f on f.project_id = e.project_id
        where f.key = $1
        returning id, environment_id";
    let row = sql.query_one(experiment, &[&FLAG]).await?;
    let place = Place {
        experiment: row.try_get(0)?,
        environment: row.try_get(1)?,
    };
    let arms = "insert into experiment_arms values ($1, 1, 'off', 1, true), ($1, 2, 'on', 1, false)";
    sql.execute(arms, &[&place.experiment]).await?;
    for days in 1..=4 {
        let fill = format!(
            "do $$
            declare
                past date := (now() at time zone 'utc')::date - {days};
            begin
                execute format('create table event_ids_%s partition of event_ids for values from (%L) to (%L)',
                    to_char(past, 'YYYYMMDD'), past, past + 1);
                insert into event_ids (day, environment_id, id)
                select past, {}, gen_random_uuid() from generate_series(1, {known});
            end $$",
            place.environment
        );
        sql.batch_execute(&fill).await?;
    }
    sql.batch_execute("vacuum analyze event_ids").await?;
    Ok(place)
}

fn make(batches: usize) -> Vec<Vec<Event>> {
    let event = |n: usize| Event {
        id: Uuid::now_v7(),
        unit: format!("user-{}", fastrand::u32(..1_000_000)),
        at: Timestamp::now(),
        cents: n.is_multiple_of(2).then(|| fastrand::u32(..100_000)),
    };
    (0..batches).map(|_| (0..BATCH).map(event).collect()).collect()
}

fn message(event: Event) -> pb::Event {
    let Event { id, unit, at, cents } = event;
    let what = match cents {
        None => pb::event::What::Exposure(pb::Exposure {
            experiment: "checkout".into(),
            iteration: 1,
            arm: "on".into(),
            assignment_stored: true,
        }),
        Some(cents) => pb::event::What::Metric(pb::MetricEvent {
            metric: "revenue".into(),
            amount: Some(pb::metric_event::Amount::Value(f64::from(cents) / 100.0)),
            unit_attribute: String::new(),
        }),
    };
    pb::Event {
        id: id.to_string(),
        unit,
        occur_time: Some(prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        }),
        what: Some(what),
    }
}

async fn track(
    replica: &Replica,
    token: &AsciiMetadataValue,
    batches: Vec<Vec<pb::Event>>,
    callers: usize,
) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let batches = Arc::new(batches);
    let calls = (0..callers).map(|_| {
        let (next, batches, token) = (next.clone(), batches.clone(), token.clone());
        let endpoint = Endpoint::from_shared(format!("http://{}", replica.address));
        async move {
            let mut client = EvaluationServiceClient::new(endpoint?.connect().await?);
            while let Some(events) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut request = Request::new(pb::TrackRequest {
                    events: events.clone(),
                    as_client: false,
                });
                request.metadata_mut().insert("authorization", token.clone());
                let answers = client.track(request).await?.into_inner().answers;
                let accepted = |answer: &pb::EventAnswer| answer.outcome() == pb::EventOutcome::Accepted;
                assert!(
                    answers.len() == BATCH && answers.iter().all(accepted),
                    "not all were taken"
                );
            }
            Ok::<_, support::Error>(())
        }
    });
    let calls: Vec<_> = calls.map(tokio::spawn).collect();
    for call in try_join_all(calls).await? {
        call?;
    }
    Ok(())
}

/// The floor: ids, exposures and values, as they are, without a question whether they are new.
async fn copy(sql: &mut Client, place: &Place, batches: &[Vec<Event>]) -> Result<()> {
    let today: jiff::civil::Date = sql
        .query_one("select (now() at time zone 'utc')::date", &[])
        .await?
        .try_get(0)?;
    for group in batches.chunks(GROUP) {
        let events = || group.iter().flatten();
        let now = Timestamp::now();
        let transaction = sql.transaction().await?;
        let sink = transaction
            .copy_in("copy event_ids (day, environment_id, id) from stdin (format binary)")
            .await?;
        let mut ids = pin!(BinaryCopyInWriter::new(sink, &[Type::DATE, Type::INT8, Type::UUID]));
        for event in events() {
            let row: [&(dyn ToSql + Sync); 3] = [&today, &place.environment, &event.id];
            ids.as_mut().write(&row).await?;
        }
        ids.finish().await?;
        let sink = transaction
            .copy_in(
                "copy exposures (day, experiment_id, iteration, counts, received_at, occurred_at, arm, unit)
                 from stdin (format binary)",
            )
            .await?;
        let types = [
            Type::DATE,
            Type::INT8,
            Type::INT4,
            Type::BOOL,
            Type::TIMESTAMPTZ,
            Type::TIMESTAMPTZ,
            Type::TEXT,
            Type::TEXT,
        ];
        let mut exposures = pin!(BinaryCopyInWriter::new(sink, &types));
        for event in events().filter(|event| event.cents.is_none()) {
            let row: [&(dyn ToSql + Sync); 8] = [
                &today,
                &place.experiment,
                &1_i32,
                &true,
                &now,
                &event.at,
                &"on",
                &event.unit,
            ];
            exposures.as_mut().write(&row).await?;
        }
        exposures.finish().await?;
        let sink = transaction
            .copy_in(
                "copy metric_events (day, environment_id, measure, received_at, occurred_at, value, metric, attribute, unit)
                 from stdin (format binary)",
            )
            .await?;
        let types = [
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
        let mut values = pin!(BinaryCopyInWriter::new(sink, &types));
        for event in events() {
            let Some(cents) = event.cents else { continue };
            let row: [&(dyn ToSql + Sync); 9] = [
                &today,
                &place.environment,
                &2_i16,
                &now,
                &event.at,
                &Cents(cents),
                &"revenue",
                &None::<&str>,
                &event.unit,
            ];
            values.as_mut().write(&row).await?;
        }
        values.finish().await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// Hundredths as a `numeric`: one digit to the base of 10 000 before the point, one behind it.
#[derive(Debug)]
struct Cents(u32);

impl ToSql for Cents {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> std::result::Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        use bytes::BufMut as _;
        let digit = |number: u32| u16::try_from(number % 10_000).unwrap_or_default();
        for word in [2, 0, 0, 2, digit(self.0 / 100), digit(self.0 % 100 * 100)] {
            out.put_u16(word);
        }
        Ok(tokio_postgres::types::IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::NUMERIC
    }

    tokio_postgres::types::to_sql_checked!();
}

fn rate(batches: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(batches * BATCH).unwrap()) / time.as_secs_f64()
}

/// The most memory that the server ever had.
fn peak_mib(replica: &Replica) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", replica.process.id()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = peak
        .and_then(|text| text.trim().strip_suffix(" kB"))
        .ok_or("unreadable status")?
        .parse()?;
    Ok(kib / 1024)
}
