//! Who may ask a sidecar, and whom its upstream lets in.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::Ordering;

use halyard::domain::access::KeyKind;
use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1::evaluation_service_client::EvaluationServiceClient;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;
use halyard::pb::evaluation::v1::{self as pb};
use halyard::server::Address;
use halyard::watch::Quality;
use tonic::Code;

use super::stock::stocked;
use super::{Side, accepted, everything, options, until_quality};
use crate::app::{App, evaluate, watch};
use crate::follower::Follower;
use crate::refusals::refused;
use crate::support::{eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn only_keys_that_the_sidecar_was_given_are_let_in() {
    let app = App::start().await;
    let (keys, revision) = stocked(&app).await;
    let mut options = options(&format!("http://{}", app.server.address()), &keys.server);
    let side = Side::follow(&format!("http://{}", app.server.address()), &keys.server).await;
    within("a state", side.sidecar.ready()).await;
    let unknown = halyard::auth::keys::generate(KeyKind::Server).unwrap();
    for key in [secrecy::ExposeSecret::expose_secret(&unknown.secret), &keys.client, "x"] {
        refused(evaluate(&side.channel, key, "plain", 0).await, Code::Unauthenticated);
    }
    let mut nobody = EvaluationServiceClient::new(side.channel.clone());
    refused(
        nobody.evaluate_all(pb::EvaluateAllRequest::default()).await,
        Code::Unauthenticated,
    );
    side.stop().await;

    options.upstream.callers.keys.push(accepted(&keys.client));
    let side = Side::start(options).await;
    within("a state", side.sidecar.ready()).await;
    let seen = everything(&side.channel, &keys.client, "x", revision).await;
    assert_eq!(seen, everything(&app.channel, &keys.client, "x", revision).await);
    let flags: Vec<_> = seen.evaluations.iter().map(|answer| answer.flag.as_str()).collect();
    assert_eq!(flags, ["object", "plain", "targeted"], "and nothing hidden");
    refused(evaluate(&side.channel, &keys.client, "hidden", 0).await, Code::NotFound);
    let watching = watch(&side.channel, &keys.client)
        .watch(pb::WatchRequest::default())
        .await;
    refused(watching.map(drop), Code::PermissionDenied);
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_upstream_does_not_know_leads_nowhere_and_hurries_nobody() {
    let app = App::start().await;
    stocked(&app).await;
    let unknown = halyard::auth::keys::generate(KeyKind::Server).unwrap();
    let unknown = secrecy::ExposeSecret::expose_secret(&unknown.secret);
    let side = Side::follow(&format!("http://{}", app.server.address()), unknown).await;
    let counters = side.sidecar.upstream().counters();
    eventually("a refusal", async || {
        (counters.ends.load(Ordering::Relaxed) == 1).then_some(())
    })
    .await;
    refused(evaluate(&side.channel, unknown, "plain", 0).await, Code::Unavailable);
    assert!(!side.sidecar.hub().is_ready());
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_whose_key_was_revoked_answers_on_and_says_so() {
    let app = App::start().await;
    let (keys, revision) = stocked(&app).await;
    let side = Side::follow(&format!("http://{}", app.server.address()), &keys.server).await;
    within("a state", side.sidecar.ready()).await;
    until_quality(&side, Quality::Live).await;
    let before = everything(&side.channel, &keys.server, "x", revision).await;
    let request = admin::RevokeKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        key_id: keys.server_id.clone(),
        ..admin::RevokeKeyRequest::default()
    };
    app.environments().revoke_key(request).await.unwrap();
    until_quality(&side, Quality::Disconnected).await;
    let ends = side.sidecar.upstream().counters().ends.load(Ordering::Relaxed);
    assert_eq!(everything(&side.channel, &keys.server, "x", revision).await, before);
    let mut follower = Follower::new(&side.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    // A few heartbeats later it has not tried again.
    for _ in 0..3 {
        let message = follower.message().await.unwrap().unwrap();
        let pb::watch_response::Message::Heartbeat(heartbeat) = message else {
            panic!("{message:?}")
        };
        assert_eq!(heartbeat.source(), pb::SourceState::Disconnected);
    }
    assert_eq!(side.sidecar.upstream().counters().ends.load(Ordering::Relaxed), ends);
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_open_the_socket_needs_no_key() {
    let app = App::start().await;
    let (keys, revision) = stocked(&app).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("halyard.sock");
    for kind in [KeyKind::Client, KeyKind::Server] {
        let mut options = options(&format!("http://{}", app.server.address()), &keys.server);
        options.listen = Address::Unix {
            path: path.clone(),
            mode: 0o660,
        };
        options.upstream.callers.anonymous = Some(kind);
        let side = Side::start(options).await;
        within("a state", side.sidecar.ready()).await;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let request = pb::EvaluateAllRequest {
            min_revision: revision,
            ..pb::EvaluateAllRequest::default()
        };
        let mut client = EvaluationServiceClient::new(side.channel.clone());
        let seen = client
            .evaluate_all(request)
            .await
            .unwrap()
            .into_inner()
            .evaluations
            .len();
        let watching = WatchServiceClient::new(side.channel.clone())
            .watch(pb::WatchRequest::default())
            .await;
        match kind {
            KeyKind::Client => {
                assert_eq!(seen, 3);
                refused(watching.map(drop), Code::PermissionDenied);
            }
            KeyKind::Server => {
                assert_eq!(seen, 4);
                let first = watching.unwrap().into_inner().message().await.unwrap().unwrap().message;
                assert!(matches!(first, Some(pb::watch_response::Message::Begin(_))));
            }
        }
        refused(evaluate(&side.channel, "x", "plain", 0).await, Code::Unauthenticated);
        assert_eq!(
            evaluate(&side.channel, &keys.server, "hidden", 0)
                .await
                .unwrap()
                .variant,
            "off"
        );
        side.stop().await;
        assert!(!path.exists());
    }
}
