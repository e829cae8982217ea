//! Counting, in PostgreSQL.

use deadpool_postgres::Object;
use jiff::Timestamp;
use jiff::civil::Date;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};

use super::{Arm, Iteration, Measured, Results};
use crate::domain::experiment::{Metric, MetricKind};
use crate::domain::{key, statistics};
use crate::store::environments::Address;
use crate::store::error::{Entity, Error};
use crate::store::events::metrics;
use crate::store::{pipeline, rows};

const FIND: &str = "
    select e.id, e.environment_id, coalesce(e.attribute, l.attribute) as attribute, e.primary_metric, e.guardrail_metrics, e.started_at, e.stopped_at,
        (e.started_at at time zone 'utc')::date as started_on, d.kept_since::timestamp at time zone 'utc' as kept_since
    from projects p
    join environments n on n.project_id = p.id
    join experiments e on e.environment_id = n.id
    left join layers l on l.id = e.layer_id
    cross join event_day d
    where p.key = $1 and n.key = $2 and e.key = $3";
const ITERATIONS: &str = "
    select number, weights, started_at, ended_at from experiment_iterations where experiment_id = $1 order by number";
const ARMS: &str = "select variant, control from experiment_arms where experiment_id = $1 order by position";
const ASSIGNED: &str = "
    select iteration, arm, count(*) as units from experiment_assignments where experiment_id = $1 group by iteration, arm";
/// What is exposed is expected to be one unit as long as the experiment is newer than the statistics of its day, and one unit would be
/// compared with each event in turn: hours for as many as a hash does in a second.
const HASHED: &str = "set local enable_nestloop = off";
/// Exposures that do not count.
const EXCLUDED: &str = "
    select iteration, count(*) as exposures, count(distinct unit) as units from exposures
    where experiment_id = $1 and day >= $2 and not counts and ($3::timestamptz is null or occurred_at <= $3) group by iteration";
/// Units by iteration and arm, with each metric of theirs. A null arm: units that were exposed to several.
///
/// The variance is the unbiased one, over all units that were exposed, those with nothing being 0: (n Σx² − (Σx)²) / (n (n − 1)). See
/// T. F. Chan, G. H. Golub, R. J. LeVeque: Algorithms for Computing the Sample Variance, The American Statistician 37 (1983), who warn
/// of this "textbook algorithm" in floating point: here numerator and denominator are exact, and nothing cancels.
const MEASURED: &str = "
    with seen as (
        select iteration, unit, min(occurred_at) as first_at, min(arm) as arm, min(arm) <> max(arm) as torn
        from exposures
        where experiment_id = $1 and day >= $2 and counts and ($7::timestamptz is null or occurred_at <= $7)
        group by iteration, unit
    ), units as materialized (
        select iteration, unit, first_at, case when not torn then arm end as arm,
            lead(first_at) over (partition by unit order by first_at, iteration) as next_at
        from seen
    ), exposed as (
        select iteration, arm, count(*) as units from units group by iteration, arm
    ), wanted as (
        select w.place::integer as place, w.metric, w.kind
        from unnest($3::text[], $4::text[]) with ordinality as w (metric, kind, place)
    ), measured as (
        select u.iteration, u.arm, w.place, u.unit, case when w.kind = 'conversion' then 1 else sum(m.value) end as total
        from wanted w
        join metric_events m on m.metric = w.metric
            and (w.kind = 'conversion' or (w.kind = 'value' and m.measure = 2) or (w.kind = 'count' and m.measure in (1, 3)))
        join units u on u.unit = m.unit
            and m.occurred_at >= u.first_at and (u.next_at is null or m.occurred_at < u.next_at)
        where m.environment_id = $5 and m.day >= $2 and m.attribute is not distinct from $6
            and ($7 is null or m.occurred_at <= $7) and u.arm is not null
        group by u.iteration, u.arm, w.place, w.kind, u.unit
    ), totals as (
        select iteration, arm, place, count(*) as units, sum(total) as sum, sum(total * total) as squares
        from measured group by iteration, arm, place
    )
    select e.iteration, e.arm, e.units as exposed, w.place,
        coalesce(t.units, 0) as converted,
        coalesce(t.sum, 0)::float8 as sum,
        (coalesce(t.sum, 0) / e.units)::float8 as mean,
        case when e.units > 1 then
            ((e.units * coalesce(t.squares, 0) - coalesce(t.sum, 0) * coalesce(t.sum, 0)) / (e.units::numeric * (e.units - 1)))::float8
        end as variance
    from exposed e
    left join wanted w on e.arm is not null
    left join totals t on t.iteration = e.iteration and t.arm = e.arm and t.place = w.place
    order by e.iteration, e.arm, w.place";

