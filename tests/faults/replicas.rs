//! Replicas: killed, stopped, drained, rolled; and streams that are asked to move on all the time.

use std::time::{Duration, Instant};

use halyard::pb::evaluation::v1::Intent;
use tonic::Code;

use crate::evidence::{Recording, Seen, What};
use crate::harness::balanced::Balanced;
use crate::harness::calls::evaluate_all;
use crate::harness::probe::probe;
use crate::harness::wire::Flow;
use crate::harness::world::{Setup, World};

/// What [`draining`] says.
const DRAIN_WINDOW: Duration = Duration::from_millis(500);
const GRACE: Duration = Duration::from_secs(5);
/// Longer than three heartbeats, after which clients go elsewhere.
const STOPPED: Duration = Duration::from_secs(4);

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

/// A replica stands still for so long that its clients go to the other; then it goes on, and they come back.
pub async fn frozen(world: &mut World) {
    let mut rounds = world.rounds(STOPPED);
    let mut victim = world.visited();
    while rounds.next().await {
        let missed = |seen: &Seen| matches!(&seen.what, What::Ended(words) if words.contains("missed"));
        let before = world.saw(missed);
        world.replicas[victim].freeze();
        world.go_on(STOPPED).await;
        world
            .until("a client that goes elsewhere", async |world| world.saw(missed) > before)
            .await;
        world.replicas[victim].thaw();
        world.catch_up().await;
        // Where all clients are now.
        victim = (victim + 1) % world.replicas.len();
    }
}

/// Drains over half a second.
pub fn draining() -> Setup {
    Setup {
        arguments: &["--drain-window", "500ms"],
        ..Setup::default()
    }
}

/// A replica is asked to stop under load, and another takes its place. Every stream is told Goodbye in time, and clients that follow
/// the service config notice nothing.
pub async fn drained(world: &mut World) {
    let clients = balanced(world);
    let mut rounds = world.rounds(Duration::from_millis(500));
    let mut victim = world.visited();
    while rounds.next().await {
        drain(world, victim).await;
        world.start_replica(victim).await;
        healthy(&clients).await;
        // Where all clients are now.
        victim = (victim + 1) % world.replicas.len();
    }
    unharmed(clients).await;
}

/// All replicas are replaced one after the other under load.
pub async fn rolled(world: &mut World) {
    let clients = balanced(world);
    let mut rounds = world.rounds(Duration::from_millis(500));
    let first = world.visited();
    while rounds.next().await {
        for number in 0..world.replicas.len() {
            let victim = (first + number) % world.replicas.len();
            drain(world, victim).await;
            world.start_replica(victim).await;
            healthy(&clients).await;
        }
    }
    unharmed(clients).await;
}

fn balanced(world: &mut World) -> Vec<Balanced> {
    let key = world.first_environment().server_key;
    let start = |_| Balanced::start(&world.doors, key.clone(), world.rng.u64(..));
    (0..2).map(start).collect()
}

/// Returns once more calls were answered, so that the clients know of the replica that came.
async fn healthy(clients: &[Balanced]) {
    let answered = || clients.iter().map(|client| client.so_far().answered).sum::<usize>();
    let goal = answered() + 20;
    crate::support::eventually("answers", async || (answered() >= goal).then_some(())).await;
}

async fn unharmed(clients: Vec<Balanced>) {
    for client in clients {
        let calls = client.stop().await;
        assert!(calls.answered > 20, "there were only {} calls", calls.answered);
        assert!(calls.failed.is_empty(), "calls failed: {:?}", calls.failed);
    }
}

async fn drain(world: &mut World, victim: usize) {
    let asked = Instant::now();
    let (status, took) = world.replicas[victim].stop().await;
    assert!(status.success(), "the replica ended with {status}");
    assert!(took < GRACE, "it took {took:?} to drain");
    let (mut told, mut torn) = (0, Vec::new());
    for recording in world.recordings() {
        match last_words(&recording, victim, asked) {
            Some(What::Goodbye) => told += 1,
            Some(what) => torn.push((recording.client, what)),
            None => {}
        }
    }
    // Who was just about to come may be turned away; whoever was there is told.
    assert!(torn.is_empty(), "streams ended without Goodbye: {torn:?}");
    assert!(told > 0, "no stream was there to be drained");
    let late = DRAIN_WINDOW * 10;
    let slow = world.saw(|seen| seen.what == What::Goodbye && seen.at > asked + late);
    assert_eq!(slow, 0, "Goodbyes came after {late:?}");
}

