//! First answers: stored together, and each with an insert and a commit of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use halyard::domain::context::Context;
use halyard::domain::experiment::{Running, WHOLE, item};
use halyard::domain::form::{self, ItemId, Kind};
use halyard::domain::rule::Weighted;
use halyard::embedded::{Cluster, Options};
use halyard::evaluate::{Assigned, Freshness, Need, Snapshot};
use halyard::store::assignments::Assignments;
use halyard::store::{Settings, migrate};
use tokio::time::Instant;
use tokio_postgres::{Client, Config, NoTls, Statement};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::numbers::{median, percentile};
use crate::support::tests_support::cluster::Folder;
use crate::support::world::HALYARD;
use crate::support::{Result, seconds, setting, table};

/// How many callers there are, and over how many connections those write who write for themselves: each over its own, or all over a
/// pool.
const CALLERS: [(usize, usize); 3] = [(64, 64), (1000, 64), (1000, 1000)];
const SALT: Uuid = Uuid::from_u128(0x6b1f_9e2c_0d44_4a57_9c3e_0000_0000_0001);
const FURNISH: &str = "
    with p as (insert into projects (key, name, description, created_at, updated_at)
        values ('p', '', '', now(), now()) returning id),
    v as (insert into environments (project_id, key, name, description, protected, created_at, updated_at)
        select id, 'v', '', '', false, now(), now() from p returning id, project_id),
    f as (insert into flags (project_id, key, name, description, tags, owner, form, value_type, client_visible, form_version, created_at,
            updated_at)
        select id, 'f', '', '', '{}', '', '', 'bool', true, 1, now(), now() from p returning id),
    e as (insert into experiments (project_id, environment_id, flag_id, key, name, description, hypothesis, owner, state, audience,
            allocation, sticky, guardrail_metrics, salt, created_at, updated_at)
        select v.project_id, v.id, f.id, 'x', '', '', '', '', 'running', '[]', 1000000, true, '[]', $1, now(), now()
        from v, f returning id)
    insert into experiment_arms (experiment_id, position, variant, weight, control)
    select e.id, a.position, a.variant, 1, a.position = 1 from e, (values (1, 'on'), (2, 'off')) as a (position, variant)
    returning experiment_id";
const ALONE: &str = "
    insert into experiment_assignments (experiment_id, unit, arm, iteration, assigned_at) values ($1, $2, 'on', 1, clock_timestamp())
    on conflict (experiment_id, unit) do nothing
    returning arm";

/// What was answered in one turn.
struct Turn {
    /// Per second.
    rate: f64,
    /// The time of an answer that half were faster than, in milliseconds.
    p50: f64,
    /// The same for 99 in 100.
    p99: f64,
}

#[tokio::main]
pub async fn measure() -> Result<()> {
    let rounds = setting("BENCH_ROUNDS", 3)?;
    let time = seconds("BENCH_SECONDS", 3.0)?;
    let folder = Folder::new();
    let mut options = Options::new(folder.path.join("data"));
    options.supervisor = Some(HALYARD.into());
    options.max_connections = 1100;
    let cluster = Cluster::start(options).await?;
    migrate::run(&cluster.config()).await?;
    let (client, _) = connected(&cluster.config()).await?;
    // A row for each arm.
    let arms = client.query(FURNISH, &[&SALT]).await?;
    let experiment: i64 = arms.first().ok_or("no experiment")?.get(0);
    let stop = CancellationToken::new();
    let (assignments, writer) = Assignments::new(&Settings::new(cluster.config()))?;
    let writing = tokio::spawn(writer.run(stop.clone()));
    let assignments = Arc::new(assignments);
    let need = Arc::new(need());
    let mut rows = Vec::new();
    for (callers, connections) in CALLERS {
        let floor = Arc::new(connected_often(&cluster.config(), connections).await?);
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        // The first turn of each warms up.
        for round in 0..=rounds {
            let units = format!("{callers}-{connections}-{round}");
            let by_one = each_alone(&floor, experiment, callers, &units, time).await;
            let by_all = all_together(&assignments, &need, callers, &units, time).await;
            if round > 0 {
                alone.push(by_one);
                together.push(by_all);
            }
        }
        let ratios = together.iter().zip(&alone).map(|(turn, alone)| turn.rate / alone.rate);
        let ratio = format!("{:.1} ×", median(ratios));
        let name = format!("an insert and a commit each, {connections} connections");
        rows.push(row(callers, &name, &alone, "1.0 ×"));
        rows.push(row(callers, "stored together", &together, &ratio));
    }
    let head = [
        "callers",
        "first answers",
        "per second",
        "p50 / p99 ms",
        "rate to alone",
    ];
    table::print("First answers of one experiment, fsync on", &head, &rows);
    stop.cancel();
    writing.await?;
    cluster.stop().await?;
    Ok(())
}

