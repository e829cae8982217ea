//! What a collector is sent of requests, and what it is not.

mod collector;
mod secured;
mod sidecars;

use std::collections::BTreeSet;

use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::evaluation::v1 as pb;
use halyard::trace::Options;
use prost::Message as _;
use tokio::net::TcpListener;
use tonic::Request;

use crate::app::{App, Bearer, EMAIL, PASSWORD, evaluate, evaluation, toggle};
use crate::metrics::{measured, scrape};
use crate::raw;
use crate::support::{database, eventually, within};
use collector::{Collector, attributes};

const CALLER: &str = "00f067aa0ba902b7";

async fn traced(endpoint: String, share: f64) -> App {
    App::start_with(database().await, |options| {
        measured(options);
        options.trace = Some(to(endpoint, share));
    })
    .await
}

/// Traces that go to a collector whom the machine trusts.
fn to(endpoint: String, share: f64) -> Options {
    Options {
        endpoint,
        tls: None,
        share,
    }
}

/// A request that comes with a trace.
fn in_trace<T>(message: T, trace_id: &str, flags: &str) -> Request<T> {
    let mut request = Request::new(message);
    let parent = format!("00-{trace_id}-{CALLER}-{flags}");
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    request
}

fn trace_id(n: u8) -> String {
    format!("{n:032x}")
}

