//! How much notification slows writing down: the same toggles, as fast as PostgreSQL takes them, with nobody who is told or
//! listens; with a writer that follows its own changes and tells two replicas, which read them; and with streams on one of these.
//!
//! PostgreSQL and the replicas keep to one core, the writers to the other: what replicas read and send is taken from PostgreSQL's
//! time, as on a small machine that all share.

use std::time::{Duration, Instant};

use halyard::domain::key;
use halyard::store::configurations::Toggle;
use halyard::store::environments::Address;
use halyard::store::feed::{Feed, Hints, Options};
use halyard::store::{Actor, Caller, Mutation, Settings, Store, connect};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::support::numbers::median;
use super::support::process::{CLIENT, keep_to};
use super::support::streams::Streams;
use super::support::world::{Replica, TOGGLED};
use super::support::{Result, seconds, setting, table};
use super::{Bench, Shape};

const ENVIRONMENT: &str = "dev";
/// Writers at the same time, each with a project of its own: writers of one project wait for each other.
const WRITERS: usize = 8;
/// The streams of the environment that the first writer writes to.
const STREAMS: Shape = (1_000, 20);

pub fn measure() -> Result<()> {
    let (rounds, time) = (setting("BENCH_ROUNDS", 5)?, seconds("BENCH_SECONDS", 3.0)?);
    let bench = Bench::new()?;
    keep_to(CLIENT)?;
    let key = bench.runtime.block_on(projects(&bench))?;
    let mut rates = [const { Vec::new() }; 3];
    let mut ratios = [const { Vec::new() }; 3];
    // Replica A would follow the writes when nobody shall.
    let Bench { world, a, runtime, .. } = bench;
    drop(a);
    for _ in 0..rounds {
        let write = |told| runtime.block_on(rate(world.config()?, told, time));
        let alone = write(false)?;
        let replicas = [world.serve(super::SERVER, 1, &[])?, world.serve(super::SERVER, 1, &[])?];
        keep_to(CLIENT)?;
        let told = write(true)?;
        let streamed = runtime.block_on(streamed(&replicas[0], &key, rate(world.config()?, true, time)))?;
        for (n, rate) in [alone, told, streamed].into_iter().enumerate() {
            rates[n].push(rate);
            ratios[n].push(rate / alone);
        }
    }
    let names = [
        "without notification",
        "told to two replicas",
        "told to two replicas, 1000 streams",
    ];
    let rows = names.iter().zip(rates).zip(ratios);
    let rows: Vec<_> = rows
        .map(|((name, rates), ratios)| {
            vec![
                (*name).to_owned(),
                table::thousands(median(rates)),
                format!("{:.0} %", 100.0 * median(ratios)),
            ]
        })
        .collect();
    let head = ["toggles of 8 writers in as many projects", "per second", "to none"];
    table::print("Writing with and without notification", &head, &rows);
    Ok(())
}

/// Makes the writers' projects, and returns the key of the first.
async fn projects(bench: &Bench) -> Result<String> {
    let mut keys = Vec::new();
    for n in 0..WRITERS {
        bench.administrator.project(&name(n)).await?;
        keys.push(bench.administrator.environment(&name(n), ENVIRONMENT).await?);
        bench.administrator.flag(&name(n), TOGGLED).await?;
    }
    Ok(keys.swap_remove(0))
}

fn name(n: usize) -> String {
    format!("writing-{n}")
}

/// The rate of writes while streams are open.
async fn streamed(replica: &Replica, key: &str, rate: impl Future<Output = Result<f64>>) -> Result<f64> {
    let (mut streams, _) = Streams::open(replica.address, key, STREAMS.0, STREAMS.1).await?;
    let receiving = async {
        loop {
            if let Err(error) = streams.next().await {
                return error;
            }
        }
    };
    tokio::select! {
        rate = rate => rate,
        error = receiving => Err(error),
    }
}

/// Toggles per second. Told: the process has a feed, as a server has.
async fn rate(config: tokio_postgres::Config, told: bool, time: Duration) -> Result<f64> {
    let (settings, hints, cancel) = (Settings::new(config.clone()), Hints::new(), CancellationToken::new());
    let store = Store::connect(&settings, hints.clone()).await?;
    if told {
        let options = Options::default();
        let pool = connect::feed_pool(&settings, options.load_timeout)?;
        let (_feed, mut events) = Feed::start(config, pool, hints, options, cancel.clone(), |_, task| {
            tokio::spawn(task);
        });
        tokio::spawn(async move { while events.recv().await.is_some() {} });
    }
    let ends = Instant::now() + time;
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        writers.spawn(write(store.clone(), n, ends));
    }
    let mut toggles = 0;
    while let Some(count) = writers.join_next().await {
        toggles += count??;
    }
    cancel.cancel();
    Ok(f64::from(toggles) / time.as_secs_f64())
}

/// Toggles until it is over.
async fn write(store: Store, n: usize, ends: Instant) -> Result<u32> {
    let mutation = Mutation {
        caller: Caller {
            actor: Actor::CommandLine,
            name: String::new(),
            credential: String::new(),
            peer: String::new(),
            reason: String::new(),
        },
        method: "bench",
        request: None,
        validate_only: false,
    };
    let (project, environment) = (key::Project::new(&name(n))?, key::Environment::new(ENVIRONMENT)?);
    let at = Address {
        project: &project,
        environment: &environment,
    };
    let flag = key::Flag::new(TOGGLED)?;
    let mut toggles = 0;
    while Instant::now() < ends {
        for enabled in [true, false] {
            let toggle = Toggle {
                flag: flag.clone(),
                enabled,
            };
            store.toggle_flags(&mutation, at, &[toggle], |_| Vec::new()).await?;
            toggles += 1;
        }
    }
    Ok(toggles)
}
