//! A client of Watch that writes down whatever it sees, and comes again whenever its stream ends.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use halyard::domain::change::Digest;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_response::Message;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::calls::with;
use super::doors::Doors;
use super::mirror::Mirror;
use crate::evidence::{Recording, Seen, What};

/// How often it asks for heartbeats: as often as it may.
const HEARTBEAT: i64 = 1;
/// After three missed heartbeats it goes elsewhere.
const SILENCE: Duration = Duration::from_millis(3_500);
const PATIENCE: Duration = Duration::from_secs(3);

/// How a recorder connects.
#[derive(Debug, Clone, Default)]
pub struct Habits {
    /// Shares one connection per replica with all others that do.
    pub shares: bool,
    /// Only this replica. `None`: any.
    pub replica: Option<usize>,
    /// What its messages may be late by.
    pub late: Duration,
}

/// Where a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub generation: u64,
    pub revision: u64,
    /// When it got there.
    pub since: Instant,
}

/// The client; stops when dropped.
pub struct Recorder {
    pub environment: String,
    pub standing: watch::Receiver<Option<Standing>>,
    recording: Arc<Mutex<Recording>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Recorder {
    pub fn start(client: String, environment: String, key: String, doors: Doors, habits: Habits, seed: u64) -> Self {
        let recording = Arc::new(Mutex::new(Recording {
            client: client.clone(),
            environment: environment.clone(),
            late: habits.late,
            seen: Vec::new(),
        }));
        let (standing, receiver) = watch::channel(None);
        let stop = CancellationToken::new();
        let watching = Watching {
            client,
            key,
            doors,
            habits,
            recording: Arc::clone(&recording),
            standing,
            mirror: Mirror::default(),
            token: Vec::new(),
            stream: None,
            connection: 0,
            rng: fastrand::Rng::with_seed(seed),
        };
        let task = tokio::spawn({
            let stop = stop.clone();
            async move {
                stop.run_until_cancelled(watching.run()).await;
            }
        });
        Self {
            environment,
            standing: receiver,
            recording,
            stop,
            task,
        }
    }

    /// Returns once it holds this revision, or a later one, or one of a later generation.
    pub async fn holds(&mut self, generation: u64, revision: u64) -> Standing {
        let reached = |standing: &Option<Standing>| {
            standing.is_some_and(|held| (held.generation, held.revision) >= (generation, revision))
        };
        let standing = self.standing.wait_for(reached).await.expect("the recorder died");
        standing.expect("it stands somewhere")
    }

    /// What it saw so far.
    pub fn so_far(&self) -> Recording {
        self.recording.lock().unwrap().clone()
    }

    /// Whether it has seen something of this kind.
    pub fn saw(&self, what: impl Fn(&What) -> bool) -> bool {
        self.recording.lock().unwrap().seen.iter().any(|seen| what(&seen.what))
    }

    /// What it saw.
    pub async fn stop(self) -> Recording {
        self.stop.cancel();
        self.task.await.expect("the recorder died");
        self.recording.lock().unwrap().clone()
    }
}

struct Watching {
    client: String,
    key: String,
    doors: Doors,
    habits: Habits,
    recording: Arc<Mutex<Recording>>,
    standing: watch::Sender<Option<Standing>>,
    mirror: Mirror,
    token: Vec<u8>,
    /// Where the stream can be acknowledged, and its name. `None`: not open.
    stream: Option<(Channel, String)>,
    connection: u32,
    rng: fastrand::Rng,
}

impl Watching {
    async fn run(mut self) {
        let mut replica = self.rng.usize(..self.doors.count());
        loop {
            replica = (replica + 1) % self.doors.count();
            let replica = self.habits.replica.unwrap_or(replica);
            self.connection += 1;
            let ended = match self.open(replica).await {
                Ok(stream) => {
                    self.note(What::Opened { replica });
                    self.follow(stream).await
                }
                Err(words) => words,
            };
            self.mirror.disconnected();
            self.note(What::Ended(ended));
            // Quicker than a client that behaves: faults are short here.
            tokio::time::sleep(Duration::from_millis(self.rng.u64(10..60))).await;
        }
    }