async fn spans_sent(app: &App, outcome: &str) -> u64 {
    let name = format!(r#"halyard_trace_spans_total{{outcome="{outcome}"}}"#);
    scrape(app).await.count(&name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_goes_on_to_the_statements() {
    let collector = Collector::start().await;
    let app = traced(collector.url(), 0.0).await;
    app.shop().await;
    app.flag("f").await;
    let id = trace_id(1);
    let request = in_trace(toggle("f", true), &id, "01");
    app.flags().toggle_flags(request).await.unwrap();

    let method = "halyard.admin.v1.FlagService/ToggleFlags";
    let spans = collector.trace(&id, method).await;
    let named = |name: &str| {
        let span = spans.iter().find(|span| span.name == name);
        span.unwrap_or_else(|| panic!("{name} is not among {:?}", names(&spans)))
    };
    let request = named(method);
    assert_eq!(hex::encode(&request.parent_span_id), CALLER);
    let said = attributes(request);
    for (key, value) in [
        ("rpc.system", "grpc"),
        ("rpc.service", "halyard.admin.v1.FlagService"),
        ("rpc.method", "ToggleFlags"),
        ("rpc.grpc.status_code", "0"),
    ] {
        assert_eq!(said.get(key).map(String::as_str), Some(value), "{said:?}");
    }
    let transaction = named("transaction");
    assert_eq!(transaction.parent_span_id, request.span_id);
    let commit = named("commit");
    assert_eq!(commit.parent_span_id, transaction.span_id);
    let statements: Vec<_> = spans
        .iter()
        .filter(|span| {
            attributes(span)
                .get("db.system.name")
                .is_some_and(|name| name == "postgresql")
        })
        .collect();
    assert!(statements.len() > 3, "{:?}", names(&spans));
    assert!(statements.iter().all(|span| span.parent_span_id == transaction.span_id));
    assert!(
        statements.iter().any(|span| span.name.starts_with("insert ")),
        "{:?}",
        names(&spans)
    );
    let resource = format!("{:?}", collector.received()[0].resource_spans[0].resource);
    assert!(
        resource.contains("service.name") && resource.contains("halyard"),
        "{resource}"
    );
}

fn names(spans: &[opentelemetry_proto::tonic::trace::v1::Span]) -> BTreeSet<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_caller_does_not_sample_is_not_traced() {
    let collector = Collector::start().await;
    let app = traced(collector.url(), 0.0).await;
    let keys = app.shop().await;
    app.flag("f").await;
    let ask = async |request: Request<pb::EvaluateRequest>| {
        evaluation(&app.channel, &keys.server).evaluate(request).await.unwrap();
    };
    ask(in_trace(question("f"), &trace_id(1), "00")).await;
    ask(Request::new(question("f"))).await;
    let mut malformed = Request::new(question("f"));
    malformed.metadata_mut().insert("traceparent", "01".parse().unwrap());
    ask(malformed).await;
    ask(in_trace(question("f"), &trace_id(2), "01")).await;
    collector
        .trace(&trace_id(2), "halyard.evaluation.v1.EvaluationService/Evaluate")
        .await;
    // They go in order: nothing is still on its way that came before.
    let traces: BTreeSet<_> = collector
        .spans()
        .iter()
        .map(|span| hex::encode(&span.trace_id))
        .collect();
    assert_eq!(traces, BTreeSet::from([trace_id(2)]));
    eventually("the count", async || {
        (spans_sent(&app, "exported").await == 1).then_some(())
    })
    .await;
    assert_eq!(spans_sent(&app, "dropped").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_nothing_or_what_is_public_does_not_decide_what_is_traced() {
    let collector = Collector::start().await;
    let app = traced(collector.url(), 0.0).await;
    let keys = app.shop().await;
    app.flag("f").await;
    for key in [keys.client.as_str(), "nobody's"] {
        let asked = in_trace(question("f"), &trace_id(1), "01");
        let _ = evaluation(&app.channel, key).evaluate(asked).await;
    }
    let login = admin::LoginRequest {
        email: EMAIL.into(),
        password: PASSWORD.into(),
        access_only: false,
    };
    let mut anybody = AuthServiceClient::new(app.channel.clone());
    anybody.login(in_trace(login, &trace_id(2), "01")).await.unwrap();
    for path in ["/grpc.health.v1.Health/Check", "/planted.Service/Planted"] {
        let _ = raw::send(&app.channel, path, in_trace(Vec::new(), &trace_id(3), "01")).await;
    }
    let who = admin::WhoAmIRequest::default();
    let mut known = AuthServiceClient::with_interceptor(app.channel.clone(), Bearer::new(&app.token));
    known.who_am_i(in_trace(who, &trace_id(4), "01")).await.unwrap();
    collector
        .trace(&trace_id(4), "halyard.admin.v1.AuthService/WhoAmI")
        .await;
    // They go in order: nothing is still on its way that came before.
    let spans = collector.spans();
    let traces: BTreeSet<_> = spans.iter().map(|span| hex::encode(&span.trace_id)).collect();
    assert_eq!(traces, BTreeSet::from([trace_id(4)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_without_a_trace_may_begin_one_and_so_does_the_feed() {
    let collector = Collector::start().await;
    let app = traced(collector.url(), 1.0).await;
    let keys = app.shop().await;
    app.flag("f").await;
    app.toggle("f", true).await;
    evaluate(&app.channel, &keys.server, "f", 0).await.unwrap();
    for name in ["halyard.evaluation.v1.EvaluationService/Evaluate", "feed read"] {
        let span = eventually(name, async || {
            collector.spans().into_iter().find(|span| span.name == name)
        })
        .await;
        assert!(span.parent_span_id.is_empty(), "{span:?}");
    }
    // What is stopped sends what it has.
    let before = collector.spans().len();
    evaluate(&app.channel, &keys.server, "f", 0).await.unwrap();
    app.server.stop().await.unwrap();
    assert!(collector.spans().len() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_hangs_keeps_nobody_waiting() {
    // Connections to it are taken by the kernel, and never answered.
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs_at = format!("http://{}", hangs.local_addr().unwrap());
    for endpoint in ["http://127.0.0.1:1".to_owned(), hangs_at] {
        let app = traced(endpoint, 1.0).await;
        let keys = app.shop().await;
        app.flag("f").await;
        for _ in 0..20 {
            evaluate(&app.channel, &keys.server, "f", 0).await.unwrap();
        }
        eventually("the count", async || {
            (spans_sent(&app, "failed").await > 0).then_some(())
        })
        .await;
        assert_eq!(spans_sent(&app, "exported").await, 0);
        evaluate(&app.channel, &keys.server, "f", 0).await.unwrap();
        within("the end", app.server.stop()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_callers_send_leaves_with_a_span() {
    const MARKER: &str = "planted";
    let collector = Collector::start().await;
    let app = traced(collector.url(), 1.0).await;
    let keys = app.shop().await;
    app.flag("planted-flag").await;

    let mut ask = in_trace(question("planted-flag"), &trace_id(7), "01");
    ask.metadata_mut()
        .insert("tracestate", "planted=planted".parse().unwrap());
    evaluation(&app.channel, &keys.server).evaluate(ask).await.unwrap();
    let mut change = in_trace(toggle("planted-flag", true), &trace_id(8), "01");
    change
        .metadata_mut()
        .insert("x-halyard-reason", "planted reason".parse().unwrap());
    app.flags().toggle_flags(change).await.unwrap();
    let login = admin::LoginRequest {
        email: "planted@example.com".into(),
        password: "planted password".into(),
        access_only: false,
    };
    AuthServiceClient::new(app.channel.clone())
        .login(login)
        .await
        .unwrap_err();
    raw::call(&app.channel, "/planted.Service/Planted", Some("planted"), Vec::new())
        .await
        .unwrap_err();
    app.user("planted-user@example.com").await;
    let last = in_trace(question("planted-flag"), &trace_id(9), "01");
    evaluation(&app.channel, &keys.client).evaluate(last).await.unwrap();

    let evaluated = "halyard.evaluation.v1.EvaluationService/Evaluate";
    collector.trace(&trace_id(9), evaluated).await;
    let spans = collector.spans();
    for name in ["unknown/unknown", "halyard.admin.v1.AuthService/Login", "insert users"] {
        assert!(
            spans.iter().any(|span| span.name == name),
            "{name}: {:?}",
            names(&spans)
        );
    }
    let secrets = [MARKER, EMAIL, PASSWORD, &keys.server, &keys.client, &app.token, "shop"];
    for request in collector.received() {
        let bytes = request.encode_to_vec();
        let text = String::from_utf8_lossy(&bytes);
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in {request:?}");
        }
    }
}

fn question(flag: &str) -> pb::EvaluateRequest {
    pb::EvaluateRequest {
        flag: flag.into(),
        context: Some(pb::Context {
            targeting_key: "planted-alice".into(),
            ..pb::Context::default()
        }),
        min_revision: 0,
        explain: false,
    }
}
