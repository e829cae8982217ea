//! What faults of clients need of a world beside the load that it begins with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ages::Ages;
use super::doors::Doors;
use super::evaluator::Evaluator;
use super::road::Road;
use super::sidecar::Sidecar;
use super::spans::Spans;
use super::template::Environment;
use super::world::World;
use crate::evidence::{Aged, Answer, Content, Outcome, Recording, Seen, Write};

/// A fault that goes on for longer than this is of the long pass.
const SHORT: Duration = Duration::from_secs(5);

impl World {
    /// Whether there is time for what takes half a minute, and for large crowds.
    pub fn is_long(&self) -> bool {
        self.time > SHORT
    }

    pub fn environment(&self, key: &str) -> &Environment {
        let mut environments = self.furniture.environments.iter();
        environments
            .find(|found| found.key == key)
            .expect("an environment of this world")
    }

    /// The environment that the load is in whatever the setup.
    pub fn first_environment(&self) -> Environment {
        self.furniture.environments[0].clone()
    }

    /// What every recorder saw so far.
    pub fn recordings(&self) -> Vec<Recording> {
        let recorders = self.load.recorders.iter();
        recorders.map(super::recorder::Recorder::so_far).collect()
    }

    /// A replica that a recorder is at, by the seed: one that nobody is at can be broken without anybody's notice.
    pub fn visited(&mut self) -> usize {
        let recordings = self.recordings();
        let visited: Vec<_> = recordings.iter().filter_map(Recording::replica).collect();
        *self.rng.choice(&visited).expect("a stream at a replica")
    }

    /// How often recorders saw such a thing.
    pub fn saw(&self, is_it: impl Fn(&Seen) -> bool) -> usize {
        let recordings = self.recordings();
        let seen = recordings.iter().flat_map(|recording| &recording.seen);
        seen.filter(|seen| is_it(seen)).count()
    }

    /// What a client of the fault's own saw, to be judged like everything else.
    pub fn keep(&mut self, recording: Recording) {
        self.load.recordings.push(recording);
    }

    /// The same of answers.
    pub fn keep_answers(&self, answers: Vec<Answer>) {
        self.load.answers.lock().unwrap().extend(answers);
    }

    /// What replicas said of their age so far.
    pub fn ages(&self) -> Vec<Aged> {
        self.load.ages.iter().flat_map(Ages::so_far).collect()
    }

    /// What was edited by hand, and committed just now.
    pub fn keep_edit(&self, environment: &str, content: Content, began: Instant) {
        self.load.ledger.edited(Write {
            environment: environment.to_owned(),
            content,
            began,
            ended: Instant::now(),
            outcome: Outcome::Acknowledged(None),
        });
    }

    /// One more that evaluates without pause, by the door with this number. Returns where its absences are to be kept.
    pub fn evaluate_at(&mut self, number: usize, environment: &Environment, doors: Doors) -> Spans {
        let evaluator = Evaluator {
            replica: number,
            environment: environment.key.clone(),
            key: environment.server_key.clone(),
            doors,
            answers: Arc::clone(&self.load.answers),
        };
        let stop = self.load.stop_evaluating.clone();
        self.load.evaluators.push(evaluator.spawn(stop));
        let absences = Spans::default();
        self.load.absences.push((number, absences.clone()));
        absences
    }

    /// A road to each replica, and doors that lead there, with this window on each stream.
    pub async fn roads(&mut self, window: Option<u32>) -> (Vec<Road>, Doors) {
        let count = self.replicas.len();
        let doors = window.map_or_else(|| Doors::new(count), |window| Doors::narrow(count, window));
        let mut roads = Vec::new();
        for number in 0..count {
            let address = self.doors.address(number).expect("a replica");
            let road = Road::to(address, self.rng.u64(..)).await;
            doors.open(number, road.address);
            roads.push(road);
        }
        (roads, doors)
    }

    /// Keeps roads open until everything is over.
    pub fn keep_roads(&mut self, roads: Vec<Road>) {
        self.load.roads.extend(roads);
    }

    /// Keeps sidecars until everything is over, and the road to their upstream.
    pub fn keep_sidecars(&mut self, road: Road, sidecars: Vec<Sidecar>) {
        self.load.roads.push(road);
        self.load.sidecars.extend(sidecars);
    }

    /// Keeps the road from a sidecar to the one that it follows.
    pub fn keep_sidecar_road(&mut self, road: Road) {
        self.load.sidecar_roads.push(road);
    }

    /// The road from a sidecar to the one that it follows.
    pub fn sidecar_road(&self) -> &Road {
        self.load.sidecar_roads.last().expect("a road")
    }

    /// Where those log who belong to this world.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder.path
    }

    /// The newest revision of an environment, with its generation.
    pub async fn head(&self, environment: &str) -> (u64, u64) {
        let sql = "
            select (select generation from store_identity), head.revision
            from environment_heads head join environments on environments.id = head.environment_id
            where environments.key = $1";
        let row = self.sql().await.query_one(sql, &[&environment]).await.unwrap();
        let number = |column: usize| row.get::<_, i64>(column).unsigned_abs();
        (number(0), number(1))
    }
}
