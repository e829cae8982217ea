//! What is done to tables beside the API: history that is let go of.

use std::time::Duration;

use crate::harness::world::{Setup, World};

/// The horizon follows the head at a distance of one revision, while replicas start anew, which know nothing below it, and clients come
/// back to them with what they held, which is close to the head.
pub async fn horizon_moves(world: &mut World) {
    let sql = world.sql().await;
    let mut rounds = world.rounds(Duration::from_millis(100));
    while rounds.next().await {
        world.writes(5).await;
        let victim = world.rng.usize(..world.replicas.len());
        world.replicas[victim].kill();
        world.start_replica(victim).await;
    }
    world
        .until("a horizon that moves", async |_| {
            count(
                &sql,
                "select count(*) from environment_heads where compacted_revision > 0",
            )
            .await
                > 0
        })
        .await;
}

/// Bounds as small as they can be.
pub fn near_horizon() -> Setup {
    Setup {
        arguments: &[
            "--horizon-revisions",
            "1",
            "--horizon-age",
            "1s",
            "--compaction-interval",
            "1s",
        ],
        ..Setup::default()
    }
}

async fn count(client: &tokio_postgres::Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}
