//! The soak: a mixed load for ten minutes on three replicas, of which two are stopped, or killed, and started again in turn. Nothing may
//! fail, and the memory of the one that lives on must stay as it is. `make soak`; docs/operations.md says what it shows.

mod lives;
mod memory;
mod table;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::load::Load;
use crate::mixed::Report;
use crate::replica::{Installation, Replica};
use crate::support::cluster::database;
use lives::{End, Lives};

/// How often a replica is replaced, the two in turn.
const EVERY: Duration = Duration::from_secs(30);
/// Every so many times it is killed instead of told to stop.
const KILLED_EVERY: u64 = 4;
/// What replicas take of PostgreSQL's connections at most (docs/operations.md): the pool of each and nine more, for one more replica than
/// there are while they are replaced, and a migration.
const CONNECTIONS: u64 = (REPLICAS as u64 + 1) * (8 + 9) + 1;
const REPLICAS: usize = 3;
/// The one that lives on.
const STEADY: usize = 0;

fn setting<T: FromStr>(name: &str, unless_given: T) -> T {
    let given = std::env::var(name).ok();
    given.map_or(unless_given, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes; make soak runs it"]
async fn nothing_fails_and_memory_stays_flat() {
    let time = Duration::from_mins(1).mul_f64(setting("SOAK_MINUTES", 10.0));
    let database = database().await;
    let mut installation = Installation::of(database.url.clone());
    if let Some(program) = std::env::var_os("SOAK_PROGRAM") {
        installation = installation.with(&PathBuf::from(program));
    }
    installation.create_administrator();
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(Replica::start(&installation).await);
    }
    let load = Load::mixed(&replicas, setting("SOAK_RATE", 500));
    let (began, lives) = (Instant::now(), Lives::watch(database.client().await));
    for (number, replica) in replicas.iter().enumerate() {
        replica.is_at_work().await;
        lives.begin(number, replica);
    }

    let (mut replaced, mut killed) = (0, 0);
    while began.elapsed() + EVERY < time {
        sleep_until(began + EVERY * (u32::try_from(replaced).unwrap() + 1)).await;
        let number = 1 + usize::try_from(replaced).unwrap() % (REPLICAS - 1);
        replaced += 1;
        let old = replicas.remove(number);
        let new = if replaced % KILLED_EVERY == 0 {
            killed += 1;
            lives.end(number, End::Killed);
            old.kill_and_replace(&installation).await
        } else {
            lives.end(number, End::Stopped);
            old.replace(&installation).await
        };
        lives.begin(number, &new);
        new.is_at_work().await;
        replicas.insert(number, new);
    }
    sleep_until(began + time).await;

    let (report, outcome) = Report::of(load);
    let lives = lives.over();
    let steady = lives.of(STEADY);
    let memory = memory::judge(&steady.resident(), time);
    table::print(&report, &lives, &memory, (replaced, killed));
    outcome.unwrap();
    report.nothing_failed(killed);
    report.is_what_is_stored(&database, &installation).await;
    assert!(lives.no_internal_errors());
    assert!(
        lives.connections() <= CONNECTIONS,
        "{} connections",
        lives.connections()
    );
    memory.unwrap().is_flat().unwrap();
    for mut replica in replicas {
        replica.stop();
    }
}
