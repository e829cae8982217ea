//! The feed against a real PostgreSQL, each test with a server of its own to break.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]
#![allow(missing_docs, reason = "tests are named by what they show")]

#[path = "feed/cluster.rs"]
mod cluster;
#[path = "feed/contract.rs"]
mod contract;
#[path = "feed/follower.rs"]
mod follower;
#[path = "feed/pooler.rs"]
mod pooler;
#[path = "feed/proxy.rs"]
mod proxy;
#[path = "support/mod.rs"]
mod support;
#[path = "feed/together.rs"]
mod together;
#[path = "feed/unreadable.rs"]
mod unreadable;
#[path = "feed/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use halyard::domain::access::Role;
use halyard::domain::change::EnvironmentId;
use halyard::store::feed::{Hint, Options};
use halyard::watch::source::{Quality, Source};
use rustix::process::Signal;
use tokio_postgres::Config;

use follower::Follower;
use pooler::Pooler;
use proxy::Proxy;
use support::server::signal;
use world::World;

const NEVER: Duration = Duration::from_hours(24);

/// Only notifications and hints bring anything. What is not answered in time is not asked again, so there is time.
fn without_poll() -> Options {
    Options {
        poll_interval: NEVER,
        query_timeout: Duration::from_secs(20),
        load_timeout: Duration::from_mins(1),
        ..Options::default()
    }
}

/// Everything sooner than usual.
fn quick() -> Options {
    Options {
        poll_interval: Duration::from_millis(100),
        scan_interval: Duration::from_millis(500),
        probe_interval: Duration::from_millis(300),
        probe_timeout: Duration::from_millis(500),
        connect_timeout: Duration::from_secs(1),
        query_timeout: Duration::from_secs(1),
        reconnect_least: Duration::from_millis(10),
        reconnect_most: Duration::from_millis(200),
        deaf_retry: Duration::from_millis(200),
        ..Options::default()
    }
}

