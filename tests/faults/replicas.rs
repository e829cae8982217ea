//! Replicas: killed and replaced.

use std::time::Duration;

use crate::harness::world::World;

/// A replica dies at once, its clients go to the other, and a new one takes its place; each in turn.
pub async fn killed_and_replaced(world: &mut World) {
    let mut rounds = world.rounds(Duration::from_millis(500));
    while rounds.next().await {
        let victim = world.rng.usize(..world.replicas.len());
        world.replicas[victim].kill();
        world.writes(10).await;
        world.start_replica(victim).await;
    }
}
