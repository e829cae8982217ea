//! Clients that ask and do not read.

use std::time::Duration;

use h2::client::{self, ResponseFuture, SendRequest};
use halyard::pb::evaluation::v1 as pb;
use prost::bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use super::wire::{Frames, Wire};
use super::{EVALUATE, Victim};
use crate::support::plain::framed;
use crate::support::{Scrape, eventually, within};

const REFLECT: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const UNREAD_BYTES: &str = "halyard_answers_unread_bytes";
const REFUSED: &str = "halyard_answers_refused_total";
const CLOSED: &str = "halyard_connections_unread_total";
/// What an answer takes that repeats the context it was asked for.
const LARGE: usize = 60_000;

/// A connection whose streams take so much before they are read.
async fn connect(victim: &Victim, window: u32) -> (SendRequest<Bytes>, JoinHandle<()>) {
    let stream = TcpStream::connect(victim.address).await.unwrap();
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(window)
        .initial_connection_window_size((1 << 31) - 1)
        .max_concurrent_streams(10_000);
    let (client, connection) = builder.handshake(stream).await.unwrap();
    // However it ends.
    let ended = tokio::spawn(async move { drop(connection.await) });
    (client, ended)
}

/// A question whose answer is as large as asked for.
fn question(length: usize) -> Bytes {
    let email = prost_types::Value::from("x".repeat(length));
    let attributes = prost_types::Struct {
        fields: [("email".to_owned(), email)].into(),
    };
    framed(&pb::EvaluateRequest {
        flag: "new-checkout".into(),
        context: Some(pb::Context {
            targeting_key: "alice".into(),
            attributes: Some(attributes),
        }),
        explain: true,
        ..Default::default()
    })
    .into()
}

async fn ask(client: &SendRequest<Bytes>, victim: &Victim, question: &Bytes) -> ResponseFuture {
    let request = http::Request::post(format!("http://it{EVALUATE}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {}", victim.server_key));
    let mut client = within("a stream", client.clone().ready()).await.unwrap();
    let (response, mut sending) = client.send_request(request.body(()).unwrap(), false).unwrap();
    sending.send_data(question.clone(), true).unwrap();
    response
}

/// Reads what there is, with a pause for each byte, and says how much it was.
async fn read(response: ResponseFuture, pause: Duration) -> usize {
    let response = within("an answer", response).await.unwrap();
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(piece) = within("more of it", body.data()).await {
        let piece = piece.unwrap().len();
        length += piece;
        sleep(pause * u32::try_from(piece).unwrap()).await;
        body.flow_control().release_capacity(piece).unwrap();
    }
    let status = body.trailers().await.unwrap().unwrap();
    assert_eq!(status["grpc-status"], "0");
    length
}

