//! One environment that cannot be read, or not quickly enough, harms no other.

use std::time::Duration;

use halyard::domain::change::EnvironmentId;
use halyard::store::feed::Options;
use halyard::watch::source::Quality;

use crate::follower::Follower;
use crate::world::World;
use crate::{count, quick};

/// What happens to who reads the changes of an environment.
#[derive(Debug, Clone, Copy)]
pub enum Harm {
    /// The database refuses.
    Refused,
    /// The database does not come back to it.
    Hanging,
    /// What it finds makes no sense.
    Malformed,
}

/// Lets environments be made unreadable, one by one.
pub async fn prepare(world: &World) {
    let sql = "
        create table harms (environment_id bigint primary key, hanging boolean not null);
        create function readable(environment bigint) returns boolean language plpgsql as $$
        declare harm harms;
        begin
            select * into harm from harms where environment_id = environment;
            if not found then
                return true;
            end if;
            if harm.hanging then
                perform pg_sleep(3600);
            end if;
            raise exception 'on purpose';
        end $$;
        alter table change_items rename to stored_change_items;
        create view change_items as select * from stored_change_items where readable(environment_id)";
    world.client.batch_execute(sql).await.unwrap();
}

pub async fn harm(world: &World, environment: EnvironmentId, harm: Harm) {
    let id = environment.0;
    let sql = match harm {
        Harm::Refused => format!("insert into harms values ({id}, false)"),
        Harm::Hanging => format!("insert into harms values ({id}, true)"),
        Harm::Malformed => {
            format!(
                "update environment_heads set digest = '', mod_xid = pg_current_xact_id() where environment_id = {id}"
            )
        }
    };
    let unconstrained = "alter table environment_heads drop constraint if exists environment_heads_digest_check";
    world.client.batch_execute(unconstrained).await.unwrap();
    world.client.batch_execute(&sql).await.unwrap();
}

async fn heal(world: &World, environment: EnvironmentId) {
    let id = environment.0;
    let sql = format!(
        "delete from harms where environment_id = {id};
         update environment_heads head set digest = change.digest, mod_xid = pg_current_xact_id()
         from changes change
         where head.environment_id = {id} and change.environment_id = {id} and change.revision = head.revision"
    );
    world.client.batch_execute(&sql).await.unwrap();
}

fn options() -> Options {
    Options {
        load_timeout: Duration::from_secs(2),
        ..quick()
    }
}

async fn check_first_load(how: Harm) {
    let mut world = World::new().await;
    prepare(&world).await;
    let (broken, sound) = (world.environment("broken").await, world.environment("sound").await);
    harm(&world, broken, how).await;

    let mut follower = Follower::ready(&world, options()).await;
    assert_eq!(follower.seen.revision(broken), None, "{how:?}");
    let revision = world.write(sound, "first").await;
    follower.until_at(sound, revision).await;
    follower.until_confirmed().await;
    assert!(follower.seen.behind.contains(&broken));
    assert_eq!(count(&follower.feed.counters().left_behind), 1);

    heal(&world, broken).await;
    follower.until("all", |seen| seen.behind.is_empty()).await;
    assert_eq!(follower.seen.revision(broken), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_ready_without_an_environment_that_the_database_refuses() {
    check_first_load(Harm::Refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_ready_without_an_environment_that_takes_too_long() {
    check_first_load(Harm::Hanging).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_ready_without_an_environment_that_makes_no_sense() {
    check_first_load(Harm::Malformed).await;
}

async fn check_later(how: Harm) {
    let mut world = World::new().await;
    prepare(&world).await;
    let (broken, sound) = (world.environment("broken").await, world.environment("sound").await);
    let mut follower = Follower::ready(&world, options()).await;
    harm(&world, broken, how).await;
    if !matches!(how, Harm::Malformed) {
        world.write(broken, "unseen").await;
    }
    follower.until("behind", |seen| seen.behind.contains(&broken)).await;

    // Certainty goes on for the others, and the one says that it is not about it.
    let revision = world.write(sound, "first").await;
    follower.until_at(sound, revision).await;
    for _ in 0..3 {
        follower.until_confirmed().await;
    }
    assert!(follower.seen.behind.contains(&broken), "{how:?}");

    heal(&world, broken).await;
    let newest = world.write(broken, "newest").await;
    follower.until_at(broken, newest).await;
    follower.until("all", |seen| seen.behind.is_empty()).await;
    follower.until_confirmed().await;
    assert_eq!(follower.seen.configuration(broken).unwrap(), "newest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_that_the_database_refuses_later_ages_alone() {
    check_later(Harm::Refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_that_takes_too_long_later_ages_alone() {
    check_later(Harm::Hanging).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_that_makes_no_sense_later_ages_alone() {
    check_later(Harm::Malformed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_is_not_taken_for_environments_that_cannot_be_read() {
    let mut world = World::new().await;
    prepare(&world).await;
    let (hanging, sound) = (world.environment("hanging").await, world.environment("sound").await);
    harm(&world, hanging, Harm::Hanging).await;
    let options = Options {
        load_timeout: Duration::from_mins(1),
        ..quick()
    };
    let mut follower = Follower::start(&world, options);
    follower.until_at(sound, 1).await;
    world.cluster.kill();
    let feed = follower.feed.clone();
    follower
        .until("away", |seen| {
            seen.quality == Some(Quality::Disconnected) && count(&feed.counters().fetch_failures) > 0
        })
        .await;
    assert!(!follower.seen.complete);
    assert!(follower.seen.behind.is_empty());

    world.cluster.launch().await;
    world.reconnect().await;
    heal(&world, hanging).await;
    follower.until("complete", |seen| seen.complete).await;
    follower.until_at(hanging, 1).await;
}
