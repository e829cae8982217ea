//! A sidecar's events: handed to the server that it is fed by, which answers them. Nothing is kept here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prost::Message as _;
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use crate::pb::evaluation::v1 as pb;
use crate::rpc::Refusal;
use crate::rpc::front::Deadline;
use crate::rpc::upstream::Line;

/// Bytes of batches that are on their way; who comes with more is told to come again.
const ROOM: usize = 16 * 1024 * 1024;
/// How long the server may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// Hands batches on to another server's Track.
pub struct Forwarding {
    line: Line,
    room: Semaphore,
    /// The last batch could not be handed on.
    away: AtomicBool,
}

impl Forwarding {
    /// Hands them to the server there, with this key. Connects to nothing yet. `None`: the key cannot be shown.
    pub fn new(channel: Channel, key: &SecretString) -> Option<Self> {
        Some(Self {
            line: Line::new(channel, key)?,
            room: Semaphore::new(ROOM),
            away: AtomicBool::new(false),
        })
    }

    /// What the server says of a batch. If it says nothing in time, the batch may have been taken or not.
    pub(super) async fn take(
        &self,
        batch: pb::TrackRequest,
        deadline: Deadline,
        caller: &MetadataMap,
    ) -> Result<pb::TrackResponse, Refusal> {
        // None is larger than the room: messages are not.
        let bytes = u32::try_from(batch.encoded_len().min(ROOM)).unwrap_or(u32::MAX);
        let _room = self
            .room
            .try_acquire_many(bytes)
            .map_err(|_| Refusal::events_behind())?;
        let until = Instant::from(deadline.patience(PATIENCE));
        let (mut request, asking) = self.line.ask("Track", batch, caller);
        request.set_timeout(until.saturating_duration_since(Instant::now()));
        let mut client = self.line.client();
        let asked = async {
            let answer = client.track(request).await;
            asking.answered(&answer);
            answer
        };
        match timeout_at(until, asked).await {
            Ok(Ok(answered)) => {
                self.report(None);
                Ok(answered.into_inner())
            }
            Ok(Err(status)) => {
                let refusal = Refusal::of_events_upstream(&status);
                if !matches!(refusal, Refusal::Busy { .. }) {
                    self.report(Some(&status));
                }
                Err(refusal)
            }
            Err(_) => {
                let status = Status::deadline_exceeded("no answer in time");
                self.report(Some(&status));
                Err(Refusal::of_events_upstream(&status))
            }
        }
    }

    /// Says whether events can be handed on, when that has changed.
    fn report(&self, refused: Option<&Status>) {
        let was = self.away.swap(refused.is_some(), Ordering::Relaxed);
        match (was, refused) {
            (false, Some(status)) => tracing::warn!(
                code = ?status.code(),
                said = status.message(),
                "events cannot be handed to the upstream; their senders are told to try again"
            ),
            (true, None) => tracing::info!("events are handed to the upstream again"),
            (false, None) | (true, Some(_)) => {}
        }
    }
}
