//! What the feed does to PostgreSQL, and in which order: seen from the other side.

use std::sync::Arc;
use std::time::Duration;

use halyard::domain::access::Term;
use halyard::domain::key;
use halyard::store::feed::{Feed, Hints, Options};
use halyard::store::projects::NewProject;
use halyard::store::{Actor, Caller, Mutation, Settings, Store};
use halyard::watch::source::Quality;
use halyard::watch::{self, Hub, Message, View};
use rustix::process::Signal;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::follower::{Follower, PATIENCE};
use crate::proxy::{Proxy, Statement};
use crate::support::eventually;
use crate::support::server::signal;
use crate::world::{World, pool_of};
use crate::{NEVER, count, quick, without_poll};

/// A transaction that notifies keeps a lock on the whole cluster until it is over. One is held open in the middle of its commit, so
/// that a write that notifies would wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_does_not_wait_for_others_that_notify() {
    let world = World::new().await;
    let mut config = world.cluster.config();
    config.options("-c synchronous_commit=local");
    let store = Store::connect(&Settings::new(config), Hints::new()).await.unwrap();
    let user = Uuid::from_u128(1);
    let sql = "insert into users (id, email, email_normalized) values ($1, 'ada@example.com', 'ada@example.com')";
    world.client.execute(sql, &[&user]).await.unwrap();
    // From now on commits wait for a standby that there is not.
    world
        .client
        .batch_execute("alter system set synchronous_standby_names = 'nobody'")
        .await
        .unwrap();
    world.client.batch_execute("select pg_reload_conf()").await.unwrap();
    let holder = world.cluster.client().await;
    let _holding = tokio::spawn(async move {
        // Until the setting has arrived everywhere it commits at once.
        while hold(&holder).await.is_ok() {}
    });
    let held = "
        select from pg_stat_activity activity
        join pg_locks held on held.pid = activity.pid
        where activity.wait_event = 'SyncRep' and held.granted
          and held.locktype = 'object' and held.classid = 'pg_database'::regclass and held.objid = 0";
    eventually("a commit that is held open", async || {
        let rows = world.client.query(held, &[]).await.unwrap();
        (!rows.is_empty()).then_some(())
    })
    .await;

    let mutation = Mutation {
        caller: Caller {
            actor: Actor::User(user),
            name: "ada@example.com".into(),
            credential: "token-1".into(),
            peer: "192.0.2.1".into(),
            reason: String::new(),
        },
        method: "test/Method",
        request: None,
        validate_only: false,
    };
    let new = NewProject {
        key: key::Project::new("another").unwrap(),
        name: String::new(),
        description: String::new(),
    };
    let written = tokio::time::timeout(PATIENCE / 2, store.create_project(&mutation, new, |_| Vec::new())).await;
    assert!(
        written.is_ok_and(|written| written.is_ok()),
        "the write waits for who notifies"
    );
    assert_eq!(
        world.client.query(held, &[]).await.unwrap().len(),
        1,
        "it was held all the time"
    );
}

