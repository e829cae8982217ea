//! Two servers on one database: a write through one reaches the other's clients, whatever happens to the hints.

use std::time::Duration;

use halyard::server::Server;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::app::{App, connect, evaluate, options};
use crate::follower::{Follower, Held};
use crate::support::proxy::{Mode, Proxy};
use crate::support::within;

const WRITES: u64 = 120;

#[tokio::test(flavor = "multi_thread")]
async fn a_write_through_one_server_reaches_the_streams_of_the_other() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let (replica, channel) = app.replica().await;
    let mut follower = Follower::new(&channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    for n in 0..20 {
        let revision = app.toggle("f", n % 2 == 0).await;
        assert_eq!(
            evaluate(&channel, &keys.server, "f", revision).await.unwrap().variant,
            if n % 2 == 0 { "on" } else { "off" }
        );
        follower.until(revision).await.unwrap();
        assert_eq!(follower.enabled("f"), n % 2 == 0);
    }
    drop(follower);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_listeners_connection_is_cut_again_and_again() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let (replica, channel) = app.replica().await;
    let client = app.database.client().await;
    let stop = CancellationToken::new();
    let cutting = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut cut = 0;
            let mut rounds = tokio::time::interval(Duration::from_millis(100));
            while !stop.is_cancelled() {
                rounds.tick().await;
                cut += client
                    .query("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'halyard listener'", &[])
                    .await
                    .unwrap()
                    .len();
            }
            cut
        }
    });
    let evaluating = keep_evaluating(&channel, &keys.server, &stop);
    let follower = follow_while_writing(&app, &channel, &keys.server).await;
    stop.cancel();
    assert!(cutting.await.unwrap() > 0, "no listener was cut");
    assert!(evaluating.await.unwrap() > 0);
    drop(follower);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_notifications_are() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let proxy = Proxy::before(&app.database.config).await;
    let (replica, channel) = serve_through(&app, &proxy).await;
    proxy.set(Mode::SwallowNotifications);
    let follower = follow_while_writing(&app, &channel, &keys.server).await;
    assert!(proxy.swallowed() > 0, "no notification was swallowed");
    drop(follower);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_cut_off_evaluates_meanwhile_and_catches_up() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let proxy = Proxy::before(&app.database.config).await;
    let (replica, channel) = serve_through(&app, &proxy).await;
    let mut follower = Follower::new(&channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    proxy.set(Mode::Cut);
    let revision = app.toggle("f", true).await;
    for _ in 0..50 {
        assert_eq!(evaluate(&channel, &keys.server, "f", 0).await.unwrap().variant, "off");
    }
    proxy.set(Mode::Pass);
    follower.until(revision).await.unwrap();
    assert_eq!(
        evaluate(&channel, &keys.server, "f", revision).await.unwrap().variant,
        "on"
    );
    drop(follower);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_both_servers_make_one_history() {
    let app = App::start().await;
    let keys = app.shop().await;
    for n in 0..8 {
        app.flag(&format!("flag-{n}")).await;
    }
    let (replica, channel) = app.replica().await;
    let mut here = Follower::new(&app.channel, &keys.server).await.unwrap();
    let mut there = Follower::new(&channel, &keys.server).await.unwrap();
    let writers = (0..8).map(|n| {
        let channel = if n % 2 == 0 {
            app.channel.clone()
        } else {
            channel.clone()
        };
        let bearer = crate::app::Bearer::new(&app.token);
        tokio::spawn(async move {
            let service = tonic::service::interceptor::InterceptedService::new(channel, bearer);
            let mut flags = halyard::pb::admin::v1::flag_service_client::FlagServiceClient::new(service);
            let mut revisions = Vec::new();
            for round in 0..10 {
                let request = crate::app::toggle(&format!("flag-{n}"), round % 2 == 0);
                revisions.push(flags.toggle_flags(request).await.unwrap().into_inner().revisions[0].revision);
            }
            revisions
        })
    });
    let written = futures_util::future::join_all(writers).await;
    let mut revisions: Vec<u64> = written.into_iter().flat_map(Result::unwrap).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (10..=89).collect::<Vec<_>>(), "gapless, each given once");
    here.until(89).await.unwrap();
    there.until(89).await.unwrap();
    assert_eq!(here.held.items, there.held.items);
    drop((here, there));
    replica.stop().await.unwrap();
}

/// A server that reaches PostgreSQL through a proxy.
async fn serve_through(app: &App, proxy: &Proxy) -> (Server, Channel) {
    let mut options = options(&app.database);
    options.store.target = (&proxy.config).into();
    let server = Server::start(options).await.unwrap();
    within("the first state", server.ready()).await;
    let channel = connect(&server).await;
    (server, channel)
}

/// Writes through the first server while a client follows the second, and returns once the client holds the last write. The
/// client comes again whenever its stream ends.
async fn follow_while_writing(app: &App, channel: &Channel, key: &str) -> Held {
    let mut follower = Follower::new(channel, key).await.unwrap();
    let writing = async {
        let mut last = 0;
        for n in 0..WRITES {
            last = app.toggle("f", n % 2 == 0).await;
        }
        last
    };
    let following = async {
        let first = follower.held.revision;
        loop {
            match follower.until(WRITES + 2).await {
                Ok(()) => return (first, follower.held),
                Err(end) => {
                    assert!(
                        end.as_ref()
                            .is_none_or(|status| status.code() == tonic::Code::Unavailable),
                        "{end:?}"
                    );
                    follower = Follower::resume(channel, key, follower.held).await.unwrap();
                }
            }
        }
    };
    let (last, (_, held)) = within("all writes", futures_util::future::join(writing, following)).await;
    assert_eq!((last, held.revision), (WRITES + 2, WRITES + 2));
    assert!(held.commits.is_sorted_by(|a, b| a < b), "{:?}", held.commits);
    held
}

/// Evaluates without pause; every answer must come.
pub fn keep_evaluating(channel: &Channel, key: &str, stop: &CancellationToken) -> JoinHandle<usize> {
    let (channel, key, stop) = (channel.clone(), key.to_owned(), stop.clone());
    tokio::spawn(async move {
        let mut answered = 0;
        while !stop.is_cancelled() {
            evaluate(&channel, &key, "f", 0).await.expect("evaluations never stop");
            answered += 1;
        }
        answered
    })
}
