//! Faults drawn by lot, one upon the other.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::postgres::signal;
use crate::harness::wire::{Commits, Flow, Notifications};
use crate::harness::world::{Setup, World};
use crate::table::{Entry, Promise};

/// Its row of the table; only of the long pass.
pub const ENTRY: Entry = Entry {
    name: "nemesis",
    promise: Promise::Back,
    setup,
    run: |world| Box::pin(strike(world)),
};

fn setup() -> Setup {
    Setup {
        replicas: 3,
        // Everything at once, on two cores.
        heartbeat_tolerance: Duration::from_secs(2),
        ..Setup::default()
    }
}

/// Every half second one more thing is broken, or one that is broken is healed, as the seed has it.
async fn strike(world: &mut World) {
    let mut rounds = world.rounds(Duration::from_millis(500));
    while rounds.next().await {
        let number = world.rng.usize(..world.replicas.len());
        let wire = &world.wires[number];
        match world.rng.u32(..14) {
            0 => wire.set(|way| way.notifications = Notifications::Drop),
            1 => wire.set(|way| way.notifications = Notifications::Delay(Duration::from_millis(700))),
            2 => wire.set(|way| way.notifications = Notifications::Twice),
            3 => wire.set(|way| way.commits = Commits::ResetAfter),
            4 => wire.set(|way| way.commits = Commits::ResetBefore),
            5 => wire.set(|way| way.to_replica = Flow::Hold),
            6 => wire.set(|way| way.to_server = Flow::Hold),
            7 => wire.reset(),
            8 => {
                world.replicas[number].kill();
                for wire in &world.wires {
                    // A replica starts only where PostgreSQL answers.
                    wire.heal();
                }
                world.start_replica(number).await;
            }
            9 => {
                world.postgres.kill();
                world.postgres.start().await;
            }
            10 => {
                for process in world.backends("halyard listener").await {
                    signal(process, Signal::KILL);
                }
                // PostgreSQL starts anew by itself when a process of it dies so.
                world.postgres.answers().await;
            }
            11 => {
                world.replicas[number].freeze();
                let time = Duration::from_millis(world.rng.u64(100..2_000));
                world.go_on(time).await;
                world.replicas[number].thaw();
            }
            12 => {
                world.replicas[number].stop().await;
                for wire in &world.wires {
                    wire.heal();
                }
                world.start_replica(number).await;
            }
            _ => world.wires.iter().for_each(crate::harness::wire::Wire::heal),
        }
    }
}
