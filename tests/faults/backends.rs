//! Single connections of replicas to PostgreSQL: ended by an administrator, or stopped.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::postgres::signal;
use crate::harness::world::World;
pub use crate::notifications::one_writes;

/// The listeners' connections are ended ten times a second, so that most notifications meet nobody.
pub async fn listeners_terminated(world: &mut World) {
    let (mut rounds, mut ended) = (world.rounds(Duration::from_millis(100)), 0);
    while rounds.next().await {
        ended += world.terminate("halyard listener").await;
    }
    assert!(ended > 0, "no listener was there to be ended");
}

/// The connections of the pool, and those for polls and notifications, are ended ten times a second, also in the midst of writes.
pub async fn pools_terminated(world: &mut World) {
    let (mut rounds, mut ended) = (world.rounds(Duration::from_millis(100)), 0);
    while rounds.next().await {
        let name = ["halyard", "halyard feed"][world.rng.usize(..2)];
        ended += world.terminate(name).await;
    }
    assert!(ended > 0, "no connection was there to be ended");
}

/// One process that serves a listener stands still: its connection is open, and silent. The replica must notice by itself.
pub async fn listener_stopped(world: &mut World) {
    let listeners = world.backends("halyard listener").await;
    let one = listeners[world.rng.usize(..listeners.len())];
    signal(one, Signal::STOP);
    let mut rounds = world.rounds(Duration::from_secs(1));
    while rounds.next().await {
        world.writes(5).await;
        world.catch_up().await;
    }
    signal(one, Signal::CONT);
}