    async fn open(&mut self, replica: usize) -> Result<Streaming<pb::WatchResponse>, String> {
        let channel = if self.habits.shares {
            self.doors.shared(replica)
        } else {
            self.doors.own(replica)
        };
        let channel = channel.ok_or("nobody is there")?;
        let shown = channel.clone();
        let request = pb::WatchRequest {
            resume_token: self.token.clone(),
            heartbeat: Some(prost_types::Duration {
                seconds: HEARTBEAT,
                nanos: 0,
            }),
            client: Some(pb::ClientInfo {
                name: self.client.clone(),
                library: String::new(),
            }),
            forms: false,
        };
        let mut client = WatchServiceClient::new(with(channel, &self.key));
        // A replica may wait for the primary before it answers.
        let opening = tokio::time::timeout(PATIENCE + SILENCE, client.watch(request));
        match opening.await {
            Ok(Ok(response)) => {
                self.stream = Some((shown, String::new()));
                Ok(response.into_inner())
            }
            Ok(Err(status)) => Err(words(&status)),
            Err(_) => Err("did not open in time".to_owned()),
        }
    }

    async fn follow(&mut self, mut stream: Streaming<pb::WatchResponse>) -> String {
        loop {
            match tokio::time::timeout(SILENCE, stream.message()).await {
                Ok(Ok(Some(response))) => {
                    if let Some(message) = response.message {
                        self.take(message);
                    }
                }
                Ok(Ok(None)) => return "ended".to_owned(),
                Ok(Err(status)) => return words(&status),
                Err(_) => return "three heartbeats were missed".to_owned(),
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Begin(begin) => {
                if let Some((_, name)) = &mut self.stream {
                    name.clone_from(&begin.stream);
                }
                self.mirror.begin(begin.intent() == pb::Intent::Snapshot);
                self.note(What::Begin {
                    intent: begin.intent(),
                    reason: begin.reason(),
                    generation: begin.generation,
                    from: begin.from_revision,
                    to: begin.to_revision,
                    count: begin.item_count,
                });
            }
            Message::Item(item) => match item.change {
                Some(pb::item::Change::Put(put)) => {
                    let name = (put.kind, put.key);
                    let form_hash = Digest::from_slice(&put.form_hash).unwrap_or_default();
                    self.mirror.change(name.clone(), Some(form_hash));
                    self.note(What::Put { name, form_hash });
                }
                Some(pb::item::Change::Delete(delete)) => {
                    let name = (delete.kind, delete.key);
                    self.mirror.change(name.clone(), None);
                    self.note(What::Delete { name });
                }
                None => {}
            },
            Message::Commit(commit) => {
                let (generation, revision) = (commit.generation, commit.revision);
                let own = self.mirror.commit();
                self.token = commit.resume_token;
                let since = self.note(What::Commit {
                    generation,
                    revision,
                    server: Digest::from_slice(&commit.state_hash).unwrap_or_default(),
                    own,
                });
                self.standing.send_replace(Some(Standing {
                    generation,
                    revision,
                    since,
                }));
            }
            Message::Heartbeat(heartbeat) => {
                let staleness = heartbeat.staleness.unwrap_or_default();
                self.note(What::Heartbeat {
                    generation: heartbeat.generation,
                    revision: heartbeat.head_revision,
                    source: heartbeat.source(),
                    staleness: staleness.try_into().unwrap_or_default(),
                });
                self.token = heartbeat.resume_token;
                self.acknowledge(heartbeat.generation, heartbeat.head_revision);
            }
            Message::Goodbye(_) => drop(self.note(What::Goodbye)),
        }
    }

    /// Says what it holds, without waiting for an answer.
    fn acknowledge(&self, generation: u64, revision: u64) {
        let Some((channel, stream)) = self.stream.clone() else {
            return;
        };
        let mut client = WatchServiceClient::new(with(channel, &self.key));
        let request = pb::AcknowledgeRequest {
            stream,
            revision,
            generation,
        };
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PATIENCE, client.acknowledge(request)).await;
        });
    }

    fn note(&self, what: What) -> Instant {
        let (at, connection) = (Instant::now(), self.connection);
        let seen = Seen { at, connection, what };
        self.recording.lock().unwrap().seen.push(seen);
        at
    }
}

fn words(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
