//! Requests, evaluations, pools and the process are counted exactly.

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use tonic::Code;

use super::{scrape, start, until};
use crate::app::{App, Keys, evaluate, evaluation};
use crate::follower::Follower;
use crate::raw;
use crate::refusals::refused;
use crate::support::Scrape;

const EVALUATION: &str = "halyard.evaluation.v1.EvaluationService";

fn requests(service: &str, method: &str, code: &str) -> String {
    format!(r#"halyard_requests_total{{service="{service}",method="{method}",code="{code}"}}"#)
}

fn evaluations(reason: &str) -> String {
    format!(r#"halyard_evaluations_total{{project="shop",environment="dev",reason="{reason}"}}"#)
}

async fn evaluate_all(app: &App, keys: &Keys) {
    let request = pb::EvaluateAllRequest::default();
    let answer = evaluation(&app.channel, &keys.server).evaluate_all(request).await;
    assert_eq!(answer.unwrap().into_inner().evaluations.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_counted_once_with_its_method_and_code() {
    let app = start(|_| ()).await;
    let keys = app.shop().await;
    app.flag("f").await;
    app.flag("g").await;
    let before = scrape(&app).await;
    // What was never called is not there.
    assert!(!before.tells("EvaluateAll"));
    for _ in 0..3 {
        evaluate(&app.channel, &keys.server, "f", 0).await.unwrap();
    }
    refused(
        evaluate(&app.channel, &keys.server, "nothing", 0).await.map(drop),
        Code::NotFound,
    );
    refused(
        evaluate(&app.channel, "nonsense", "f", 0).await.map(drop),
        Code::Unauthenticated,
    );
    evaluate_all(&app, &keys).await;
    for path in ["/halyard.admin.v1.FlagService/DoAnything", "/alice@example.com/secret"] {
        refused(
            raw::call(&app.channel, path, None, Vec::new()).await.map(drop),
            Code::Unimplemented,
        );
    }
    let after = scrape(&app).await;
    for (method, code, expected) in [
        ("Evaluate", "OK", 3),
        ("Evaluate", "NOT_FOUND", 1),
        ("Evaluate", "UNAUTHENTICATED", 1),
        ("Evaluate", "INTERNAL", 0),
        ("EvaluateAll", "OK", 1),
    ] {
        let counted = after.count(&requests(EVALUATION, method, code));
        assert_eq!(counted, expected, "{method} {code}");
    }
    assert_eq!(after.count(&requests("unknown", "unknown", "UNIMPLEMENTED")), 2);
    assert!(!after.tells("alice") && !after.tells("DoAnything"));
    let took = |method: &str| {
        let labels = format!(r#"{{service="{EVALUATION}",method="{method}"}}"#);
        after.count(&format!("halyard_request_duration_seconds_count{labels}"))
    };
    assert_eq!((took("Evaluate"), took("EvaluateAll")), (5, 1));
    let open = format!(r#"halyard_requests_in_flight{{service="{EVALUATION}",method="Evaluate"}}"#);
    assert_eq!(after.count(&open), 0);
    // Administration is counted alike, although it runs elsewhere.
    let toggles = requests("halyard.admin.v1.FlagService", "ToggleFlags", "OK");
    assert!(!after.tells("ToggleFlags"));
    app.toggle("f", true).await;
    assert_eq!(scrape(&app).await.count(&toggles), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_counts_as_opened_at_once_and_as_open_until_it_ends() {
    let app = start(|_| ()).await;
    let keys = app.shop().await;
    let service = "halyard.evaluation.v1.WatchService";
    let open = format!(r#"halyard_requests_in_flight{{service="{service}",method="Watch"}}"#);
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    let opened = scrape(&app).await;
    assert_eq!(opened.count(&open), 1);
    assert_eq!(opened.count(&requests(service, "Watch", "OK")), 1);
    let took = format!(r#"halyard_request_duration_seconds_count{{service="{service}",method="Watch"}}"#);
    assert!(!opened.tells(&took), "a stream has no duration");
    drop(follower);
    let closed = until(&app, "the end of the stream", |scrape| scrape.count(&open) == 0).await;
    assert_eq!(closed.count(&requests(service, "Watch", "OK")), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluations_are_counted_by_environment_and_reason_and_go_with_it() {
    let app = start(|_| ()).await;
    let keys = app.shop().await;
    app.flag("f").await;
    app.flag("g").await;
    assert!(!scrape(&app).await.tells("halyard_evaluations_total"));
    evaluate(&app.channel, &keys.client, "f", 0).await.unwrap();
    evaluate_all(&app, &keys).await;
    let off = scrape(&app).await;
    assert_eq!(off.count(&evaluations("disabled")), 3);
    assert_eq!(off.count(&evaluations("static")), 0);
    app.toggle("f", true).await;
    evaluate_all(&app, &keys).await;
    refused(
        evaluate(&app.channel, &keys.server, "nothing", 0).await.map(drop),
        Code::NotFound,
    );
    let on = scrape(&app).await;
    assert_eq!(on.since(&off, &evaluations("disabled")), 1);
    assert_eq!(on.since(&off, &evaluations("static")), 1);
    assert_eq!(on.since(&off, &evaluations("flag_malformed")), 0);

    let delete = admin::DeleteEnvironmentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        ..admin::DeleteEnvironmentRequest::default()
    };
    app.environments().delete_environment(delete).await.unwrap();
    until(&app, "the environment to be forgotten", |scrape| {
        !scrape.tells("halyard_evaluations_total") && !scrape.tells("shop")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_say_how_many_connections_they_have_and_who_waits() {
    let app = start(|options| options.store.pool_size = 1).await;
    let keys = app.shop().await;
    let of = |name: &str, pool: &str| format!(r#"{name}{{pool="{pool}"}}"#);
    let before = scrape(&app).await;
    assert_eq!(before.count(&of("halyard_pool_connections_limit", "requests")), 1);
    for pool in ["requests", "feed", "assignments", "events"] {
        let open = before.count(&of("halyard_pool_connections_open", pool));
        assert!(open <= before.count(&of("halyard_pool_connections_limit", pool)));
    }
    // Somebody has the only connection, so a write waits for it.
    let held = app.server.store().pool().get().await.unwrap();
    assert_eq!(
        scrape(&app)
            .await
            .count(&of("halyard_pool_connections_in_use", "requests")),
        1
    );
    let mut flags = app.flags();
    let waiting = tokio::spawn(async move { flags.list_flags(list()).await });
    until(&app, "somebody who waits", |scrape| {
        scrape.count(&of("halyard_pool_waiting", "requests")) >= 1
    })
    .await;
    drop(held);
    waiting.await.unwrap().unwrap();
    let after = scrape(&app).await;
    assert!(after.since(&before, &of("halyard_pool_taken_total", "requests")) >= 2);
    assert!(after.value(&of("halyard_pool_waited_seconds_total", "requests")) > 0.0);
    // Evaluations take none.
    evaluate(&app.channel, &keys.server, "nothing", 0).await.unwrap_err();
}

fn list() -> admin::ListFlagsRequest {
    admin::ListFlagsRequest {
        project: "shop".into(),
        ..admin::ListFlagsRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_says_what_it_uses() {
    let app = start(|_| ()).await;
    let scrape: Scrape = scrape(&app).await;
    assert!(scrape.count("process_resident_memory_bytes") > 1_000_000);
    assert!(scrape.count("process_open_fds") > 3);
    assert!(scrape.value("process_cpu_seconds_total") >= 0.0);
    assert!(scrape.value("process_start_time_seconds") > 1.5e9);
}
