//! An upstream that does not keep its promises, and one that asks for patience. It speaks the public interface, from a script.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use halyard::domain::access::KeyKind;
use halyard::domain::change::{Digest, EnvironmentId, StateHash, form_hash};
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_response::Message;
use halyard::pb::evaluation::v1::watch_service_server::{WatchService, WatchServiceServer};
use halyard::watch::Token;
use halyard::watch::source::Identity;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::Side;
use crate::app::evaluate;
use crate::support::eventually;

const DEFINITION: &str = r#"{"format":1,"key":"f","type":"bool","variants":[{"key":"on","value":{"bool":true}},{"key":"off","value":{"bool":false}}],"off_variant":"off","default_variant":"on","client_visible":true}"#;
const OFF: &str = r#"{"format":1,"enabled":false}"#;
const ON: &str = r#"{"format":1,"enabled":true}"#;

/// What it says on one stream, after which it says nothing more.
type Script = Vec<Message>;

/// What it was shown, and when.
type Shown = Arc<Mutex<Vec<(Vec<u8>, Instant)>>>;

struct Scripted {
    scripts: Mutex<VecDeque<Script>>,
    shown: Shown,
}

#[tonic::async_trait]
impl WatchService for Scripted {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        assert!(request.forms);
        self.shown.lock().unwrap().push((request.resume_token, Instant::now()));
        let script = self.scripts.lock().unwrap().pop_front().unwrap_or_default();
        let messages = tokio_stream::iter(script).map(|message| Ok(pb::WatchResponse { message: Some(message) }));
        Ok(Response::new(Box::pin(messages.chain(tokio_stream::pending()))))
    }

    type WatchEvaluationsStream = tokio_stream::Empty<Result<pb::WatchEvaluationsResponse, Status>>;

    async fn watch_evaluations(
        &self,
        _: Request<pb::WatchEvaluationsRequest>,
    ) -> Result<Response<Self::WatchEvaluationsStream>, Status> {
        Err(Status::unimplemented("a sidecar watches items"))
    }

    async fn acknowledge(
        &self,
        _: Request<pb::AcknowledgeRequest>,
    ) -> Result<Response<pb::AcknowledgeResponse>, Status> {
        Err(Status::unimplemented("a sidecar acknowledges nothing"))
    }
}

/// Serves scripts, one a stream.
async fn scripted(scripts: impl IntoIterator<Item = Script>) -> (String, Shown) {
    let shown = Shown::default();
    let service = Scripted {
        scripts: Mutex::new(scripts.into_iter().collect()),
        shown: shown.clone(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tonic::transport::Server::builder().add_service(WatchServiceServer::new(service));
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    (url, shown)
}

fn token(revision: u64) -> Vec<u8> {
    let position = Token {
        identity: Identity {
            store: uuid::Uuid::from_u128(1),
            generation: 1,
        },
        environment: EnvironmentId(1),
        revision,
        digest: Digest([u8::try_from(revision).unwrap(); 32]),
        sealed: false,
    };
    position.write().to_vec()
}

fn put(kind: &str, form: &str) -> Message {
    Message::Item(pb::Item {
        change: Some(pb::item::Change::Put(pb::Put {
            kind: kind.to_owned(),
            key: "f".to_owned(),
            version: 1,
            form_hash: form_hash(form.as_bytes()).0.to_vec(),
            form: Some(form.as_bytes().to_vec()),
            item: None,
        })),
    })
}

/// What is held once the flag has this configuration.
fn state_hash(configuration: &str) -> Vec<u8> {
    let mut hash = StateHash::EMPTY;
    for (kind, form) in [("flag_definition", DEFINITION), ("flag_configuration", configuration)] {
        hash.toggle(kind, "f", &form_hash(form.as_bytes()));
    }
    hash.as_bytes().to_vec()
}

fn begin(intent: pb::Intent, from: u64, to: u64, count: u32) -> Message {
    Message::Begin(pb::Begin {
        intent: intent.into(),
        generation: 1,
        from_revision: from,
        to_revision: to,
        item_count: count,
        ..pb::Begin::default()
    })
}

fn commit(revision: u64, state_hash: Vec<u8>) -> Message {
    Message::Commit(pb::Commit {
        resume_token: token(revision),
        generation: 1,
        revision,
        state_hash,
        committed_at: Some(prost_types::Timestamp::default()),
    })
}

fn snapshot(revision: u64, configuration: &str) -> Script {
    vec![
        begin(pb::Intent::Snapshot, 0, revision, 2),
        put("flag_definition", DEFINITION),
        put("flag_configuration", configuration),
        commit(revision, state_hash(configuration)),
    ]
}

async fn follow(url: &str) -> (Side, String) {
    let key = halyard::auth::keys::generate(KeyKind::Server).unwrap();
    let key = secrecy::ExposeSecret::expose_secret(&key.secret).to_owned();
    (Side::follow(url, &key).await, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_add_up_is_not_applied_and_everything_is_asked_for() {
    let mut lies = snapshot(1, OFF);
    lies.extend([
        begin(pb::Intent::Delta, 1, 2, 1),
        put("flag_configuration", ON),
        // As if another item had changed too.
        commit(2, state_hash("{}")),
    ]);
    let (url, shown) = scripted([lies, snapshot(3, ON)]).await;
    let (side, key) = follow(&url).await;
    let answers = eventually("the mended state", async || {
        let answer = evaluate(&side.channel, &key, "f", 0).await.ok()?;
        // Revision 2 is never seen.
        assert!(
            matches!((answer.revision, &*answer.variant), (1, "off") | (3, "on")),
            "{answer:?}"
        );
        (answer.revision == 3).then_some(answer)
    });
    answers.await;
    assert_eq!(side.sidecar.upstream().counters().broken.load(Ordering::Relaxed), 1);
    let tokens: Vec<_> = shown.lock().unwrap().iter().map(|(token, _)| token.clone()).collect();
    assert_eq!(tokens, [Vec::<u8>::new(), Vec::new()]);
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_goodbye_comes_back_when_it_was_asked_to_with_its_token() {
    let pause = Duration::from_millis(700);
    let mut farewell = snapshot(1, OFF);
    farewell.push(Message::Goodbye(pb::Goodbye {
        reason: pb::GoodbyeReason::Draining.into(),
        reconnect_after: Some(pause.try_into().unwrap()),
    }));
    let (url, shown) = scripted([farewell]).await;
    let (side, _) = follow(&url).await;
    let (first, second) = eventually("a second stream", async || match &**shown.lock().unwrap() {
        [first, second, ..] => Some((first.clone(), second.clone())),
        _ => None,
    })
    .await;
    assert_eq!((first.0, second.0), (Vec::new(), token(1)));
    let waited = second.1.duration_since(first.1);
    assert!(waited >= pause && waited < Duration::from_secs(10), "{waited:?}");
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_of_a_version_without_stored_forms_is_no_upstream() {
    let mut typed = snapshot(1, OFF);
    if let Some(Message::Item(item)) = typed.get_mut(1)
        && let Some(pb::item::Change::Put(put)) = &mut item.change
    {
        put.form = None;
    }
    let (url, _) = scripted([typed]).await;
    let (side, _) = follow(&url).await;
    let counters = side.sidecar.upstream().counters();
    eventually("the refusal", async || {
        (counters.broken.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    assert!(!side.sidecar.hub().is_ready());
    side.stop().await;
}