async fn number(victim: &Victim, name: &str) -> u64 {
    Scrape::of(victim.metrics).await.count(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_answers_nobody_reads_is_closed_and_one_that_is_read_slowly_is_not() {
    const STALL: Duration = Duration::from_secs(3);
    const EACH: usize = 200;
    let victim = Victim::start(&["--stream-stall", "3s"]);
    let question = question(LARGE);
    // Nothing, or the first byte: then the answer is wholly the transport's, and its stream is done with it.
    for (n, window) in [(1, 0), (2, 1)] {
        let (client, ended) = connect(&victim, window).await;
        let mut asked = Vec::new();
        for _ in 0..EACH {
            asked.push(ask(&client, &victim, &question).await);
        }
        within("its end", ended).await.unwrap();
        victim.counted(CLOSED, n).await;
    }
    let (slow, ended) = connect(&victim, 2_000).await;
    let begun = Instant::now();
    let answer = ask(&slow, &victim, &question).await;
    // Three times as fast as it must be.
    assert!(read(answer, Duration::from_micros(110)).await > LARGE);
    assert!(begun.elapsed() > 2 * STALL, "it was not slow");
    assert!(!ended.is_finished());
    // All that was held has been given back.
    eventually("room", async || {
        (number(&victim, UNREAD_BYTES).await == 0).then_some(())
    })
    .await;
    assert_eq!(number(&victim, CLOSED).await, 2);
    victim.serves_others().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_reads_takes_bounded_memory_and_others_are_served() {
    /// More than may be unread, and what it may become with all around it.
    const ASKED: usize = 4_000;
    const HELD_BYTES: u64 = 128 * 1024 * 1024;
    const MEMORY_BYTES: u64 = 450_000_000;
    // Nobody is ended meanwhile, which the machine may be slow enough for.
    let victim = Victim::start(&["--stream-stall", "10m"]);
    let question = question(LARGE);
    victim.forget_peak();
    let mut clients = Vec::new();
    let mut asked = Vec::new();
    for n in 0..ASKED {
        if n % 800 == 0 {
            clients.push(connect(&victim, 0).await);
        }
        let (client, _) = clients.last().unwrap();
        asked.push(ask(client, &victim, &question).await);
    }
    eventually("a crowd", async || {
        (number(&victim, REFUSED).await > 1_000).then_some(())
    })
    .await;
    let held = number(&victim, UNREAD_BYTES).await;
    assert!(held > HELD_BYTES - 1_000_000 && held <= HELD_BYTES, "{held}");
    assert!(victim.peak() > HELD_BYTES, "it was not tried: {}", victim.peak());
    assert!(victim.peak() < MEMORY_BYTES, "{}", victim.peak());
    victim.serves_others().await;
    // Whoever finds no room is told, and may come again.
    let (other, _ended) = connect(&victim, 1 << 20).await;
    let refused = within("an answer", ask(&other, &victim, &question).await)
        .await
        .unwrap();
    let mut body = refused.into_body();
    assert!(within("its end", body.data()).await.is_none());
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "8");
    drop((asked, clients));
    eventually("room", async || {
        (number(&victim, UNREAD_BYTES).await == 0).then_some(())
    })
    .await;
    assert!(read(ask(&other, &victim, &question).await, Duration::ZERO).await > LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_that_nobody_reads_takes_few_places_and_ends() {
    const PLACES: u64 = 32;
    /// What a connection takes before it says that it has room for more.
    const EACH: u32 = 1_000;
    let victim = Victim::start(&["--stream-stall", "5s"]);
    let question = framed(&ServerReflectionRequest {
        message_request: Some(MessageRequest::FileContainingSymbol(
            "halyard.admin.v1.FlagService".into(),
        )),
        ..Default::default()
    });
    let mut wires = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::shut(victim.address).await;
        let mut frames = Frames::default();
        for n in 0..EACH {
            frames.call(2 * n + 1, REFLECT, &[]);
            frames.piece(2 * n + 1, &question);
        }
        wire.send(frames).await;
        wires.push(wire);
    }
    victim.serves_others().await;
    let told = |name: &str, rest: &str| {
        format!(r#"{name}{{service="grpc.reflection.v1.ServerReflection",method="ServerReflectionInfo"{rest}}}"#)
    };
    let answered = |code: &str| told("halyard_requests_total", &format!(r#",code="{code}""#));
    let all = eventually("an answer to all", async || {
        let scrape = Scrape::of(victim.metrics).await;
        let count = |code| scrape.tells(&answered(code)).then(|| scrape.count(&answered(code)));
        let (open, refused) = (count("OK")?, count("RESOURCE_EXHAUSTED")?);
        (open + refused == u64::from(2 * EACH)).then_some(open)
    });
    // Whoever had one may have lost it meanwhile.
    let open = all.await;
    assert!((PLACES..=3 * PLACES).contains(&open), "{open}");
    victim.counted(CLOSED, 1).await;
    let open = told("halyard_requests_in_flight", "");
    eventually("room", async || (number(&victim, &open).await == 0).then_some(())).await;
    victim.serves_others().await;
}