/// What came before the end of the stream that was open at a replica at this moment. `None`: there was no stream.
fn last_words(recording: &Recording, replica: usize, at: Instant) -> Option<What> {
    let before = recording.seen.iter().rposition(|seen| seen.at <= at)?;
    let connection = recording.seen[before].connection;
    let of_connection = || recording.seen.iter().filter(move |seen| seen.connection == connection);
    let opened = of_connection().any(|seen| seen.what == What::Opened { replica });
    // One that has said nothing yet was opened in the very moment.
    let committed = of_connection().any(|seen| matches!(seen.what, What::Commit { .. }) && seen.at <= at);
    let ended = of_connection().position(|seen| matches!(seen.what, What::Ended(_)))?;
    let before_at = of_connection().nth(ended).is_some_and(|seen| seen.at <= at);
    (opened && committed && !before_at).then(|| of_connection().nth(ended - 1).map(|seen| seen.what.clone()))?
}

/// Streams live for a second.
pub fn rotating() -> Setup {
    Setup {
        arguments: &["--stream-rotation", "1s"],
        ..Setup::default()
    }
}

/// Every stream is asked to move on about once a second; nobody is ever sent everything again.
pub async fn rotated(world: &mut World) {
    let mut rounds = world.rounds(Duration::from_millis(500));
    while rounds.next().await {
        world.writes(5).await;
        world.catch_up().await;
    }
    world
        .until("as many rotations as there are streams", async |world| {
            world.saw(|seen| seen.what == What::Goodbye) >= world.recorders()
        })
        .await;
    let again = |seen: &Seen| {
        seen.connection > 1
            && matches!(
                seen.what,
                What::Begin {
                    intent: Intent::Snapshot,
                    ..
                }
            )
    };
    assert_eq!(world.saw(again), 0, "clients were sent everything again");
}

/// Streams live for a second, so that clients go from replica to replica all the time.
pub fn wandering() -> Setup {
    Setup {
        write_through: Some(1),
        heartbeat_tolerance: Duration::from_secs(2),
        ..rotating()
    }
}

/// Clients go between a replica that is cut off from PostgreSQL and one that is not. Who has seen more than the one that is cut off
/// knows is told to come again, and never that it is up to date.
pub async fn ahead_of_one_that_is_cut_off(world: &mut World) {
    let environment = world.first_environment();
    let (mut rounds, mut asked) = (world.rounds(Duration::from_millis(100)), 0);
    world.wires[0].set(|way| (way.to_replica, way.to_server) = (Flow::Hold, Flow::Hold));
    world.writes(10).await;
    world.written_from_now(&environment).await;
    let look = async |world: &World, replica: usize, token: Vec<u8>| {
        let channel = world.doors.own(replica).expect("a replica");
        probe(channel, &environment.server_key, &environment.key, token).await
    };
    let channel = world.doors.own(0).expect("a replica");
    let behind = evaluate_all(channel, &environment.server_key).await.expect("answers");
    world
        .until("a replica that is ahead", async |world| {
            let ahead = look(world, 1, Vec::new()).await.expect("a snapshot");
            ahead.commit.revision > behind.revision
        })
        .await;
    while asked < 2 || rounds.next().await {
        let ahead = look(world, 1, Vec::new()).await.expect("a snapshot");
        match look(world, 0, ahead.commit.resume_token.clone()).await {
            Ok(step) => panic!("who is at {} was told {:?}", ahead.commit.revision, step.begin),
            Err(status) => assert!(
                matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded),
                "who is ahead was told {status:?}"
            ),
        }
        let back = look(world, 1, ahead.commit.resume_token).await.expect("a step");
        assert_ne!(back.begin.intent(), Intent::Snapshot, "its token was lost on the way");
        asked += 1;
    }
    let turned_away = |what: &What| matches!(what, What::Ended(words) if words.contains("Unavailable"));
    assert!(
        world.saw(|seen| turned_away(&seen.what)) > 0,
        "no client met the replica that was cut off"
    );
    world.wires[0].heal();
    world.catch_up().await;
}
