//! Streams of answers from a sidecar: those of its server, and flags that have become too old to be answered for.

use halyard::domain::key;
use halyard::domain::staleness::Limits;
use halyard::pb::evaluation::v1 as pb;
use halyard::watch::Quality;
use tonic::{Code, Status};

use super::stock::stocked;
use super::{Side, accepted, context, options, until_quality};
use crate::app::{App, Keys, watch};
use crate::listener::{Applied, Listener, question};
use crate::refusals::{invalid, refused};
use crate::support::relay::{Relay, Way};
use crate::support::within;

/// A sidecar that lets in both keys, and knows how old its state is.
async fn beside(upstream: &str, keys: &Keys, staleness: Limits) -> Side {
    let mut options = options(upstream, &keys.server);
    options.upstream.callers.keys.push(accepted(&keys.client));
    options.staleness = staleness;
    let side = Side::start(options).await;
    within("a state", side.sidecar.ready()).await;
    until_quality(&side, Quality::Live).await;
    side
}

fn url(app: &App) -> String {
    format!("http://{}", app.server.address())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_from_a_sidecar_are_those_of_its_server() {
    let app = App::start().await;
    let (keys, _) = stocked(&app).await;
    let side = beside(&url(&app), &keys, Limits::default()).await;
    for (key, flags) in [
        (&keys.server, &["hidden", "object", "plain", "targeted"][..]),
        (&keys.client, &["object", "plain", "targeted"][..]),
    ] {
        let asked = question(Some(context("xx")));
        let mut here = Listener::new(&app.channel, key, asked.clone()).await.unwrap();
        let mut there = Listener::new(&side.channel, key, asked).await.unwrap();
        assert_eq!(here.batch().await.unwrap().answered, flags);
        assert_eq!(there.batch().await.unwrap().reason, pb::SnapshotReason::NoState);
        for on in [true, false, true] {
            let revision = app.toggle("plain", on).await;
            here.until(revision).await.unwrap();
            let batches = there.until(revision).await.unwrap();
            assert!(
                matches!(&*batches, [one] if one.answered == ["plain"]),
                "what has changed: {batches:?}"
            );
            assert_eq!(there.held, here.held);
            there.check(&side.channel, key).await;
        }
        assert_eq!(there.token, here.token, "a token is good at either");

        app.toggle("plain", false).await;
        let missed = app.toggle("plain", true).await;
        let mut moved = there.reconnect(&app.channel, key).await.unwrap();
        moved.until(missed).await.unwrap();
        let mut back = moved.reconnect(&side.channel, key).await.unwrap();
        assert_eq!(back.batch().await.unwrap().intent, pb::Intent::None);
        // Whoever comes next begins with it.
        let last = app.toggle("plain", false).await;
        back.until(last).await.unwrap();
    }
    side.stop().await;
}

async fn acknowledge(side: &Side, key: &str, stream: &str, revision: u64) -> Result<(), Status> {
    let request = pb::AcknowledgeRequest {
        stream: stream.into(),
        revision,
        generation: 0,
    };
    watch(&side.channel, key).acknowledge(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_takes_acknowledgements_as_a_server_does() {
    let app = App::start().await;
    let (keys, revision) = stocked(&app).await;
    let side = beside(&url(&app), &keys, Limits::default()).await;
    let mut listener = Listener::new(&side.channel, &keys.client, question(None))
        .await
        .unwrap();
    listener.batch().await.unwrap();
    let stream = listener.stream_id.clone();
    acknowledge(&side, &keys.client, &stream, revision).await.unwrap();
    let unsent = acknowledge(&side, &keys.client, &stream, revision + 1).await;
    invalid(unsent, &["revision"]);
    refused(
        acknowledge(&side, &keys.server, &stream, revision).await,
        Code::PermissionDenied,
    );
    side.stop().await;
}

/// The next batch, which is about `plain` alone.
async fn of_plain(listener: &mut Listener, reason: pb::Reason, variant: &str) {
    let Applied { intent, answered, .. } = listener.batch().await.unwrap();
    assert_eq!((intent, &*answered), (pb::Intent::Delta, &["plain".to_owned()][..]));
    let answer = &listener.held["plain"];
    assert_eq!((answer.reason(), answer.variant.as_str()), (reason, variant));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_when_flags_have_become_too_old_and_when_they_no_longer_are() {
    let app = App::start().await;
    let (keys, _) = stocked(&app).await;
    app.toggle("plain", true).await;
    let relay = Relay::to(app.server.address()).await;
    let limits = Limits {
        all_ms: None,
        flags_ms: [(key::Flag::new("plain").unwrap(), 10_000)].into(),
    };
    let side = beside(&relay.url(), &keys, limits).await;
    let asked = question(Some(context("xx")));
    let mut listener = Listener::new(&side.channel, &keys.client, asked).await.unwrap();
    listener.batch().await.unwrap();
    assert_eq!(listener.held["plain"].reason(), pb::Reason::Static);
    let fresh = listener.token.clone();

    relay.set(Way::Cut);
    of_plain(&mut listener, pb::Reason::Stale, "off").await;
    listener.check(&side.channel, &keys.client).await;
    assert_ne!(listener.token, fresh);
    // With its token it holds what is answered now; with the one from before it does not.
    let mut listener = listener.reconnect(&side.channel, &keys.client).await.unwrap();
    assert_eq!(listener.batch().await.unwrap().intent, pb::Intent::None);
    listener.token = fresh;
    let mut listener = listener.reconnect(&side.channel, &keys.client).await.unwrap();
    assert_eq!(
        listener.batch().await.unwrap().reason,
        pb::SnapshotReason::OtherQuestion
    );
    listener.check(&side.channel, &keys.client).await;

    relay.set(Way::To(app.server.address()));
    of_plain(&mut listener, pb::Reason::Static, "on").await;
    listener.check(&side.channel, &keys.client).await;
    side.stop().await;
}
