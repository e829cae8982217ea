//! The connection to the upstream: opened, read, given up, and opened again, for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status, Streaming};
use tonic_types::StatusExt as _;

use super::backoff::{Backoff, HEALTHY};
use super::end::{End, is_final};
use super::file::Kept;
use super::held::Held;
use super::publish::{Publisher, Unheard};
use super::road::Road;
use super::step::{Broken, Difference, Step};
use super::{Counters, Timing};
use crate::pb::evaluation::v1::watch_response::Message;
use crate::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use crate::pb::evaluation::v1::{ClientInfo, Goodbye, Heartbeat, SourceState, WatchRequest, WatchResponse};
use crate::watch::source::Quality;

/// Three missed heartbeats, with their jitter of a tenth.
const MISSED: f64 = 3.3;
/// What a busy machine may add to a wait.
const SLACK: Duration = Duration::from_secs(1);
/// The longest that an upstream can keep us away, and the shortest that it can have us come back.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
const LIBRARY: &str = concat!("halyard-sidecar/", env!("CARGO_PKG_VERSION"));

/// Follows one environment of one server.
pub struct Link {
    road: Road,
    key: SecretString,
    timing: Timing,
    publisher: Publisher,
    counters: Arc<Counters>,
    cancel: CancellationToken,
    backoff: Backoff,
    held: Option<Arc<Held>>,
    /// Where to resume. Empty: with everything.
    token: Vec<u8>,
    step: Option<Step>,
    /// It has not been heard since somebody was last told that it is away, or yet.
    is_away: bool,
}

