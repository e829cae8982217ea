//! What is done to tables beside the API: rows edited by hand, and history that is let go of.

use std::time::Duration;

use crate::harness::template::{self, FLAGS};
use crate::harness::world::{Setup, World};

/// Rows of flags are edited by hand, again and again, under writes of other flags. Every edit becomes a revision like any other.
pub async fn edited_by_hand(world: &mut World) {
    let sql = world.sql().await;
    let edit = "
        update flag_configurations configuration set enabled = not configured.enabled
        from flag_configurations configured
        join flags on flags.id = configured.flag_id
        join environments on environments.id = configured.environment_id
        where configured.flag_id = configuration.flag_id and configured.environment_id = configuration.environment_id
          and flags.key = $1 and environments.key = $2";
    let (mut rounds, mut edited) = (world.rounds(Duration::from_millis(50)), 0);
    while rounds.next().await {
        // One that nobody writes: whose is whose can be told apart.
        let flag = template::flag(world.rng.usize(world.setup.writers..FLAGS));
        let number = world.rng.usize(..world.furniture.environments.len());
        let environment = &world.furniture.environments[number].key;
        edited += sql.execute(edit, &[&flag, environment]).await.unwrap();
    }
    world
        .until("every edit to be taken up", async |_| {
            count(&sql, "select count(*) from hand_edits").await == 0
        })
        .await;
    let adopted = count(&sql, "select count(*) from changes where actor = 'database'").await;
    assert!(
        edited > 0 && adopted > 0,
        "{edited} rows were edited, {adopted} revisions made of it"
    );
    world.catch_up().await;
}

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
