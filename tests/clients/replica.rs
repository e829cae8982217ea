//! Replicas as operators run them: a program that was built, started, told to stop, killed, and started again at the same address.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::program::{Ended, Program, clean, run, run_halyard};
use crate::support::{Scrape, eventually_within};

const SIGNING_KEY: (&str, &str) = ("HALYARD_SIGNING_KEY", "a signing key for tests, 32 bytes or more");
pub const EMAIL: &str = "ada@example.com";
pub const PASSWORD: &str = "correct horse battery staple";
/// Longer than anything should take, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_mins(2);
/// After which it is asked for its metrics anew.
const SCRAPE: Duration = Duration::from_secs(5);
/// What the server is given to stop.
const GRACE: Duration = Duration::from_secs(20);

/// A database, and the program that is run on it.
#[derive(Clone)]
pub struct Installation {
    url: String,
    program: PathBuf,
}

impl Installation {
    /// The program that was built with the tests.
    pub fn of(url: String) -> Self {
        Self {
            url,
            program: env!("CARGO_BIN_EXE_halyard").into(),
        }
    }

    /// The same database, and another program.
    pub fn with(&self, program: &Path) -> Self {
        Self {
            url: self.url.clone(),
            program: program.to_owned(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = clean(Command::new(&self.program));
        let variables = [
            SIGNING_KEY,
            ("DATABASE_URL", &self.url),
            ("HALYARD_ADMIN_PASSWORD", PASSWORD),
        ];
        command.args(arguments).envs(variables);
        command
    }

    /// Runs a subcommand to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        run(self.command(arguments))
    }

    pub fn create_administrator(&self) {
        self.run(&["create-admin", "--email", EMAIL]).done();
    }
}

pub struct Replica {
    pub address: String,
    pub metrics: SocketAddr,
    program: Program,
}

impl Replica {
    /// Started, and ready.
    pub async fn start(installation: &Installation) -> Self {
        Self::at(free_address(), installation).await
    }

    async fn at(address: String, installation: &Installation) -> Self {
        let metrics = free_address();
        let mut command = installation.command(&["serve", "--drain-window", "2s", "--worker-threads", "2"]);
        let grace = format!("{}s", GRACE.as_secs());
        command.args([
            "--shutdown-grace",
            &grace,
            "--listen",
            &address,
            "--metrics-listen",
            &metrics,
        ]);
        let program = Program::start(command);
        let endpoint = format!("http://{address}");
        eventually_within(PATIENCE, "readiness", async || {
            (run_halyard(&["health", "--endpoint", &endpoint], &[]).code == Some(0)).then_some(())
        })
        .await;
        Self {
            address,
            metrics: metrics.parse().unwrap(),
            program,
        }
    }

    pub fn process(&self) -> u32 {
        self.program.pid()
    }

    /// Waits until clients have found it: it has made a change for one. A library tries again after a second at first, and later after
    /// more; whoever stops the next replica before that leaves the clients without any.
    pub async fn is_at_work(&self) {
        self.makes(1).await;
    }

    /// Waits until it has made so many changes more for clients.
    pub async fn goes_on(&self, changes: u64) {
        let before = eventually_within(PATIENCE, "metrics", async || self.made().await).await;
        self.makes(before + changes).await;
    }

    async fn makes(&self, changes: u64) {
        eventually_within(PATIENCE, "changes made by a replica", async || {
            self.made().await.filter(|made| *made >= changes)
        })
        .await;
    }

    async fn made(&self) -> Option<u64> {
        let scrape = tokio::time::timeout(SCRAPE, Scrape::attempt(self.metrics))
            .await
            .ok()??;
        Some(scrape.count("halyard_feed_hints_sent_total"))
    }

    /// Told to stop as Kubernetes does it.
    pub fn stop(&mut self) {
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
    }

    /// Stopped, and another one started at the same address.
    pub async fn replace(mut self, installation: &Installation) -> Self {
        self.stop();
        Self::at(self.address, installation).await
    }

    /// The same of one that is killed and says nothing any more.
    pub async fn kill_and_replace(self, installation: &Installation) -> Self {
        let Self { address, program, .. } = self;
        drop(program);
        Self::at(address, installation).await
    }
}

pub fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
