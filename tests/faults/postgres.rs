//! PostgreSQL as a whole: killed, shut down, stopped, without room.

use std::time::{Duration, Instant};

use halyard::pb::evaluation::v1::SourceState;
use tokio_postgres::NoTls;

use crate::evidence::{Seen, What};
use crate::harness::world::{Setup, World};

/// Every process of PostgreSQL dies at once under writes, and it is started again; again and again. What was acknowledged is there
/// afterwards, since it was on disk. It stands still for a moment before, so that commits are on their way when it dies.
pub async fn killed_under_writes(world: &mut World) {
    let mut rounds = world.rounds(Duration::from_millis(300));
    while rounds.next().await {
        world.writes(10).await;
        world.postgres.freeze();
        let (pause, away) = (world.rng.u64(5..50), world.rng.u64(0..500));
        world.go_on(Duration::from_millis(pause)).await;
        world.postgres.kill();
        world.go_on(Duration::from_millis(away)).await;
        world.postgres.start().await;
    }
}

/// Many writers, so that some are always in the midst of something.
pub fn busy() -> Setup {
    Setup {
        writers: 6,
        pause: Duration::ZERO,
        ..Setup::default()
    }
}

/// Every process of PostgreSQL stands still for some seconds: connections are open, and silent.
pub async fn stopped(world: &mut World) {
    world.writes(20).await;
    let since = Instant::now();
    world.postgres.freeze();
    // Long enough for heartbeats to be caught that claim to have asked it meanwhile.
    world.go_on(world.time_left().max(Duration::from_secs(4))).await;
    let late = since + Duration::from_secs(3);
    world
        .until("a word of every replica how old it is", async |world| {
            let ages = world.ages();
            let asked = |replica| ages.iter().any(|aged| aged.replica == replica && aged.asked > late);
            (0..world.replicas.len()).all(asked)
        })
        .await;
    world.postgres.thaw();
}

/// PostgreSQL is shut down in order, which cuts whoever is connected, and started again; again and again. Once it stays away until every
/// client was told that nobody can be asked.
pub async fn shut_down_and_started(world: &mut World) {
    let (mut rounds, mut round) = (world.rounds(Duration::from_millis(300)), 0);
    while round < 2 || rounds.next().await {
        world.writes(10).await;
        let since = Instant::now();
        world.postgres.shut_down();
        assert!(
            world.postgres.config().connect(NoTls).await.is_err(),
            "it is still there"
        );
        if round == 1 {
            everybody_is_told(world, since).await;
        } else {
            let away = Duration::from_millis(world.rng.u64(0..500));
            world.go_on(away).await;
        }
        world.postgres.start().await;
        round += 1;
    }
}

/// Waits until every client has had a heartbeat since then that says that PostgreSQL cannot be asked.
async fn everybody_is_told(world: &World, since: Instant) {
    let tells = |seen: &Seen| {
        let source = SourceState::Disconnected;
        seen.at > since && matches!(seen.what, What::Heartbeat { source: told, .. } if told == source)
    };
    world
        .until("a word to every client that PostgreSQL is away", async |world| {
            world
                .recordings()
                .iter()
                .all(|recording| recording.seen.iter().any(tells))
        })
        .await;
}

/// There is no room for the next file of the log: PostgreSQL cannot commit, dies, and dies again as it recovers, until there is room.
pub async fn disk_full(world: &mut World) {
    let mut rounds = world.rounds(Duration::from_millis(300));
    while rounds.next().await {
        world.writes(10).await;
        let room = world.postgres.fill_disk(&world.sql().await).await;
        assert!(
            world.postgres.has_said("PANIC") && world.postgres.has_said("No space left on device"),
            "it died of something else"
        );
        let away = Duration::from_millis(world.rng.u64(500..2_500));
        world.go_on(away).await;
        world.postgres.make_room(room).await;
    }
}
