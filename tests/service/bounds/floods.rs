//! Requests that are begun and not ended, and streams that nobody ends: what they take is not what others need.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::SendStream;
use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use halyard::rpc::front::Limits;
use prost::bytes::Bytes;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_types::StatusExt as _;

use super::Bounded;
use crate::app::{App, EMAIL, Keys, PASSWORD, connect, evaluate, login};
use crate::raw;
use crate::refusals::refused;
use crate::support::plain::framed;
use crate::support::{Scrape, eventually, half, within};

const LOGIN: &str = "/halyard.admin.v1.AuthService/Login";
const LIST: &str = "/halyard.admin.v1.ProjectService/ListProjects";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const EVALUATE: &str = "/halyard.evaluation.v1.EvaluationService/Evaluate";
/// Begun calls: of each kind one has a place.
const FLOOD: u64 = 40;

async fn start(requests: usize) -> (App, Bounded, Keys) {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let limits = Limits {
        requests,
        ..Limits::default()
    };
    let bounded = Bounded::start(&app, 4, limits).await;
    (app, bounded, keys)
}

/// The headers behind which a call has ended.
type Ending = Pin<Box<dyn Future<Output = BTreeMap<String, String>>>>;

/// Calls whose messages do not come.
struct Flood {
    _begun: Vec<SendStream<Bytes>>,
    waiting: FuturesUnordered<Ending>,
}