/// What was found of one iteration and arm.
#[derive(Debug, Default)]
struct Found {
    exposed: u64,
    /// By their places.
    metrics: Vec<(usize, Numbers)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    converted: u64,
    sum: f64,
    mean: Option<f64>,
    variance: Option<f64>,
}

/// Counts everything in one snapshot.
pub(super) async fn all(client: &mut Object, at: Address<'_>, experiment: &key::Experiment) -> Result<Results, Error> {
    let begin = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true);
    let transaction = begin.start().await?;
    let parameters: [&(dyn ToSql + Sync); 3] = [&at.project.as_str(), &at.environment.as_str(), &experiment.as_str()];
    let [_, _, found] = pipeline::all(&transaction, [pipeline::LONG, (HASHED, &[]), (FIND, &parameters)]).await?;
    let row = found
        .first()
        .ok_or_else(|| Error::not_found(Entity::Experiment, experiment))?;
    let (id, environment): (i64, i64) = (rows::get(row, "id")?, rows::get(row, "environment_id")?);
    // A draft has no events: any day does.
    let since: Date = rows::get::<Option<Date>>(row, "started_on")?.unwrap_or_default();
    let stopped_at: Option<Timestamp> = rows::get(row, "stopped_at")?;
    let attribute: Option<String> = rows::get(row, "attribute")?;
    let metrics = distinct(metrics(row)?);
    let keys: Vec<_> = metrics.iter().map(|metric| metric.key.as_str()).collect();
    let kinds: Vec<_> = metrics.iter().map(|metric| name(metric.kind)).collect();
    let parameters: [&(dyn ToSql + Sync); 7] = [&id, &since, &keys, &kinds, &environment, &attribute, &stopped_at];
    let [iterations, arms, assigned, excluded, measured] = pipeline::all(
        &transaction,
        [
            (ITERATIONS, &[&id]),
            (ARMS, &[&id]),
            (ASSIGNED, &[&id]),
            (EXCLUDED, &[&id, &since, &stopped_at]),
            (MEASURED, &parameters),
        ],
    )
    .await?;
    let kept_since = rows::get(row, "kept_since")?;
    transaction.commit().await?;
    let read = Read {
        metrics,
        arms,
        assigned,
        excluded,
        measured,
    };
    let iterations = iterations
        .iter()
        .map(|row| read.iteration(row))
        .collect::<Result<_, _>>()?;
    Ok(Results { iterations, kept_since })
}

/// Everything that was read.
struct Read {
    metrics: Vec<Metric>,
    arms: Vec<Row>,
    assigned: Vec<Row>,
    excluded: Vec<Row>,
    measured: Vec<Row>,
}

