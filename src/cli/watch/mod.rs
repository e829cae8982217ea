//! `halyard watch`: prints every change of an environment as it happens, and checks that what it receives is what the server
//! holds. Reconnects for ever, except where that cannot help.

mod mirror;
mod print;

use std::io::Write;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::call::{ANSWER_BYTES, Caller};
use super::{Error, say};
use crate::config::{Output, Watch, WatchDetail};
use crate::pb::evaluation::v1::watch_response::Message;
use crate::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use crate::pb::evaluation::v1::{ClientInfo, Goodbye, GoodbyeReason, WatchRequest, WatchResponse};
use crate::upstream::{Backoff, HEALTHY};
use mirror::{Broken, Mirror};

const HEARTBEAT_SECONDS: i64 = 10;
/// Three missed heartbeats, with their jitter of a tenth: nobody is there any more.
const SILENCE: Duration = Duration::from_secs(33);

/// Why a stream ended.
#[derive(Debug)]
enum End {
    /// The server asked us to come back.
    Goodbye { reason: GoodbyeReason, after: Duration },
    /// It failed, or never began.
    Failed(Status),
    /// The server closed it without a word.
    Closed,
    /// Nothing came for too long.
    Silent,
    /// It was not what its contract says.
    Broken(Broken),
    /// What it says cannot be printed.
    Unprintable(std::io::Error),
}

/// One client of one environment, across its connections.
struct Watcher<'a> {
    caller: Caller,
    detail: WatchDetail,
    output: Output,
    out: &'a mut (dyn Write + Send),
    mirror: Mirror,
    backoff: Backoff,
    mismatched: bool,
}

pub(super) async fn run(config: Watch, stop: &CancellationToken, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let Watch {
        server,
        key,
        detail,
        output,
    } = config;
    let mut watcher = Watcher {
        caller: Caller::new(server)?.with_key(&key)?,
        detail,
        output,
        out,
        mirror: Mirror::default(),
        backoff: Backoff::new(),
        mismatched: false,
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        error = watcher.watch_for_ever() => return Err(error),
    }
    if watcher.mismatched {
        return Err(Error::Mismatched);
    }
    Ok(())
}

impl Watcher<'_> {
    /// Ends only with what no reconnect can mend.
    async fn watch_for_ever(&mut self) -> Error {
        loop {
            let began = Instant::now();
            let end = self.connection().await;
            self.mirror.disconnected();
            if began.elapsed() >= HEALTHY {
                self.backoff.reset();
            }
            match self.after(end) {
                Ok(wait) => tokio::time::sleep(wait).await,
                Err(error) => return error,
            }
        }
    }

    /// One connection, from its beginning to its end.
    async fn connection(&mut self) -> End {
        let request = WatchRequest {
            resume_token: self.mirror.token().to_vec(),
            heartbeat: Some(prost_types::Duration {
                seconds: HEARTBEAT_SECONDS,
                nanos: 0,
            }),
            client: Some(ClientInfo {
                name: String::new(),
                library: concat!("halyard-cli/", env!("CARGO_PKG_VERSION")).to_owned(),
            }),
            forms: false,
        };
        let mut client = WatchServiceClient::new(self.caller.channel.clone()).max_decoding_message_size(ANSWER_BYTES);
        // No deadline goes with the request: it would be the stream's.
        let opened = self.caller.within_timeout(client.watch(self.caller.request(request)));
        let mut stream = match opened.await {
            Ok(stream) => stream,
            Err(status) => return End::Failed(status),
        };
        loop {
            let message = match next(&mut stream).await {
                Ok(message) => message,
                Err(end) => return end,
            };
            if let Some(end) = self.receive(message) {
                return end;
            }
        }
    }

    /// Applies one message. Gives the end of the stream if the message is that.
    fn receive(&mut self, message: WatchResponse) -> Option<End> {
        let WatchResponse { message } = message;
        // A message that a newer server invented is none of ours.
        let applied = match message? {
            Message::Begin(begin) => self.mirror.begin(begin),
            Message::Item(item) => self.mirror.item(item),
            Message::Commit(commit) => match self.mirror.commit(commit) {
                Ok(advance) => {
                    return print::advance(&advance, self.output, self.out)
                        .err()
                        .map(End::Unprintable);
                }
                Err(broken) => Err(broken),
            },
            Message::Heartbeat(heartbeat) => {
                self.mirror.heartbeat(heartbeat.resume_token.clone());
                if self.detail == WatchDetail::Heartbeats {
                    return print::heartbeat(&heartbeat, self.output, self.out)
                        .err()
                        .map(End::Unprintable);
                }
                Ok(())
            }
            Message::Goodbye(goodbye) => return Some(farewell(goodbye)),
        };
        applied.err().map(End::Broken)
    }

    /// How long to wait before the next connection, or why there is none.
    fn after(&mut self, end: End) -> Result<Duration, Error> {
        let (what, wait) = match end {
            End::Goodbye { reason, after } => {
                self.backoff.reset();
                (goodbye_text(reason).to_owned(), after)
            }
            End::Failed(status) => {
                if !may_heal(status.code()) {
                    return Err(self.caller.failed(status));
                }
                let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
                let what = format!(
                    "the server cannot answer now ({:?}: {})",
                    status.code(),
                    status.message()
                );
                (what, self.backoff.next(random()).max(asked.unwrap_or_default()))
            }
            End::Closed => ("the server closed the stream".to_owned(), self.backoff.next(random())),
            End::Silent => (
                "the server has been silent for three heartbeats".to_owned(),
                self.backoff.next(random()),
            ),
            End::Broken(broken) => {
                self.mismatched = true;
                self.mirror = Mirror::default();
                (format!("{broken}; starting over"), self.backoff.next(random()))
            }
            End::Unprintable(error) => return Err(error.into()),
        };
        say(&format!("halyard: {what}; connecting again in {} ms", wait.as_millis()));
        Ok(wait)
    }
}

async fn next(stream: &mut Streaming<WatchResponse>) -> Result<WatchResponse, End> {
    match tokio::time::timeout(SILENCE, stream.message()).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(End::Closed),
        Ok(Err(status)) => Err(End::Failed(status)),
        Err(_) => Err(End::Silent),
    }
}

fn farewell(goodbye: Goodbye) -> End {
    let reason = goodbye.reason();
    let Goodbye {
        reason: _,
        reconnect_after,
    } = goodbye;
    let after = reconnect_after.and_then(|after| Duration::try_from(after).ok());
    End::Goodbye {
        reason,
        after: after.unwrap_or_default(),
    }
}

fn goodbye_text(reason: GoodbyeReason) -> &'static str {
    match reason {
        GoodbyeReason::Draining => "the server is shutting down",
        GoodbyeReason::Rotated => "the server asked to spread the load",
        GoodbyeReason::Unspecified => "the server said goodbye",
    }
}

/// Whether trying again can help. A refused credential stays refused, a deleted environment stays deleted.
fn may_heal(code: Code) -> bool {
    match code {
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::NotFound
        | Code::InvalidArgument
        | Code::Unimplemented => false,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
    }
}

fn random() -> u32 {
    // Without random numbers the longest wait is the safe one.
    getrandom::u32().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