/// Where no listener can connect.
fn nowhere(world: &World) -> Config {
    let mut config = world.cluster.config();
    config.dbname("another");
    config
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_sends_identity_access_every_environment_and_complete() {
    let mut world = World::new().await;
    let (one, two) = (world.environment("one").await, world.environment("two").await);
    for n in 0..5 {
        world.write(one, &format!(r#"{{"n":{n}}}"#)).await;
    }
    let options = Options {
        recent_revisions: 3,
        ..Options::default()
    };
    let follower = Follower::ready(&world, options).await;

    let seen = &follower.seen;
    assert_eq!(seen.log[..2], ["generation 1", "access 3"]);
    assert_eq!(seen.log.last().unwrap(), "complete");
    assert_eq!((seen.revision(one), seen.revision(two)), (Some(6), Some(1)));
    assert_eq!((seen.environments[&one].recent, seen.environments[&two].recent), (3, 1));
    assert_eq!(seen.configuration(one).unwrap(), r#"{"n":4}"#);
    assert_eq!(seen.environments[&two].items.len(), 1);
    assert_eq!(seen.directory.environments[&two].key.as_str(), "two");
    follower.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recent_revisions_stop_at_the_horizon_at_the_byte_limit_and_at_damage() {
    let mut world = World::new().await;
    let mut environments = Vec::new();
    for key in ["horizon", "bytes", "damage", "unknown-kind"] {
        let environment = world.environment(key).await;
        for _ in 0..5 {
            world.write(environment, &format!("{key:>600}")).await;
        }
        environments.push(environment.0);
    }
    let damage = "
        update environment_heads set compacted_revision = 4 where environment_id = 1;
        update change_items set form = 'damaged' where environment_id = 3 and revision = 5;
        update change_items set kind = 'of the future' where environment_id = 4 and revision = 3";
    world.client.batch_execute(damage).await.unwrap();
    let options = Options {
        recent_bytes: 1900,
        ..Options::default()
    };
    let follower = Follower::ready(&world, options).await;
    let recent = environments
        .iter()
        .map(|&id| follower.seen.environments[&EnvironmentId(id)].recent);
    assert_eq!(recent.collect::<Vec<_>>(), [2, 3, 1, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_brings_the_change() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let mut follower = Follower::ready(&world, without_poll()).await;
    world
        .client
        .execute("select pg_notify('halyard', 'nonsense')", &[])
        .await
        .unwrap();
    let revision = world.write(environment, "first").await;
    world.notify(environment, revision).await;
    follower.until_at(environment, revision).await;
    assert_eq!(follower.seen.configuration(environment).unwrap(), "first");
    assert_eq!(follower.seen.environments[&environment].resets, 1);
    assert_eq!(count(&follower.feed.counters().malformed_notifications), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_reaches_the_own_feed_and_those_of_other_replicas() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let mut own = Follower::ready(&world, without_poll()).await;
    let mut other = Follower::ready(&world, without_poll()).await;
    let revision = world.write(environment, "first").await;
    own.hints.send(Hint::Environment {
        id: environment,
        revision,
    });
    own.until_at(environment, revision).await;
    other.until_at(environment, revision).await;

    world.change_access().await;
    own.hints.send(Hint::Access { revision: 3 });
    own.until("access", |seen| seen.directory.revision == 3).await;
    other.until("access", |seen| seen.directory.revision == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_notification_is_found_by_the_poll() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let options = Options {
        scan_interval: NEVER,
        ..quick()
    };
    let mut follower = Follower::ready(&world, options).await;
    let revision = world.write(environment, "first").await;
    follower.until_at(environment, revision).await;
    assert_eq!(follower.seen.environments[&environment].resets, 1);
    assert!(count(&follower.feed.counters().missed_hints) >= 1);
    follower.until_confirmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_commits_late_is_not_passed_over_by_the_poll() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let options = Options {
        scan_interval: NEVER,
        ..quick()
    };
    let mut follower = Follower::ready(&world, options).await;
    // The writer's transaction is older than others that end while it is open, and polls that have seen those end.
    world
        .client
        .batch_execute("begin; select pg_current_xact_id()")
        .await
        .unwrap();
    let other = world.cluster.client().await;
    for _ in 0..3 {
        other.batch_execute("update projects set name = 'newer'").await.unwrap();
        follower.until_confirmed().await;
    }
    let revision = world.write(environment, "committed late").await;
    follower.until_at(environment, revision).await;
    follower.until_confirmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_is_terminated_again_and_again_loses_nothing() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let mut follower = Follower::ready(&world, quick()).await;
    let mut revision = 0;
    for n in 0..200 {
        revision = world.write(environment, &n.to_string()).await;
        world.notify(environment, revision).await;
        if n % 10 == 0 {
            for listener in world.listeners().await {
                world
                    .client
                    .execute("select pg_terminate_backend($1)", &[&listener])
                    .await
                    .unwrap();
            }
        }
    }
    follower.until_at(environment, revision).await;
    let state = &follower.seen.environments[&environment];
    assert_eq!((state.resets, state.advances), (1, 200));
    assert_eq!(follower.seen.configuration(environment).unwrap(), "199");
    assert!(count(&follower.feed.counters().disconnects) >= 1);
    follower.until("live", |seen| seen.quality == Some(Quality::Live)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgres_is_disconnected_and_converges_when_it_is_back() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let mut follower = Follower::ready(&world, quick()).await;
    for round in 0..2 {
        world.cluster.kill();
        follower
            .until("disconnected", |seen| seen.quality == Some(Quality::Disconnected))
            .await;
        let confirmed_at = follower.seen.confirmed_at;
        assert!(follower.feed.confirm_head(environment).await.is_err());
        assert!(follower.feed.confirm_access().await.is_err());
        assert_eq!(follower.seen.confirmed_at, confirmed_at);

        world.cluster.launch().await;
        world.reconnect().await;
        let revision = world.write(environment, &round.to_string()).await;
        follower.until_at(environment, revision).await;
        follower.until("live", |seen| seen.quality == Some(Quality::Live)).await;
        follower.until_confirmed().await;
    }
    assert_eq!(follower.seen.environments[&environment].resets, 1);
    assert_eq!(follower.seen.identity.unwrap().generation, 1);
    follower.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_postgres_is_disconnected_and_converges_when_it_thaws() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let mut follower = Follower::ready(&world, quick()).await;
    world.cluster.signal(Signal::STOP);
    follower
        .until("disconnected", |seen| seen.quality == Some(Quality::Disconnected))
        .await;
    world.cluster.signal(Signal::CONT);
    let revision = world.write(environment, "after").await;
    follower.until_at(environment, revision).await;
    follower.until("live", |seen| seen.quality == Some(Quality::Live)).await;
    follower.until_confirmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_listener_is_noticed_by_its_probe() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let options = Options {
        connect_timeout: Duration::from_secs(5),
        ..quick()
    };
    let mut follower = Follower::ready(&world, options).await;
    let frozen = world.listeners().await;
    for &listener in &frozen {
        signal(listener.unsigned_abs(), Signal::STOP);
    }
    follower
        .until("polling", |seen| seen.quality == Some(Quality::Polling))
        .await;
    follower
        .until("live again", |seen| seen.quality == Some(Quality::Live))
        .await;
    assert!(count(&follower.feed.counters().probe_failures) >= 1);
    let revision = world.write(environment, "after").await;
    follower.until_at(environment, revision).await;
    for &listener in &frozen {
        signal(listener.unsigned_abs(), Signal::CONT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_listener_it_polls() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let mut follower = Follower::start_with(nowhere(&world), world.pool(), quick());
    follower
        .until("polling", |seen| {
            seen.complete && seen.quality == Some(Quality::Polling)
        })
        .await;
    let revision = world.write(environment, "first").await;
    follower.until_at(environment, revision).await;
    follower.until_confirmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_swallows_notifications_is_polled_until_it_carries_them() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let proxy = Proxy::start(&world.cluster.config());
    proxy.swallow();
    let mut follower = Follower::start_with(proxy.config(), world.pool(), quick());
    let probe_failures = |follower: &Follower| count(&follower.feed.counters().probe_failures);
    while probe_failures(&follower) == 0 {
        follower.until_confirmed().await;
        assert_eq!(follower.seen.quality, Some(Quality::Polling));
    }
    let revision = world.write(environment, "first").await;
    follower.until_at(environment, revision).await;

    proxy.pass();
    follower.until("live", |seen| seen.quality == Some(Quality::Live)).await;
    // In the middle of a session, with the connection up and other messages passing.
    proxy.swallow();
    let failures = probe_failures(&follower);
    follower
        .until("polling", |seen| seen.quality == Some(Quality::Polling))
        .await;
    assert!(probe_failures(&follower) > failures);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_transaction_pooler_it_polls_until_the_path_is_direct() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let mut pooler = Pooler::before(&world.cluster).await;
    let options = Options {
        scan_interval: NEVER,
        ..quick()
    };
    let mut follower = Follower::start_with(pooler.config(), pooler.pool(), options);
    follower.until("everything", |seen| seen.complete).await;
    let attempts = |follower: &Follower| count(&follower.feed.counters().disconnects);
    // It never passes for live, whichever connection of the pooler an attempt meets.
    while attempts(&follower) < 5 {
        follower.until_confirmed().await;
        assert_eq!(follower.seen.quality, Some(Quality::Polling));
    }
    assert_eq!(count(&follower.feed.counters().connects), 0);
    for n in 0..20 {
        let revision = world.write(environment, &n.to_string()).await;
        // Told as another replica would tell it. Nobody scans, so it is a poll that finds it.
        world.notify(environment, revision).await;
        follower.until_at(environment, revision).await;
        assert_eq!(follower.seen.quality, Some(Quality::Polling));
    }

    pooler.step_aside();
    follower.until("live", |seen| seen.quality == Some(Quality::Live)).await;
    let heard = |follower: &Follower| count(&follower.feed.counters().notifications);
    let before = heard(&follower);
    let revision = world.write(environment, "direct").await;
    world.notify(environment, revision).await;
    follower.until_at(environment, revision).await;
    follower.until_confirmed().await;
    assert_eq!(heard(&follower), before + 1);
    assert_eq!(follower.seen.environments[&environment].resets, 1);
    follower.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_does_not_lead_on_is_replaced_by_the_whole_state() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let damages = [
        "delete from change_items where revision = 3; delete from changes where revision = 3",
        "update change_items set form = 'damaged' where revision = 5",
        "update changes set digest = sha256('damaged') where revision = 7",
        "update change_items set kind = 'of the future' where revision = 9",
    ];
    let mut follower = Follower::ready(&world, without_poll()).await;
    for (n, damage) in damages.into_iter().enumerate() {
        let expected = format!("state {n}");
        world.write(environment, "before").await;
        let revision = world.write(environment, &expected).await;
        world.client.batch_execute(damage).await.unwrap();
        world.notify(environment, revision).await;
        follower.until_at(environment, revision).await;
        assert_eq!(follower.seen.environments[&environment].resets, n + 2, "{damage}");
        assert_eq!(follower.seen.configuration(environment).unwrap(), expected);
    }
    assert_eq!(follower.seen.identity.unwrap().generation, 1);
    assert!(count(&follower.feed.counters().broken_chains) >= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_edited_by_hand_are_not_taken_for_the_head() {
    let mut world = World::new().await;
    let (one, two) = (world.environment("one").await, world.environment("two").await);
    for environment in [one, two] {
        world.write(environment, "before").await;
        world.write(environment, "written").await;
    }
    let hand = world.cluster.client().await;
    let edit = "update flag_configurations set form = 'by hand'";
    hand.batch_execute(edit).await.unwrap();
    let only_one = "delete from hand_edits where environment_id <> $1";
    hand.execute(only_one, &[&one.0]).await.unwrap();
    // What the log says at the head, while there is a note of the edit; without one the rows are it.
    let follower = Follower::ready(&world, quick()).await;
    assert_eq!(follower.seen.configuration(one).unwrap(), "written");
    assert_eq!(follower.seen.configuration(two).unwrap(), "by hand");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_of_a_revision_that_does_not_exist_changes_nothing() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let mut follower = Follower::ready(&world, without_poll()).await;
    world.notify(environment, 1_000_000).await;
    world.notify(EnvironmentId(1_000_000), 1).await;
    let revision = world.write(environment, "first").await;
    world.notify(environment, revision).await;
    follower.until_at(environment, revision).await;
    assert_eq!(follower.seen.environments[&environment].resets, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_went_back_raises_the_generation_once_for_all_replicas() {
    let mut world = World::new().await;
    let (one, two) = (world.environment("one").await, world.environment("two").await);
    for n in 0..5 {
        world.write(one, &n.to_string()).await;
    }
    let mut followers = [
        Follower::ready(&world, quick()).await,
        Follower::ready(&world, quick()).await,
    ];
    world.set_back(one, 4).await;
    for follower in &mut followers {
        follower.until("the next generation", |seen| seen.is_renewed(2)).await;
        assert_eq!(follower.seen.revision(one), Some(4));
        for environment in [one, two] {
            let state = &follower.seen.environments[&environment];
            assert_eq!((state.resets, state.recent), (2, 0));
        }
    }
    // The other history goes on, with the same numbers and other content.
    let revision = world.write(one, "other").await;
    for follower in &mut followers {
        follower.until_at(one, revision).await;
        follower.until_confirmed().await;
        assert_eq!(follower.seen.configuration(one).unwrap(), "other");
    }
    assert_eq!(world.generation().await, 2);
    let raised = followers
        .iter()
        .map(|follower| count(&follower.feed.counters().generations_raised));
    assert_eq!(raised.sum::<u64>(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_copy_raises_the_generation() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    world.write(environment, "kept").await;
    world.cluster.kill();
    world.cluster.back_up();
    world.cluster.launch().await;
    world.reconnect().await;
    // Neither time nor a new session of the listener asks for a scan: that the server is another must be reason enough.
    let options = Options {
        scan_interval: NEVER,
        ..quick()
    };
    let mut follower = Follower::start_with(nowhere(&world), world.pool(), options);
    follower.until_confirmed().await;
    let lost = world.write(environment, "lost").await;
    follower.until_at(environment, lost).await;

    world.cluster.kill();
    world.cluster.restore();
    world.cluster.launch().await;
    world.reconnect().await;
    follower.until("the next generation", |seen| seen.is_renewed(2)).await;
    assert_eq!(follower.seen.configuration(environment).unwrap(), "kept");
    let revision = world.write(environment, "goes on").await;
    assert_eq!(revision, lost);
    follower.until_at(environment, revision).await;
    assert_eq!(world.generation().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_revision_with_another_digest_is_another_history() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    world.write(environment, "lost").await;
    let mut follower = Follower::ready(&world, without_poll()).await;
    // Nobody looks in between: the number has come back when the feed hears of the next one.
    world.set_back(environment, 1).await;
    world.write(environment, "other").await;
    let revision = world.write(environment, "newest").await;
    world.notify(environment, revision).await;
    follower.until("the next generation", |seen| seen.is_renewed(2)).await;
    assert_eq!(follower.seen.configuration(environment).unwrap(), "newest");
    assert_eq!(world.generation().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_raised_elsewhere_is_followed_and_one_that_went_back_is_passed() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let mut follower = Follower::ready(&world, quick()).await;
    world
        .client
        .execute("update store_identity set generation = 7", &[])
        .await
        .unwrap();
    follower.until("generation 7", |seen| seen.is_renewed(7)).await;
    assert_eq!(count(&follower.feed.counters().generations_raised), 0);

    world
        .client
        .execute("update store_identity set generation = 3", &[])
        .await
        .unwrap();
    follower.until("generation 8", |seen| seen.is_renewed(8)).await;
    assert_eq!(world.generation().await, 8);

    let sql = "update store_identity set store_id = gen_random_uuid(), generation = 1";
    world.client.execute(sql, &[]).await.unwrap();
    follower.until("another store", |seen| seen.is_renewed(1)).await;
    assert_eq!(follower.seen.environments[&environment].resets, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environments_come_and_go() {
    let mut world = World::new().await;
    let one = world.environment("one").await;
    let mut follower = Follower::ready(&world, quick()).await;
    let two = world.environment("two").await;
    follower.until_at(two, 1).await;
    follower
        .until("listed", |seen| seen.directory.environments.contains_key(&two))
        .await;

    world
        .client
        .execute("delete from environments where id = $1", &[&one.0])
        .await
        .unwrap();
    world.change_access().await;
    follower.until("removed", |seen| seen.removed == [one]).await;
    // By hand, without a word to anybody: the next scan finds it.
    world
        .client
        .execute("delete from environments where id = $1", &[&two.0])
        .await
        .unwrap();
    follower.until("removed", |seen| seen.removed == [one, two]).await;
    follower.until_confirmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_malformed_environment_does_not_stop_the_others() {
    let mut world = World::new().await;
    let (broken, sound) = (world.environment("broken").await, world.environment("sound").await);
    let sql = "update environment_heads set revision = $2 where environment_id = $1";
    world.client.execute(sql, &[&broken.0, &-1_i64]).await.unwrap();
    let mut follower = Follower::ready(&world, quick()).await;
    let revision = world.write(sound, "first").await;
    follower.until_at(sound, revision).await;
    assert_eq!(follower.seen.revision(broken), None);
    assert!(count(&follower.feed.counters().malformed) >= 1);

    world.client.execute(sql, &[&broken.0, &1_i64]).await.unwrap();
    follower.until_at(broken, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_with_an_unknown_role_takes_access_from_nobody_else() {
    let world = World::new().await;
    let sql = "
        alter table members drop constraint members_role_check;
        insert into users (id, email, email_normalized) values
            ('00000000-0000-0000-0000-000000000001', 'ada@example.com', 'ada@example.com'),
            ('00000000-0000-0000-0000-000000000002', 'bob@example.com', 'bob@example.com');
        insert into members (project_id, user_id, role) values
            (1, '00000000-0000-0000-0000-000000000001', 'emperor'),
            (1, '00000000-0000-0000-0000-000000000002', 'viewer')";
    world.client.batch_execute(sql).await.unwrap();
    let follower = Follower::ready(&world, quick()).await;
    let users = follower.seen.directory.users.values();
    let memberships: BTreeMap<_, _> = users
        .map(|user| (user.email.as_str(), user.memberships.values().copied().collect()))
        .collect();
    let expected = [("ada@example.com", vec![]), ("bob@example.com", vec![Role::Viewer])];
    assert_eq!(memberships, BTreeMap::from(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_not_read_from_a_standby() {
    let mut world = World::new().await;
    world.environment("one").await;
    let mut follower = Follower::ready(&world, quick()).await;
    world.cluster.kill();
    world.cluster.set_standby(true);
    world.cluster.launch().await;
    let feed = follower.feed.clone();
    assert_eq!(count(&feed.counters().fetch_failures), 0);
    follower.hints.send(Hint::Access { revision: 99 });
    follower
        .until("a refusal", |_| count(&feed.counters().fetch_failures) > 0)
        .await;

    world.cluster.kill();
    world.cluster.set_standby(false);
    world.cluster.launch().await;
    world.reconnect().await;
    let before = follower.seen.directory.revision;
    world.change_access().await;
    follower
        .until("the primary's", |seen| seen.directory.revision == before + 1)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_went_back_is_sent_when_the_primary_says_so() {
    let mut world = World::new().await;
    world.environment("one").await;
    let mut follower = Follower::ready(&world, quick()).await;
    let before = follower.seen.directory.revision;
    let sql = "update access_head set revision = revision - 1";
    world.client.execute(sql, &[]).await.unwrap();
    follower
        .until("the earlier", |seen| seen.directory.revision + 1 == before)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmed_head_is_the_primarys_and_is_sent() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let mut follower = Follower::ready(&world, without_poll()).await;
    let revision = world.write(environment, "first").await;
    world.change_access().await;

    let feed = follower.feed.clone();
    let asked = std::thread::spawn(move || {
        // Another runtime, which does not even have a timer.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let unknown = feed.confirm_head(EnvironmentId(99)).await.unwrap();
            let callers = (0..100).map(|_| feed.confirm_access());
            let access = futures_util::future::join_all(callers).await;
            (feed.confirm_head(environment).await.unwrap(), unknown, access)
        })
    });
    follower.until_at(environment, revision).await;
    follower.until("access", |seen| seen.directory.revision == 3).await;
    let (head, unknown, access) = asked.join().unwrap();
    assert_eq!(head, Some(follower.seen.environments[&environment].head));
    assert_eq!(unknown, None);
    assert!(
        access
            .into_iter()
            .all(|access| access.is_ok_and(|revision| revision == 3))
    );
    assert!(count(&follower.feed.counters().confirmations) <= 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_backlog_arrives_revision_by_revision() {
    let mut world = World::new().await;
    let environment = world.environment("one").await;
    let options = Options {
        batch_revisions: 7,
        batch_bytes: 100,
        event_capacity: 1,
        ..without_poll()
    };
    let mut follower = Follower::ready(&world, options).await;
    let mut revision = 0;
    for n in 0..50 {
        revision = world.write(environment, &n.to_string().repeat(20)).await;
    }
    world.notify(environment, revision).await;
    follower.until_at(environment, revision).await;
    let state = &follower.seen.environments[&environment];
    assert_eq!((state.resets, state.advances), (1, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_of_many_megabytes_arrives_in_one_piece_and_is_loaded_again() {
    let mut world = World::new().await;
    let environment = world.environment("dev").await;
    let mut follower = Follower::ready(&world, quick()).await;
    // More than is read at once of a backlog, and more than is kept to resume from.
    let revision = world.write_list(environment, 700, 32 * 1024).await;
    follower.until_at(environment, revision).await;
    let seen = &follower.seen.environments[&environment];
    assert_eq!((seen.resets, seen.advances), (1, 1));
    assert_eq!(seen.items.len(), 702);

    let late = Follower::ready(&world, quick()).await;
    let loaded = &late.seen.environments[&environment];
    assert_eq!((loaded.resets, loaded.advances, loaded.recent), (1, 0, 0));
    assert!(loaded.items == seen.items);
    late.stop().await;
    follower.stop().await;
}
