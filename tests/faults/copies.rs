//! Other copies of the database: an older one is restored, a standby takes over or is taken for the primary.

use std::time::{Duration, Instant};

use halyard::pb::evaluation::v1::{SnapshotReason, SourceState};

use crate::evidence::{Loses, Notices, What};
use crate::harness::world::World;

/// An older copy of the data directory is put in the place of the newer one, while replicas run: what was written since is lost. The
/// generation rises once, and everybody gets what there is now.
pub async fn older_one_restored(world: &mut World) {
    world.postgres.shut_down();
    world.postgres.keep("older");
    world.postgres.start().await;
    world.writes(30).await;
    world.pause_writers().await;
    world.save_history().await;
    let generation = world.generation().await;
    world.postgres.shut_down();
    world.postgres.restore("older");
    world.postgres.start().await;
    is_found_out(world, generation).await;
}

/// A standby that lacks the last commits takes over: the same revision numbers come again with other content.
pub async fn standby_takes_over(world: &mut World) {
    let mut standby = world.postgres.standby();
    standby.start().await;
    world.writes(10).await;
    standby.fall_behind();
    world.writes(30).await;
    world.pause_writers().await;
    world.save_history().await;
    let generation = world.generation().await;
    world.postgres.kill();
    standby.start().await;
    promote(&standby.sql().await).await;
    for wire in &world.wires {
        wire.lead(&standby.socket());
    }
    drop(std::mem::replace(&mut world.postgres, standby));
    is_found_out(world, generation).await;
}

/// Writers go on, on the history that there is now; replicas must find out what happened, and tell everybody, once.
async fn is_found_out(world: &mut World, before: i64) {
    world.resume_writers();
    world
        .until("a new generation", async |world| world.generation().await > before)
        .await;
    world.writes(40).await;
    world.catch_up().await;
    let mut rounds = world.rounds(Duration::from_millis(500));
    while rounds.next().await {
        world.writes(5).await;
        world.catch_up().await;
    }
    let told = |what: &What| {
        let reason = SnapshotReason::Diverged;
        matches!(what, What::Begin { reason: found, .. } if *found == reason)
    };
    assert_eq!(
        world.who_saw(told),
        world.recorders(),
        "not everybody was told that the history is another"
    );
    assert_eq!(world.generation().await, before + 1);
}

/// The name of the database leads one replica to a standby for a while. It follows the primary closely, and is not it.
pub async fn standby_taken_for_primary(world: &mut World) {
    let mut standby = world.postgres.standby();
    standby.start().await;
    let astray = world.visited();
    let generation = world.generation().await;
    let primary = world.postgres.socket();
    world.wires[astray].lead(&standby.socket());
    let cut = world.cut_off(astray, Loses::Everything, Notices::AtOnce);
    world.go_on(world.time_left().max(Duration::from_secs(3))).await;
    let admits = |what: &What| {
        matches!(
            what,
            What::Heartbeat {
                source: SourceState::Disconnected,
                ..
            }
        )
    };
    world
        .until("a word to somebody that the primary is out of reach", async |world| {
            world.who_saw(admits) > 0
        })
        .await;
    world
        .until("a word in the log of what is wrong", async |world| {
            world.replicas[astray].said().contains("standby")
        })
        .await;
    cut.close(Instant::now());
    world.wires[astray].lead(&primary);
    world.writes(10).await;
    assert_eq!(world.generation().await, generation, "a standby is not another history");
}

async fn promote(client: &tokio_postgres::Client) {
    let promoted = client.query_one("select pg_promote()", &[]).await.unwrap();
    assert!(promoted.get::<_, bool>(0), "it was not promoted");
}
