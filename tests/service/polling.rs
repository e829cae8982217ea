//! A way to PostgreSQL that carries no notifications.

use std::time::Duration;

use halyard::pb::evaluation::v1::SourceState;
use halyard::pb::evaluation::v1::watch_response::Message;
use halyard::server::Server;
use tokio::time::Instant;

use crate::app::{App, connect, options};
use crate::follower::Follower;
use crate::metrics::measured;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Database, Scrape, database, eventually, within};

/// What the next heartbeat says of the server's source.
async fn source(follower: &mut Follower) -> SourceState {
    let message = follower.message().await.unwrap().expect("the stream goes on");
    let Message::Heartbeat(heartbeat) = message else {
        panic!("nothing has changed, but: {message:?}");
    };
    heartbeat.source()
}

async fn until(follower: &mut Follower, expected: SourceState) {
    within("the source to be told", async {
        while source(follower).await != expected {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_is_told_and_brings_changes_within_its_interval() {
    let database = database().await;
    let proxy = Proxy::before(&database.config).await;
    proxy.set(Mode::SwallowNotifications);
    let deaf = Database {
        config: proxy.config.clone(),
        url: String::new(),
    };
    let app = App::start_on(database).await;
    let keys = app.shop().await;
    app.flag("f").await;
    let mut options = options(&deaf);
    options.feed.deaf_retry = Duration::from_millis(500);
    let interval = options.feed.poll_interval;
    measured(&mut options);
    let server = Server::start(options).await.unwrap();
    within("the first state", server.ready()).await;
    let metrics = server.metrics_address().unwrap();
    let mut follower = Follower::new(&connect(&server).await, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    until(&mut follower, SourceState::Polling).await;

    for enabled in [true, false, true] {
        let revision = app.toggle("f", enabled).await;
        let toggled_at = Instant::now();
        follower.until(revision).await.unwrap();
        assert!(toggled_at.elapsed() < 10 * interval, "{:?}", toggled_at.elapsed());
        assert_eq!(follower.enabled("f"), enabled);
    }
    assert_eq!(source(&mut follower).await, SourceState::Polling);
    let scrape = Scrape::of(metrics).await;
    assert_eq!(scrape.count(r#"halyard_source_state{state="polling"}"#), 1);
    assert_eq!(scrape.count("halyard_feed_connects_total"), 0);
    assert!(scrape.count("halyard_feed_probe_failures_total") > 0);

    proxy.set(Mode::Pass);
    until(&mut follower, SourceState::Live).await;
    eventually("the metrics to agree", async || {
        let scrape = Scrape::of(metrics).await;
        (scrape.count(r#"halyard_source_state{state="live"}"#) == 1).then_some(())
    })
    .await;
    server.stop().await.unwrap();
}
