//! What a watcher does with what it receives, and when it comes back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::Uri;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response};
use tonic_types::ErrorDetails;

use super::mirror::tests::{begin, commit, configuration, definition, state_hash};
use super::*;
use crate::cli::Exit;
use crate::config;
use crate::pb::evaluation::v1::item::Change;
use crate::pb::evaluation::v1::watch_service_server::{WatchService, WatchServiceServer};
use crate::pb::evaluation::v1::{
    AcknowledgeRequest, AcknowledgeResponse, Heartbeat, Intent, Item, WatchEvaluationsRequest, WatchEvaluationsResponse,
};

fn caller(endpoint: &str) -> Caller {
    let server = config::Server {
        endpoint: endpoint.parse::<Uri>().unwrap(),
        tls: None,
        timeout: Duration::from_secs(10),
    };
    Caller::new(server).unwrap().with_key(&"key".to_owned().into()).unwrap()
}

fn watcher(out: &mut Vec<u8>) -> Watcher<'_> {
    Watcher {
        caller: caller("http://127.0.0.1:1"),
        detail: WatchDetail::Heartbeats,
        output: Output::Text,
        out,
        mirror: Mirror::default(),
        backoff: Backoff::new(),
        mismatched: false,
    }
}

fn message(message: Message) -> WatchResponse {
    WatchResponse { message: Some(message) }
}

/// The messages of a snapshot at revision 5 that holds the flag `a`.
fn snapshot(enabled: bool) -> Vec<WatchResponse> {
    let items = [definition("a"), configuration("a", enabled)];
    let hash = state_hash(&items);
    let items = items.into_iter().map(|put| {
        let change = Some(Change::Put(put));
        Message::Item(Item { change })
    });
    let begin = Message::Begin(begin(Intent::Snapshot, 0, 5, 2));
    let messages = [begin]
        .into_iter()
        .chain(items)
        .chain([Message::Commit(commit(5, hash))]);
    messages.map(message).collect()
}

/// The messages that turn `a` on or off from revision 5 to 6.
fn switch(enabled: bool) -> Vec<WatchResponse> {
    let change = Some(Change::Put(configuration("a", enabled)));
    let hash = state_hash(&[definition("a"), configuration("a", enabled)]);
    let messages = [
        Message::Begin(begin(Intent::Delta, 5, 6, 1)),
        Message::Item(Item { change }),
        Message::Commit(commit(6, hash)),
    ];
    messages.into_iter().map(message).collect()
}

fn goodbye(after: Duration) -> WatchResponse {
    message(Message::Goodbye(Goodbye {
        reason: GoodbyeReason::Draining.into(),
        reconnect_after: Some(after.try_into().unwrap()),
    }))
}

#[tokio::test]
async fn changes_are_printed_when_they_are_committed() {
    let mut out = Vec::new();
    let mut watcher = watcher(&mut out);
    for message in snapshot(true).into_iter().chain(switch(false)) {
        assert!(watcher.receive(message).is_none());
    }
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "snapshot of revision 5, flags new or changed: 1\na: on  revision 5\na: on → off  revision 6\n"
    );
}

#[tokio::test]
async fn nothing_is_printed_before_the_commit() {
    let mut out = Vec::new();
    let mut watcher = watcher(&mut out);
    for message in snapshot(true).into_iter().take(3) {
        assert!(watcher.receive(message).is_none());
    }
    assert!(out.is_empty());
}

#[tokio::test]
async fn heartbeats_are_printed_on_request_only() {
    for (detail, lines) in [(WatchDetail::Heartbeats, 1), (WatchDetail::Changes, 0)] {
        let mut out = Vec::new();
        let mut watcher = watcher(&mut out);
        watcher.detail = detail;
        assert!(
            watcher
                .receive(message(Message::Heartbeat(Heartbeat::default())))
                .is_none()
        );
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), lines);
    }
}

#[tokio::test]
async fn goodbye_is_obeyed_to_the_letter() {
    let mut out = Vec::new();
    let mut watcher = watcher(&mut out);
    let end = watcher.receive(goodbye(Duration::from_millis(12_345))).unwrap();
    assert_eq!(watcher.after(end).unwrap(), Duration::from_millis(12_345));
}

#[tokio::test]
async fn the_server_may_ask_for_a_longer_wait_than_ours() {
    let mut out = Vec::new();
    let mut watcher = watcher(&mut out);
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(90)));
    let status = Status::with_error_details(Code::Unavailable, "draining", details);
    assert_eq!(watcher.after(End::Failed(status)).unwrap(), Duration::from_secs(90));
    let without = Status::unavailable("gone");
    assert!(watcher.after(End::Failed(without)).unwrap() <= Duration::from_millis(1_600));
}