impl Link {
    /// One that has not begun.
    pub fn new(
        road: Road,
        key: SecretString,
        timing: Timing,
        publisher: Publisher,
        counters: Arc<Counters>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            road,
            key,
            timing,
            publisher,
            counters,
            cancel,
            backoff: Backoff::new(),
            held: None,
            token: Vec::new(),
            step: None,
            is_away: true,
        }
    }

    /// Runs until cancelled, beginning with what was kept on disk.
    pub async fn run(mut self, kept: Option<Kept>) {
        let cancel = self.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            Err(Unheard) = self.follow(kept) => cancel.cancelled().await,
        }
    }

    async fn follow(&mut self, kept: Option<Kept>) -> Result<std::convert::Infallible, Unheard> {
        if let Some(kept) = kept {
            let held = self.publisher.kept(kept).await?;
            tracing::info!(revision = held.position.revision, "answering from the state on disk");
            self.token = held.position.write().to_vec();
            self.held = Some(held);
        }
        loop {
            let opened_at = Instant::now();
            let end = self.stream().await;
            self.step = None;
            count(&self.counters.ends);
            self.publisher.confirm(Quality::Disconnected, None).await?;
            if opened_at.elapsed() >= HEALTHY {
                self.backoff.reset();
            }
            if matches!(end, End::Unheard) {
                return Err(Unheard);
            }
            let wait = self.wait_after(&end);
            tokio::time::sleep(wait).await;
        }
    }

    /// One stream on a connection of its own, from its beginning to its end.
    async fn stream(&mut self) -> End {
        let mut stream = match tokio::time::timeout(self.timing.open, self.open()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(end)) => return end,
            Err(_) => return End::Unanswered,
        };
        count(&self.counters.streams);
        // What the upstream may have to ask its own origin first takes longer than a heartbeat.
        let mut patience = self.timing.open;
        loop {
            let began_at = Instant::now();
            let message = match tokio::time::timeout(patience, stream.message()).await {
                // This process stood still meanwhile. What lay here all that time says nothing about now.
                Ok(Ok(Some(_))) if began_at.elapsed() > patience + SLACK => return End::Silent,
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return End::Closed,
                Ok(Err(status)) => return End::Failed(status),
                Err(_) => return End::Silent,
            };
            if let Err(end) = self.receive(message).await {
                return end;
            }
            patience = self.timing.heartbeat.mul_f64(MISSED);
        }
    }

    async fn open(&self) -> Result<Streaming<WatchResponse>, End> {
        let channel = self.road.connect().await?;
        let mut request = Request::new(WatchRequest {
            resume_token: self.token.clone(),
            heartbeat: prost_types::Duration::try_from(self.timing.heartbeat).ok(),
            client: Some(ClientInfo {
                name: String::new(),
                library: LIBRARY.to_owned(),
            }),
            forms: true,
        });
        let bearer = format!("Bearer {}", self.key.expose_secret()).parse();
        let mut bearer: MetadataValue<Ascii> = bearer.map_err(|_| Status::unauthenticated("the key is unprintable"))?;
        bearer.set_sensitive(true);
        request.metadata_mut().insert("authorization", bearer);
        // No deadline goes with the request: it would be the stream's.
        let opened = WatchServiceClient::new(channel).watch(request).await?;
        Ok(opened.into_inner())
    }

    async fn receive(&mut self, WatchResponse { message }: WatchResponse) -> Result<(), End> {
        match message {
            Some(Message::Begin(_)) if self.step.is_some() => Err(Broken::Misplaced("a step").into()),
            Some(Message::Begin(begin)) => {
                self.step = Some(Step::begin(begin, self.held.as_deref())?);
                Ok(())
            }
            Some(Message::Item(item)) => {
                let step = self.step.as_mut().ok_or(Broken::Misplaced("an item"))?;
                Ok(step.item(item)?)
            }
            Some(Message::Commit(commit)) => {
                let step = self.step.take().ok_or(Broken::Misplaced("a commit"))?;
                let token = commit.resume_token.clone();
                let outcome = step.commit(commit, self.held.as_ref())?;
                match outcome.difference {
                    Difference::None => {}
                    Difference::Some(_) => count(&self.counters.deltas),
                    Difference::Everything => count(&self.counters.snapshots),
                }
                let held = self.publisher.outcome(outcome).await?;
                self.answers(held.position.revision);
                self.held = Some(held);
                self.token = token;
                Ok(())
            }
            Some(Message::Heartbeat(heartbeat)) => self.heartbeat(heartbeat).await,
            Some(Message::Goodbye(Goodbye {
                reason: _,
                reconnect_after,
            })) => {
                let after = reconnect_after.and_then(|after| Duration::try_from(after).ok());
                Err(End::Goodbye(after.unwrap_or_default()))
            }
            // A message that a newer server invented is none of ours.
            None => Ok(()),
        }
    }

    async fn heartbeat(&mut self, heartbeat: Heartbeat) -> Result<(), End> {
        let source = heartbeat.source();
        let Heartbeat {
            resume_token,
            generation,
            head_revision,
            source: _,
            staleness,
        } = heartbeat;
        let held = self.held.as_ref().ok_or(Broken::Misplaced("a heartbeat"))?;
        if self.step.is_some() {
            return Err(Broken::Misplaced("a heartbeat").into());
        }
        if held.position.order() != (generation, head_revision) {
            return Err(Broken::NotAsAnnounced {
                announced: held.position.revision,
                committed: head_revision,
            }
            .into());
        }
        if !resume_token.is_empty() {
            self.token = resume_token;
        }
        self.answers(head_revision);
        let quality = match source {
            SourceState::Live => Quality::Live,
            SourceState::Polling => Quality::Polling,
            SourceState::Disconnected | SourceState::Unspecified => Quality::Disconnected,
        };
        let staleness = staleness.and_then(|staleness| Duration::try_from(staleness).ok());
        let confirmed_at = staleness.and_then(|staleness| Instant::now().checked_sub(staleness));
        Ok(self.publisher.confirm(quality, confirmed_at).await?)
    }

    /// Says so, once after it was away.
    fn answers(&mut self, revision: u64) {
        if std::mem::take(&mut self.is_away) {
            tracing::info!(revision, "the upstream answers");
        }
    }

    /// How long to wait before the next stream. Says why there has to be one.
    fn wait_after(&mut self, end: &End) -> Duration {
        let wait = match end {
            End::Goodbye(after) => {
                self.backoff.reset();
                tracing::debug!(?after, "the upstream said goodbye");
                return (*after).clamp(SHORTEST_WAIT, LONGEST_WAIT);
            }
            End::Failed(status) if is_final(status.code()) => {
                self.is_away = true;
                return self.wait_refused(status);
            }
            End::Failed(status) => {
                let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
                self.next_wait().max(asked.unwrap_or_default().min(LONGEST_WAIT))
            }
            End::Broken(_) => {
                // What is held stays; what comes next replaces all of it.
                count(&self.counters.broken);
                self.token.clear();
                if let (End::Broken(Broken::WentBack(_)), Some(held)) = (end, &self.held) {
                    // An upstream that knows where we stand can say why it goes back; without, its every snapshot would be refused.
                    self.token = held.position.write().to_vec();
                }
                self.next_wait()
            }
            End::Unreachable(_) | End::Unanswered | End::Closed | End::Silent | End::Unheard => self.next_wait(),
        };
        self.is_away = true;
        let retry_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let error = end as &dyn std::error::Error;
        if matches!(end, End::Broken(_)) {
            tracing::error!(
                error,
                retry_ms,
                "the upstream's stream makes no sense; asking for everything"
            );
        } else {
            let tls = self.road.failure();
            tracing::warn!(
                error,
                tls,
                retry_ms,
                "the upstream is away; answering from what is held"
            );
        }
        wait
    }

    /// After what no hurry can mend.
    fn wait_refused(&mut self, status: &Status) -> Duration {
        let wait = self.timing.refused.mul_f64(0.8 + 0.4 * fastrand::f64());
        tracing::error!(
            code = ?status.code(),
            said = status.message(),
            held = self.held.is_some(),
            retry_seconds = wait.as_secs(),
            "THE UPSTREAM REFUSES THIS SIDECAR: its key may be revoked, expired, mistyped or no server key. What is held is \
             answered from, and grows old; mend the key and start again"
        );
        wait
    }

    fn next_wait(&mut self) -> Duration {
        self.backoff.next(fastrand::u32(..))
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
