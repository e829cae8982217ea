//! An upgrade as operators do it: one replica after the other is told to stop, and started again, while applications are at work.

use crate::load::Load;
use crate::replica::{Installation, Replica};
use crate::support::cluster::database;

/// How often each replica is replaced.
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_replaced_without_a_failed_request_or_a_lost_update() {
    let installation = Installation::of(database().await.url);
    installation.create_administrator();
    let mut replicas = vec![Replica::start(&installation).await, Replica::start(&installation).await];
    let load = Load::rolling(&replicas);
    for replica in &replicas {
        replica.is_at_work().await;
    }
    for _ in 0..ROUNDS {
        // The one that has served longest goes first, as in a rolling upgrade.
        for _ in 0..2 {
            let oldest = replicas.remove(0);
            let newest = oldest.replace(&installation).await;
            newest.is_at_work().await;
            replicas.push(newest);
        }
    }
    load.ends_well(2 * ROUNDS as u64);
}
