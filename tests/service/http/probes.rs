//! Probes and metrics: what they answer, and when they fail.

use std::net::SocketAddr;
use std::time::Duration;

use halyard::server::{Address, HttpMetrics};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::EVALUATE;
use crate::app::App;
use crate::follower::Follower;
use crate::sidecar::{Side, options};
use crate::support::plain::{http1, http2};
use crate::support::{Scrape, database, eventually};

async fn check(channel: &Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest {
        service: service.into(),
    };
    let answer = HealthClient::new(channel.clone()).check(request).await;
    answer.unwrap().into_inner().status()
}

fn port(side: &Side) -> SocketAddr {
    match side.sidecar.address() {
        Address::Tcp(address) => *address,
        Address::Unix { .. } => panic!("not on a port"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_answer_over_both_versions_and_are_only_read() {
    let app = App::start().await;
    let address = app.server.address();
    for (path, said) in [
        ("/healthz", "alive\n"),
        ("/readyz", "ready\n"),
        ("/readyz?verbose", "ready\n"),
    ] {
        let one = http1(address, &format!("GET {path}"), "", b"").await;
        let two = http2(address, "GET", path, &[], b"").await;
        for answer in [one, two] {
            assert_eq!((answer.status, answer.text().as_str()), (200, said), "{path}");
            assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
            assert_eq!(answer.header("cache-control"), "no-store");
        }
        let one = http1(address, &format!("HEAD {path}"), "", b"").await;
        let two = http2(address, "HEAD", path, &[], b"").await;
        for answer in [one, two] {
            assert_eq!((answer.status, answer.body.len()), (200, 0));
            assert_eq!(answer.header("content-length"), said.len().to_string());
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let one = http1(address, &format!("{method} {path}"), "", b"").await;
            let two = http2(address, method, path, &[], b"x").await;
            for answer in [one, two] {
                assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found_and_grpc_keeps_its_own_words() {
    let app = App::start().await;
    let address = app.server.address();
    for path in [
        "/",
        "/metrics",
        "/healthz/",
        "/health",
        "/halyard.admin.v1.AuthService",
        "//healthz",
    ] {
        for method in ["GET", "POST", "OPTIONS"] {
            let one = http1(address, &format!("{method} {path}"), "", b"").await;
            let two = http2(address, method, path, &[], b"").await;
            assert_eq!((one.status, two.status), (404, 404), "{method} {path}");
        }
    }
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    for path in [
        "/halyard.evaluation.v1.EvaluationService/Nothing",
        "/nothing.v1.Service/Method",
        "/healthz",
    ] {
        let answer = http2(address, "POST", path, &grpc, b"").await;
        assert_eq!((answer.status, answer.header("grpc-status")), (200, "12"), "{path}");
    }
    // What is there is told how it is called.
    let json = http1(
        address,
        &format!("POST {EVALUATE}"),
        "content-type: application/json\r\n",
        b"{}",
    )
    .await;
    assert_eq!(json.status, 415);
    let get = http1(address, &format!("GET {EVALUATE}"), "", b"").await;
    assert_eq!((get.status, get.header("allow")), (405, "POST"));
    let old = http1(
        address,
        &format!("POST {EVALUATE}"),
        "content-type: application/grpc\r\n",
        b"",
    )
    .await;
    assert_eq!(old.status, 505);
    assert!(old.text().contains("gRPC-Web"), "{}", old.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_state_yet_is_alive_and_not_ready() {
    let app = App::start().await;
    let keys = app.shop().await;
    let side = Side::start(options("http://127.0.0.1:1", &keys.server)).await;
    let address = port(&side);
    let ready = http1(address, "GET /readyz", "", b"").await;
    assert_eq!(
        (ready.status, ready.text().as_str()),
        (503, "loading: there is no first state yet\n")
    );
    assert_eq!(http2(address, "HEAD", "/readyz", &[], b"").await.status, 503);
    assert_eq!(http1(address, "GET /healthz", "", b"").await.status, 200);
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_drains_is_alive_and_not_ready() {
    let window = Duration::from_secs(30);
    let app = App::start_with(database().await, |options| {
        options.drain_window = window;
        options.watch.drain_window = window;
    })
    .await;
    let keys = app.shop().await;
    let address = app.server.address();
    let mut followers = Vec::new();
    for _ in 0..20 {
        let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
        follower.step().await.unwrap();
        followers.push(follower);
    }
    assert_eq!(check(&app.channel, "liveness").await, ServingStatus::Serving);
    let stopping = tokio::spawn(app.server.stop());
    let draining = eventually("a drain", async || {
        let answer = http1(address, "GET /readyz", "", b"").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!(draining.status, 503);
    assert_eq!(draining.text(), "draining: this server is shutting down\n");
    // A platform that kills what is not alive must not do so to what drains.
    assert_eq!(http1(address, "GET /healthz", "", b"").await.status, 200);
    assert_eq!(check(&app.channel, "liveness").await, ServingStatus::Serving);
    eventually("NOT_SERVING", async || {
        (check(&app.channel, "").await == ServingStatus::NotServing).then_some(())
    })
    .await;
    drop(followers);
    stopping.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_here_if_they_are_wanted() {
    let app = App::start_with(database().await, |options| options.http.metrics = HttpMetrics::Here).await;
    let address = app.server.address();
    let answer = http1(address, "GET /metrics", "", b"").await;
    assert_eq!(answer.status, 200);
    assert_eq!(Scrape::read(&answer.text()).count("halyard_ready"), 1);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), kind);
    let two = http2(address, "GET", "/metrics", &[], b"").await;
    assert_eq!(Scrape::read(&two.text()).types, Scrape::read(&answer.text()).types);
    assert_eq!(http1(address, "POST /metrics", "", b"").await.status, 405);

    let keys = app.shop().await;
    let mut options = options(&format!("http://{address}"), &keys.server);
    options.http.metrics = HttpMetrics::Here;
    let side = Side::start(options).await;
    let answer = http1(port(&side), "GET /metrics", "", b"").await;
    assert!(
        answer.text().contains("halyard_upstream_connects_total"),
        "{}",
        answer.text()
    );
    side.stop().await;
}
