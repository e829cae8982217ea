//! What follows in several environments is read by one statement, and none of them waits for another that is not like that.

use std::time::Duration;

use halyard::domain::change::EnvironmentId;
use halyard::store::feed::{Hint, Options};

use crate::follower::Follower;
use crate::proxy::Proxy;
use crate::support::eventually;
use crate::unreadable::{Harm, harm, prepare};
use crate::world::{World, pool_of};
use crate::{NEVER, count, without_poll};

/// What reads a few revisions of several environments, and what reads those of one.
const TOGETHER: &str = "next_revisions";
const ALONE: &str = "with next as";

/// A store with three environments, a follower of it, and a view of what the follower asks. Hints that are sent one after another
/// are gathered, however slowly.
async fn start(options: Options) -> (World, [EnvironmentId; 3], Proxy, Follower) {
    let mut world = World::new().await;
    prepare(&world).await;
    let mut environments = [EnvironmentId(0); 3];
    for (environment, key) in environments.iter_mut().zip(["one", "two", "three"]) {
        *environment = world.environment(key).await;
    }
    let proxy = Proxy::start(&world.cluster.config());
    let options = Options {
        gather: Duration::from_secs(2),
        probe_interval: NEVER,
        ..options
    };
    let mut follower = Follower::start_with(world.cluster.config(), pool_of(proxy.config()), options);
    follower
        .until("ready", |seen| seen.complete && seen.confirmed_at.is_some())
        .await;
    // The second poll is that of the listener, once it listens: nothing else is asked after it.
    let polls = &follower.feed.counters().polls;
    eventually("both polls", async || (count(polls) >= 2).then_some(())).await;
    (world, environments, proxy, follower)
}

/// Sends a hint of each, so that all of them are there before any is taken up.
async fn hint(world: &mut World, follower: &mut Follower, hints: &[(EnvironmentId, u64)]) {
    // The first is taken up at once; what comes then is gathered.
    let first = world.environment("first").await;
    follower.hints.send(Hint::Environment { id: first, revision: 1 });
    follower.until_at(first, 1).await;
    for &(id, revision) in hints {
        follower.hints.send(Hint::Environment { id, revision });
    }
}

fn asked(proxy: &Proxy, what: &str) -> usize {
    let statements = proxy.statements();
    statements
        .iter()
        .filter(|statement| statement.sql.contains(what))
        .count()
}

fn resets(follower: &Follower, hints: &[(EnvironmentId, u64)]) -> Vec<usize> {
    let environments = hints.iter().map(|(environment, _)| environment);
    environments
        .map(|environment| follower.seen.environments[environment].resets)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_in_several_environments_is_read_by_one_statement() {
    let (mut world, [one, two, three], proxy, mut follower) = start(without_poll()).await;
    let mut hints = Vec::new();
    for (environment, revisions) in [(one, 1), (two, 3), (three, 8)] {
        for n in 0..revisions {
            world.write(environment, &format!("{n}")).await;
        }
        hints.push((environment, 1 + revisions));
    }
    hint(&mut world, &mut follower, &hints).await;
    for &(environment, revision) in &hints {
        follower.until_at(environment, revision).await;
    }
    let told = [one, two, three].map(|environment| follower.seen.environments[&environment].advances);
    assert_eq!(told, [1, 3, 8], "each revision was told");
    assert_eq!((asked(&proxy, TOGETHER), asked(&proxy, ALONE)), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_revision_is_read_alone() {
    let options = Options {
        batch_bytes: 3_000,
        ..without_poll()
    };
    let (mut world, [one, two, three], proxy, mut follower) = start(options).await;
    let large = "x".repeat(2_000);
    let hints = [
        (one, world.write(one, "small").await),
        (two, world.write(two, &large).await),
        (three, world.write(three, "small too").await),
    ];
    hint(&mut world, &mut follower, &hints).await;
    for (environment, revision) in hints {
        follower.until_at(environment, revision).await;
    }
    assert_eq!(follower.seen.configuration(two), Some(large));
    assert_eq!((asked(&proxy, TOGETHER), asked(&proxy, ALONE)), (1, 1));
    assert_eq!(resets(&follower, &hints), [1, 1, 1], "nothing was read whole again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_from_the_log_is_read_whole_and_alone() {
    let (mut world, [one, two, three], proxy, mut follower) = start(without_poll()).await;
    let hints = [
        (one, world.write(one, "there").await),
        (two, world.write(two, "lost").await),
        (three, world.write(three, "there too").await),
    ];
    let lose = format!("delete from changes where environment_id = {} and revision = 2", two.0);
    world.client.batch_execute(&lose).await.unwrap();
    hint(&mut world, &mut follower, &hints).await;
    for (environment, revision) in hints {
        follower.until_at(environment, revision).await;
    }
    assert_eq!(follower.seen.configuration(two).as_deref(), Some("lost"));
    assert_eq!(asked(&proxy, TOGETHER), 1);
    assert_eq!(resets(&follower, &hints), [1, 2, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_are_read_though_the_statement_for_all_fails() {
    let (mut world, [one, two, three], proxy, mut follower) = start(without_poll()).await;
    let hints = [
        (one, world.write(one, "sound").await),
        (two, world.write(two, "refused").await),
        (three, world.write(three, "sound too").await),
    ];
    harm(&world, two, Harm::Refused).await;
    hint(&mut world, &mut follower, &hints).await;
    let failures = &follower.feed.counters().fetch_failures;
    let failed = async || (count(failures) >= 3).then_some(());
    eventually("a failure of each", failed).await;
    assert_eq!(asked(&proxy, TOGETHER), 1);
    // A poll is what lets them be tried again.
    for listener in world.listeners().await {
        follower.break_listener(&world, listener).await;
    }
    follower.until_at(one, hints[0].1).await;
    follower.until_at(three, hints[2].1).await;
    assert_eq!(follower.seen.revision(two), Some(1));
}
