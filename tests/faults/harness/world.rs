//! A world: PostgreSQL, replicas behind wires, and clients that write, watch and evaluate. A fault breaks it and heals it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_postgres::Client;

use super::ages::Ages;
use super::doors::Doors;
use super::evaluator::Evaluator;
use super::load::Load;
use super::postgres::Postgres;
use super::recorder::{Habits, Recorder};
use super::replica::Replica;
use super::rounds::Rounds;
pub use super::setup::Setup;
use super::spans::Spans;
use super::template::{ENVIRONMENTS, Environment, FLAGS, Furniture, TEMPLATE};
use super::wire::Wire;
use super::writer::{DEADLINE, Writer};
use crate::evidence::{Loses, Notices, What};
use crate::support::cluster::Folder;
use crate::support::eventually::PATIENCE;
use crate::support::{eventually, within};
use crate::table::Entry;

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
    pub(super) fault: &'static str,
    /// What the fault noted.
    pub(super) cuts: Vec<(usize, Loses, Notices, Spans)>,
    /// How long is waited until clients hold what the history holds. How long it took is held against the promise.
    pub(super) patience: Duration,
    /// How long the fault goes on.
    pub(super) time: Duration,
    end: tokio::time::Instant,
    /// Where the replicas log.
    pub(super) folder: Folder,
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
            patience: entry.promise.bound().max(PATIENCE),
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
            let is_first = environment.key == self.first_environment().key;
            for number in 0..self.setup.recorders + self.setup.sharing_recorders {
                let habits = Habits {
                    shares: number >= self.setup.recorders,
                    ..Habits::default()
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
                    deadline: if is_first {
                        self.setup.deadline_of_first
                    } else {
                        DEADLINE
                    },
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

    /// Returns once a write to an environment was acknowledged that began after this was called.
    pub async fn written_from_now(&self, environment: &Environment) {
        let written = self.load.ledger.acknowledged_after(&environment.key, Instant::now());
        within("a write that begins now", written).await;
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
