//! Streams of answers, and what is told of how far a change has spread, while replicas and their connections go.

use std::time::{Duration, Instant};

use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::environment_service_client::EnvironmentServiceClient;

use crate::evidence::{Recording, What};
use crate::harness::calls::{PROJECT, with};
use crate::harness::doors::connect;
use crate::harness::listener::{Listener, who};
use crate::harness::wire::Flow;
use crate::harness::world::{Setup, World};
use crate::support::within;
use crate::table::Promise;

/// Answers are pushed while replicas are killed and listeners' connections ended: each is what held at its revision.
pub async fn pushed(world: &mut World) {
    let mut listeners = Vec::new();
    for environment in world.furniture.environments.clone() {
        for number in 0..2 {
            let number = 10 * listeners.len() + number;
            listeners.push((
                environment.key.clone(),
                Listener::start(&environment, who("ada"), world.doors.clone(), number, world.rng.u64(..)),
            ));
        }
    }
    let mut rounds = world.rounds(Duration::from_millis(200));
    let (mut ended, mut round) = (0, 0);
    // Each replica at least once, so that every listener loses its stream.
    while rounds.next().await || round < 4 {
        round += 1;
        if round < 3 || (round > 3 && world.rng.u8(..3) == 0) {
            let victim = round % world.replicas.len();
            world.replicas[victim].kill();
            world.writes(5).await;
            world.start_replica(victim).await;
        } else {
            ended += world.terminate("halyard listener").await;
            world.writes(5).await;
        }
    }
    assert!(ended > 0, "no listener was there to be ended");
    let healed = Instant::now();
    for (environment, listener) in &mut listeners {
        let (generation, revision) = world.head(environment).await;
        within("the newest answers", listener.holds(generation, revision)).await;
    }
    assert!(
        healed.elapsed() < Promise::Back.bound(),
        "the newest answers took {:?}",
        healed.elapsed()
    );
    for (environment, listener) in listeners {
        assert!(
            listener.streams() > 1,
            "a listener of {environment} never lost its stream"
        );
        world.keep_answers(listener.stop().await);
    }
}

/// Something that was told: by then, every stream had this revision.
#[derive(Debug)]
struct Claim {
    environment: String,
    order: (u64, u64),
    told: Instant,
}

/// Clients need this long to open a stream and be counted among the others.
const COUNTED: Duration = Duration::from_secs(3);

/// A replica's heartbeats are delivered late where it is cut off.
pub fn cut_off() -> Setup {
    Setup {
        replicas: 3,
        recorders: 4,
        sharing_recorders: 0,
        pause: Duration::from_millis(100),
        heartbeat_tolerance: Duration::from_secs(2),
        ..Setup::default()
    }
}

/// Replicas are killed, and cut off from PostgreSQL; whenever it is told that a revision is everywhere, it is.
pub async fn never_more_than_is_known(world: &mut World) {
    let mut claims = Vec::new();
    let mut rounds = world.rounds(Duration::from_millis(100));
    let (mut round, mut cut) = (0_usize, None);
    while rounds.next().await {
        // Replica 0 is left alone: it is asked.
        if round % 15 == 5 {
            let victim = world.rng.usize(1..3);
            if world.rng.bool() {
                world.replicas[victim].kill();
                world.start_replica(victim).await;
            } else {
                world.wires[victim].set(|way| (way.to_replica, way.to_server) = (Flow::Hold, Flow::Hold));
                cut = Some(victim);
            }
        }
        if let Some(victim) = cut.filter(|_| round % 15 == 14) {
            world.wires[victim].heal();
            cut = None;
        }
        round += 1;
        ask(world, &mut claims).await;
    }
    for wire in &world.wires {
        wire.heal();
    }
    // Undisturbed it is told at last.
    // What a replica told as it was killed may be written after its death, and counts for half a minute.
    let deadline = Instant::now() + 20 * COUNTED;
    world.pause_writers().await;
    world.forget_the_dead().await;
    let before = claims.len();
    while claims.len() == before {
        assert!(
            Instant::now() < deadline,
            "it is never told that a revision is everywhere"
        );
        world.go_on(Duration::from_millis(100)).await;
        ask(world, &mut claims).await;
    }
    world.resume_writers();
    println!(
        "propagation: {} times it was told that a revision was everywhere",
        claims.len()
    );
    let recordings = world.recordings();
    for claim in &claims {
        for recording in recordings
            .iter()
            .filter(|recording| recording.environment == claim.environment)
        {
            hold(claim, recording);
        }
    }
}

/// Asks of the newest revision and of one some revisions ago.
async fn ask(world: &World, claims: &mut Vec<Claim>) {
    let channel = connect(world.doors.address(0).expect("a replica"));
    let mut client = EnvironmentServiceClient::new(with(channel, &world.furniture.token));
    for environment in &world.furniture.environments {
        let (generation, head) = world.head(&environment.key).await;
        for revision in [head, head.saturating_sub(20).max(1)] {
            let request = admin::GetPropagationRequest {
                project: PROJECT.into(),
                environment: environment.key.clone(),
                revision,
            };
            let Ok(response) = client.get_propagation(request).await else {
                continue;
            };
            let told = response.into_inner();
            if told.streams > 0 && told.applied == told.streams && told.unheard_replicas == 0 {
                claims.push(Claim {
                    environment: environment.key.clone(),
                    order: (generation, told.revision),
                    told: Instant::now(),
                });
            }
        }
    }
}

/// A client whose stream was open for a while when that was told holds it.
fn hold(claim: &Claim, recording: &Recording) {
    let before = || recording.seen.iter().filter(|seen| seen.at <= claim.told);
    let Some(last) = before().next_back() else { return };
    let connection = last.connection;
    let of_connection = || before().filter(move |seen| seen.connection == connection);
    let opened = of_connection().find(|seen| matches!(seen.what, What::Opened { .. }));
    let Some(opened) = opened.filter(|opened| opened.at + COUNTED < claim.told) else {
        return;
    };
    if of_connection().any(|seen| matches!(seen.what, What::Ended(_) | What::Goodbye)) {
        return;
    }
    let mut holds = before().filter_map(|seen| {
        let What::Commit {
            generation, revision, ..
        } = seen.what
        else {
            return None;
        };
        Some((generation, revision))
    });
    let holds = holds.next_back();
    assert!(
        holds >= Some(claim.order),
        "{:?} of {} was told to be everywhere, {} holds {holds:?}; its stream was opened {:?} before at {:?}",
        claim.order,
        claim.environment,
        recording.client,
        claim.told - opened.at,
        opened.what,
    );
}
