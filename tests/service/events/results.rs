//! What experiments come to, beside what SQL written apart from it finds in the same tables.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use halyard::domain::event::Window;
use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::EventOutcome::{Accepted, Excluded};
use halyard::store::events::Kept;
use tonic::Code;
use uuid::Uuid;

use super::{World, at, conversion, count, experiment, exposed, exposure, value, within_a_day};
use crate::refusals::refused;
use crate::support::within;

const HOUR: i64 = 60 * 60;

pub(super) async fn results(world: &World, experiment: &str) -> admin::GetResultsResponse {
    let request = admin::GetResultsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: experiment.into(),
    };
    world.app.experiments().get_results(request).await.unwrap().into_inner()
}

fn arm<'a>(iteration: &'a admin::IterationResults, variant: &str) -> &'a admin::ArmResults {
    iteration.arms.iter().find(|arm| arm.variant == variant).unwrap()
}

fn metric<'a>(arm: &'a admin::ArmResults, key: &str) -> &'a admin::MetricResults {
    arm.metrics.iter().find(|metric| metric.metric == key).unwrap()
}

async fn assign(world: &World, unit: &str, arm: &str, iteration: i32) {
    let insert = "insert into experiment_assignments (experiment_id, unit, arm, iteration, assigned_at)
        values ($1, $2, $3, $4, now())";
    world
        .sql
        .execute(insert, &[&world.experiment, &unit, &arm, &iteration])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_unit_did_counts_from_its_first_exposure_on() {
    let world = World::new().await;
    for (unit, arm) in [("ada", "on"), ("bob", "on"), ("eve", "off"), ("nobody", "off")] {
        assign(&world, unit, arm, 2).await;
    }
    let events = vec![
        // What is before the exposure does not count, whichever comes first.
        at(value("ada", "revenue", 1_000.0), -3 * HOUR),
        at(conversion("ada", "bought"), -3 * HOUR),
        at(exposure("ada"), -2 * HOUR),
        at(exposure("ada"), -HOUR),
        at(value("ada", "revenue", 0.1), -HOUR),
        at(value("ada", "revenue", 0.2), -HOUR + 1),
        at(count("ada", "clicks", 3), -HOUR),
        at(conversion("ada", "clicks"), -HOUR),
        at(value("ada", "bought", 7.0), -HOUR),
        at(conversion("ada", "bought"), -HOUR + 2),
        at(exposure("bob"), -HOUR),
        at(exposed("eve", "checkout", 2, "off", true), -HOUR),
        at(value("eve", "revenue", -5.0), -60),
        // Nobody saw this.
        at(value("zoe", "revenue", 99.0), -60),
    ];
    let accepted = vec![Accepted; events.len()];
    assert_eq!(world.track(events).await, accepted);
    let results = results(&world, "checkout").await;
    assert_eq!(results.iterations.len(), 2);
    let (first, second) = (&results.iterations[0], &results.iterations[1]);
    assert_eq!((first.iteration, second.iteration), (1, 2));
    assert!(first.end_time.is_some() && second.end_time.is_none() && results.events_kept_since.is_none());
    assert!(
        first
            .arms
            .iter()
            .all(|arm| (arm.assigned, arm.exposed, arm.share) == (0, 0, None))
    );
    assert!(second.sample_ratio.is_none(), "three units say nothing");
    let (off, on) = (arm(second, "off"), arm(second, "on"));
    assert_eq!((on.weight, on.control, on.assigned, on.exposed), (1, false, 2, 2));
    assert_eq!((off.weight, off.control, off.assigned, off.exposed), (3, true, 2, 1));
    assert_eq!((on.share, on.expected_share), (Some(2.0 / 3.0), 0.25));
    let order: Vec<_> = on
        .metrics
        .iter()
        .map(|metric| (metric.metric.as_str(), metric.kind()))
        .collect();
    let expected = [
        ("bought", admin::MetricKind::Conversion),
        ("revenue", admin::MetricKind::Value),
        ("clicks", admin::MetricKind::Count),
    ];
    assert_eq!(order, expected);
    let numbers = |arm: &admin::ArmResults, key: &str| {
        let metric = metric(arm, key);
        (metric.converted, metric.sum, metric.mean, metric.variance)
    };
    assert_eq!(numbers(on, "bought"), (1, 1.0, Some(0.5), Some(0.5)));
    // 0.1 + 0.2 is 0.3.
    assert_eq!(numbers(on, "revenue"), (1, 0.3, Some(0.15), Some(0.045)));
    assert_eq!(numbers(on, "clicks"), (1, 4.0, Some(2.0), Some(8.0)));
    assert_eq!(numbers(off, "revenue"), (1, -5.0, Some(-5.0), None));
    assert_eq!(numbers(off, "bought"), (0, 0.0, Some(0.0), None));
    assert_eq!(numbers(arm(first, "on"), "bought"), (0, 0.0, None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_count_is_told() {
    let world = World::new().await;
    let hidden = experiment(&world.sql, "hashing", "running").await;
    let unsticky = "update experiments set sticky = false where id = $1";
    world.sql.execute(unsticky, &[&hidden]).await.unwrap();
    let events = vec![
        exposed("ada", "checkout", 2, "on", false),
        exposed("ada", "checkout", 2, "off", false),
        exposed("bob", "checkout", 2, "on", false),
        conversion("bob", "bought"),
        exposed("eve", "checkout", 2, "on", true),
        exposed("eve", "checkout", 2, "off", true),
        exposed("eve", "hashing", 1, "off", false),
        conversion("eve", "bought"),
    ];
    let [e, a] = [Excluded, Accepted];
    assert_eq!(world.track(events).await, [e, e, e, a, a, a, a, a]);
    let checkout = results(&world, "checkout").await;
    let second = &checkout.iterations[1];
    assert_eq!(
        (second.excluded_exposures, second.excluded_units, second.torn_units),
        (3, 2, 1)
    );
    for arm in &second.arms {
        assert_eq!((arm.exposed, metric(arm, "bought").converted), (0, 0));
    }
    let hashing = results(&world, "hashing").await;
    let first = &hashing.iterations[0];
    assert_eq!((first.excluded_exposures, first.torn_units), (0, 0));
    assert_eq!(metric(arm(first, "off"), "bought").converted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_counts_that_happened_after_the_end() {
    let world = World::new().await;
    world
        .track(vec![
            at(exposure("ada"), -HOUR),
            at(conversion("ada", "bought"), -HOUR),
            at(value("ada", "revenue", 5.0), -60),
            at(exposure("bob"), -60),
        ])
        .await;
    let stop = "update experiments set state = 'stopped', stopped_at = now() - interval '30 minutes', form = null";
    world.sql.batch_execute(stop).await.unwrap();
    let stopped = results(&world, "checkout").await;
    let on = arm(&stopped.iterations[1], "on");
    assert_eq!(
        (
            on.exposed,
            metric(on, "bought").converted,
            metric(on, "revenue").converted
        ),
        (1, 1, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_units_events_count_for_experiments_with_that_unit() {
    let world = World::new().await;
    let companies = "update experiments set attribute = 'company'";
    world.sql.batch_execute(companies).await.unwrap();
    let of_company = |event: pb::Event| match event.what {
        Some(pb::event::What::Metric(metric)) => pb::Event {
            what: Some(pb::event::What::Metric(pb::MetricEvent {
                unit_attribute: "company".into(),
                ..metric
            })),
            ..event
        },
        _ => panic!("no metric event"),
    };
    let events = vec![
        at(exposure("17"), -60),
        value("17", "revenue", 1.0),
        of_company(value("17", "revenue", 2.0)),
    ];
    assert_eq!(world.track(events).await, [Accepted; 3]);
    let results = results(&world, "checkout").await;
    assert_eq!(
        metric(arm(&results.iterations[1], "on"), "revenue").sum.to_bits(),
        2_f64.to_bits()
    );
}

/// The weights are 3 to 1; units come 1 to 1.
#[tokio::test(flavor = "multi_thread")]
async fn shares_that_are_not_as_expected_are_warned_of() {
    let world = World::new().await;
    let fair = |n: usize| if n.is_multiple_of(4) { "on" } else { "off" };
    let events = (0..100).map(|n| exposed(&format!("u{n}"), "checkout", 2, fair(n), true));
    world.track(events.collect()).await;
    let second = results(&world, "checkout").await.iterations.remove(1);
    let ratio = second.sample_ratio.unwrap();
    assert_eq!(
        (ratio.statistic, ratio.degrees_of_freedom, ratio.p_value),
        (0.0, 1, 1.0)
    );
    assert!(!ratio.suspicious && ratio.warning.is_empty());
    let events = (0..50).map(|n| exposed(&format!("v{n}"), "checkout", 2, "on", true));
    world.track(events.collect()).await;
    let second = results(&world, "checkout").await.iterations.remove(1);
    assert_eq!((arm(&second, "off").exposed, arm(&second, "on").exposed), (75, 75));
    let ratio = second.sample_ratio.unwrap();
    // scipy.stats.chisquare([75, 75], [112.5, 37.5])
    assert_eq!(ratio.statistic.to_bits(), 50_f64.to_bits());
    assert!(
        (ratio.p_value / 1.537_459_794_428_033e-12 - 1.0).abs() < 1e-9,
        "{}",
        ratio.p_value
    );
    assert!(
        ratio.suspicious && ratio.warning.contains("did not come to the arms as the weights say"),
        "{ratio:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn results_whose_days_are_gone_say_so() {
    within_a_day(async || {
        let world = World::new().await;
        let kept = Kept {
            window: Window { days: 3 },
            days: Some(3),
        };
        let past = "do $$ declare past date := (now() at time zone 'utc')::date - 4; begin
            execute format('create table exposures_%s partition of exposures for values from (%L) to (%L)',
                to_char(past, 'YYYYMMDD'), past, past + 1);
        end $$";
        world.sql.batch_execute(past).await.unwrap();
        assert_eq!(world.app.server.store().keep_event_days(&kept).await.unwrap(), 1);
        let since = results(&world, "checkout").await.events_kept_since.unwrap();
        let now = jiff::Timestamp::now().as_second();
        assert_eq!(since.seconds, now / (24 * HOUR) * 24 * HOUR - 3 * 24 * HOUR);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_that_never_ran_has_no_results_and_an_unknown_one_is_not_found() {
    let world = World::new().await;
    experiment(&world.sql, "later", "draft").await;
    assert_eq!(results(&world, "later").await.iterations, []);
    for (environment, experiment) in [("dev", "unheard-of"), ("prod", "checkout")] {
        let request = admin::GetResultsRequest {
            project: "shop".into(),
            environment: environment.into(),
            experiment: experiment.into(),
        };
        refused(world.app.experiments().get_results(request).await, Code::NotFound);
    }
    let nothing = admin::GetResultsRequest::default();
    refused(
        world.app.experiments().get_results(nothing).await,
        Code::InvalidArgument,
    );
}

/// What SQL written for this test alone says of an arm and metric: unit by unit, by subqueries, with PostgreSQL's own aggregates.
const APART: &str = "
    with first as (
        select distinct on (iteration, unit) iteration, unit, arm, occurred_at
        from exposures where experiment_id = $1 and counts
        order by iteration, unit, occurred_at
    ), counted as (
        select f.* from first f
        where not exists (
            select from exposures o
            where o.experiment_id = $1 and o.counts and o.iteration = f.iteration and o.unit = f.unit and o.arm <> f.arm
        )
    ), events as (
        select f.unit, m.value, m.measure
        from counted f join metric_events m on m.unit = f.unit and m.metric = $4
        where f.iteration = $2 and f.arm = $3 and m.occurred_at >= f.occurred_at
            and not exists (
                select from first g
                where g.unit = f.unit and (g.occurred_at, g.iteration) > (f.occurred_at, f.iteration)
                    and g.occurred_at <= m.occurred_at
            )
    ), per_unit as (
        select (select count(*) from events e where e.unit = c.unit) as events,
            (select coalesce(sum(e.value), 0) from events e where e.unit = c.unit) as total
        from counted c where c.iteration = $2 and c.arm = $3
    ), read as (
        select events > 0 as converted, case when $5 then (events > 0)::integer::numeric else total end as x from per_unit
    )
    select count(*) as exposed, count(*) filter (where converted) as converted, coalesce(sum(x), 0)::float8 as sum,
        avg(x)::float8 as mean, var_samp(x)::float8 as variance
    from read";

/// Thousands of events in no order, of units that come to both iterations and some of them to both arms, in batches from many
/// senders at once.
#[tokio::test(flavor = "multi_thread")]
async fn results_are_those_of_sql_written_apart() {
    let world = World::new().await;
    let mut random = fastrand::Rng::with_seed(20_260_301);
    let mut events = Vec::new();
    for n in 0..6_000_u32 {
        let unit = format!("u{}", random.u32(..250));
        let moment = -random.i64(1..50 * HOUR);
        let event = match n % 6 {
            0 | 1 => {
                let iteration = random.u32(1..=2);
                let of_unit = unit.bytes().map(u32::from).sum::<u32>() % 3;
                // A few come to both.
                let arm = if of_unit == 0 || random.u32(..300) == 0 {
                    "on"
                } else {
                    "off"
                };
                exposed(&unit, "checkout", iteration, arm, random.u32(..10) > 0)
            }
            2 => conversion(&unit, "bought"),
            3 => count(&unit, "clicks", random.u64(..1_000_000)),
            4 => value(&unit, "revenue", f64::from(random.i32(-100_000..1_000_000)) / 100.0),
            _ => value(&unit, "revenue", random.f64() * 10_f64.powi(random.i32(-9..9))),
        };
        events.push(at(event, moment));
    }
    let sent = join_all(events.chunks(173).map(|batch| world.track(batch.to_vec())))
        .await
        .concat();
    assert!(sent.iter().all(|outcome| matches!(outcome, Accepted | Excluded)));
    for n in 0..40 {
        let (arm, iteration) = if n % 3 == 0 { ("on", 1) } else { ("off", 2) };
        assign(&world, &format!("u{n}"), arm, iteration).await;
    }

    let results = results(&world, "checkout").await;
    let mut compared = BTreeMap::new();
    for iteration in &results.iterations {
        let number = i32::try_from(iteration.iteration).unwrap();
        for arm in &iteration.arms {
            for measured in &arm.metrics {
                let conversion = measured.kind() == admin::MetricKind::Conversion;
                let row = world
                    .sql
                    .query_one(
                        APART,
                        &[&world.experiment, &number, &arm.variant, &measured.metric, &conversion],
                    )
                    .await
                    .unwrap();
                let what = format!("{number} {} {}", arm.variant, measured.metric);
                let units = |column: &str| u64::try_from(row.get::<_, i64>(column)).unwrap();
                assert_eq!(
                    (arm.exposed, measured.converted),
                    (units("exposed"), units("converted")),
                    "{what}"
                );
                // Both are rounded once from an exact value.
                let same = |ours: Option<f64>, column: &str| {
                    let theirs: Option<f64> = row.get(column);
                    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
                    assert!(
                        (ours - theirs).abs() <= theirs.abs() * 1e-15,
                        "{what} {column}: {ours}, not {theirs}"
                    );
                };
                same(Some(measured.sum), "sum");
                same(measured.mean, "mean");
                same(measured.variance, "variance");
                compared.insert(what, measured.converted);
            }
        }
        let whole: u64 = iteration.arms.iter().map(|arm| arm.exposed).sum();
        let torn = "select count(*) from (select unit from exposures where counts and iteration = $1
            group by unit having count(distinct arm) > 1) torn";
        let torn: i64 = world.sql.query_one(torn, &[&number]).await.unwrap().get(0);
        assert_eq!(iteration.torn_units, u64::try_from(torn).unwrap());
        assert!(torn > 0 && whole > 100);
        let excluded = "select count(*), count(distinct unit) from exposures where not counts and iteration = $1";
        let excluded = world.sql.query_one(excluded, &[&number]).await.unwrap();
        let excluded = [0, 1].map(|column| u64::try_from(excluded.get::<_, i64>(column)).unwrap());
        assert_eq!([iteration.excluded_exposures, iteration.excluded_units], excluded);
        let assigned: Vec<_> = iteration
            .arms
            .iter()
            .map(|arm| (arm.variant.as_str(), arm.assigned))
            .collect();
        let expected = if number == 1 {
            [("off", 0), ("on", 14)]
        } else {
            [("off", 26), ("on", 0)]
        };
        assert_eq!(assigned, expected);
        let weights = if number == 1 { [0.5, 0.5] } else { [0.75, 0.25] };
        let statistic: f64 = iteration
            .arms
            .iter()
            .zip(weights)
            .map(|(arm, weight)| {
                let [exposed, whole] = [arm.exposed, whole].map(|units| f64::from(u32::try_from(units).unwrap()));
                assert_eq!((arm.share, arm.expected_share), (Some(exposed / whole), weight));
                (exposed - whole * weight).powi(2) / (whole * weight)
            })
            .sum();
        let ratio = iteration.sample_ratio.as_ref().unwrap();
        assert!((ratio.statistic - statistic).abs() < 1e-9, "{ratio:?}");
    }
    assert_eq!(compared.len(), 12);
    assert!(compared.values().all(|converted| *converted > 20), "{compared:?}");

    // Asked again after the same events once more, nothing has changed.
    let again: Vec<_> = events.iter().take(1_000).cloned().collect();
    world.track(again).await;
    assert_eq!(self::results(&world, "checkout").await, results);
    // A new id is a new event.
    let twin = pb::Event {
        id: Uuid::now_v7().to_string(),
        ..exposure("u1")
    };
    assert_eq!(world.track(vec![twin]).await, [Accepted]);
}

/// An experiment on its first day, when PostgreSQL's statistics know others alone: it expects one unit and one event of it, and must not
/// compare all with all, which would take minutes here.
#[tokio::test(flavor = "multi_thread")]
async fn results_of_a_new_experiment_with_many_units_are_counted() {
    let world = World::new().await;
    let other = experiment(&world.sql, "older", "running").await;
    let exposures = "
        insert into exposures
        select (now() at time zone 'utc')::date, $1, 2, true, now(), now() - interval '1 hour', 'on', 'u' || n
        from generate_series(1, $2) n";
    let bought = "
        insert into metric_events
        select (now() at time zone 'utc')::date, x.environment_id, 1, now(), now() - interval '1 minute', 1, $2, null, 'u' || n
        from experiments x, generate_series(1, $3) n where x.id = $1";
    let (some, many) = (20_000_i32, 60_000_i32);
    world.sql.execute(exposures, &[&other, &some]).await.unwrap();
    world.sql.execute(bought, &[&other, &"sold", &some]).await.unwrap();
    let analyse = "analyze exposures; analyze metric_events";
    world.sql.batch_execute(analyse).await.unwrap();
    world.sql.execute(exposures, &[&world.experiment, &many]).await.unwrap();
    world
        .sql
        .execute(bought, &[&world.experiment, &"bought", &many])
        .await
        .unwrap();
    let results = within("the results", results(&world, "checkout")).await;
    let on = arm(&results.iterations[1], "on");
    assert_eq!((on.exposed, metric(on, "bought").converted), (60_000, 60_000));
}
