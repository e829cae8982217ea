//! After the fault: how long it takes until everybody holds the head again, what is left behind, and what the history says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use halyard::domain::change::Digest;
use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::environment_service_client::EnvironmentServiceClient;
use tokio::time::timeout;

use super::ages::Ages;
use super::calls::{PROJECT, with};
use super::world::World;
use crate::evidence::{Era, Evidence, Log, LoggedItem, Outcome, Revision};
use crate::support::within;

/// More memory than this is not given back by chance.
const MORE_MEMORY_KIB: u64 = 150 * 1024;
/// What a replica has of connections to PostgreSQL at most: its pool, four with which it follows, three that store assignments, and two
/// that write events.
const CONNECTIONS: i64 = 8 + 4 + 3 + 2;
/// How long replicas may take to notice that clients are gone, and to tell each other. What one told as it was killed may be written
/// after its death, and then counts for half a minute.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long connections may take to go that are too many.
const SETTLED: Duration = Duration::from_secs(10);

/// What came of it.
pub struct Healed {
    pub evidence: Evidence,
    /// From healing to the moment at which every client held the head, at worst. `None`: one never did.
    pub convergence: Option<Duration>,
    /// What was left behind, or took too long to go, in words.
    pub remains: Vec<String>,
}

impl World {
    /// Keeps the history as it is now, before a fault replaces it by an older one. To be called while nobody writes.
    pub async fn save_history(&mut self) {
        let mut era = self.read_era().await;
        era.saved = Some(Instant::now());
        self.load.eras.push(era);
    }

    /// Waits, in the midst of the fault, until every client holds what the history holds now: what must go on while something is
    /// broken. How long it takes counts as if it were after healing.
    pub async fn catch_up(&mut self) {
        let era = self.read_era().await;
        let (now, mut unfinished) = (Instant::now(), Vec::new());
        let time = self.converge(&era, now, &mut unfinished).await;
        let load = &mut self.load;
        load.worst = load.worst.max(time.unwrap_or_default());
        load.unfinished.append(&mut unfinished);
    }

    /// Waits until everybody is where everybody else is, stops the load and gathers all evidence.
    pub async fn heal(mut self) -> Healed {
        let patience = self.patience;
        let healed = self.healed_now();
        self.resume_writers();
        let mut unfinished = std::mem::take(&mut self.load.unfinished);
        let era = within("the history", self.read_era()).await;
        let first = self.converge(&era, healed, &mut unfinished).await;
        for environment in self.furniture.environments.clone() {
            let written = self.load.ledger.acknowledged_after(&environment.key, healed);
            if timeout(patience, written).await.is_err() {
                unfinished.push(format!("{}: no write within {patience:?} of healing", environment.key));
            }
        }
        self.load.stop_writing.cancel();
        for writer in std::mem::take(&mut self.load.writers) {
            writer.await.expect("a writer died");
        }
        let writes = self.load.ledger.all();
        let perhaps_done = writes
            .iter()
            .filter(|write| !matches!(write.outcome, Outcome::Refused(_)));
        let last = perhaps_done
            .map(|write| write.ended)
            .max()
            .unwrap_or(healed)
            .max(healed);
        let era = within("the history", self.read_era()).await;
        let second = self.converge(&era, last, &mut unfinished).await;
        self.load.eras.push(era);

        let remains = self.remains().await;
        let mut evidence = Evidence {
            eras: std::mem::take(&mut self.load.eras),
            writes,
            outages: self.outages(),
            stalls: self.load.stalls.so_far(),
            cuts: self.cuts(),
            unfinished,
            ..Evidence::default()
        };
        evidence.recordings.append(&mut self.load.recordings);
        for recorder in std::mem::take(&mut self.load.recorders) {
            evidence.recordings.push(recorder.stop().await);
        }
        // They are clients too.
        for sidecar in &mut self.load.sidecars {
            sidecar.kill();
        }
        let streams_left = self.streams_left().await;
        self.load.stop_evaluating.cancel();
        for evaluator in std::mem::take(&mut self.load.evaluators) {
            evaluator.await.expect("an evaluator died");
        }
        self.leave_logs();
        evidence.ages = self.load.ages.iter().flat_map(Ages::so_far).collect();
        evidence.answers = std::mem::take(&mut self.load.answers.lock().unwrap());
        for replica in &self.replicas {
            let absences = replica.absences.all().into_iter();
            evidence.absences.extend(absences.map(|span| (replica.number, span)));
        }
        for (number, absences) in &self.load.absences {
            let absences = absences.all().into_iter();
            evidence.absences.extend(absences.map(|span| (*number, span)));
        }
        Healed {
            evidence,
            convergence: first
                .zip(second)
                .map(|(first, second)| first.max(second).max(self.load.worst)),
            remains: remains.into_iter().chain(streams_left).collect(),
        }
    }

    /// How long after `from` the last client held what the history held, without the time during which everything stood still.
    async fn converge(&mut self, era: &Era, from: Instant, unfinished: &mut Vec<String>) -> Option<Duration> {
        let (generation, patience, stalls) = (*era.generations.end(), self.patience, &self.load.stalls);
        let holding = self
            .load
            .recorders
            .iter_mut()
            .enumerate()
            .map(async |(number, recorder)| {
                let environment = recorder.environment.clone();
                let head = era.logs[&environment].head.0;
                if let Ok(standing) = timeout(patience, recorder.holds(generation, head)).await {
                    let time = standing.since.saturating_duration_since(from);
                    return Ok(time.saturating_sub(stalls.between(from, standing.since)));
                }
                let standing = *recorder.standing.borrow();
                Err(format!(
                    "client {number} of {environment} is at {standing:?}, {patience:?} after the head was {head}"
                ))
            });
        let mut worst = Some(Duration::ZERO);
        for outcome in join_all(holding).await {
            match outcome {
                Ok(time) => worst = worst.map(|worst| worst.max(time)),
                Err(words) => {
                    worst = None;
                    unfinished.push(words);
                }
            }
        }
        worst
    }