fn row(callers: usize, name: &str, turns: &[Turn], ratio: &str) -> Vec<String> {
    let of = |number: fn(&Turn) -> f64| median(turns.iter().map(number));
    vec![
        callers.to_string(),
        name.to_owned(),
        table::thousands(of(|turn| turn.rate)),
        format!("{:.1} / {:.1}", of(|turn| turn.p50), of(|turn| turn.p99)),
        ratio.to_owned(),
    ]
}

async fn connected_often(config: &Config, count: usize) -> Result<Vec<(Client, Statement)>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(connected(config).await?);
    }
    Ok(connections)
}

async fn connected(config: &Config) -> Result<(Client, Statement)> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    let statement = client.prepare(ALONE).await?;
    Ok((client, statement))
}

/// What is needed of a unit, which is put in later.
fn need() -> Need {
    let arm = |variant: &str| Weighted {
        variant: variant.parse().unwrap(),
        weight: 1,
    };
    let running = Running {
        flag: "f".parse().unwrap(),
        salt: SALT,
        iteration: 1,
        arms: vec![arm("on"), arm("off")],
        audience: Vec::new(),
        allocation: WHOLE,
        largest_allocation: WHOLE,
        attribute: None,
        sticky: true,
        layer: None,
        before_rule: None,
    };
    let mut snapshot = Snapshot::default();
    let mut put = |kind, key: &str, form: &[u8]| snapshot.put(&ItemId { kind, key: key.into() }, form);
    let definition = br#"{"format":1,"key":"f","type":"bool","variants":[{"key":"on","value":{"bool":true}},
        {"key":"off","value":{"bool":false}}],"off_variant":"off","client_visible":true}"#;
    put(Kind::FlagDefinition, "f", definition);
    put(Kind::FlagConfiguration, "f", br#"{"format":1,"enabled":true}"#);
    put(Kind::Experiment, &item("f", "x"), &form::write_experiment(&running));
    let context = Context::new("u".to_owned(), std::iter::empty().collect());
    let flag = snapshot.get("f").unwrap();
    let asked = flag.evaluate_knowing(&context, &snapshot, Freshness::ANY, &|_: &_, _: &_| Assigned::Unknown);
    *asked.unwrap_err()
}

async fn each_alone(
    connections: &Arc<Vec<(Client, Statement)>>,
    experiment: i64,
    callers: usize,
    units: &str,
    time: Duration,
) -> Turn {
    let end = Instant::now() + time;
    let callers = (0..callers).map(|caller| {
        let (connections, units) = (connections.clone(), units.to_owned());
        tokio::spawn(async move {
            let (client, statement) = &connections[caller % connections.len()];
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let n = latencies.len();
                let begun = Instant::now();
                let unit = format!("alone-{units}-{caller}-{n}");
                client.query(statement, &[&experiment, &unit]).await.unwrap();
                latencies.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            latencies
        })
    });
    Turn::of(join_all(callers).await, time)
}

async fn all_together(
    assignments: &Arc<Assignments>,
    need: &Arc<Need>,
    callers: usize,
    units: &str,
    time: Duration,
) -> Turn {
    let end = Instant::now() + time;
    let callers = (0..callers).map(|caller| {
        let (assignments, need, units) = (assignments.clone(), need.clone(), units.to_owned());
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let n = latencies.len();
                let begun = Instant::now();
                let unit = Need {
                    unit: format!("together-{units}-{caller}-{n}"),
                    ..(*need).clone()
                };
                let found = assignments
                    .settle(&[unit], Instant::now() + Duration::from_secs(5))
                    .await;
                assert!(matches!(found.as_slice(), [Assigned::Arm { .. }]), "{found:?}");
                latencies.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            latencies
        })
    });
    Turn::of(join_all(callers).await, time)
}

impl Turn {
    fn of(latencies: Vec<std::result::Result<Vec<f64>, tokio::task::JoinError>>, time: Duration) -> Self {
        let mut latencies: Vec<f64> = latencies.into_iter().flat_map(std::result::Result::unwrap).collect();
        Self {
            rate: f64::from(u32::try_from(latencies.len()).unwrap()) / time.as_secs_f64(),
            p50: percentile(&mut latencies, 0.5),
            p99: percentile(&mut latencies, 0.99),
        }
    }
}
