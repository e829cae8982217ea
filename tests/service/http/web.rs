//! gRPC as browsers speak it: the same answers, refusals with all they say, and streams.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use halyard::server::Address;
use prost::Message as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tonic_types::pb::Status as Details;

use super::{EVALUATE, WEB};
use crate::app::{App, EMAIL, Keys, PASSWORD};
use crate::sidecar::{Side, options};
use crate::support::plain::{Answer, Frames, Reading, framed, http1, http2};
use crate::support::within;

const WATCH: &str = "/halyard.evaluation.v1.WatchService/WatchEvaluations";

fn question(flag: &str) -> pb::EvaluateRequest {
    pb::EvaluateRequest {
        flag: flag.into(),
        context: Some(pb::Context {
            targeting_key: "alice".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn bearer(credential: &str) -> String {
    format!("authorization: Bearer {credential}\r\n")
}

async fn with_flag() -> (App, Keys) {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    app.toggle("f", true).await;
    (app, keys)
}

/// The variant that was answered.
fn variant(frames: &Frames) -> String {
    assert_eq!(frames.status(), "0", "{frames:?}");
    let [message] = &frames.messages[..] else {
        panic!("not one message: {frames:?}");
    };
    let answer = pb::EvaluateResponse::decode(&message[..]).unwrap();
    answer.evaluation.unwrap_or_default().variant
}

/// The reason that a refusal gives to programs.
fn reason(frames: &Frames) -> String {
    let details = STANDARD_NO_PAD.decode(frames.trailer("grpc-status-details-bin").trim_end_matches('='));
    let details = Details::decode(&details.unwrap()[..]).unwrap();
    let info = details
        .details
        .iter()
        .find(|any| any.type_url.ends_with("ErrorInfo"))
        .unwrap();
    tonic_types::pb::ErrorInfo::decode(&info.value[..]).unwrap().reason
}

async fn evaluate(app: &App, headers: &str, flag: &str) -> Frames {
    let answer = http1(
        app.server.address(),
        &format!("POST {EVALUATE}"),
        &format!("{WEB}{headers}"),
        &framed(&question(flag)),
    )
    .await;
    frames(&answer)
}

fn frames(answer: &Answer) -> Frames {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!answer.headers.contains_key("grpc-status"), "{answer:?}");
    Frames::read(&answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_answered_in_binary_and_in_text_over_both_versions() {
    let (app, keys) = with_flag().await;
    let (address, asked) = (app.server.address(), framed(&question("f")));
    for kind in [
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web+proto; charset=utf-8",
    ] {
        let headers = format!("content-type: {kind}\r\n{}", bearer(&keys.client));
        let one = http1(address, &format!("POST {EVALUATE}"), &headers, &asked).await;
        assert_eq!(variant(&frames(&one)), "on");
        assert_eq!(one.header("content-type"), "application/grpc-web+proto");
        let credential = format!("Bearer {}", keys.client);
        let headers = [("content-type", kind), ("authorization", credential.as_str())];
        let two = http2(address, "POST", EVALUATE, &headers, &asked).await;
        assert_eq!(variant(&frames(&two)), "on");
    }
    for (kind, parameters) in [
        ("application/grpc-web-text", ""),
        ("application/grpc-web-text+proto", ""),
        ("application/grpc-web-text", ";charset=UTF-8"),
    ] {
        let headers = format!(
            "content-type: {kind}{parameters}\r\naccept: {kind}\r\n{}",
            bearer(&keys.client)
        );
        let text = STANDARD.encode(&asked);
        let mut answer = http1(address, &format!("POST {EVALUATE}"), &headers, text.as_bytes()).await;
        assert_eq!(answer.header("content-type"), "application/grpc-web-text+proto");
        // Each piece is encoded by itself.
        let pieces = answer.text();
        let mut body = Vec::new();
        for piece in pieces.as_bytes().chunks(4) {
            body.extend(STANDARD.decode(piece).unwrap());
        }
        answer.body = body;
        assert_eq!(variant(&frames(&answer)), "on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_reach_a_page_in_full_whoever_refuses() {
    let (app, keys) = with_flag().await;
    // Of the front.
    let refused = evaluate(&app, "", "f").await;
    assert_eq!(
        (refused.status(), reason(&refused).as_str()),
        ("16", "INVALID_CREDENTIAL")
    );
    assert!(refused.trailer("grpc-message").contains("credential"), "{refused:?}");
    // Of the service.
    let invalid = evaluate(&app, &bearer(&keys.client), "").await;
    assert_eq!((invalid.status(), reason(&invalid).as_str()), ("3", "INVALID_FIELDS"));
    // Of the transport: more than the message was to have.
    let address = app.server.address();
    let headers = format!("{WEB}{}", bearer(&keys.client));
    let call = async |path: &str, body: &[u8]| {
        let answer = http1(address, &format!("POST {path}"), &headers, body).await;
        let frames = frames(&answer);
        (frames.status().to_owned(), reason(&frames))
    };
    let twice = [framed(&question("f")), framed(&question("f"))].concat();
    assert_eq!(call(EVALUATE, &twice).await, ("3".into(), "SURPLUS_MESSAGE".into()));
    let announced = [0, 0x80, 0, 0, 0];
    assert_eq!(
        call(EVALUATE, &announced).await,
        ("8".into(), "MESSAGE_TOO_LARGE".into())
    );
    assert_eq!(
        call("/no.such/Method", &twice).await,
        ("12".into(), "UNIMPLEMENTED".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn people_log_in_and_administrate_from_a_page() {
    let app = App::start().await;
    let request = admin::LoginRequest {
        email: EMAIL.into(),
        password: PASSWORD.into(),
        access_only: true,
    };
    let path = "POST /halyard.admin.v1.AuthService/Login";
    let answer = http1(app.server.address(), path, WEB, &framed(&request)).await;
    let login = admin::LoginResponse::decode(&frames(&answer).messages[0][..]).unwrap();
    let path = "POST /halyard.admin.v1.AuthService/WhoAmI";
    let headers = format!("{WEB}{}", bearer(&login.access_token));
    let answer = http1(app.server.address(), path, &headers, &framed(&admin::WhoAmIRequest {})).await;
    assert_eq!(frames(&answer).status(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_watches_over_http_1() {
    let (app, keys) = with_flag().await;
    let question = pb::WatchEvaluationsRequest {
        context: question("f").context,
        ..Default::default()
    };
    let body = framed(&question);
    let mut stream = TcpStream::connect(app.server.address()).await.unwrap();
    let head = format!(
        "POST {WATCH} HTTP/1.1\r\nhost: it\r\n{WEB}{}content-length: {}\r\n\r\n",
        bearer(&keys.client),
        body.len()
    );
    within("the request", stream.write_all(&[head.as_bytes(), &body].concat()))
        .await
        .unwrap();
    let mut reading = Reading::default();
    let first = reading
        .until(&mut stream, "a first batch", |frames| !frames.messages.is_empty())
        .await;
    let before = first.messages.len();
    app.toggle("f", false).await;
    let changed = reading
        .until(&mut stream, "the change", |frames| {
            frames.messages.iter().skip(before).any(|message| {
                let message = pb::WatchEvaluationsResponse::decode(&message[..]).unwrap();
                format!("{message:?}").contains("\"off\"")
            })
        })
        .await;
    assert!(changed.trailers.is_none(), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_answers_pages_too() {
    let (app, keys) = with_flag().await;
    let side = Side::start(options(&format!("http://{}", app.server.address()), &keys.server)).await;
    within("a state", side.sidecar.ready()).await;
    let Address::Tcp(address) = *side.sidecar.address() else {
        panic!("not on a port");
    };
    let headers = format!("{WEB}{}", bearer(&keys.server));
    let answer = http1(address, &format!("POST {EVALUATE}"), &headers, &framed(&question("f"))).await;
    assert_eq!(variant(&frames(&answer)), "on");
    side.stop().await;
}
