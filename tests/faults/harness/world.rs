//! A world: PostgreSQL, replicas behind wires, and clients that write, watch and evaluate. A fault breaks it and heals it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::ages::Ages;
use super::doors::Doors;
use super::evaluator::Evaluator;
use super::postgres::Postgres;
use super::recorder::{Habits, Recorder};
use super::replica::Replica;
use super::road::Road;
use super::rounds::Rounds;
use super::sidecar::Sidecar;
use super::spans::Spans;
use super::template::{ENVIRONMENTS, FLAGS, Furniture, TEMPLATE};
use super::wire::Wire;
use super::writer::{Ledger, Writer};
use crate::evidence::{Answer, Cut, Era, Loses, Notices, Recording, Span, What};
use crate::support::cluster::Folder;
use crate::support::{eventually, within};
use crate::table::Entry;

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    pub replicas: usize,
    /// The first so many of the template's.
    pub environments: usize,
    /// Recorders of each environment, each with its own connection.
    pub recorders: usize,
    /// Recorders of each environment that share a connection per replica.
    pub sharing_recorders: usize,
    /// Writers of each environment.
    pub writers: usize,
    /// Everybody writes through this replica, so that the others learn of it by notifications and polls alone. `None`: through any.
    pub write_through: Option<usize>,
    /// What a writer waits between two writes.
    pub pause: Duration,
    /// Settings of PostgreSQL, such as `max_connections=30`.
    pub postgres: &'static [&'static str],
    /// Further arguments of `halyard serve`.
    pub arguments: &'static [&'static str],
    /// What heartbeats may be off by. More where replicas or their clients' connections are held up.
    pub heartbeat_tolerance: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            replicas: 2,
            environments: 2,
            recorders: 3,
            sharing_recorders: 2,
            writers: 2,
            write_through: None,
            pause: Duration::from_millis(10),
            postgres: &[],
            arguments: &[],
            heartbeat_tolerance: Duration::from_secs(1),
        }
    }
}

/// Everything that can be broken. What a fault changes it leaves whole again, or [`World::heal`] does.
pub struct World {
    pub postgres: Postgres,
    /// One before each replica, by its number.
    pub wires: Vec<Wire>,
    pub replicas: Vec<Replica>,
    pub furniture: Furniture,
    pub doors: Doors,
    /// Of the seed: what a fault chooses it chooses by this.
    pub rng: fastrand::Rng,
    pub setup: Setup,
    pub(super) load: Load,
    fault: &'static str,
    /// What the fault noted.
    cuts: Vec<(usize, Loses, Notices, Spans)>,
    /// How long clients may take until they hold what the history holds.
    pub(super) patience: Duration,
    /// How long the fault goes on.
    pub(super) time: Duration,
    end: tokio::time::Instant,
    /// Where the replicas log.
    pub(super) folder: Folder,
}

/// Who uses the world.
pub(super) struct Load {
    pub ledger: Ledger,
    pub recorders: Vec<Recorder>,
    pub answers: Arc<Mutex<Vec<Answer>>>,
    pub writers: Vec<JoinHandle<()>>,
    pub evaluators: Vec<JoinHandle<()>>,
    /// Over each replica, by its metrics.
    pub ages: Vec<Ages>,
    /// That clients use to the end.
    pub roads: Vec<Road>,
    /// Sidecars, and the roads between them, to the end.
    pub sidecars: Vec<Sidecar>,
    pub sidecar_roads: Vec<Road>,
    /// Of clients that the fault itself has been, and that are gone.
    pub recordings: Vec<Recording>,
    /// When others than the replicas could not answer, by the number that they answer under.
    pub absences: Vec<(usize, Spans)>,
    pub stop_writing: CancellationToken,
    pub stop_evaluating: CancellationToken,
    pub eras: Vec<Era>,
    /// The longest that clients took to catch up during the fault.
    pub worst: Duration,
    /// Who did not.
    pub unfinished: Vec<String>,
    /// What each replica had resident before the fault, in KiB, and which process that was.
    pub resident: Vec<(u32, u64)>,
    /// Held by every writer while it writes.
    gate: Arc<RwLock<()>>,
    /// Held while nobody may.
    closed: Option<OwnedRwLockWriteGuard<()>>,
}

