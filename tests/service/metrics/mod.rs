//! What a scraper is told, before and after things happen.

mod documented;
mod endpoint;
mod requests;
mod sidecars;

use std::net::SocketAddr;
use std::time::Duration;

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use halyard::server::Options;
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;

use crate::app::{App, evaluate, watch};
use crate::follower::Follower;
use crate::listener::{Listener, question};
use crate::refusals::refused;
use crate::support::{Database, Scrape, cluster, database, eventually, within};

/// With metrics on a port of its own.
pub fn measured(options: &mut Options) {
    options.metrics = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
}

async fn start(change: impl FnOnce(&mut Options)) -> App {
    let with = |options: &mut Options| {
        measured(options);
        change(options);
    };
    App::start_with(database().await, with).await
}

pub async fn scrape(app: &App) -> Scrape {
    Scrape::of(app.server.metrics_address().unwrap()).await
}

/// Scrapes until something is so.
async fn until(app: &App, what: &str, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    eventually(what, async || Some(scrape(app).await).filter(&holds)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_toggle_is_applied_once_and_sent_to_every_stream() {
    let app = start(|_| ()).await;
    let keys = app.shop().await;
    app.flag("f").await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    let mut listeners = Vec::new();
    for _ in 0..2 {
        let mut listener = Listener::new(&app.channel, &keys.client, question(None)).await.unwrap();
        listener.batch().await.unwrap();
        listeners.push(listener);
    }
    let before = scrape(&app).await;
    assert_eq!(before.count(r#"halyard_streams_open{kind="items"}"#), 1);
    assert_eq!(before.count(r#"halyard_streams_open{kind="answers"}"#), 2);
    assert_eq!(before.count(r#"halyard_streams_opened_total{kind="answers"}"#), 2);
    assert_eq!(
        before.count(r#"halyard_stream_steps_begun_total{intent="snapshot"}"#),
        3
    );
    let no_state = r#"halyard_stream_snapshots_begun_total{reason="no_state"}"#;
    assert_eq!(before.count(no_state), 3);
    assert_eq!(before.count("halyard_environments_held"), 1);
    // When somebody comes says nothing of how long anything took.
    assert_eq!(before.count("halyard_commit_sent_latency_seconds_count"), 0);

    let revision = app.toggle("f", true).await;
    follower.until(revision).await.unwrap();
    for listener in &mut listeners {
        listener.until(revision).await.unwrap();
    }
    let after = scrape(&app).await;
    let rose = |name: &str| after.since(&before, name);
    assert_eq!(rose("halyard_commit_applied_latency_seconds_count"), 1);
    assert_eq!(rose("halyard_commit_sent_latency_seconds_count"), 3);
    // One machine's clock: nothing takes as long as a test may.
    let minute = r#"halyard_commit_sent_latency_seconds_bucket{le="60.0"}"#;
    assert_eq!(rose(minute), 3);
    let sum = after.value("halyard_commit_sent_latency_seconds_sum");
    assert!(sum > 0.0 && sum < 90.0, "{sum}");
    assert_eq!(rose(r#"halyard_stream_steps_begun_total{intent="delta"}"#), 3);
    assert_eq!(rose(r#"halyard_stream_steps_begun_total{intent="snapshot"}"#), 0);
    assert_eq!(rose("halyard_feed_advances_total"), 1);
    assert_eq!(rose("halyard_feed_resets_total"), 0);
    assert_eq!(rose("halyard_feed_divergences_total"), 0);

    let resumed = Follower::resume(&app.channel, &keys.server, follower.held.clone()).await;
    resumed.unwrap().step().await.unwrap();
    let last = scrape(&app).await;
    let none = r#"halyard_stream_steps_begun_total{intent="none"}"#;
    assert_eq!(last.since(&after, none), 1);
    assert_eq!(last.since(&after, "halyard_commit_sent_latency_seconds_count"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_counted_by_why_they_ended_or_were_refused() {
    let app = start(|options| {
        options.watch.stall = Duration::from_millis(500);
        options.watch.key_streams = 3;
    })
    .await;
    let keys = app.shop().await;
    app.flag("f").await;
    let open = async || Listener::new(&app.channel, &keys.client, question(None)).await;
    let (mut first, second, third) = (open().await.unwrap(), open().await.unwrap(), open().await.unwrap());
    first.batch().await.unwrap();
    refused(open().await.map(drop), Code::ResourceExhausted);
    drop((first, second));
    let left = until(&app, "two to have left", |scrape| {
        scrape.count(r#"halyard_streams_open{kind="answers"}"#) == 1
    })
    .await;
    assert_eq!(left.count(r#"halyard_streams_ended_total{reason="left"}"#), 2);
    assert_eq!(
        left.count(r#"halyard_streams_refused_total{reason="too_many_of_key"}"#),
        1
    );
    assert_eq!(left.count(r#"halyard_streams_refused_total{reason="too_many"}"#), 0);

    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    let revoke = admin::RevokeKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        key_id: keys.server_id,
        ..admin::RevokeKeyRequest::default()
    };
    app.environments().revoke_key(revoke).await.unwrap();
    until(&app, "the end of the revoked", |scrape| {
        scrape.count(r#"halyard_streams_ended_total{reason="revoked"}"#) == 1
            && scrape.count(r#"halyard_streams_open{kind="items"}"#) == 0
    })
    .await;

    let delete = admin::DeleteEnvironmentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        ..admin::DeleteEnvironmentRequest::default()
    };
    app.environments().delete_environment(delete).await.unwrap();
    let gone = until(&app, "the end of the environment", |scrape| {
        scrape.count("halyard_environments_held") == 0 && scrape.count(r#"halyard_streams_open{kind="answers"}"#) == 0
    })
    .await;
    assert_eq!(
        gone.count(r#"halyard_streams_ended_total{reason="environment_gone"}"#),
        1
    );
    assert_eq!(gone.count(r#"halyard_streams_ended_total{reason="stalled"}"#), 0);
    drop(third);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_reads_counts_as_stalled() {
    let app = start(|options| options.watch.stall = Duration::from_millis(500)).await;
    let keys = crate::unread::large(&app).await;
    let channel = crate::unread::narrow(&app).await;
    let mut client = watch(&channel, &keys.server);
    let stream = client.watch(pb::WatchRequest::default()).await.unwrap();
    until(&app, "a stalled stream", |scrape| {
        scrape.count(r#"halyard_streams_ended_total{reason="stalled"}"#) == 1
            && scrape.count(r#"halyard_streams_open{kind="items"}"#) == 0
    })
    .await;
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgresql_it_is_ready_and_grows_stale() {
    let (postgres, _folder) = cluster::own_cluster().await;
    let database = Database {
        config: postgres.config(),
        url: postgres.url(),
    };
    let app = App::start_with(database, measured).await;
    let keys = app.shop().await;
    app.flag("f").await;
    app.toggle("f", true).await;
    let live = until(&app, "live", |scrape| {
        scrape.count(r#"halyard_source_state{state="live"}"#) == 1
    })
    .await;
    assert!(live.value("halyard_source_staleness_seconds") < 30.0);
    assert_eq!(live.count("halyard_ready"), 1);

    let pid = Pid::from_raw(postgres.pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    within("the death of PostgreSQL", postgres.exited()).await;
    let dead = until(&app, "disconnected", |scrape| {
        scrape.count(r#"halyard_source_state{state="disconnected"}"#) == 1
            && scrape.value("halyard_source_staleness_seconds") > 2.0
    })
    .await;
    assert_eq!(dead.count(r#"halyard_source_state{state="live"}"#), 0);
    assert_eq!(dead.count("halyard_ready"), 1, "readiness does not ask the database");
    assert!(dead.since(&live, "halyard_feed_poll_failures_total") > 0);
    assert!(dead.since(&live, "halyard_feed_disconnects_total") > 0);
    let answer = evaluate(&app.channel, &keys.server, "f", 0).await.unwrap();
    assert_eq!(answer.variant, "on");
    let later = until(&app, "more staleness", |scrape| {
        scrape.value("halyard_source_staleness_seconds") > dead.value("halyard_source_staleness_seconds")
    })
    .await;
    assert_eq!(later.count("halyard_ready"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_tells_so_to_its_last() {
    let app = start(|options| {
        options.drain_window = Duration::from_secs(10);
        options.watch.drain_window = Duration::from_secs(10);
    })
    .await;
    let keys = app.shop().await;
    let address = app.server.metrics_address().unwrap();
    let mut followers = Vec::new();
    for _ in 0..20 {
        let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
        follower.step().await.unwrap();
        followers.push(follower);
    }
    let before = scrape(&app).await;
    assert_eq!(
        (before.count("halyard_draining"), before.count("halyard_ready")),
        (0, 1)
    );
    let stopping = tokio::spawn(app.server.stop());
    let draining = eventually("a drain", async || {
        let scrape = Scrape::of(address).await;
        (scrape.count(r#"halyard_streams_ended_total{reason="draining"}"#) > 0).then_some(scrape)
    })
    .await;
    assert_eq!(
        (draining.count("halyard_draining"), draining.count("halyard_ready")),
        (1, 0)
    );
    drop(followers);
    stopping.await.unwrap().unwrap();
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "its port is free"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_one_process_have_their_own_numbers() {
    let app = start(|_| ()).await;
    let other = start(|_| ()).await;
    let keys = app.shop().await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    let opened = r#"halyard_streams_opened_total{kind="items"}"#;
    assert_eq!(scrape(&app).await.count(opened), 1);
    assert_eq!(scrape(&other).await.count(opened), 0);
}
