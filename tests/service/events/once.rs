//! Each event counts once, however often and to whomever it is sent.

use std::time::Duration;

use futures_util::future::join_all;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::EventOutcome::{Accepted, Duplicate, Malformed};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;
use tonic::Code;

use super::{World, conversion, exposure, rows, track, value};
use crate::app::App;
use crate::refusals::refused;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Database, cluster, eventually, eventually_within, within};

fn batch(size: usize) -> Vec<pb::Event> {
    let event = |n: usize| match n % 3 {
        0 => exposure(&format!("u{n}")),
        1 => conversion(&format!("u{n}"), "bought"),
        _ => value(&format!("u{n}"), "revenue", 0.1),
    };
    (0..size).map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_batch_changes_nothing() {
    let world = World::new().await;
    let events = batch(300);
    assert_eq!(world.track(events.clone()).await, [Accepted; 300]);
    let everything = "select (select string_agg(t::text, ',' order by t::text) from exposures t),
        (select string_agg(t::text, ',' order by t::text) from metric_events t),
        (select string_agg(t::text, ',' order by t::text) from event_ids t)";
    let stored = async || {
        let row = world.sql.query_one(everything, &[]).await.unwrap();
        [0, 1, 2].map(|column| row.get::<_, String>(column))
    };
    let before = stored().await;
    for _ in 0..3 {
        assert_eq!(world.track(events.clone()).await, [Duplicate; 300]);
    }
    let (replica, channel) = world.app.replica().await;
    let outcomes = track(&channel, &world.keys.client, events).await.unwrap();
    assert_eq!(outcomes, [Duplicate; 300]);
    assert_eq!(stored().await, before);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_a_batchs_events_with_one_id_counts() {
    let world = World::new().await;
    let first = exposure("u");
    let second = pb::Event {
        unit: "v".into(),
        ..first.clone()
    };
    let wrong = pb::Event {
        unit: String::new(),
        ..first.clone()
    };
    let outcomes = world.track(vec![wrong, first, second]).await;
    assert_eq!(outcomes, [Malformed, Accepted, Duplicate]);
    assert_eq!(world.rows("exposures where unit = 'u'").await, 1);
    assert_eq!(world.rows("exposures").await, 1);
}

/// Both replicas are sent the same events at the same moments, in other orders: of each event exactly one copy is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn copies_sent_to_two_replicas_at_once_count_once() {
    let world = World::new().await;
    let (replica, channel) = world.app.replica().await;
    for round in 0..10 {
        let events = batch(200);
        let sends = (0..8).map(|n| {
            let mut mine = events.clone();
            if n % 3 == 0 {
                mine.reverse();
            }
            mine.rotate_left(n * 20);
            let channel = if n % 2 == 0 { &world.app.channel } else { &channel };
            let key = &world.keys.server;
            async move {
                let outcomes = track(channel, key, mine.clone()).await.unwrap();
                let ids = mine.into_iter().map(|event| event.id);
                ids.zip(outcomes).collect::<Vec<_>>()
            }
        });
        let answered: Vec<_> = within("the answers", join_all(sends)).await.concat();
        for event in &events {
            let of = answered.iter().filter(|(id, _)| *id == event.id);
            let (accepted, others): (Vec<_>, Vec<_>) = of.partition(|(_, outcome)| *outcome == Accepted);
            assert_eq!((accepted.len(), others.len()), (1, 7), "round {round}");
            assert!(others.iter().all(|(_, outcome)| *outcome == Duplicate));
        }
    }
    assert_eq!(world.rows("event_ids").await, 2_000);
    assert_eq!(world.rows("exposures").await + world.rows("metric_events").await, 2_000);
    replica.stop().await.unwrap();
}

/// PostgreSQL is killed while batches are on their way. Whoever was answered finds the events; whoever was not sends them again;
/// and in the end each is there once.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_loses_nothing_that_was_acknowledged() {
    let (postgres, _folder) = cluster::own_cluster().await;
    let database = Database {
        config: postgres.config(),
        url: postgres.url(),
    };
    let world = World::on(App::start_on(database).await).await;
    let (channel, key) = (world.app.channel.clone(), world.keys.server.clone());
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (channel, key) = (channel.clone(), key.clone());
            tokio::spawn(async move {
                let (mut acknowledged, mut open) = (Vec::new(), Vec::new());
                for _ in 0..1_000 {
                    let events = batch(20);
                    match track(&channel, &key, events.clone()).await {
                        Ok(outcomes) => {
                            assert_eq!(outcomes, [Accepted; 20]);
                            acknowledged.push(events);
                        }
                        Err(status) => {
                            assert_eq!(status.code(), Code::Unavailable, "{status}");
                            assert!(tonic_types::StatusExt::get_details_retry_info(&status).is_some());
                            open.push(events);
                            break;
                        }
                    }
                }
                (acknowledged, open)
            })
        })
        .collect();
    eventually("some events", async || {
        (world.rows("event_ids").await > 500).then_some(())
    })
    .await;
    let pid = Pid::from_raw(postgres.pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    within("the death of PostgreSQL", postgres.exited()).await;
    let mut acknowledged = Vec::new();
    let mut open = Vec::new();
    for sent in within("the senders", join_all(senders)).await {
        let (done, undone) = sent.unwrap();
        acknowledged.extend(done);
        open.extend(undone);
    }
    assert!(
        !acknowledged.is_empty() && open.len() == 8,
        "{} batches were open",
        open.len()
    );
    within("the restart of PostgreSQL", postgres.restart()).await.unwrap();

    let sql = cluster::client(&world.app.database.config).await;
    let stored: Vec<String> = sql
        .query("select id::text from event_ids", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    for event in acknowledged.iter().flatten() {
        assert!(stored.contains(&event.id), "{} is lost", event.id);
    }
    for events in &open {
        let outcomes = eventually("an answer", async || track(&channel, &key, events.clone()).await.ok()).await;
        // The commit may have been made before the answer was lost: then of all of them.
        assert!(
            outcomes == [Accepted; 20] || outcomes == [Duplicate; 20],
            "{outcomes:?}"
        );
    }
    for events in acknowledged.iter().take(50) {
        assert_eq!(track(&channel, &key, events.clone()).await.unwrap(), [Duplicate; 20]);
    }
    let sent = i64::try_from((acknowledged.len() + open.len()) * 20).unwrap();
    assert_eq!(rows(&sql, "event_ids").await, sent);
    assert_eq!(rows(&sql, "exposures").await + rows(&sql, "metric_events").await, sent);
}

/// The answer is lost on its way, after PostgreSQL has committed or before: the sender cannot know, and sends again.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_answer_was_lost_is_sent_again_and_counts_once() {
    let database = crate::support::database().await;
    let direct = database.config.clone();
    let proxy = Proxy::before(&database.config).await;
    let database = Database {
        config: proxy.config.clone(),
        ..database
    };
    let world = World::on(App::start_on(database).await).await;
    let (channel, key) = (&world.app.channel, &world.keys.server);
    let sql = cluster::client(&direct).await;
    assert_eq!(track(channel, key, batch(10)).await.unwrap(), [Accepted; 10]);
    for round in 1..=5 {
        let events = batch(30);
        let sent = tokio::spawn({
            let (channel, key, events) = (channel.clone(), key.clone(), events.clone());
            async move { track(&channel, &key, events).await }
        });
        // Nothing is waited for: it is cut at another moment each time, and at none may events be lost or counted twice.
        tokio::time::sleep(std::time::Duration::from_millis(round)).await;
        proxy.set(Mode::Cut);
        let first = within("an answer", sent).await.unwrap();
        if first.is_err() {
            refused(first, Code::Unavailable);
        }
        proxy.set(Mode::Pass);
        eventually("an answer", async || track(channel, key, events.clone()).await.ok()).await;
        let expected = 10 + 30 * i64::try_from(round).unwrap();
        assert_eq!(rows(&sql, "event_ids").await, expected);
        assert_eq!(
            rows(&sql, "exposures").await + rows(&sql, "metric_events").await,
            expected
        );
    }
}

/// As when the service's address moves to another server, and the old one is never heard of again: whoever waits is told to try again, and
/// then it is written over another connection, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_never_answered_again_is_left() {
    let database = crate::support::database().await;
    let direct = database.config.clone();
    let proxy = Proxy::before(&database.config).await;
    let database = Database {
        config: proxy.config.clone(),
        ..database
    };
    let world = World::on(App::start_on(database).await).await;
    let (channel, key) = (&world.app.channel, &world.keys.server);
    let sql = cluster::client(&direct).await;
    assert_eq!(track(channel, key, batch(10)).await.unwrap(), [Accepted; 10]);
    proxy.set(Mode::Strand);
    let (events, patience) = (batch(30), Duration::from_mins(3));
    let first = timeout(patience, track(channel, key, events.clone())).await.unwrap();
    refused(first, Code::Unavailable);
    // What was on its way is committed, or not.
    let later = eventually_within(patience, "an answer", async || {
        track(channel, key, events.clone()).await.ok()
    });
    let outcomes = later.await;
    assert!(
        outcomes == [Accepted; 30] || outcomes == [Duplicate; 30],
        "{outcomes:?}"
    );
    assert_eq!(rows(&sql, "event_ids").await, 40);
    proxy.set(Mode::Cut);
}
