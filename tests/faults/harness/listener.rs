//! A client of WatchEvaluations. It holds answers, and notes all of them whenever a batch is complete, as if it had asked for all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_evaluations_response::Message;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::calls::with;
use super::doors::Doors;
use super::template::Environment;
use crate::evidence::{Answer, Answers};

const SILENCE: Duration = Duration::from_millis(3_500);
/// Replicas, and others that are asked, have lower numbers.
const NUMBERS: usize = 1_000;

/// Whoever a question is about.
pub fn who(targeting_key: &str) -> pb::Context {
    pb::Context {
        targeting_key: targeting_key.into(),
        attributes: None,
    }
}

/// The client; stops when dropped.
pub struct Listener {
    noted: Arc<Mutex<Noted>>,
    order: watch::Receiver<(u64, u64)>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Noted {
    answers: Vec<Answer>,
    token: Vec<u8>,
    streams: usize,
    /// Steps that were not what the contract says, in words.
    broken: Vec<String>,
}

struct Listening {
    number: usize,
    environment: Environment,
    context: pb::Context,
    doors: Doors,
    noted: Arc<Mutex<Noted>>,
    order: watch::Sender<(u64, u64)>,
    /// By flag: rule and variant.
    held: BTreeMap<String, (String, String)>,
    /// A batch whose last part has not come.
    coming: Option<BTreeMap<String, (String, String)>>,
}

impl Listener {
    /// Each has a number of its own: what it noted never goes back from one of its connections to the next.
    pub fn start(environment: &Environment, context: pb::Context, doors: Doors, number: usize, seed: u64) -> Self {
        let (noted, stop) = (Arc::<Mutex<Noted>>::default(), CancellationToken::new());
        let (order, orders) = watch::channel((0, 0));
        let listening = Listening {
            number: NUMBERS + number,
            environment: environment.clone(),
            context,
            doors,
            noted: Arc::clone(&noted),
            order,
            held: BTreeMap::new(),
            coming: None,
        };
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            stopped
                .run_until_cancelled(listening.run(fastrand::Rng::with_seed(seed)))
                .await;
        });
        Self {
            noted,
            order: orders,
            stop,
            task,
        }
    }

    /// Returns once it holds this revision or a later one.
    pub async fn holds(&mut self, generation: u64, revision: u64) {
        let reached = self.order.wait_for(|order| *order >= (generation, revision)).await;
        reached.expect("the listener died");
    }

    /// Its newest token.
    pub fn token(&self) -> Vec<u8> {
        self.noted.lock().unwrap().token.clone()
    }

    /// How many streams it has opened.
    pub fn streams(&self) -> usize {
        self.noted.lock().unwrap().streams
    }

    /// What it noted.
    pub async fn stop(self) -> Vec<Answer> {
        self.stop.cancel();
        self.task.await.expect("the listener died");
        let mut noted = self.noted.lock().unwrap();
        assert!(noted.broken.is_empty(), "{:?}", noted.broken);
        std::mem::take(&mut noted.answers)
    }
}

impl Listening {
    async fn run(mut self, mut rng: fastrand::Rng) {
        let mut replica = rng.usize(..self.doors.count());
        loop {
            replica = (replica + 1) % self.doors.count();
            self.follow(replica).await;
            self.coming = None;
            tokio::time::sleep(Duration::from_millis(rng.u64(10..60))).await;
        }
    }

    async fn follow(&mut self, replica: usize) -> Option<()> {
        let channel = self.doors.own(replica)?;
        let request = pb::WatchEvaluationsRequest {
            context: Some(self.context.clone()),
            resume_token: self.noted.lock().unwrap().token.clone(),
            heartbeat: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            ..pb::WatchEvaluationsRequest::default()
        };
        let mut client = WatchServiceClient::new(with(channel, &self.environment.server_key));
        let opening = tokio::time::timeout(2 * SILENCE, client.watch_evaluations(request)).await;
        let mut stream = opening.ok()?.ok()?.into_inner();
        self.noted.lock().unwrap().streams += 1;
        loop {
            let message = tokio::time::timeout(SILENCE, stream.message()).await.ok()?.ok()??;
            match message.message? {
                Message::Heartbeat(heartbeat) => {
                    let order = (heartbeat.generation, heartbeat.head_revision);
                    self.noted.lock().unwrap().token = heartbeat.resume_token;
                    self.arrive(order);
                }
                Message::Goodbye(_) => return Some(()),
                Message::Batch(batch) => self.take(batch),
            }
        }
    }

    fn take(&mut self, batch: pb::Batch) {
        let mut coming = self.coming.take().unwrap_or_else(|| match batch.intent() {
            pb::Intent::Snapshot => BTreeMap::new(),
            pb::Intent::Delta | pb::Intent::None | pb::Intent::Unspecified => self.held.clone(),
        });
        for evaluation in batch.evaluations {
            coming.insert(evaluation.flag, (evaluation.rule, evaluation.variant));
        }
        for flag in batch.removed {
            coming.remove(&flag);
        }
        if batch.more {
            self.coming = Some(coming);
            return;
        }
        self.held = coming;
        self.noted.lock().unwrap().token = batch.resume_token;
        self.arrive((batch.generation, batch.revision));
    }

    /// Notes what is held at a revision: what a batch brought, or what has not changed since.
    fn arrive(&mut self, order: (u64, u64)) {
        let before = self.order.send_replace(order);
        let now = Instant::now();
        let flags = self
            .held
            .iter()
            .map(|(flag, (rule, variant))| (flag.clone(), rule.clone(), variant.clone()));
        let answers = Answers {
            revision: order.1,
            flags: flags.collect(),
        };
        let mut noted = self.noted.lock().unwrap();
        if before > order {
            noted
                .broken
                .push(format!("answers went back from {before:?} to {order:?}"));
        }
        noted.answers.push(Answer {
            environment: self.environment.key.clone(),
            replica: self.number,
            asked: now,
            answered: now,
            result: Ok(answers),
        });
    }
}
