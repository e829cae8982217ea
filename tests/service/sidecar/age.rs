//! The upstream goes away: a sidecar answers on, says how old it is, and catches up.

use std::time::Duration;

use halyard::domain::key;
use halyard::domain::staleness::Limits;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_response::Message;
use halyard::watch::Quality;
use tokio_util::sync::CancellationToken;

use super::following::evaluate_reached;
use super::stock::stocked;
use super::{Side, everything, options, until_quality};
use crate::app::{App, evaluate};
use crate::follower::Follower;
use crate::replicas::keep_evaluating;
use crate::support::relay::{Relay, Way};
use crate::support::{eventually, within};

/// The next heartbeat; steps before it are not looked for.
async fn heartbeat(follower: &mut Follower) -> pb::Heartbeat {
    loop {
        if let Some(Message::Heartbeat(heartbeat)) = follower.message().await.unwrap() {
            follower.check_heartbeat(&heartbeat);
            return heartbeat;
        }
    }
}

fn seconds(heartbeat: &pb::Heartbeat) -> i64 {
    heartbeat.staleness.unwrap().seconds
}

/// Cuts or holds up the way to the upstream, and heals it.
async fn goes_on_without_its_upstream(way: Way) {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    app.flag("plain").await;
    let before = app.toggle("f", true).await;
    let relay = Relay::to(app.server.address()).await;
    let side = Side::follow(&relay.url(), &keys.server).await;
    within("a state", side.sidecar.ready()).await;
    until_quality(&side, Quality::Live).await;
    let mut follower = Follower::new(&side.channel, &keys.server).await.unwrap();
    follower.until(before).await.unwrap();
    assert!(seconds(&heartbeat(&mut follower).await) < 30);
    let stop = CancellationToken::new();
    let evaluating = keep_evaluating(&side.channel, &keys.server, &stop);

    relay.set(way);
    until_quality(&side, Quality::Disconnected).await;
    let after = app.toggle("f", false).await;
    // Those that were sent before are on their way.
    while heartbeat(&mut follower).await.source() != pb::SourceState::Disconnected {}
    let mut last = 0;
    while last < 3 {
        let heartbeat = heartbeat(&mut follower).await;
        assert_eq!(heartbeat.source(), pb::SourceState::Disconnected);
        assert!(seconds(&heartbeat) >= last, "it grows older");
        last = seconds(&heartbeat);
    }
    assert_eq!(
        evaluate(&side.channel, &keys.server, "f", 0).await.unwrap().variant,
        "on"
    );

    relay.set(Way::To(app.server.address()));
    follower.until(after).await.unwrap();
    assert!(!follower.enabled("f"));
    until_quality(&side, Quality::Live).await;
    evaluate_reached(&side, &keys.server, after).await;
    assert_eq!(
        evaluate(&side.channel, &keys.server, "f", 0).await.unwrap().variant,
        "off"
    );
    stop.cancel();
    assert!(evaluating.await.unwrap() > 0);
    side.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_whose_upstream_is_gone_answers_on_and_converges_after() {
    goes_on_without_its_upstream(Way::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_falls_silent_is_given_up() {
    goes_on_without_its_upstream(Way::HeldUp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_as_old_as_its_oldest_link() {
    let app = App::start().await;
    let (keys, _) = stocked(&app).await;
    let relay = Relay::to(app.server.address()).await;
    let near = Side::follow(&relay.url(), &keys.server).await;
    let far = Side::follow(&near.url(), &keys.server).await;
    within("a state", far.sidecar.ready()).await;
    until_quality(&far, Quality::Live).await;
    relay.set(Way::Cut);
    until_quality(&far, Quality::Disconnected).await;
    eventually("the age", async || {
        let (here, there) = (near.sidecar.hub().status(), far.sidecar.hub().status());
        let (here, there) = (here.staleness.unwrap(), there.staleness.unwrap());
        assert!(
            there + Duration::from_millis(2_500) > here,
            "{there:?} is not as old as {here:?}"
        );
        (there > Duration::from_secs(5)).then_some(())
    })
    .await;
    far.stop().await;
    near.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_may_not_be_answered_from_an_old_state_are_off() {
    let app = App::start().await;
    let (keys, _) = stocked(&app).await;
    let revision = app.toggle("plain", true).await;
    let relay = Relay::to(app.server.address()).await;
    let mut options = options(&relay.url(), &keys.server);
    options.staleness = Limits {
        all_ms: None,
        flags_ms: [(key::Flag::new("plain").unwrap(), 4_000)].into(),
    };
    let side = Side::start(options).await;
    within("a state", side.sidecar.ready()).await;
    let answered = async |reason: pb::Reason| {
        eventually("the answer", async || {
            let answer = evaluate(&side.channel, &keys.server, "plain", revision).await.unwrap();
            (answer.reason() == reason).then_some(answer)
        })
        .await
    };
    assert_eq!(answered(pb::Reason::Static).await.variant, "on");
    relay.set(Way::Cut);
    assert_eq!(answered(pb::Reason::Stale).await.variant, "off");
    let all = everything(&side.channel, &keys.server, "x", 0).await;
    let stale: Vec<_> = all
        .evaluations
        .iter()
        .filter(|answer| answer.reason() == pb::Reason::Stale)
        .collect();
    assert!(matches!(&*stale, [answer] if answer.flag == "plain"), "{all:?}");
    relay.set(Way::To(app.server.address()));
    assert_eq!(answered(pb::Reason::Static).await.variant, "on");
    side.stop().await;
}