    async fn read_era(&self) -> Era {
        let client = self.sql().await;
        let row = client.query_one("select generation from store_identity", &[]).await;
        let generation = row.unwrap().get::<_, i64>(0).unsigned_abs();
        let least = self.load.eras.last().map_or(1, |era| *era.generations.end());
        let mut logs = BTreeMap::new();
        for environment in &self.furniture.environments {
            logs.insert(environment.key.clone(), read_log(&client, &environment.key).await);
        }
        Era {
            generations: least.min(generation)..=generation,
            saved: None,
            logs,
        }
    }

    /// What should have gone back to where it was.
    async fn remains(&self) -> Vec<String> {
        let mut remains = Vec::new();
        let most = CONNECTIONS * i64::try_from(self.replicas.len()).unwrap();
        if let Err(connections) = self.connections_settle(most).await {
            remains.push(format!("{connections} connections to PostgreSQL, {most} at most"));
        }
        for (replica, (process, before)) in self.replicas.iter().zip(&self.load.resident) {
            let now = replica.resident_kib();
            if replica.process() == *process && now > before + MORE_MEMORY_KIB {
                let number = replica.number;
                remains.push(format!(
                    "replica {number} has {now} KiB resident, {before} before the fault"
                ));
            }
        }
        remains
    }

    /// Returns once replicas have so many connections to PostgreSQL at most, or how many they keep. The processes that served those which
    /// were broken take a moment to go.
    async fn connections_settle(&self, most: i64) -> Result<(), i64> {
        let (client, deadline) = (self.sql().await, Instant::now() + SETTLED);
        let sql = "select count(*) from pg_stat_activity where application_name like 'halyard%'";
        loop {
            let connections: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
            if connections <= most {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(connections);
            }
            self.go_on(Duration::from_millis(100)).await;
        }
    }

    /// Once no client is left no stream may be, at any replica.
    async fn streams_left(&self) -> Option<String> {
        self.forget_the_dead().await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let words = match self.streams().await {
                Ok(0) => return None,
                Ok(streams) => format!("{streams} streams are open, of no client"),
                Err(status) => format!("nobody tells how many streams there are: {status}"),
            };
            if Instant::now() > deadline {
                return Some(words);
            }
            self.go_on(Duration::from_millis(100)).await;
        }
    }

    /// How many streams replica 0 says that there are.
    pub async fn streams(&self) -> Result<u32, tonic::Status> {
        let channel = self.doors.shared(0).expect("a replica");
        let mut client = EnvironmentServiceClient::new(with(channel, &self.furniture.token));
        let mut streams = 0;
        for environment in &self.furniture.environments {
            let request = admin::GetPropagationRequest {
                project: PROJECT.into(),
                environment: environment.key.clone(),
                revision: 0,
            };
            streams += client.get_propagation(request).await?.into_inner().streams;
        }
        Ok(streams)
    }

    /// What a replica that was killed told of its streams lasts for half a minute.
    pub async fn forget_the_dead(&self) {
        let spans = self.replicas.iter().flat_map(|replica| replica.absences.all());
        let Some(death) = spans.map(|span| span.from).max() else {
            return;
        };
        let sql = "delete from propagation where written_at < clock_timestamp() - make_interval(secs => $1)";
        let since = death.elapsed().as_secs_f64();
        self.sql().await.execute(sql, &[&since]).await.unwrap();
    }
}

async fn read_log(client: &tokio_postgres::Client, environment: &str) -> Log {
    let sql = "
        select head.environment_id, head.revision, head.digest
        from environment_heads head join environments on environments.id = head.environment_id
        where environments.key = $1";
    // Of one moment: the load may go on.
    client
        .batch_execute("begin isolation level repeatable read, read only")
        .await
        .unwrap();
    let head = client.query_one(sql, &[&environment]).await.unwrap();
    let id: i64 = head.get(0);
    let sql =
        "select revision, previous_digest, digest, actor from changes where environment_id = $1 order by revision";
    let changes = client.query(sql, &[&id]).await.unwrap();
    let sql = "select revision, kind, key, version, form from change_items where environment_id = $1 order by revision";
    let items = client.query(sql, &[&id]).await.unwrap();
    client.batch_execute("commit").await.unwrap();

    let number = |row: &tokio_postgres::Row, column: usize| row.get::<_, i64>(column).unsigned_abs();
    let digest = |row: &tokio_postgres::Row, column: usize| Digest::from_slice(row.get(column)).unwrap();
    let mut by_revision: BTreeMap<u64, Vec<LoggedItem>> = BTreeMap::new();
    for row in &items {
        by_revision.entry(number(row, 0)).or_default().push(LoggedItem {
            name: (row.get(1), row.get(2)),
            version: number(row, 3),
            form: row.get(4),
        });
    }
    let revisions = changes.iter().map(|row| Revision {
        number: number(row, 0),
        previous: digest(row, 1),
        digest: digest(row, 2),
        actor: row.get(3),
        items: by_revision.remove(&number(row, 0)).unwrap_or_default(),
    });
    Log {
        revisions: revisions.collect(),
        head: (number(&head, 1), digest(&head, 2)),
    }
}
