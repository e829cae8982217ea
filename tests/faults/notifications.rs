//! Notifications alone are lost, late or doubled: tables are the truth, they are only hints.

use std::time::Duration;

use crate::harness::wire::Notifications;
use crate::harness::world::{Setup, World};

/// No notification of a change reaches any replica, though listeners hear themselves and see no reason to look. Polls find every change.
pub async fn dropped(world: &mut World) {
    change(world, Notifications::DropHints).await;
}

/// Each notification comes a second late, when a poll has long found what it tells of.
pub async fn delayed(world: &mut World) {
    change(world, Notifications::Delay(Duration::from_secs(1))).await;
}

/// Each notification comes twice.
pub async fn doubled(world: &mut World) {
    change(world, Notifications::Twice).await;
}

/// One replica writes, so that the other has only notifications and polls.
pub fn one_writes() -> Setup {
    Setup {
        write_through: Some(0),
        ..Setup::default()
    }
}

async fn change(world: &mut World, notifications: Notifications) {
    for wire in &world.wires {
        wire.set(|way| way.notifications = notifications);
    }
    let mut rounds = world.rounds(Duration::from_millis(500));
    while rounds.next().await {
        world.writes(5).await;
        world.catch_up().await;
    }
    for wire in &world.wires {
        assert!(wire.notifications() > 0, "no notification came by");
    }
}