impl World {
    /// A world in which everything works and the load goes on.
    pub async fn start(entry: &Entry, seed: u64, time: Duration) -> Self {
        let setup = (entry.setup)();
        assert!(setup.environments <= ENVIRONMENTS && setup.writers <= FLAGS);
        let template = tokio::task::spawn_blocking(|| &*TEMPLATE).await.unwrap();
        let folder = Folder::new();
        let mut postgres = Postgres::copy_of(&template.postgres.data(), setup.postgres);
        postgres.start().await;
        let doors = Doors::new(setup.replicas);
        let (mut wires, mut replicas) = (Vec::new(), Vec::new());
        for number in 0..setup.replicas {
            let wire = Wire::to(postgres.socket()).await;
            let mut replica = Replica::new(number, wire.url(), setup.arguments, &folder.path, doors.clone());
            replica.launch();
            wires.push(wire);
            replicas.push(replica);
        }
        let mut furniture = template.furniture.clone();
        furniture.environments.truncate(setup.environments);
        for replica in &mut replicas {
            replica.ready(&furniture).await;
        }
        let mut world = Self {
            postgres,
            wires,
            replicas,
            furniture,
            doors,
            rng: fastrand::Rng::with_seed(seed),
            setup,
            load: Load::none(),
            fault: entry.name,
            cuts: Vec::new(),
            patience: entry.promise.bound(),
            time,
            end: tokio::time::Instant::now(),
            folder,
        };
        world.begin().await;
        world.end = tokio::time::Instant::now() + time;
        world
    }

    /// Starts the load, and returns once every recorder has seen something of it.
    async fn begin(&mut self) {
        for environment in self.furniture.environments.clone() {
            for number in 0..self.setup.recorders + self.setup.sharing_recorders {
                let habits = Habits {
                    shares: number >= self.setup.recorders,
                    replica: None,
                };
                self.record(&format!("recorder {number}"), &environment.key, habits);
            }
            for number in 0..self.setup.writers {
                let writer = Writer {
                    number,
                    environment: environment.key.clone(),
                    token: self.furniture.token.clone(),
                    doors: self.doors.clone(),
                    replica: self.setup.write_through,
                    ledger: self.load.ledger.clone(),
                    pause: self.setup.pause,
                    rng: self.rng.fork(),
                    gate: Arc::clone(&self.load.gate),
                };
                self.load.writers.push(writer.spawn(self.load.stop_writing.clone()));
            }
            for replica in 0..self.setup.replicas {
                let evaluator = Evaluator {
                    replica,
                    environment: environment.key.clone(),
                    key: environment.server_key.clone(),
                    doors: self.doors.clone(),
                    answers: Arc::clone(&self.load.answers),
                };
                let stop = self.load.stop_evaluating.clone();
                self.load.evaluators.push(evaluator.spawn(stop));
            }
        }
        let watch = |replica: &Replica| Ages::watch(replica.number, Arc::clone(&replica.metrics));
        self.load.ages = self.replicas.iter().map(watch).collect();
        self.writes(2 * self.setup.environments * self.setup.writers).await;
        let holding = self.load.recorders.iter_mut().map(|recorder| recorder.holds(1, 1));
        within("the first steps", join_all(holding)).await;
        let resident = |replica: &Replica| (replica.process(), replica.resident_kib());
        self.load.resident = self.replicas.iter().map(resident).collect();
    }

    /// One more client that records, of this environment.
    pub fn record(&mut self, client: &str, environment: &str, habits: Habits) {
        self.record_at(client, environment, habits, self.doors.clone());
    }

    /// The same, through other doors.
    pub fn record_at(&mut self, client: &str, environment: &str, habits: Habits, doors: Doors) {
        let key = self.environment(environment).server_key.clone();
        let (client, environment, seed) = (client.to_owned(), environment.to_owned(), self.rng.u64(..));
        let recorder = Recorder::start(client, environment, key, doors, habits, seed);
        self.load.recorders.push(recorder);
    }

    /// Ticks until the fault's time is over.
    pub fn rounds(&self, every: Duration) -> Rounds {
        Rounds::new(every, self.end)
    }

    /// What is left of the fault's time.
    pub fn time_left(&self) -> Duration {
        self.end - tokio::time::Instant::now()
    }

