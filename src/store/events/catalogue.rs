//! What events may name: the experiments of an environment that have run, with their arms and metrics.
//!
//! Read from the tables and not from what evaluation holds: that knows running experiments only, and events of one that is paused
//! or was stopped a moment ago still come.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use crate::domain::access::KeyKind;
use crate::domain::change::EnvironmentId;
use crate::domain::event::{Event, Exposure, Measure, Measurement, Outcome, Subject};
use crate::domain::experiment::{Metric, MetricKind};
use crate::domain::key;
use crate::store::error::Error;
use crate::store::{pipeline, rows};

/// For how long what was read is believed. What is not found is looked for again at once.
const FRESH: Duration = Duration::from_secs(1);
const READ: &str = "
    select e.environment_id, e.id, e.key, e.iteration, e.sticky, e.primary_metric, e.guardrail_metrics, f.client_visible,
        array(select a.variant from experiment_arms a where a.experiment_id = e.id) as arms
    from experiments e
    join flags f on f.id = e.flag_id
    where e.environment_id = any($1) and e.iteration > 0";
/// Of the experiments of these names, and of those that measure these metrics, the same.
const LOOK_FOR: &str = "
    select e.environment_id, e.id, e.key, e.iteration, e.sticky, e.primary_metric, e.guardrail_metrics, f.client_visible,
        array(select a.variant from experiment_arms a where a.experiment_id = e.id) as arms
    from experiments e
    join flags f on f.id = e.flag_id
    where e.iteration > 0 and e.id in (
        select x.id
        from unnest($1::bigint[], $2::text[]) as named (environment_id, key)
        join experiments x on x.environment_id = named.environment_id and x.key = named.key
        union all
        select x.id
        from unnest($3::bigint[], $4::text[]) as named (environment_id, metric)
        join experiments x on x.environment_id = named.environment_id
        where x.primary_metric ->> 'key' = named.metric
            or exists (
                select from json_array_elements(
                    case json_typeof(x.guardrail_metrics) when 'array' then x.guardrail_metrics else '[]' end
                ) m
                where m ->> 'key' = named.metric
            )
    )";

/// What is known of the environments that events came for lately.
#[derive(Debug, Default)]
pub(super) struct Catalogue(HashMap<EnvironmentId, Known>);

/// What is known of one environment.
#[derive(Debug)]
struct Known {
    read_at: Instant,
    experiments: HashMap<String, Experiment>,
    /// How each metric is read, by whichever experiments name it.
    metrics: HashMap<String, Vec<MetricKind>>,
}

#[derive(Debug)]
struct Experiment {
    id: i64,
    iteration: u32,
    sticky: bool,
    client_visible: bool,
    arms: Vec<String>,
}

/// An exposure of an experiment that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exposed {
    /// The experiment.
    pub experiment: i64,
    /// Whether it counts in the results.
    pub counts: bool,
}

impl Catalogue {
    /// Reads what is no longer fresh of these environments.
    pub(super) async fn refresh(
        &mut self,
        client: &impl GenericClient,
        environments: &[EnvironmentId],
    ) -> Result<(), Error> {
        let now = Instant::now();
        self.0.retain(|_, known| now.duration_since(known.read_at) < FRESH);
        let wanted = |id: &&EnvironmentId| !self.0.contains_key(id);
        let stale: Vec<i64> = environments.iter().filter(wanted).map(|id| id.0).collect();
        if stale.is_empty() {
            return Ok(());
        }
        let read = pipeline::one(client, (READ, &[&stale])).await?;
        for id in stale {
            self.0.insert(EnvironmentId(id), Known::at(now));
        }
        self.put(&read)
    }

    /// Reads what was not found, and nothing else: somebody may ask for what does not exist all day.
    pub(super) async fn look_for(&mut self, client: &impl GenericClient, missing: &Missing<'_>) -> Result<(), Error> {
        let Missing { experiments, metrics } = missing;
        let (of, keys): (Vec<i64>, Vec<&str>) = experiments.iter().map(|(of, key)| (of.0, *key)).unzip();
        let (of_metrics, metrics): (Vec<i64>, Vec<&str>) = metrics.iter().map(|(of, key)| (of.0, *key)).unzip();
        let read = pipeline::one(client, (LOOK_FOR, &[&of, &keys, &of_metrics, &metrics])).await?;
        self.put(&read)
    }

    fn put(&mut self, read: &[Row]) -> Result<(), Error> {
        for row in read {
            let environment = rows::environment_id(row, "environment_id")?;
            if let Some(known) = self.0.get_mut(&environment) {
                known.put(row)?;
            }
        }
        Ok(())
    }