impl Read {
    fn iteration(&self, row: &Row) -> Result<Iteration, Error> {
        let number = rows::count(row, "number")?;
        let weights: Vec<i32> = rows::get(row, "weights")?;
        let total: u64 = weights.iter().map(|weight| u64::from(weight.unsigned_abs())).sum();
        let mut arms = Vec::with_capacity(self.arms.len());
        for (row, weight) in self.arms.iter().zip(&weights) {
            arms.push(self.arm(number, row, weight.unsigned_abs())?);
        }
        let exposed = arms.iter().map(|arm| arm.exposed).sum();
        for arm in &mut arms {
            arm.share = statistics::share(arm.exposed, exposed);
            arm.expected_share = statistics::share(arm.weight.into(), total);
        }
        let observed: Vec<_> = arms
            .iter()
            .map(|arm| statistics::Arm {
                units: arm.exposed,
                weight: arm.weight.into(),
            })
            .collect();
        let (excluded_exposures, excluded_units) = self.excluded(number)?;
        Ok(Iteration {
            number,
            started_at: rows::get(row, "started_at")?,
            ended_at: rows::get(row, "ended_at")?,
            sample_ratio: statistics::sample_ratio(&observed),
            excluded_exposures,
            excluded_units,
            torn_units: self.found(number, None)?.exposed,
            arms,
        })
    }

    fn arm(&self, iteration: u32, row: &Row, weight: u32) -> Result<Arm, Error> {
        let variant: String = rows::get(row, "variant")?;
        let found = self.found(iteration, Some(&variant))?;
        let metrics = self
            .metrics
            .iter()
            .enumerate()
            .map(|(place, Metric { key, kind, goal: _ })| {
                let numbers = found.metrics.iter().find(|(of, _)| *of == place);
                let Numbers {
                    converted,
                    sum,
                    mean,
                    variance,
                } = numbers.map(|(_, numbers)| *numbers).unwrap_or_default();
                Measured {
                    metric: key.clone(),
                    kind: *kind,
                    converted,
                    sum,
                    mean,
                    variance,
                }
            });
        Ok(Arm {
            control: rows::get(row, "control")?,
            weight,
            assigned: self.assigned(iteration, &variant)?,
            exposed: found.exposed,
            share: None,
            expected_share: None,
            metrics: metrics.collect(),
            variant,
        })
    }

    fn assigned(&self, iteration: u32, arm: &str) -> Result<u64, Error> {
        for row in &self.assigned {
            if rows::count(row, "iteration")? == iteration && rows::get::<&str>(row, "arm")? == arm {
                return rows::number(row, "units");
            }
        }
        Ok(0)
    }

    fn excluded(&self, iteration: u32) -> Result<(u64, u64), Error> {
        for row in &self.excluded {
            if rows::count(row, "iteration")? == iteration {
                return Ok((rows::number(row, "exposures")?, rows::number(row, "units")?));
            }
        }
        Ok((0, 0))
    }

    fn found(&self, iteration: u32, arm: Option<&str>) -> Result<Found, Error> {
        let mut found = Found::default();
        for row in &self.measured {
            if rows::count(row, "iteration")? != iteration || rows::get::<Option<&str>>(row, "arm")? != arm {
                continue;
            }
            found.exposed = rows::number(row, "exposed")?;
            if let Some(place) = rows::get::<Option<i32>>(row, "place")? {
                let numbers = Numbers {
                    converted: rows::number(row, "converted")?,
                    sum: rows::get(row, "sum")?,
                    mean: rows::get(row, "mean")?,
                    variance: rows::get(row, "variance")?,
                };
                // Places are counted from 1 there.
                let place = usize::try_from(place - 1).unwrap_or(usize::MAX);
                found.metrics.push((place, numbers));
            }
        }
        Ok(found)
    }
}

/// Each metric once, though it may be named as a guardrail, too.
fn distinct(metrics: Vec<Metric>) -> Vec<Metric> {
    let mut distinct: Vec<Metric> = Vec::with_capacity(metrics.len());
    for metric in metrics {
        if !distinct
            .iter()
            .any(|known| known.key == metric.key && known.kind == metric.kind)
        {
            distinct.push(metric);
        }
    }
    distinct
}

fn name(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Conversion => "conversion",
        MetricKind::Value => "value",
        MetricKind::Count => "count",
    }
}
