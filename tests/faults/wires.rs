//! The network between replicas and PostgreSQL: silent, one-way, slow, cut in the midst of commits, or leading elsewhere.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use halyard::pb::evaluation::v1::SourceState;

use crate::evidence::{Loses, Notices, What};
use crate::harness::wire::{Commits, Flow, Way};
use crate::harness::world::World;
pub use crate::postgres::busy;

/// Nothing passes between one replica and PostgreSQL, and nobody is told.
pub async fn one_silent(world: &mut World) {
    let number = world.rng.usize(..world.replicas.len());
    silence(world, &[number], hold_both).await;
}

/// The same of every replica at once.
pub async fn all_silent(world: &mut World) {
    silence(world, &[0, 1], hold_both).await;
}

/// What replicas send is lost; what PostgreSQL sends arrives.
pub async fn replicas_unheard(world: &mut World) {
    silence(world, &[0, 1], |way| way.to_server = Flow::Hold).await;
}

/// What PostgreSQL sends is lost; what replicas send arrives, and is done.
pub async fn postgres_unheard(world: &mut World) {
    silence(world, &[0, 1], |way| way.to_replica = Flow::Hold).await;
}

fn hold_both(way: &mut Way) {
    (way.to_server, way.to_replica) = (Flow::Hold, Flow::Hold);
}

/// Some wires fall silent, again and again; sometimes what was on its way arrives in the end, and sometimes it never does.
async fn silence(world: &mut World, which: &[usize], hold: fn(&mut Way)) {
    let mut rounds = world.rounds(Duration::from_millis(300));
    while rounds.next().await {
        for number in which {
            world.wires[*number].set(hold);
        }
        // Long enough for heartbeats to be caught that claim to know better.
        let time = world.time_left().max(Duration::from_secs(2));
        let most = u64::try_from(time.as_millis()).unwrap();
        let time = Duration::from_millis(world.rng.u64(2_000..=most.clamp(2_500, 12_000)));
        world.go_on(time).await;
        let arrives = world.rng.bool();
        for number in which {
            let wire = &world.wires[*number];
            assert!(count(&wire.counts.held) > 0, "nothing was held");
            if !arrives {
                wire.reset();
            }
            wire.heal();
        }
    }
}

/// Connections are reset at COMMIT, before PostgreSQL hears of it: nothing is written, and nobody may be told that it was.
pub async fn reset_before_commits(world: &mut World) {
    reset_at_commits(world, Commits::ResetBefore).await;
}

/// Connections are reset once PostgreSQL has committed, before the replica hears of it: nobody may be told that it was not.
pub async fn reset_after_commits(world: &mut World) {
    reset_at_commits(world, Commits::ResetAfter).await;
}

async fn reset_at_commits(world: &mut World, commits: Commits) {
    let mut rounds = world.rounds(Duration::from_millis(20));
    while rounds.next().await {
        let number = world.rng.usize(..world.replicas.len());
        let before = count(&world.wires[number].counts.commits);
        world.wires[number].set(|way| way.commits = commits);
        let time = Duration::from_millis(world.rng.u64(20..200));
        world.go_on(time).await;
        world
            .until("a commit that is cut short", async |world| {
                count(&world.wires[number].counts.commits) > before
            })
            .await;
        world.wires[number].heal();
        world.writes(5).await;
    }
}

/// Every message takes 50 to 300 ms, each way.
pub async fn delayed_both_ways(world: &mut World) {
    for wire in &world.wires {
        wire.set(|way| way.delay = Some((Duration::from_millis(50), Duration::from_millis(300))));
    }
    let mut rounds = world.rounds(Duration::from_millis(500));
    while rounds.next().await {
        world.catch_up().await;
    }
    for wire in &world.wires {
        assert!(count(&wire.counts.delayed) > 0, "nothing was slow");
    }
}

/// A transaction pooler comes between: whoever listens through it hears nothing, not even itself. Replicas say that they poll.
pub async fn pooler_between(world: &mut World) {
    let mut cuts = Vec::new();
    for number in 0..world.replicas.len() {
        world.wires[number].set(|way| way.pooled = true);
        world.wires[number].reset();
        cuts.push(world.cut_off(number, Loses::Notifications, Notices::AtOnce));
    }
    let mut rounds = world.rounds(Duration::from_millis(500));
    while rounds.next().await {
        world.writes(5).await;
        world.catch_up().await;
    }
    let polls = |what: &What| {
        matches!(
            what,
            What::Heartbeat {
                source: SourceState::Polling,
                ..
            }
        )
    };
    world
        .until("a word of every replica that it polls", async |world| {
            world.who_saw(polls) == world.recorders()
        })
        .await;
    for wire in &world.wires {
        assert!(wire.notifications() > 0, "no notification was swallowed");
    }
    for cut in &cuts {
        cut.close(Instant::now());
    }
}

fn count(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::Relaxed)
}
