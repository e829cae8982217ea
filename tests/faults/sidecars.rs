//! A sidecar, and a sidecar of that: their upstream dies, stands still and is replaced, and they die themselves.

use std::time::Duration;

use crate::evidence::What;
use crate::harness::doors::Doors;
use crate::harness::recorder::Habits;
use crate::harness::road::{Road, Traffic};
use crate::harness::sidecar::Sidecar;
use crate::harness::world::{Setup, World};
use crate::support::eventually;

/// Longer than the three heartbeats after which a sidecar gives its upstream up.
const STOPPED: Duration = Duration::from_millis(3_500);

/// What a sidecar is told may be held up by, while nothing stands still.
const AWAY: Duration = Duration::from_secs(1);

/// One environment: that of the sidecars.
pub fn one_environment() -> Setup {
    Setup {
        environments: 1,
        recorders: 2,
        sharing_recorders: 0,
        ..Setup::default()
    }
}

/// The upstream replica is killed and replaced, and the road to it goes silent.
pub async fn upstream_replaced(world: &mut World) {
    let (road, sidecars) = chain(world, AWAY).await;
    let mut rounds = world.rounds(Duration::from_millis(300));
    let mut round = world.rng.usize(..2);
    while rounds.next().await {
        if round.is_multiple_of(2) {
            world.replicas[0].kill();
            world.writes(5).await;
            world.start_replica(0).await;
            road.lead_to(world.doors.address(0).expect("a replica"));
        } else {
            road.reset();
            world.writes(5).await;
        }
        round += 1;
    }
    followed(world, &sidecars).await;
    world.keep_sidecars(road, sidecars);
}

/// The upstream replica stands still, and goes on; whoever is behind a sidecar is answered all the while.
pub async fn upstream_frozen(world: &mut World) {
    let (road, sidecars) = chain(world, STOPPED).await;
    let mut rounds = world.rounds(STOPPED);
    while rounds.next().await {
        world.replicas[0].freeze();
        world.go_on(STOPPED).await;
        world.replicas[0].thaw();
        followed(world, &sidecars).await;
    }
    world.keep_sidecars(road, sidecars);
}

/// Sidecars die while they write their state, and start from it, with their upstream away.
pub async fn killed_while_writing(world: &mut World) {
    let (road, mut sidecars) = chain(world, AWAY).await;
    for sidecar in &sidecars {
        // Who has none yet would start from nothing, with nobody to ask.
        let file = sidecar.state_file();
        eventually("a state on disk", async || file.exists().then_some(())).await;
    }
    let mut rounds = world.rounds(Duration::from_millis(100));
    while rounds.next().await {
        // They write once a second, or as often as there is something.
        let time = Duration::from_millis(world.rng.u64(800..1_200));
        world.go_on(time).await;
        road.set(Traffic::Silent);
        for sidecar in &mut sidecars {
            sidecar.kill();
        }
        road.reset();
        for sidecar in &mut sidecars {
            // From disk alone: nobody answers upstream.
            sidecar.start().await;
            let said = sidecar.said();
            assert!(
                said.contains("from the state on disk"),
                "sidecar {} started from nothing: {said}",
                sidecar.number
            );
        }
        road.set(Traffic::Free);
        // The second follows the first, which has another address now.
        world
            .sidecar_road()
            .lead_to(sidecars[0].doors.address(sidecars[0].number).expect("a sidecar"));
        world.sidecar_road().reset();
        road.reset();
        followed(world, &sidecars).await;
    }
    world.keep_sidecars(road, sidecars);
}

/// A sidecar of replica 0, and one of that, with clients: of each, and such that go from one to the other. What these are told comes late
/// by as long as the upstream stands still with it.
async fn chain(world: &mut World, late: Duration) -> (Road, Vec<Sidecar>) {
    let (environment, replicas) = (world.first_environment(), world.replicas.len());
    let road = Road::to(world.doors.address(0).expect("a replica"), world.rng.u64(..)).await;
    let doors = Doors::new(replicas + 2);
    let folder = world.folder().to_owned();
    let mut first = Sidecar::new(replicas, environment.clone(), road.address, &folder, doors.clone());
    first.start().await;
    let address = doors.address(replicas).expect("a sidecar");
    let behind = Road::to(address, world.rng.u64(..)).await;
    let mut second = Sidecar::new(
        replicas + 1,
        environment.clone(),
        behind.address,
        &folder,
        doors.clone(),
    );
    world.keep_sidecar_road(behind);
    second.start().await;
    let mut sidecars = vec![first, second];
    for sidecar in &mut sidecars {
        let name = format!("recorder of sidecar {}", sidecar.number);
        let habits = Habits {
            replica: Some(sidecar.number),
            late,
            ..Habits::default()
        };
        world.record_at(&name, &environment.key, habits, doors.clone());
        sidecar.absences = world.evaluate_at(sidecar.number, &environment, doors.clone());
    }
    // It finds nobody behind the doors of replicas, and goes from sidecar to sidecar whenever one ends its stream.
    let habits = Habits {
        late,
        ..Habits::default()
    };
    world.record_at("wanderer", &environment.key, habits, doors.clone());
    world.catch_up().await;
    (road, sidecars)
}

/// Everybody behind a sidecar holds the newest state, and has had more than one stream or none that broke.
async fn followed(world: &mut World, sidecars: &[Sidecar]) {
    // While a replica stood still all writers may have waited for it, and then there is nothing new yet.
    world.written_from_now(&world.first_environment()).await;
    world.catch_up().await;
    let recordings = world.recordings();
    for sidecar in sidecars {
        let name = format!("recorder of sidecar {}", sidecar.number);
        let recording = recordings
            .iter()
            .find(|recording| recording.client == name)
            .expect("its recorder");
        let commits = recording
            .seen
            .iter()
            .filter(|seen| matches!(seen.what, What::Commit { .. }))
            .count();
        assert!(commits > 1, "sidecar {} told nothing new", sidecar.number);
    }
}
