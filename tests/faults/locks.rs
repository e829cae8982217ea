//! Transactions of others: a locked row, and old snapshots.

use std::time::Duration;

use tokio_postgres::Client;

use crate::harness::wire::Notifications;
use crate::harness::world::{Setup, World};
pub use crate::notifications::one_writes;

/// Who writes to the environment that is locked gives up sooner than who writes to the other: it holds the project's lock while it waits,
/// and lets the others through when it goes.
pub fn hasty() -> Setup {
    Setup {
        deadline_of_first: Duration::from_millis(500),
        ..Setup::default()
    }
}

/// Somebody locks the row that all writes of an environment wait for, for a long time. Other environments and all clients go on.
pub async fn head_locked(world: &mut World) {
    // Much longer than any write is waited for, if there is time.
    let is_long = world.time_left() > Duration::from_secs(5);
    let time = if is_long {
        Duration::from_secs(30)
    } else {
        Duration::from_secs(3)
    };
    let key = world.furniture.environments[0].key.clone();
    let other = world.sql().await;
    lock_head(&other, &key).await;
    let before = revision(world, &key).await;
    let began = tokio::time::Instant::now();
    world
        .until("who waits for the lock", async |world| waiting(world).await > 0)
        .await;
    while began.elapsed() < time {
        // Only those of the other environment.
        world.writes(5).await;
        world.catch_up().await;
        world.go_on(Duration::from_millis(200)).await;
    }
    assert_eq!(revision(world, &key).await, before, "somebody wrote despite the lock");
    other.batch_execute("rollback").await.unwrap();
}

/// A transaction is open throughout that has seen nothing of all the writes, and that no snapshot can look past. Besides, writes are
/// held up so long that polls see much newer ones before them. No notification helps.
pub async fn old_transaction(world: &mut World) {
    for wire in &world.wires {
        wire.set(|way| way.notifications = Notifications::DropHints);
    }
    let old = world.sql().await;
    let begin = "begin isolation level repeatable read; select pg_current_xact_id(), * from environment_heads";
    old.batch_execute(begin).await.unwrap();
    let keys = world.furniture.environments.clone();
    let mut rounds = world.rounds(Duration::from_millis(100));
    while rounds.next().await {
        let other = world.sql().await;
        let key = &keys[world.rng.usize(..keys.len())].key;
        lock_head(&other, key).await;
        // A poll or two.
        let time = Duration::from_millis(world.rng.u64(1_000..1_800));
        world.go_on(time).await;
        other.batch_execute("commit").await.unwrap();
        world.writes(5).await;
        world.catch_up().await;
    }
    let sql = "select extract(epoch from clock_timestamp() - now())::float8";
    let age: f64 = old.query_one(sql, &[]).await.unwrap().get(0);
    assert!(age > 1.0, "the transaction did not last: {age} s");
    old.batch_execute("commit").await.unwrap();
}

async fn lock_head(client: &Client, environment: &str) {
    let sql = format!(
        "begin; select from environment_heads head join environments on environments.id = head.environment_id
         where environments.key = '{environment}' for update of head"
    );
    client.batch_execute(&sql).await.unwrap();
}

async fn revision(world: &World, environment: &str) -> i64 {
    let sql = "
        select head.revision from environment_heads head join environments on environments.id = head.environment_id
        where environments.key = $1";
    world.sql().await.query_one(sql, &[&environment]).await.unwrap().get(0)
}

/// How many wait for a lock.
async fn waiting(world: &World) -> i64 {
    let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
    world.sql().await.query_one(sql, &[]).await.unwrap().get(0)
}