    /// Lets the load go on for a while.
    pub async fn go_on(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Returns once so many more writes were acknowledged.
    pub async fn writes(&self, count: usize) {
        within("acknowledged writes", self.load.ledger.more(count)).await;
    }

    /// Nobody writes until [`World::resume_writers`]; returns once what was on its way has ended, whatever became of it.
    pub async fn pause_writers(&mut self) {
        let gate = Arc::clone(&self.load.gate).write_owned();
        self.load.closed = Some(within("quiet", gate).await);
    }

    pub fn resume_writers(&mut self) {
        self.load.closed = None;
    }

    /// A connection to PostgreSQL, past every wire.
    pub async fn sql(&self) -> Client {
        self.postgres.sql().await
    }

    /// The processes of PostgreSQL that serve connections of this name: `halyard` (the pool of requests), `halyard feed` (polls,
    /// loads and the notifier) or `halyard listener`.
    pub async fn backends(&self, name: &str) -> Vec<u32> {
        let sql = "select pid from pg_stat_activity where application_name = $1";
        let rows = self.sql().await.query(sql, &[&name]).await.unwrap();
        rows.iter().map(|row| row.get::<_, i32>(0).unsigned_abs()).collect()
    }

    /// Ends the connections of this name, as an administrator of PostgreSQL does. Returns how many there were.
    pub async fn terminate(&self, name: &str) -> usize {
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1";
        self.sql().await.query(sql, &[&name]).await.unwrap().len()
    }

    /// Starts the process of a replica anew.
    pub async fn start_replica(&mut self, number: usize) {
        self.replicas[number].start(&self.furniture).await;
    }

    /// When PostgreSQL was away by what the fault did to it.
    pub(super) fn outages(&self) -> Vec<crate::evidence::Span> {
        self.postgres.outages.all()
    }

    /// Notes that a replica is cut off from now on, until what is returned is closed. Silent wires and outages of PostgreSQL are noted
    /// by themselves.
    pub fn cut_off(&mut self, replica: usize, loses: Loses, notices: Notices) -> Spans {
        let spans = Spans::default();
        spans.open();
        self.cuts.push((replica, loses, notices, spans.clone()));
        spans
    }

    /// When which replica was cut off.
    pub(super) fn cuts(&self) -> Vec<Cut> {
        let silences = self.wires.iter().enumerate();
        let silences =
            silences.map(|(number, wire)| (number, Loses::Everything, Notices::ByProbe, wire.silences.clone()));
        let outages = (0..self.replicas.len()).map(|number| {
            (
                number,
                Loses::Everything,
                Notices::ByProbe,
                self.postgres.outages.clone(),
            )
        });
        let all = self.cuts.iter().cloned().chain(silences).chain(outages);
        let cut = |(replica, loses, notices, spans): (usize, Loses, Notices, Spans)| {
            let cut = move |span: Span| Cut {
                replica,
                span,
                loses,
                notices,
            };
            spans.all().into_iter().map(cut)
        };
        all.flat_map(cut).collect()
    }

    /// How many clients have seen something of this kind.
    pub fn who_saw(&self, what: impl Fn(&What) -> bool) -> usize {
        let recorders = self.load.recorders.iter();
        recorders.filter(|recorder| recorder.saw(&what)).count()
    }

    pub fn recorders(&self) -> usize {
        self.load.recorders.len()
    }

    /// Waits until this holds of the world.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        eventually(what, async || holds(self).await.then_some(())).await;
    }

    /// Which generation the database says it has.
    pub async fn generation(&self) -> i64 {
        let sql = "select generation from store_identity";
        self.sql().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// A moment after which everything counts as healed.
    pub(super) fn healed_now(&self) -> Instant {
        for wire in &self.wires {
            wire.heal();
        }
        Instant::now()
    }
}

/// Where the logs of what failed are left.
pub fn logs_of(fault: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(fault.replace("::", "-"))
}

impl World {
    /// Copies what replicas and PostgreSQL have logged, for whoever looks for the reason of a failure.
    pub(super) fn leave_logs(&self) {
        let folder = logs_of(self.fault);
        let _before = std::fs::remove_dir_all(&folder);
        let made = std::fs::create_dir_all(&folder);
        let entries = std::fs::read_dir(&self.folder.path).into_iter().flatten().flatten();
        let logs = entries.map(|entry| entry.path()).chain([self.postgres.log()]);
        for log in logs {
            if let Some(name) = log.file_name().filter(|_| made.is_ok()) {
                let _copied = std::fs::copy(&log, folder.join(name));
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.leave_logs();
        }
    }
}

impl Load {
    fn none() -> Self {
        Self {
            ledger: Ledger::new(),
            recorders: Vec::new(),
            answers: Arc::default(),
            writers: Vec::new(),
            evaluators: Vec::new(),
            ages: Vec::new(),
            roads: Vec::new(),
            sidecars: Vec::new(),
            sidecar_roads: Vec::new(),
            recordings: Vec::new(),
            absences: Vec::new(),
            stop_writing: CancellationToken::new(),
            stop_evaluating: CancellationToken::new(),
            eras: Vec::new(),
            worst: Duration::ZERO,
            unfinished: Vec::new(),
            resident: Vec::new(),
            gate: Arc::default(),
            closed: None,
        }
    }
}