#[tokio::test]
async fn what_no_reconnect_mends_ends_the_command() {
    for (status, exit) in [
        (Status::unauthenticated("no"), Exit::Denied),
        (Status::permission_denied("a server key is needed"), Exit::Denied),
        (Status::not_found("the environment was deleted"), Exit::Failed),
        (Status::unimplemented(""), Exit::Failed),
    ] {
        let mut out = Vec::new();
        let error = watcher(&mut out).after(End::Failed(status)).unwrap_err();
        assert_eq!(error.exit(), exit, "{error}");
    }
}

#[tokio::test]
async fn a_mismatch_starts_over_and_is_not_forgotten() {
    let mut out = Vec::new();
    let mut watcher = watcher(&mut out);
    for message in snapshot(true) {
        assert!(watcher.receive(message).is_none());
    }
    assert!(!watcher.mirror.token().is_empty());
    let wrong = [
        Message::Begin(begin(Intent::None, 5, 5, 0)),
        Message::Commit(commit(5, vec![7; 32])),
    ];
    let ends: Vec<_> = wrong
        .into_iter()
        .filter_map(|wrong| watcher.receive(message(wrong)))
        .collect();
    let [End::Broken(broken @ Broken::StateMismatch { .. })] = ends.as_slice() else {
        panic!("{ends:?}");
    };
    watcher.after(End::Broken(broken.clone())).unwrap();
    assert!(watcher.mirror.token().is_empty() && watcher.mismatched);
}

#[tokio::test]
async fn a_reader_that_went_away_ends_the_command() {
    let mut out = Vec::new();
    let gone = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let error = watcher(&mut out).after(End::Unprintable(gone)).unwrap_err();
    assert_eq!(error.exit(), Exit::Done);
}

/// Answers each connection with the next of its scripts, and notes the tokens and keys that it was shown.
#[derive(Clone, Default)]
struct Scripted {
    scripts: Arc<Mutex<VecDeque<Script>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

type Script = Vec<Result<WatchResponse, Status>>;
/// A resume token and an `authorization`.
type Seen = (Vec<u8>, String);

#[tonic::async_trait]
impl WatchService for Scripted {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let authorization = request.metadata().get("authorization").unwrap().to_str().unwrap();
        let authorization = authorization.to_owned();
        let token = request.into_inner().resume_token;
        self.seen.lock().unwrap().push((token, authorization));
        let script = self.scripts.lock().unwrap().pop_front();
        let script = script.ok_or_else(|| Status::unauthenticated("the key was revoked"))?;
        Ok(Response::new(stream::iter(script).boxed()))
    }

    type WatchEvaluationsStream = BoxStream<'static, Result<WatchEvaluationsResponse, Status>>;

    async fn watch_evaluations(
        &self,
        _: Request<WatchEvaluationsRequest>,
    ) -> Result<Response<Self::WatchEvaluationsStream>, Status> {
        Err(Status::unimplemented("nobody asks for answers"))
    }

    async fn acknowledge(&self, _: Request<AcknowledgeRequest>) -> Result<Response<AcknowledgeResponse>, Status> {
        Err(Status::unimplemented("nobody acknowledges"))
    }
}

#[tokio::test]
async fn a_watcher_resumes_where_it_was_until_its_key_is_revoked() {
    let server = Scripted::default();
    let at_once = || goodbye(Duration::ZERO);
    let scripts = [snapshot(true), vec![], switch(false)].map(|mut messages| {
        messages.push(at_once());
        messages.into_iter().map(Ok).collect()
    });
    server.scripts.lock().unwrap().extend(scripts);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = TcpListenerStream::new(listener).into_stream();
    let serving = Server::builder().add_service(WatchServiceServer::new(server.clone()));
    let serving = tokio::spawn(serving.serve_with_incoming(incoming));

    let config = Watch {
        server: caller(&format!("http://{address}")).server,
        key: "key".to_owned().into(),
        detail: WatchDetail::Changes,
        output: Output::Text,
    };
    let mut out = Vec::new();
    let error = run(config, &CancellationToken::new(), &mut out).await.unwrap_err();
    serving.abort();

    assert_eq!(error.exit(), Exit::Denied);
    assert!(error.to_string().contains("the key was revoked"), "{error}");
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "snapshot of revision 5, flags new or changed: 1\na: on  revision 5\na: on → off  revision 6\n"
    );
    let token = |revision: u64| (revision.to_be_bytes().to_vec(), "Bearer key".to_owned());
    let none = (Vec::new(), "Bearer key".to_owned());
    assert_eq!(*server.seen.lock().unwrap(), [none, token(5), token(5), token(6)]);
}

#[tokio::test]
async fn a_watcher_that_is_stopped_is_done() {
    let stop = CancellationToken::new();
    stop.cancel();
    let config = Watch {
        server: caller("http://127.0.0.1:1").server,
        key: "key".to_owned().into(),
        detail: WatchDetail::Changes,
        output: Output::Text,
    };
    run(config, &stop, &mut Vec::new()).await.unwrap();
}