async fn hold(holder: &Client) -> Result<(), tokio_postgres::Error> {
    let sql = "begin; select pg_current_xact_id(), pg_notify('halyard', 'nonsense'); create table held (); drop table held; commit";
    holder.batch_execute(sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_listens_on_one_connection() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let proxy = Proxy::start(&world.cluster.config());
    let mut follower = Follower::start_with(proxy.config(), pool_of(proxy.config()), quick());
    let feed = follower.feed.clone();
    for round in 0..3 {
        // It may still be said of the session before.
        follower
            .until("live", |seen| {
                count(&feed.counters().connects) > round && seen.quality == Some(Quality::Live)
            })
            .await;
        let mut payloads = Vec::new();
        for n in 0..2 {
            let revision = world.write(environment, &n.to_string()).await;
            world.notify(environment, revision).await;
            follower.until_at(environment, revision).await;
            payloads.push(format!("{} {revision}", environment.0));
        }
        let last = payloads.last().unwrap();
        eventually("the last notification", async || {
            proxy.notifications().contains(last).then_some(())
        })
        .await;
        for payload in payloads {
            let heard = proxy.notifications().iter().filter(|heard| **heard == payload).count();
            assert_eq!(heard, 1, "{payload} in round {round}");
        }
        // The process that served the one before may take a moment to go.
        let listeners = eventually("one listener", async || {
            let listeners = world.listeners().await;
            (listeners.len() == 1).then_some(listeners)
        })
        .await;
        follower.break_listener(&world, listeners[0]).await;
    }
}

/// What is committed before a listener listens is notified to nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_listens_before_everything_is_looked_at_again() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let [listening, reading] = [(); 2].map(|()| Proxy::start(&world.cluster.config()));
    let options = Options {
        scan_interval: NEVER,
        reconnect_least: Duration::from_millis(10),
        reconnect_most: Duration::from_millis(100),
        ..without_poll()
    };
    let mut follower = Follower::start_with(listening.config(), pool_of(reading.config()), options);
    follower
        .until("live", |seen| seen.complete && seen.quality == Some(Quality::Live))
        .await;
    let feed = follower.feed.clone();
    for round in 0..3 {
        let (polls, said) = (count(&feed.counters().polls), listening.statements().len());
        listening.cut();
        // The end of a session makes it look too; what is committed after that is for the next one to find.
        eventually("a look", async || (count(&feed.counters().polls) > polls).then_some(())).await;
        let (polled, revision) = (
            reading.statements().len(),
            world.write(environment, &round.to_string()).await,
        );
        listening.pass();
        follower.until_at(environment, revision).await;
        let listened = listening.statements()[said..]
            .iter()
            .find(|said| said.sql.contains("listen halyard"))
            .expect("it listens")
            .at;
        let scans: Vec<_> = reading.statements()[polled..]
            .iter()
            .filter(|said| said.is_poll())
            .map(|poll| (poll.at > listened, poll.parameters.clone()))
            .collect();
        assert!(!scans.is_empty(), "round {round}");
        assert!(
            scans.iter().all(|scan| *scan == (true, vec!["0".to_owned()])),
            "{scans:?}"
        );
        follower.until("live", |seen| seen.quality == Some(Quality::Live)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_at_another_database_than_the_pools_is_not_live() {
    let (mut world, elsewhere) = (World::new().await, World::new().await);
    let environment = world.environment("one").await;
    let mut follower = Follower::start_with(elsewhere.cluster.config(), world.pool(), quick());
    let feed = follower.feed.clone();
    follower
        .until("sessions that end", |seen| {
            seen.complete && count(&feed.counters().disconnects) >= 3
        })
        .await;
    assert_eq!(count(&feed.counters().connects), 0, "none heard what the pool said");
    assert_eq!(follower.seen.qualities.last(), Some(&Quality::Polling));
    assert!(
        !follower.seen.qualities.contains(&Quality::Live),
        "{:?}",
        follower.seen.qualities
    );
    let revision = world.write(environment, "polled").await;
    follower.until_at(environment, revision).await;
}

/// The same files and the same history, but another running server: what it commits is not what the pool reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_at_a_copy_of_the_pools_database_is_not_live() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    world.cluster.kill();
    let mut copy = world.cluster.twin();
    copy.launch().await;
    world.cluster.launch().await;
    world.reconnect().await;
    let mut follower = Follower::start_with(copy.config(), world.pool(), quick());
    let feed = follower.feed.clone();
    follower
        .until("sessions that end", |seen| {
            seen.complete && count(&feed.counters().disconnects) >= 3
        })
        .await;
    assert!(
        !follower.seen.qualities.contains(&Quality::Live),
        "{:?}",
        follower.seen.qualities
    );
    let revision = world.write(environment, "polled").await;
    follower.until_at(environment, revision).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_asks_for_what_was_written_since_and_streams_cost_no_statement() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    for key in ["two", "three", "four"] {
        world.environment(key).await;
    }
    let proxy = Proxy::start(&world.cluster.config());
    let options = Options {
        scan_interval: NEVER,
        ..quick()
    };
    let (cancel, hints) = (CancellationToken::new(), Hints::new());
    let _cancelled = cancel.clone().drop_guard();
    let spawn = |_, task| drop(tokio::spawn(task));
    let pool = pool_of(proxy.config());
    let (feed, events) = Feed::start(world.cluster.config(), pool, hints, options, cancel.clone(), spawn);
    let hub = Hub::new(feed.clone(), watch::Options::default());
    tokio::spawn(hub.clone().run(events, cancel.clone()));
    tokio::time::timeout(PATIENCE, hub.ready()).await.unwrap();
    // The listener's first session has caused its scan.
    eventually("live", async || (hub.status().quality == Quality::Live).then_some(())).await;
    polls(&feed, 3).await;

    let mut streams = Vec::new();
    for _ in 0..300 {
        let request = watch::Request {
            token: b"",
            heartbeat: None,
            still_valid: Box::new(|_| Some(Term::Endless)),
            view: View::Items,
        };
        let mut stream = hub.subscribe(environment, request).unwrap();
        while !matches!(stream.next().await.unwrap(), Message::Commit(_)) {}
        streams.push(stream);
    }
    let before = (proxy.statements().len(), count(&feed.counters().polls));
    polls(&feed, 10).await;
    let (asked, answered) = (proxy.statements(), count(&feed.counters().polls));
    let asked = &asked[before.0..];
    assert!(asked.iter().all(Statement::is_poll), "{asked:#?}");
    // One may have been asked before and answered after, and one the other way round.
    let answered = usize::try_from(answered - before.1).unwrap();
    assert!(asked.len().abs_diff(answered) <= 1, "{} {answered}", asked.len());
    let since: Vec<u64> = asked.iter().map(|poll| poll.parameters[0].parse().unwrap()).collect();
    let horizon = "select pg_snapshot_xmin(pg_current_snapshot())::text";
    let horizon: String = world.client.query_one(horizon, &[]).await.unwrap().get(0);
    assert!(
        since
            .iter()
            .all(|since| *since > 0 && *since <= horizon.parse().unwrap()),
        "{since:?}"
    );
    // Nothing is written: what they ask for is what is newest, and no environment is among it.
    let newest = "select max(mod_xid::text::bigint) from environment_heads";
    let newest: i64 = world.client.query_one(newest, &[]).await.unwrap().get(0);
    assert!(
        since.iter().all(|since| *since > u64::try_from(newest).unwrap()),
        "{since:?} {newest}"
    );
}

/// Waits for so many more polls.
async fn polls(feed: &Arc<Feed>, more: u64) {
    let until = count(&feed.counters().polls) + more;
    eventually("polls", async || (count(&feed.counters().polls) >= until).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_does_not_wait_for_connections_that_hang() {
    let world = World::new().await;
    let mut follower = Follower::ready(
        &world,
        Options {
            // A read that waited for as long would fail the test.
            load_timeout: Duration::from_mins(10),
            ..quick()
        },
    )
    .await;
    let sql = "select pid from pg_stat_activity where application_name = 'follower'";
    let rows = world.client.query(sql, &[]).await.unwrap();
    let frozen: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert!(!frozen.is_empty());
    for &backend in &frozen {
        signal(backend.unsigned_abs(), Signal::STOP);
    }
    let revision = follower.seen.directory.revision + 1;
    world.change_access().await;
    world
        .client
        .execute("select pg_notify('halyard', $1)", &[&format!("access {revision}")])
        .await
        .unwrap();
    follower
        .until("the revocation", |seen| seen.directory.revision == revision)
        .await;
    for &backend in &frozen {
        signal(backend.unsigned_abs(), Signal::CONT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_tells_of_what_cannot_be_read_is_not_live() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let proxy = Proxy::start(&world.cluster.config());
    let mut follower = Follower::start_with(world.cluster.config(), pool_of(proxy.config()), quick());
    follower
        .until("live", |seen| seen.complete && seen.quality == Some(Quality::Live))
        .await;
    let disconnects = count(&follower.feed.counters().disconnects);
    proxy.cut();
    follower
        .until("away", |seen| seen.quality == Some(Quality::Disconnected))
        .await;
    let told = follower.seen.qualities.len();
    let failures = count(&follower.feed.counters().poll_failures);
    let feed = follower.feed.clone();
    follower
        .until("further polls", |_| {
            count(&feed.counters().poll_failures) > failures + 3
        })
        .await;
    assert!(
        follower.seen.qualities[told..]
            .iter()
            .all(|quality| *quality == Quality::Disconnected)
    );
    assert_eq!(count(&feed.counters().disconnects), disconnects, "the listener lives");

    proxy.pass();
    let revision = world.write(environment, "read").await;
    follower.until_at(environment, revision).await;
    follower.until("live", |seen| seen.quality == Some(Quality::Live)).await;
}
