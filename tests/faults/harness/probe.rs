//! One look at a replica with a token: what the first step is.

use std::time::{Duration, Instant};

use halyard::domain::change::Digest;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_response::Message;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::calls::with;
use super::mirror::Mirror;
use crate::evidence::{Recording, Seen, What};

/// Longer than a replica waits for the primary.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let looked = tokio::time::timeout(PATIENCE, look(channel, key, environment, token)).await;
    looked.unwrap_or_else(|_| Err(Status::new(Code::DeadlineExceeded, "nothing was said")))
}

async fn look(channel: Channel, key: &str, environment: &str, token: Vec<u8>) -> Result<Probe, Status> {
    let request = pb::WatchRequest {
        resume_token: token,
        ..pb::WatchRequest::default()
    };
    let mut client = WatchServiceClient::new(with(channel, key));
    let mut stream = client.watch(request).await?.into_inner();
    let (mut mirror, mut first, mut seen) = (Mirror::default(), None, Vec::new());
    let mut note = |what| {
        let (at, connection) = (Instant::now(), 1);
        seen.push(Seen { at, connection, what });
    };
    loop {
        let message = stream.message().await?.ok_or_else(|| Status::unknown("it ended"))?;
        match message.message {
            Some(Message::Begin(begin)) => {
                mirror.begin(begin.intent() == pb::Intent::Snapshot);
                note(What::Begin {
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
                    let (name, form_hash) = (
                        (put.kind, put.key),
                        Digest::from_slice(&put.form_hash).unwrap_or_default(),
                    );
                    mirror.change(name.clone(), Some(form_hash));
                    note(What::Put { name, form_hash });
                }
                Some(pb::item::Change::Delete(pb::Delete { kind, key })) => {
                    mirror.change((kind.clone(), key.clone()), None);
                    note(What::Delete { name: (kind, key) });
                }
                None => {}
            },
            Some(Message::Commit(commit)) => {
                note(What::Commit {
                    generation: commit.generation,
                    revision: commit.revision,
                    server: Digest::from_slice(&commit.state_hash).unwrap_or_default(),
                    own: mirror.commit(),
                });
                let begin = first.expect("a step begins before it ends");
                let is_whole = begin.intent() == pb::Intent::Snapshot;
                let recording = is_whole.then(|| Recording {
                    client: "a probe".to_owned(),
                    environment: environment.to_owned(),
                    seen,
                });
                return Ok(Probe {
                    begin,
                    commit,
                    recording,
                });
            }
            // What is said instead of a step is said before one.
            Some(Message::Heartbeat(_) | Message::Goodbye(_)) | None => {
                return Err(Status::unknown("something else than a step came first"));
            }
        }
    }
}
