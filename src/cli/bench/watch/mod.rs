//! Streams of changes: many, over few connections, each followed to the end and opened again where it breaks.
//!
//! | file | what |
//! |---|---|
//! | `order` | whether a stream is what its contract says |
//! | `arrivals` | when revisions arrived, beside when they were written |
//! | `board` | what all streams saw |

mod arrivals;
mod board;
mod order;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};
use tonic_types::StatusExt as _;

use super::super::Error;
use super::super::call::{ANSWER_BYTES, Caller};
use super::drive::{GRACE, after};
use super::evaluate::in_turn;
use crate::config::{Server, WatchLoad};
use crate::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use crate::pb::evaluation::v1::{ClientInfo, WatchRequest, WatchResponse};
use crate::upstream::{Backoff, HEALTHY};
pub(super) use arrivals::Propagation;
pub(super) use board::{Board, Seen};
pub(super) use order::Disorder;
use order::{Order, Received};

/// Missed heartbeats, with their jitter of a tenth, after which a stream is taken for dead.
const MISSED: f64 = 3.3;
/// What a busy machine may add to that.
const SLACK: Duration = Duration::from_secs(5);
/// How often it is looked whether something that is awaited has come.
const LOOK: Duration = Duration::from_millis(10);

/// Open streams.
pub(super) struct Streams {
    pub board: Arc<Board>,
    /// When they were opened.
    since: Instant,
    tracker: TaskTracker,
    end: CancellationToken,
}

/// What a stream is opened with.
#[derive(Clone)]
struct Opener {
    caller: Caller,
    heartbeat: Duration,
    board: Arc<Board>,
}

/// Why a stream ended.
enum End {
    /// The server said goodbye, and when to come back.
    Goodbye(Duration),
    /// It failed, or never began.
    Failed(Status),
    /// The server closed it without a word.
    Closed,
    /// Nothing came for too long.
    Silent,
    /// It broke its contract.
    Disorder(Disorder),
}

impl Streams {
    /// Opens them all at once. First a single one over every connection, so that what cannot work is said.
    pub async fn open(server: &Server, load: &WatchLoad) -> Result<Self, Error> {
        let WatchLoad {
            key,
            streams,
            connections,
            heartbeat,
        } = load;
        let board = Arc::new(Board::new(streams.get()));
        let mut openers = Vec::new();
        for _ in 0..connections.get().min(streams.get()) {
            openers.push(Opener {
                caller: Caller::new(server.clone())?.with_key(key)?,
                heartbeat: *heartbeat,
                board: board.clone(),
            });
        }
        for opener in &openers {
            opener.try_out().await?;
        }
        let since = Instant::now();
        let (tracker, end) = (TaskTracker::new(), CancellationToken::new());
        for n in 0..streams.get() as u64 {
            if let Some(opener) = in_turn(&openers, n) {
                let (opener, end) = (opener.clone(), end.clone());
                tracker.spawn(async move { end.run_until_cancelled(opener.follow()).await });
            }
        }
        Ok(Self {
            board,
            since,
            tracker,
            end,
        })
    }

    /// Waits until every stream has its first state, as long as that may take since they were opened, or it is stopped. From then on changes are expected on
    /// those that have.
    pub async fn ready(&self, patience: Duration, stop: &CancellationToken) {
        let all_ready = until(|| self.board.ready() == self.board.streams());
        let in_time = timeout(patience.saturating_sub(self.since.elapsed()), all_ready);
        let _ = stop.run_until_cancelled(in_time).await;
        self.board.expect_ready();
    }

    /// Waits until every change that was acknowledged is on every stream, as long as that may take, or for a short while after it was
    /// stopped.
    pub async fn delivered(&self, patience: Duration, stop: &CancellationToken) {
        let delivered = timeout(patience, until(|| self.board.on_their_way() == 0));
        tokio::select! {
            biased;
            _ = delivered => {}
            () = after(stop, GRACE) => {}
        }
    }

