//! Events of experiments, through gRPC.

mod behind;
mod days;
mod forwarded;
mod once;
mod results;
mod taken;
mod whole;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use halyard::pb::evaluation::v1 as pb;
use jiff::Timestamp;
use tokio_postgres::Client;
use tonic::Status;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::app::{App, Keys, evaluation};

/// A service with the experiment `checkout` on the flag `f`, in its second iteration, with the arms `on` and `off`, the metrics
/// `bought` (conversion), `revenue` (value) and `clicks` (count).
pub(super) struct World {
    pub app: App,
    pub keys: Keys,
    pub sql: Client,
    pub experiment: i64,
}

impl World {
    pub async fn new() -> Self {
        Self::on(App::start().await).await
    }

    pub async fn on(app: App) -> Self {
        let keys = app.shop().await;
        app.flag("f").await;
        let sql = app.database.client().await;
        let experiment = experiment(&sql, "checkout", "running").await;
        Self {
            app,
            keys,
            sql,
            experiment,
        }
    }

    /// What became of these events, sent together with the server key.
    pub async fn track(&self, events: Vec<pb::Event>) -> Vec<pb::EventOutcome> {
        track(&self.app.channel, &self.keys.server, events).await.unwrap()
    }

    /// How many rows a table has.
    pub async fn rows(&self, table: &str) -> i64 {
        rows(&self.sql, table).await
    }
}

/// Runs a test that looks at the day several times; once more, if midnight in UTC fell into it.
pub(super) async fn within_a_day(mut test: impl AsyncFnMut()) {
    let day = || Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let began_on = day();
    let outcome = AssertUnwindSafe(test()).catch_unwind().await;
    match outcome {
        Ok(()) => {}
        Err(_) if day() != began_on => test().await,
        Err(failure) => std::panic::resume_unwind(failure),
    }
}

pub(super) async fn rows(sql: &Client, table: &str) -> i64 {
    let count = format!("select count(*) from {table}");
    sql.query_one(&count, &[]).await.unwrap().get(0)
}

/// What became of events, sent together with a key.
pub(super) async fn track(
    channel: &Channel,
    key: &str,
    events: Vec<pb::Event>,
) -> Result<Vec<pb::EventOutcome>, Status> {
    let request = pb::TrackRequest {
        events,
        as_client: false,
    };
    let answered = evaluation(channel, key).track(request).await?.into_inner().answers;
    Ok(answered.iter().map(pb::EventAnswer::outcome).collect())
}

/// Writes an experiment as its service would: only what events depend on matters here.
pub(super) async fn experiment(sql: &Client, key: &str, state: &str) -> i64 {
    sql.batch_execute("set halyard.journal = 'on'").await.unwrap();
    let insert = "
        insert into experiments (project_id, environment_id, flag_id, key, name, description, hypothesis, owner, state, audience,
            allocation, largest_allocation, sticky, primary_metric, guardrail_metrics, salt, iteration, created_at, updated_at,
            started_at, stopped_at)
        select e.project_id, e.id, f.id, $1, '', '', '', '', $2, '[]', 1000000, 1000000, true,
            '{\"key\": \"bought\", \"kind\": \"conversion\", \"goal\": \"increase\"}',
            '[{\"key\": \"revenue\", \"kind\": \"value\", \"goal\": \"increase\"},
              {\"key\": \"clicks\", \"kind\": \"count\", \"goal\": \"decrease\"}]',
            gen_random_uuid(), case when $2 = 'draft' then 0 else 2 end, now(), now(),
            case when $2 = 'draft' then null else now() - interval '2 days' end,
            case when $2 = 'stopped' then now() end
        from environments e join flags f on f.project_id = e.project_id
        where f.key = 'f' and e.key = 'dev'
        returning id";
    let id: i64 = sql.query_one(insert, &[&key, &state]).await.unwrap().get(0);
    let arms = "insert into experiment_arms values ($1, 1, 'off', 1, true), ($1, 2, 'on', 1, false)";
    sql.execute(arms, &[&id]).await.unwrap();
    if state != "draft" {
        let iterations = "
            insert into experiment_iterations
            values ($1, 1, '{1,1}', 1000000, '[]', now() - interval '2 days', now() - interval '1 day'),
                ($1, 2, '{3,1}', 1000000, '[]', now() - interval '1 day', null)";
        sql.execute(iterations, &[&id]).await.unwrap();
    }
    id
}

pub(super) fn event(unit: &str, what: pb::event::What) -> pb::Event {
    pb::Event {
        id: Uuid::now_v7().to_string(),
        unit: unit.into(),
        occur_time: None,
        what: Some(what),
    }
}

/// An exposure to the arm `on` of `checkout`, in its second iteration.
pub(super) fn exposure(unit: &str) -> pb::Event {
    exposed(unit, "checkout", 2, "on", true)
}

pub(super) fn exposed(unit: &str, experiment: &str, iteration: u32, arm: &str, stored: bool) -> pb::Event {
    let exposure = pb::Exposure {
        experiment: experiment.into(),
        iteration,
        arm: arm.into(),
        assignment_stored: stored,
    };
    event(unit, pb::event::What::Exposure(exposure))
}

pub(super) fn conversion(unit: &str, metric: &str) -> pb::Event {
    measured(unit, metric, None)
}

pub(super) fn value(unit: &str, metric: &str, value: f64) -> pb::Event {
    measured(unit, metric, Some(pb::metric_event::Amount::Value(value)))
}

pub(super) fn count(unit: &str, metric: &str, count: u64) -> pb::Event {
    measured(unit, metric, Some(pb::metric_event::Amount::Count(count)))
}

fn measured(unit: &str, metric: &str, amount: Option<pb::metric_event::Amount>) -> pb::Event {
    let event = pb::MetricEvent {
        metric: metric.into(),
        amount,
        unit_attribute: String::new(),
    };
    self::event(unit, pb::event::What::Metric(event))
}

/// The same event, which happened so many seconds from now.
pub(super) fn at(event: pb::Event, seconds: i64) -> pb::Event {
    let now = Timestamp::now();
    pb::Event {
        occur_time: Some(prost_types::Timestamp {
            seconds: now.as_second() + seconds,
            nanos: now.subsec_nanosecond(),
        }),
        ..event
    }
}