impl Flood {
    /// Begins them. Who has waited longest makes room, until there is one.
    async fn begin(bounded: &Bounded, path: &str, credential: &str, kind: &str) -> Self {
        let client = half::connect(bounded.server.address()).await;
        let mut begun = Vec::new();
        let waiting = FuturesUnordered::new();
        for _ in 0..FLOOD {
            let (response, sending) = half::begin(&client, path, credential, b"").await;
            waiting.push(Box::pin(half::ending(response)) as Ending);
            begun.push(sending);
        }
        let mut flood = Self { _begun: begun, waiting };
        for _ in 1..FLOOD {
            let said = flood.waiting.next().await.unwrap();
            assert_eq!(said["grpc-status"], "14", "{said:?}");
        }
        bounded.in_flight(kind, 1).await;
        assert_eq!(bounded.refused(kind).await, FLOOD - 1);
        flood
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_that_are_only_begun_keep_nobody_from_logging_in() {
    let (_app, bounded, _) = start(10).await;
    let flood = Flood::begin(&bounded, LOGIN, "", "arriving_open").await;
    login(&bounded.channel, EMAIL, PASSWORD).await.unwrap();
    assert_eq!(bounded.refused("login").await, 0);
    bounded.in_flight("login", 0).await;
    drop(flood);
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_that_is_only_begun_keeps_nobody_from_it() {
    let (app, bounded, _) = start(10).await;
    let flood = Flood::begin(&bounded, LIST, &app.token, "arriving").await;
    let listed = raw::call(&bounded.channel, LIST, Some(&app.token), Vec::new());
    within("a list", listed).await.unwrap();
    // Neither does it take what logins wait in.
    assert_eq!(bounded.refused("arriving_open").await, 0);
    assert_eq!(bounded.refused("administration").await, 0);
    drop(flood);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_late_is_answered_all_the_same() {
    let (app, bounded, _) = start(10).await;
    let client = half::connect(bounded.server.address()).await;
    let message = framed(&admin::LoginRequest {
        email: EMAIL.into(),
        password: PASSWORD.into(),
        access_only: false,
    });
    let (first, rest) = message.split_at(7);
    let (response, sending) = half::begin(&client, LOGIN, "", first).await;
    bounded.in_flight("arriving_open", 1).await;
    half::finish(sending, rest);
    assert_eq!(half::status(response).await, "0");
    let (response, sending) = half::begin(&client, LIST, &app.token, b"").await;
    bounded.in_flight("arriving", 1).await;
    half::finish(sending, &[0; 5]);
    assert_eq!(half::status(response).await, "0");
    for kind in ["arriving_open", "arriving", "login", "administration"] {
        bounded.in_flight(kind, 0).await;
    }
    // What is announced to be too large is not waited for.
    let (response, _sending) = half::begin(&client, LIST, &app.token, &[0, 0x10, 0, 0, 0]).await;
    assert_eq!(half::status(response).await, "8");
    let (response, _sending) = half::begin(&client, LOGIN, "", &[0, 0, 2, 0, 0]).await;
    assert_eq!(half::status(response).await, "8");
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_server_lives_is_told_however_many_have_begun_to_ask() {
    let (_app, bounded, _) = start(10).await;
    let flood = Flood::begin(&bounded, CHECK, "", "arriving_open").await;
    check(&bounded).await;
    drop(flood);
}

async fn check(bounded: &Bounded) {
    let mut client = HealthClient::new(bounded.channel.clone());
    client.check(HealthCheckRequest::default()).await.unwrap();
}

async fn watch(bounded: &Bounded, of: &tonic::transport::Channel) -> Result<Streaming<HealthCheckResponse>, Status> {
    let mut client = HealthClient::new(of.clone());
    let opened = within("a stream", client.watch(HealthCheckRequest::default())).await?;
    let mut stream = opened.into_inner();
    within("its first message", stream.message()).await?.unwrap();
    // It is open, and so counted.
    let name = r#"halyard_requests_in_flight{service="grpc.health.v1.Health",method="Watch"}"#;
    assert!(bounded.scrape().await.count(name) > 0);
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_without_a_credential_are_bounded_and_each_connection_has_some() {
    let (_app, bounded, keys) = start(10).await;
    let crowd = connect(&bounded.server).await;
    // Two are the connection's own, and one is of the share.
    let mut open = Vec::new();
    for taken in [0, 0, 1] {
        open.push(watch(&bounded, &crowd).await.unwrap());
        bounded.in_flight("open_stream", taken).await;
    }
    let status = refused(watch(&bounded, &crowd).await, Code::Unavailable);
    assert_eq!(status.get_details_error_info().unwrap().reason, "OVERLOADED");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    let reflect = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let reflected = raw::call(&crowd, reflect, None, vec![0x3a, 0]).await;
    refused(reflected, Code::Unavailable);
    // Others have their own, and neither calls nor checks are any stream's.
    let other = connect(&bounded.server).await;
    let others = [
        watch(&bounded, &other).await.unwrap(),
        watch(&bounded, &other).await.unwrap(),
    ];
    refused(watch(&bounded, &other).await, Code::Unavailable);
    assert_eq!(bounded.refused("open_stream").await, 3);
    check(&bounded).await;
    evaluate(&bounded.channel, &keys.server, "f", 0).await.unwrap();
    // Whoever ends one gives the place back.
    drop(others);
    drop(open);
    bounded.in_flight("open_stream", 0).await;
    eventually("a stream", async || watch(&bounded, &crowd).await.ok()).await;
    eventually("a word", async || {
        raw::call(&other, reflect, None, vec![0x3a, 0]).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_anybody_has_begun_to_send_takes_no_room_of_those_who_may() {
    const CROWDED: &str = r#"halyard_messages_refused_total{reason="crowded"}"#;
    // The largest that may be announced, and nearly all of it: 4 MiB hold 64 of them.
    const LARGEST: usize = 64 * 1024;
    let (_app, bounded, keys) = start(2_000).await;
    let address = bounded.server.address();
    let mut message = [&[0], &u32::try_from(LARGEST).unwrap().to_be_bytes()[..]].concat();
    message.resize(LARGEST - 2_000, 7);
    let client = half::connect(address).await;
    let mut begun = Vec::new();
    for _ in 0..100 {
        begun.push(half::begin(&client, LOGIN, "", &message).await);
    }
    eventually("a crowd", async || {
        (Scrape::of(bounded.server.metrics_address().unwrap())
            .await
            .count(CROWDED)
            >= 30)
            .then_some(())
    })
    .await;
    let question = framed(&pb::EvaluateRequest {
        flag: "f".into(),
        ..pb::EvaluateRequest::default()
    });
    let (first, rest) = question.split_at(6);
    let (response, sending) = half::begin(&half::connect(address).await, EVALUATE, &keys.client, first).await;
    bounded.in_flight("evaluation", 1).await;
    half::finish(sending, rest);
    assert_eq!(half::status(response).await, "0");
    // What comes whole is not counted at all.
    login(&bounded.channel, EMAIL, PASSWORD).await.unwrap();
    drop(begun);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_does_not_take_all_places_of_evaluations() {
    // Of 40, 24 are evaluations': a key has half of them and a quarter.
    const MOST: u64 = 18;
    let (_app, bounded, keys) = start(40).await;
    let address = bounded.server.address();
    let client = half::connect(address).await;
    let mut begun = Vec::new();
    for count in 1..=MOST {
        begun.push(half::begin(&client, EVALUATE, &keys.client, b"").await);
        bounded.in_flight("evaluation", count).await;
    }
    let (response, _sending) = half::begin(&client, EVALUATE, &keys.client, b"").await;
    let said = half::ending(response).await;
    assert_eq!(said["grpc-status"], "14", "{said:?}");
    // Another's finds its place.
    let question = framed(&pb::EvaluateRequest {
        flag: "f".into(),
        ..pb::EvaluateRequest::default()
    });
    let (response, sending) = half::begin(&client, EVALUATE, &keys.server, b"").await;
    bounded.in_flight("evaluation", MOST + 1).await;
    half::finish(sending, &question);
    assert_eq!(half::status(response).await, "0");
    drop(begun);
    bounded.in_flight("evaluation", 0).await;
    evaluate(&bounded.channel, &keys.client, "f", 0).await.unwrap();
}