    /// Closes them all.
    pub async fn close(self) {
        self.end.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

async fn until(holds: impl Fn() -> bool) {
    let mut look = tokio::time::interval(LOOK);
    while !holds() {
        look.tick().await;
    }
}

impl Opener {
    async fn stream(&self, token: &[u8]) -> Result<Streaming<WatchResponse>, Status> {
        let request = WatchRequest {
            resume_token: token.to_vec(),
            heartbeat: prost_types::Duration::try_from(self.heartbeat).ok(),
            client: Some(ClientInfo {
                name: String::new(),
                library: concat!("halyard-bench/", env!("CARGO_PKG_VERSION")).to_owned(),
            }),
            forms: false,
        };
        let mut client = WatchServiceClient::new(self.caller.channel.clone()).max_decoding_message_size(ANSWER_BYTES);
        // No deadline goes with the request: it would be the stream's.
        self.caller
            .within_timeout(client.watch(self.caller.request(request)))
            .await
    }

    /// One stream, as far as its first message.
    async fn try_out(&self) -> Result<(), Error> {
        let failed = |status| self.caller.failed(status);
        let mut stream = self.stream(&[]).await.map_err(failed)?;
        let late = |_| Err(Status::deadline_exceeded("no message in time"));
        let first = timeout(self.caller.server.timeout, stream.message()).await;
        let first = first.unwrap_or_else(late).map_err(failed)?;
        first.map(drop).ok_or(Error::Answer("a stream ends before it begins"))
    }

    /// One client, from stream to stream, for ever.
    async fn follow(self) {
        // Since when its first state is waited for, over all tries. `None`: it has it.
        let (mut order, mut backoff, mut waiting_since) = (Order::default(), Backoff::new(), Some(Instant::now()));
        // The newest revision that it ever held: after disorder it begins anew, but has what it had.
        let mut newest = None;
        loop {
            let begun = Instant::now();
            let end = self.one(&mut order, &mut waiting_since, &mut newest).await;
            order.disconnected();
            if begun.elapsed() >= HEALTHY {
                backoff.reset();
            }
            let wait = match &end {
                End::Goodbye(after) => {
                    backoff.reset();
                    *after
                }
                End::Failed(status) => {
                    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
                    backoff.next(fastrand::u32(..)).max(asked.unwrap_or_default())
                }
                End::Closed | End::Silent | End::Disorder(_) => backoff.next(fastrand::u32(..)),
            };
            self.board.ended(&end);
            tokio::time::sleep(wait).await;
        }
    }

    /// One stream, to its end.
    async fn one(&self, order: &mut Order, waiting_since: &mut Option<Instant>, newest: &mut Option<u64>) -> End {
        let mut stream = match self.stream(order.token()).await {
            Ok(stream) => stream,
            Err(status) => return End::Failed(status),
        };
        let patience = self.heartbeat.mul_f64(MISSED) + SLACK;
        let (mut last, mut longest_silence) = (Instant::now(), Duration::ZERO);
        loop {
            let message = match timeout(patience, stream.message()).await {
                Ok(Ok(Some(WatchResponse { message }))) => message,
                Ok(Ok(None)) => return End::Closed,
                Ok(Err(status)) => return End::Failed(status),
                Err(_) => return End::Silent,
            };
            let now = Instant::now();
            longest_silence = longest_silence.max(now - last);
            last = now;
            // A message that a newer server invented is none of ours.
            let Some(message) = message else { continue };
            match order.receive(&message) {
                Ok(Received::Part) => {}
                Ok(Received::Step { intent, from, to }) => {
                    self.board.step(intent, from.max(*newest), to, now);
                    *newest = (*newest).max(Some(to));
                    if let Some(since) = waiting_since.take() {
                        self.board.is_ready(now - since);
                    }
                }
                Ok(Received::Heartbeat { source, staleness }) => {
                    self.board.heartbeat(source, staleness, longest_silence);
                }
                Ok(Received::Goodbye { come_back }) => return End::Goodbye(come_back),
                Err(disorder) => return End::Disorder(disorder),
            }
        }
    }
}
