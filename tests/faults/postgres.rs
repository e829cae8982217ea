//! PostgreSQL as a whole: killed, stopped.

use std::time::Duration;

use crate::harness::world::World;

/// Every process of PostgreSQL dies at once under writes, and it is started again; again and again. What was acknowledged is there
/// afterwards, since it was on disk.
pub async fn killed_under_writes(world: &mut World) {
    let mut rounds = world.rounds(Duration::from_millis(500));
    while rounds.next().await {
        world.writes(20).await;
        world.postgres.kill();
        let away = Duration::from_millis(world.rng.u64(0..1_000));
        world.go_on(away).await;
        world.postgres.start().await;
    }
}

/// Every process of PostgreSQL stands still for some seconds: connections are open, and silent.
pub async fn stopped(world: &mut World) {
    world.writes(20).await;
    world.postgres.freeze();
    world.go_on(world.time_left()).await;
    world.postgres.thaw();
}
