//! A client that has seen more than the server that it comes to.

use std::time::Duration;

use halyard::pb::evaluation::v1 as pb;
use halyard::server::Server;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use crate::app::{App, Keys, connect, options, serve, watch};
use crate::follower::{Follower, Held};
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Database, eventually, within};

const NEVER: Duration = Duration::from_hours(24);

/// A service with a flag, and what a client of it holds.
async fn service() -> (App, Keys, Held) {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let held = newest(&app, &keys).await;
    (app, keys, held)
}

async fn newest(app: &App, keys: &Keys) -> Held {
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    follower.held
}

/// A server behind a proxy that hears and asks nothing by itself.
async fn deaf(app: &App, proxy: &Proxy) -> (Server, Channel) {
    let mut options = options(&app.database);
    options.store.target = (&proxy.config).into();
    options.feed.poll_interval = NEVER;
    options.feed.scan_interval = NEVER;
    // Nor does it notice that it is deaf.
    options.feed.probe_interval = Duration::from_hours(1);
    let server = Server::start(options).await.unwrap();
    within("the first state", server.ready()).await;
    let channel = connect(&server).await;
    (server, channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn is_told_to_come_again_while_the_database_is_away() {
    let (app, keys, _) = service().await;
    let proxy = Proxy::before(&app.database.config).await;
    let (replica, channel) = deaf(&app, &proxy).await;
    proxy.set(Mode::Cut);
    let revision = app.toggle("f", true).await;
    let ahead = newest(&app, &keys).await;
    assert_eq!(ahead.revision, revision);
    let mut follower = Follower::resume(&channel, &keys.server, ahead.clone()).await.unwrap();
    let status = follower.step().await.unwrap_err().expect("a status");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().is_some());

    proxy.set(Mode::Pass);
    let step = eventually("an answer", async || {
        let mut follower = Follower::resume(&channel, &keys.server, ahead.clone()).await.unwrap();
        follower.step().await.ok()
    })
    .await;
    assert_eq!(step.begin.intent(), pb::Intent::None);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_for_the_server_and_goes_on_with_it() {
    let (app, keys, behind) = service().await;
    let proxy = Proxy::before(&app.database.config).await;
    let (replica, channel) = deaf(&app, &proxy).await;
    proxy.set(Mode::SwallowNotifications);
    let revision = app.toggle("f", true).await;
    let ahead = newest(&app, &keys).await;
    // The replica does not know of it.
    let mut follower = Follower::resume(&channel, &keys.server, behind.clone()).await.unwrap();
    let step = follower.step().await.unwrap();
    assert_eq!(
        (step.begin.intent(), step.commit.revision),
        (pb::Intent::None, behind.revision)
    );

    let mut other = Follower::resume(&channel, &keys.server, ahead).await.unwrap();
    let step = other.step().await.unwrap();
    assert_eq!(
        (step.begin.intent(), step.commit.revision),
        (pb::Intent::None, revision)
    );
    // And so have all.
    follower.until(revision).await.unwrap();
    assert!(follower.enabled("f"));
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn is_sent_everything_when_the_database_was_restored() {
    let (app, keys, kept) = service().await;
    app.toggle("f", true).await;
    let lost = newest(&app, &keys).await;
    let App { server, database, .. } = app;
    server.stop().await.unwrap();
    set_back(&database, kept.revision).await;

    let server = serve(&database).await;
    let channel = connect(&server).await;
    let mut follower = Follower::resume(&channel, &keys.server, lost.clone()).await.unwrap();
    let first = follower.message().await.unwrap();
    let Some(pb::watch_response::Message::Begin(begin)) = first else {
        panic!("{first:?}");
    };
    assert_eq!(begin.intent(), pb::Intent::Snapshot);
    assert_eq!(begin.reason(), pb::SnapshotReason::Diverged);
    assert_eq!((begin.generation, begin.to_revision), (lost.generation, kept.revision));
    server.stop().await.unwrap();
}

/// As an older copy of the database would be.
async fn set_back(database: &Database, revision: u64) {
    let sql = format!(
        "begin;
         delete from change_items where revision > {revision};
         delete from changes where revision > {revision};
         update environment_heads head set revision = change.revision, digest = change.digest
         from changes change
         where change.environment_id = head.environment_id and change.revision = {revision};
         commit"
    );
    database.client().await.batch_execute(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_begin_by_the_deadline_is_told_so() {
    let (app, _, _) = service().await;
    let proxy = Proxy::before(&app.database.config).await;
    let (replica, channel) = deaf(&app, &proxy).await;
    let made_up = "halyard_server_0123456789abcdef_".to_owned() + &"0".repeat(64);
    let unknown = format!("{made_up}_{:08x}", crc32fast::hash(made_up.as_bytes()));
    proxy.set(Mode::Hold);
    let code = eventually("the server's word", async || {
        let mut request = tonic::Request::new(pb::WatchRequest::default());
        request.set_timeout(Duration::from_millis(500));
        let status = watch(&channel, &unknown).watch(request).await.unwrap_err();
        // The client counts too, and may be the first.
        (status.message() != "Timeout expired").then_some(status.code())
    })
    .await;
    assert_eq!(code, Code::DeadlineExceeded);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_stream_that_has_begun() {
    let (app, keys, held) = service().await;
    let mut request = tonic::Request::new(pb::WatchRequest::default());
    request.set_timeout(Duration::from_secs(3));
    let mut stream = watch(&app.channel, &keys.server)
        .watch(request)
        .await
        .unwrap()
        .into_inner();
    let end = within("the end", async {
        let mut commits = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(message)) => {
                    if let Some(pb::watch_response::Message::Commit(commit)) = message.message {
                        commits.push(commit.revision);
                    }
                }
                Ok(None) => panic!("it ended as if nothing were"),
                Err(status) => return (commits, status.code()),
            }
        }
    });
    assert_eq!(end.await, (vec![held.revision], Code::DeadlineExceeded));
}
