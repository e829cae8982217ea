//! The life of every process of a replica: what it had resident every few seconds, what it answered, and how it ended.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;

use crate::replica::Replica;
use crate::support::Scrape;

/// How often it is looked. A scraper of metrics comes as often at most.
const EVERY: Duration = Duration::from_secs(5);
const CODES: [&str; 8] = [
    "OK",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "CANCELLED",
    "INTERNAL",
    "UNKNOWN",
    "DATA_LOSS",
    "UNIMPLEMENTED",
];
/// Which of them no server should ever have to say.
const NEVER: [&str; 4] = ["INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED"];

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Stopped,
    Killed,
}

#[derive(Debug, Clone)]
pub struct Life {
    pub replica: usize,
    process: u32,
    metrics: SocketAddr,
    pub samples: Vec<Sample>,
    /// By code, when it was last asked.
    pub answered: BTreeMap<&'static str, f64>,
    /// Assignments that it knew, when it was last asked.
    pub known: f64,
    pub ended: Option<End>,
}

#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub at: Duration,
    pub resident_kib: f64,
    pub open_files: usize,
}

impl Life {
    /// What was resident when.
    pub fn resident(&self) -> Vec<(Duration, f64)> {
        let samples = self.samples.iter();
        samples.map(|sample| (sample.at, sample.resident_kib)).collect()
    }

    fn look(&mut self, at: Duration) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident_kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
        let open_files = std::fs::read_dir(format!("/proc/{}/fd", self.process)).map_or(0, Iterator::count);
        // Whoever is gone has none, and is not looked at.
        self.samples.extend(resident_kib.map(|resident_kib| Sample {
            at,
            resident_kib,
            open_files,
        }));
    }

    fn heard(&mut self, scrape: &Scrape) {
        self.answered = CODES
            .map(|code| (code, scrape.sum("halyard_requests_total", &format!("code=\"{code}\""))))
            .into();
        self.known = scrape.value("halyard_assignments_known");
    }
}

/// All of them, and what they took of PostgreSQL together.
#[derive(Default)]
pub struct Told {
    pub lives: Vec<Life>,
    pub connections: Vec<u64>,
}

impl Told {
    /// The only life of a replica that was never replaced.
    pub fn of(&self, replica: usize) -> &Life {
        let mut lives = self.lives.iter().filter(|life| life.replica == replica);
        let life = lives.next().unwrap();
        assert!(lives.next().is_none());
        life
    }

    pub fn no_internal_errors(&self) -> bool {
        let mut said = self.lives.iter().flat_map(|life| &life.answered);
        said.all(|(code, count)| !NEVER.contains(code) || *count <= 0.0)
    }

    /// The most that were open at a time.
    pub fn connections(&self) -> u64 {
        self.connections.iter().copied().max().unwrap()
    }

    fn running(&mut self) -> impl Iterator<Item = &mut Life> {
        self.lives.iter_mut().filter(|life| life.ended.is_none())
    }
}

/// Looks at them all until it is over.
pub struct Lives {
    told: Arc<Mutex<Told>>,
    _task: AbortOnDropHandle<()>,
}

impl Lives {
    pub fn watch(client: Client) -> Self {
        let told = Arc::<Mutex<Told>>::default();
        let noting = Arc::clone(&told);
        let task = tokio::spawn(async move {
            let (began, mut ticks) = (Instant::now(), tokio::time::interval(EVERY));
            loop {
                ticks.tick().await;
                look(&noting, &client, began.elapsed()).await;
            }
        });
        Self {
            told,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// A process begins to be looked at.
    pub fn begin(&self, number: usize, replica: &Replica) {
        self.told().lives.push(Life {
            replica: number,
            process: replica.process(),
            metrics: replica.metrics,
            samples: Vec::new(),
            answered: BTreeMap::new(),
            known: 0.0,
            ended: None,
        });
    }

    /// The process of a replica is about to end.
    pub fn end(&self, number: usize, end: End) {
        for life in self.told().running().filter(|life| life.replica == number) {
            life.ended = Some(end);
        }
    }

    pub fn over(self) -> Told {
        std::mem::take(&mut self.told())
    }
}

async fn look(told: &Mutex<Told>, client: &Client, at: Duration) {
    let mut addresses = Vec::new();
    for life in told.lock().unwrap().running() {
        life.look(at);
        addresses.push((life.process, life.metrics));
    }
    for (process, metrics) in addresses {
        let Ok(Some(scrape)) = timeout(EVERY, Scrape::attempt(metrics)).await else {
            continue;
        };
        let mut told = told.lock().unwrap();
        let mut lives = told.lives.iter_mut();
        if let Some(life) = lives.find(|life| life.process == process) {
            life.heard(&scrape);
        }
    }
    let open =
        "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'halyard%'";
    let open: i64 = client.query_one(open, &[]).await.unwrap().get(0);
    told.lock().unwrap().connections.push(u64::try_from(open).unwrap());
}