    /// What an exposure is of, or why it is not taken.
    pub(super) fn exposure(
        &self,
        environment: EnvironmentId,
        key: KeyKind,
        exposure: &Exposure,
    ) -> Result<Exposed, Outcome> {
        let Exposure {
            experiment,
            iteration,
            arm,
            assignment_stored,
        } = exposure;
        let known = self
            .0
            .get(&environment)
            .and_then(|known| known.experiments.get(experiment));
        // What is not visible to clients does not exist for them.
        let visible = |known: &&Experiment| key == KeyKind::Server || known.client_visible;
        let known = known.filter(visible).ok_or(Outcome::UnknownExperiment)?;
        if *iteration > known.iteration {
            return Err(Outcome::UnknownIteration);
        }
        if !known.arms.contains(arm) {
            return Err(Outcome::UnknownArm);
        }
        Ok(Exposed {
            experiment: known.id,
            counts: *assignment_stored || !known.sticky,
        })
    }

    /// Whether an experiment measures this, or why it is not taken.
    pub(super) fn measurement(&self, environment: EnvironmentId, measurement: &Measurement) -> Result<(), Outcome> {
        let known = self.0.get(&environment);
        let kinds = known.and_then(|known| known.metrics.get(&measurement.metric));
        let kinds = kinds.ok_or(Outcome::UnknownMetric)?;
        if kinds.iter().any(|kind| reads(*kind, measurement.measure)) {
            Ok(())
        } else {
            Err(Outcome::WrongMeasure)
        }
    }
}

/// What events name that was not found.
#[derive(Debug, Default)]
pub(super) struct Missing<'a> {
    experiments: BTreeSet<(EnvironmentId, &'a str)>,
    metrics: BTreeSet<(EnvironmentId, &'a str)>,
}

impl<'a> Missing<'a> {
    /// Adds what an event names, unless nothing can have such a name.
    pub(super) fn add(&mut self, environment: EnvironmentId, event: &'a Event) {
        match &event.subject {
            Subject::Exposure(Exposure { experiment, .. }) if key::Experiment::new(experiment).is_ok() => {
                self.experiments.insert((environment, experiment));
            }
            Subject::Metric(Measurement { metric, .. }) if key::Metric::new(metric).is_ok() => {
                self.metrics.insert((environment, metric));
            }
            Subject::Exposure(_) | Subject::Metric(_) => {}
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.experiments.is_empty() && self.metrics.is_empty()
    }
}

/// Whether a metric of this kind makes something of such an event.
fn reads(kind: MetricKind, measure: Measure) -> bool {
    match (kind, measure) {
        (MetricKind::Conversion, Measure::Conversion | Measure::Value(_) | Measure::Count(_))
        | (MetricKind::Value, Measure::Value(_))
        | (MetricKind::Count, Measure::Conversion | Measure::Count(_)) => true,
        (MetricKind::Value, Measure::Conversion | Measure::Count(_)) | (MetricKind::Count, Measure::Value(_)) => false,
    }
}

impl Known {
    fn at(read_at: Instant) -> Self {
        Self {
            read_at,
            experiments: HashMap::new(),
            metrics: HashMap::new(),
        }
    }

    fn put(&mut self, row: &Row) -> Result<(), Error> {
        let experiment = Experiment {
            id: rows::get(row, "id")?,
            iteration: rows::count(row, "iteration")?,
            sticky: rows::get(row, "sticky")?,
            client_visible: rows::get(row, "client_visible")?,
            arms: rows::get(row, "arms")?,
        };
        self.experiments.insert(rows::get(row, "key")?, experiment);
        let metrics = metrics(row).unwrap_or_else(|error| {
            // Somebody edited them by hand. Whoever else's events are written with these must not suffer for it.
            tracing::error!(error = error.summary(), "the metrics of an experiment make no sense");
            Vec::new()
        });
        for Metric { key, kind, goal: _ } in metrics {
            let kinds = self.metrics.entry(key.to_string()).or_default();
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(())
    }
}

/// The metrics of an experiment's row, the primary one first.
pub(in crate::store) fn metrics(row: &Row) -> Result<Vec<Metric>, Error> {
    let unreadable = |column| move |error| rows::corrupt(column, crate::store::error::Flaw::from(error));
    let primary: Option<Json<Metric>> = row.try_get("primary_metric").map_err(unreadable("primary_metric"))?;
    let guardrails: Json<Vec<Metric>> = row
        .try_get("guardrail_metrics")
        .map_err(unreadable("guardrail_metrics"))?;
    let primary = primary.map(|Json(metric)| metric);
    Ok(primary.into_iter().chain(guardrails.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decimal::Decimal;

    #[test]
    fn a_metric_takes_the_measures_that_it_can_read() {
        let measures = [Measure::Conversion, Measure::Value(Decimal::from(2)), Measure::Count(3)];
        let read = |kind| measures.map(|measure| reads(kind, measure));
        assert_eq!(read(MetricKind::Conversion), [true, true, true]);
        assert_eq!(read(MetricKind::Value), [false, true, false]);
        assert_eq!(read(MetricKind::Count), [true, false, true]);
    }
}
