//! An upgrade as operators do it: one replica after the other is told to stop, and started again, while applications are at work.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::cluster::{Database, database};
use crate::support::program::{Program, clean, halyard, run_halyard};
use crate::support::{Scrape, eventually};

const SIGNING_KEY: (&str, &str) = ("HALYARD_SIGNING_KEY", "a signing key for tests, 32 bytes or more");
const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery staple";
/// How often each replica is replaced.
const ROUNDS: usize = 3;
/// What the server is given to stop.
const GRACE: Duration = Duration::from_secs(20);

struct Replica {
    address: String,
    metrics: SocketAddr,
    program: Program,
}

impl Replica {
    async fn start(database: &Database) -> Self {
        Self::at(free_address(), database).await
    }

    /// Started, and ready.
    async fn at(address: String, database: &Database) -> Self {
        let metrics = free_address();
        let mut command = halyard();
        command.args([
            "serve",
            "--drain-window",
            "2s",
            "--shutdown-grace",
            "20s",
            "--worker-threads",
            "2",
        ]);
        command
            .args(["--listen", &address, "--metrics-listen", &metrics])
            .envs([SIGNING_KEY, ("DATABASE_URL", &database.url)]);
        let program = Program::start(command);
        let endpoint = format!("http://{address}");
        eventually("readiness", async || {
            (run_halyard(&["health", "--endpoint", &endpoint], &[]).code == Some(0)).then_some(())
        })
        .await;
        Self {
            address,
            metrics: metrics.parse().unwrap(),
            program,
        }
    }

    /// Waits until clients have found it: it has made a change for one. A library tries again after a second at first, and later after
    /// more; whoever stops the next replica before that leaves the clients without any.
    async fn is_at_work(&self) {
        eventually("a change made by the new replica", async || {
            let made = Scrape::of(self.metrics).await.count("halyard_feed_hints_sent_total");
            (made > 0).then_some(())
        })
        .await;
    }

    /// Told to stop as Kubernetes does it, and started again at the same address.
    async fn replace(mut self, database: &Database) -> Self {
        let told = Instant::now();
        self.program.signal(Signal::TERM);
        let (status, log) = self.program.ends();
        assert_eq!(status.code(), Some(0), "{log}");
        // Nothing had to be closed by force, which is what happens when the grace is over.
        assert!(
            !log.contains("closing what is still open"),
            "after {:?} of {GRACE:?}: {log}",
            told.elapsed()
        );
        Self::at(self.address, database).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_replaced_without_a_failed_request_or_a_lost_update() {
    let python = "target/clients/python/bin/python";
    assert!(
        Path::new(python).exists(),
        "{python} is missing; `make test` prepares it"
    );
    let database = database().await;
    let variables = [
        ("DATABASE_URL", database.url.as_str()),
        ("HALYARD_ADMIN_PASSWORD", PASSWORD),
    ];
    run_halyard(&["create-admin", "--email", EMAIL], &variables).done();
    let mut replicas = vec![Replica::start(&database).await, Replica::start(&database).await];

    let endpoints = format!("{},{}", replicas[0].address, replicas[1].address);
    let mut command = clean(Command::new(python));
    command.arg("tests/clients/python/rolling.py").envs([
        ("HALYARD_ENDPOINTS", endpoints.as_str()),
        ("HALYARD_EMAIL", EMAIL),
        ("HALYARD_PASSWORD", PASSWORD),
    ]);
    let mut load = Program::start(command);
    load.says("under load");
    for replica in &replicas {
        replica.is_at_work().await;
    }
    for _ in 0..ROUNDS {
        // The one that has served longest goes first, as in a rolling upgrade.
        for _ in 0..2 {
            let oldest = replicas.remove(0);
            let newest = oldest.replace(&database).await;
            newest.is_at_work().await;
            replicas.push(newest);
        }
    }
    load.signal(Signal::TERM);
    let counted = load.says("evaluations=");
    let (status, wrong) = load.ends();
    assert_eq!(status.code(), Some(0), "{counted}\n{wrong}");
    for word in counted.split_whitespace() {
        let (what, count) = word.split_once('=').unwrap();
        // A load that did nothing shows nothing.
        assert!(count.parse::<u64>().unwrap() > 2 * ROUNDS as u64, "{what} in {counted}");
    }
    println!("{counted}");
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
