//! The last state on disk: what a sidecar answers from when its upstream is away at the start.

use std::fs;
use std::path::Path;

use halyard::pb::evaluation::v1 as pb;
use halyard::watch::Quality;

use super::following::evaluate_reached;
use super::stock::stocked;
use super::{Side, everything, until_quality, with_state_file};
use crate::app::{App, evaluate, evaluation};
use crate::follower::{Follower, Held};
use crate::support::relay::{Relay, Way};
use crate::support::within;

/// A sidecar that has stopped, with its state on disk; then its upstream goes away. Gives what it was asked, and what a client held.
async fn left_behind(app: &App, relay: &Relay, key: &str, folder: &Path) -> (pb::EvaluateAllResponse, Held) {
    let side = Side::start(with_state_file(&relay.url(), key, folder)).await;
    within("a state", side.sidecar.ready()).await;
    let revision = app.toggle("plain", true).await;
    until_quality(&side, Quality::Live).await;
    let mut follower = Follower::new(&side.channel, key).await.unwrap();
    follower.until(revision).await.unwrap();
    let answers = everything(&side.channel, key, "x", revision).await;
    side.stop().await;
    relay.set(Way::Cut);
    (answers, follower.held)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_starts_without_its_upstream_answers_from_disk() {
    let app = App::start().await;
    let (keys, _) = stocked(&app).await;
    let relay = Relay::to(app.server.address()).await;
    let folder = tempfile::tempdir().unwrap();
    let (answers, held) = left_behind(&app, &relay, &keys.server, folder.path()).await;

    let side = Side::start(with_state_file(&relay.url(), &keys.server, folder.path())).await;
    within("a state", side.sidecar.ready()).await;
    assert_eq!(everything(&side.channel, &keys.server, "x", 0).await, answers);
    let status = side.sidecar.hub().status();
    assert_eq!(status.quality, Quality::Disconnected);
    assert!(
        status
            .staleness
            .is_some_and(|age| age < crate::support::eventually::PATIENCE),
        "{status:?}"
    );
    let mut follower = Follower::resume(&side.channel, &keys.server, held).await.unwrap();
    assert_eq!(
        follower.step().await.unwrap().begin.intent(),
        pb::Intent::None,
        "its own token is good"
    );

    let revision = app.toggle("plain", false).await;
    relay.set(Way::To(app.server.address()));
    let step = follower.step().await.unwrap();
    assert_eq!(
        (step.begin.intent(), step.commit.revision),
        (pb::Intent::Delta, revision)
    );
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_is_set_aside_and_fetched_again() {
    let app = App::start().await;
    let (keys, _) = stocked(&app).await;
    let relay = Relay::to(app.server.address()).await;
    let folder = tempfile::tempdir().unwrap();
    let (answers, _) = left_behind(&app, &relay, &keys.server, folder.path()).await;
    let path = folder.path().join("state");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let side = Side::start(with_state_file(&relay.url(), &keys.server, folder.path())).await;
    assert_eq!(fs::read(folder.path().join("state.damaged")).unwrap(), bytes);
    assert!(!side.sidecar.hub().is_ready());
    let request = pb::EvaluateRequest {
        flag: "plain".into(),
        ..pb::EvaluateRequest::default()
    };
    let status = evaluation(&side.channel, &keys.server)
        .evaluate(request)
        .await
        .unwrap_err();
    assert_eq!(
        status.code(),
        tonic::Code::Unavailable,
        "there is nothing to answer from: {status:?}"
    );
    relay.set(Way::To(app.server.address()));
    within("a state", side.sidecar.ready()).await;
    assert_eq!(everything(&side.channel, &keys.server, "x", 0).await, answers);
    side.stop().await;
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_another_key_is_not_answered_from() {
    let app = App::start().await;
    let (keys, _) = stocked(&app).await;
    let staging = app.environment("shop", "staging").await;
    let relay = Relay::to(app.server.address()).await;
    let folder = tempfile::tempdir().unwrap();
    left_behind(&app, &relay, &keys.server, folder.path()).await;
    let side = Side::start(with_state_file(&relay.url(), &staging.server, folder.path())).await;
    assert!(!side.sidecar.hub().is_ready());
    relay.set(Way::To(app.server.address()));
    within("a state", side.sidecar.ready()).await;
    assert_eq!(
        evaluate(&side.channel, &staging.server, "plain", 0)
            .await
            .unwrap()
            .variant,
        "off"
    );
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_disk_follows_what_is_held() {
    let app = App::start().await;
    let (keys, _) = stocked(&app).await;
    let relay = Relay::to(app.server.address()).await;
    let folder = tempfile::tempdir().unwrap();
    let side = Side::start(with_state_file(&relay.url(), &keys.server, folder.path())).await;
    let revision = app.toggle("plain", true).await;
    evaluate_reached(&side, &keys.server, revision).await;
    // A copy, taken from a process that goes on: as after its sudden death.
    let copy = tempfile::tempdir().unwrap();
    let found = crate::support::eventually("the state on disk", async || {
        fs::copy(folder.path().join("state"), copy.path().join("state")).ok()?;
        let other = Side::start(with_state_file(&relay.url(), &keys.server, copy.path())).await;
        within("a state", other.sidecar.ready()).await;
        let found = everything(&other.channel, &keys.server, "x", 0).await.revision;
        other.stop().await;
        (found == revision).then_some(found)
    })
    .await;
    assert_eq!(found, revision);
    side.stop().await;
}
