//! Clients of Watch that read step by step, at their own pace; and one look at a replica with a token: what the first step is.

use std::time::{Duration, Instant};

use halyard::domain::change::Digest;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_response::Message;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::calls::with;
use super::mirror::Mirror;
use super::template::Environment;
use crate::evidence::{Recording, Seen, What};

/// Longer than a replica waits for the primary.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a step begins and ends.
#[derive(Debug, Clone)]
pub struct Step {
    pub begin: pb::Begin,
    pub commit: pb::Commit,
}

/// The first step of a stream.
#[derive(Debug, Clone)]
pub struct Probe {
    pub begin: pb::Begin,
    pub commit: pb::Commit,
    /// What it saw, for the checker. Only of a snapshot: the others begin with what this client never held.
    pub recording: Option<Recording>,
}

/// Opens a stream, reads its first step, and goes.
pub async fn probe(channel: Channel, key: &str, environment: &str, token: Vec<u8>) -> Result<Probe, Status> {
    let mut reader = Reader {
        token,
        ..Reader::named(key, environment, "a probe")
    };
    let Step { begin, commit } = reader.returns(channel).await?;
    let is_whole = begin.intent() == pb::Intent::Snapshot;
    Ok(Probe {
        begin,
        commit,
        recording: is_whole.then(|| reader.recording()),
    })
}

/// A client that reads one step after the other.
pub struct Reader {
    key: String,
    recording: Recording,
    mirror: Mirror,
    token: Vec<u8>,
    connection: u32,
    /// What is open.
    stream: Option<Open>,
}

struct Open {
    stream: Streaming<pb::WatchResponse>,
    /// Whether it has said something.
    has_begun: bool,
}

impl Reader {
    pub fn new(environment: &Environment, client: &str) -> Self {
        Self::named(&environment.server_key, &environment.key, client)
    }

    fn named(key: &str, environment: &str, client: &str) -> Self {
        Self {
            key: key.to_owned(),
            recording: Recording {
                client: client.to_owned(),
                environment: environment.to_owned(),
                late: Duration::ZERO,
                seen: Vec::new(),
            },
            mirror: Mirror::default(),
            token: Vec::new(),
            connection: 0,
            stream: None,
        }
    }

    /// What it has seen.
    pub fn recording(self) -> Recording {
        self.recording
    }

    /// The same client, as if it had gone now.
    pub fn gone(&self) -> Self {
        let Self {
            key,
            recording,
            mirror,
            token,
            connection,
            stream: _,
        } = self;
        Self {
            key: key.clone(),
            recording: recording.clone(),
            mirror: mirror.clone(),
            token: token.clone(),
            connection: *connection,
            stream: None,
        }
    }

    /// Comes with what it holds, and reads the first step.
    pub async fn returns(&mut self, channel: Channel) -> Result<Step, Status> {
        let first = async {
            self.open(channel).await?;
            self.step().await
        };
        let looked = tokio::time::timeout(PATIENCE, first).await;
        looked.unwrap_or_else(|_| Err(Status::new(Code::DeadlineExceeded, "nothing was said")))
    }

    /// Comes with what it holds.
    pub async fn open(&mut self, channel: Channel) -> Result<(), Status> {
        let request = pb::WatchRequest {
            resume_token: self.token.clone(),
            ..pb::WatchRequest::default()
        };
        let stream = WatchServiceClient::new(with(channel, &self.key)).watch(request).await?;
        self.connection += 1;
        self.stream = Some(Open {
            stream: stream.into_inner(),
            has_begun: false,
        });
        Ok(())
    }

    /// The next step.
    pub async fn step(&mut self) -> Result<Step, Status> {
        let mut first = None;
        loop {
            let open = self.stream.as_mut().ok_or_else(|| Status::unknown("nothing is open"))?;
            let message = open.stream.message().await?;
            let message = message.ok_or_else(|| Status::unknown("it ended"))?;
            let has_begun = std::mem::replace(&mut open.has_begun, true);
            match message.message {
                Some(Message::Begin(begin)) => {
                    self.mirror.begin(begin.intent() == pb::Intent::Snapshot);
                    self.note(What::Begin {
                        intent: begin.intent(),
                        reason: begin.reason(),
                        generation: begin.generation,
                        from: begin.from_revision,
                        to: begin.to_revision,
                        count: begin.item_count,
                    });
                    first = Some(begin);
                }
                Some(Message::Item(pb::Item { change })) => match change {
                    Some(pb::item::Change::Put(put)) => {
                        let name = (put.kind, put.key);
                        let form_hash = Digest::from_slice(&put.form_hash).unwrap_or_default();
                        self.mirror.change(name.clone(), Some(form_hash));
                        self.note(What::Put { name, form_hash });
                    }
                    Some(pb::item::Change::Delete(pb::Delete { kind, key })) => {
                        self.mirror.change((kind.clone(), key.clone()), None);
                        self.note(What::Delete { name: (kind, key) });
                    }
                    None => {}
                },
                Some(Message::Commit(commit)) => {
                    let own = self.mirror.commit();
                    self.note(What::Commit {
                        generation: commit.generation,
                        revision: commit.revision,
                        server: Digest::from_slice(&commit.state_hash).unwrap_or_default(),
                        own,
                    });
                    self.token.clone_from(&commit.resume_token);
                    let begin = first.expect("a step begins before it ends");
                    return Ok(Step { begin, commit });
                }
                Some(Message::Heartbeat(_)) if has_begun => {}
                // What is said instead of a step is said before one.
                Some(Message::Heartbeat(_) | Message::Goodbye(_)) | None => {
                    return Err(Status::unknown("something else than a step came first"));
                }
            }
        }
    }

    fn note(&mut self, what: What) {
        let (at, connection) = (Instant::now(), self.connection);
        self.recording.seen.push(Seen { at, connection, what });
    }
}
