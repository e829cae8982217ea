//! Between clients and replicas: a network that breaks, goes silent or is narrow; a flood of requests.

use std::time::Duration;

use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_service_client::WatchServiceClient;

use crate::evidence::{Recording, What};
use crate::harness::calls::{evaluate_all, with};
use crate::harness::doors::{Doors, connect};
use crate::harness::recorder::Habits;
use crate::harness::road::Traffic;
use crate::harness::world::{Setup, World};
use crate::support::eventually;

/// The server asks a silent client after 20 s and gives it up after 10 s more.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// What the slow road carries a second, and what may be on its way on one stream.
const SLOW: u32 = 1024;
const WINDOW: u32 = 1024;
const NARROW: u32 = 300;
/// What comes over the slow road comes late by what the window, and whoever fills it, holds: 1.5 s were seen.
const LATE: Duration = Duration::from_secs(3);
/// A client waits no longer than for three heartbeats: nothing that it still reads is later.
const HELD_UP: Duration = Duration::from_millis(3_500);

/// Recorders of every environment that take a road.
fn travellers(world: &mut World, count: usize, doors: &Doors, late: Duration) -> Vec<String> {
    let mut names = Vec::new();
    for environment in world.furniture.environments.clone() {
        for number in 0..count {
            let name = format!("traveller {number} of {}", environment.key);
            let habits = Habits {
                late,
                ..Habits::default()
            };
            world.record_at(&name, &environment.key, habits, doors.clone());
            names.push(name);
        }
    }
    names
}

fn of(world: &World, names: &[String]) -> Vec<Recording> {
    let mut recordings = world.recordings();
    recordings.retain(|recording| names.contains(&recording.client));
    recordings
}

/// Connections of clients are reset after some bytes, wherever that is, again and again.
pub async fn reset_within_steps(world: &mut World) {
    // So little is on its way at once that no step comes in one piece.
    let (roads, doors) = world.roads(Some(NARROW)).await;
    for road in &roads {
        road.set(Traffic::Short(4 * 1024));
    }
    let names = travellers(world, 5, &doors, Duration::ZERO);
    let mut rounds = world.rounds(Duration::from_millis(200));
    while rounds.next().await {
        world.writes(5).await;
        roads[world.rng.usize(..roads.len())].reset();
    }
    let within = |recording: &Recording| {
        let ended = |pair: &&[crate::evidence::Seen]| {
            let is_in_step = matches!(
                pair[0].what,
                What::Begin { .. } | What::Put { .. } | What::Delete { .. }
            );
            is_in_step && matches!(pair[1].what, What::Ended(_))
        };
        recording.seen.windows(2).filter(ended).count()
    };
    eventually("connections that are reset within a step", async || {
        let resets: usize = roads.iter().map(crate::harness::road::Road::resets).sum();
        let torn: usize = of(world, &names).iter().map(within).sum();
        (resets > 5 && torn > 0).then_some(())
    })
    .await;
    for road in &roads {
        road.set(Traffic::Free);
    }
    world.catch_up().await;
    world.keep_roads(roads);
}

/// The road to one replica goes silent. Clients go to the other after three heartbeats; the server gives them up by its keepalive.
pub async fn silent(world: &mut World) {
    let (roads, doors) = world.roads(None).await;
    let names = travellers(world, 3, &doors, HELD_UP);
    world.catch_up().await;
    // A road that somebody is on.
    let mut travelled = of(world, &names).into_iter();
    let silent = travelled.find_map(|it| it.replica()).expect("a stream");
    let before = world.replicas[silent].open_files();
    roads[silent].set(Traffic::Silent);
    let gave_up = || {
        let recordings = of(world, &names);
        let missed = |what: &What| matches!(what, What::Ended(words) if words.contains("missed"));
        let seen = recordings.iter().flat_map(|recording| &recording.seen);
        seen.filter(|seen| missed(&seen.what)).count()
    };
    eventually("clients that go elsewhere", async || (gave_up() > 0).then_some(())).await;
    world.writes(10).await;
    if world.is_long() {
        // Nobody tells the server that they are gone. New ones are not among them: they do not get through.
        let deadline = tokio::time::Instant::now() + 2 * KEEPALIVE;
        while world.replicas[silent].open_files() > before {
            let files = world.replicas[silent].open_files();
            assert!(
                tokio::time::Instant::now() < deadline,
                "{files} files are open, {before} before"
            );
            world.go_on(Duration::from_millis(200)).await;
        }
    }
    roads[silent].set(Traffic::Free);
    world.catch_up().await;
    world.keep_roads(roads);
}

/// More is written than the slow road carries.
pub fn slow_roads() -> Setup {
    Setup {
        writers: 4,
        pause: Duration::from_millis(1),
        ..Setup::default()
    }
}

/// Clients whose road carries less than is written make fewer, larger steps.
pub async fn slow(world: &mut World) {
    let (roads, doors) = world.roads(Some(WINDOW)).await;
    for road in &roads {
        road.set(Traffic::Slow(SLOW));
    }
    let names = travellers(world, 1, &doors, LATE);
    let mut rounds = world.rounds(Duration::from_millis(500));
    while rounds.next().await {}
    let is_merged = |what: &What| {
        let grows = |intent, from, to| intent == pb::Intent::Delta && to > from + 1;
        matches!(*what, What::Begin { intent, from, to, .. } if grows(intent, from, to))
    };
    eventually("merged steps for everybody whose road is slow", async || {
        let merged = |recording: Recording| recording.seen.iter().any(|seen| is_merged(&seen.what));
        of(world, &names).into_iter().all(merged).then_some(())
    })
    .await;
    world.catch_up().await;
    world.keep_roads(roads);
}

/// One connection asks all the time: right and wrong, and opens streams that it resets at once. Whoever else is there goes on.
pub async fn flood(world: &mut World) {
    let (environment, address) = (world.first_environment(), world.doors.address(0).unwrap());
    let channel = connect(address);
    let (mut answered, mut refused, mut opened) = (0, 0, 0);
    let mut rounds = world.rounds(Duration::from_millis(1));
    let mut caught_up = tokio::time::Instant::now();
    while rounds.next_until(answered > 20 && refused > 20 && opened > 10).await {
        let right = (0..20).map(|_| evaluate_all(channel.clone(), &environment.server_key));
        let wrong = (0..20).map(|_| evaluate_all(channel.clone(), "halyard_server_0000000000000000"));
        let open = async || {
            let mut client = WatchServiceClient::new(with(channel.clone(), &environment.server_key));
            // Dropped as soon as it stands.
            client.watch(pb::WatchRequest::default()).await.is_ok()
        };
        let forget = async || {
            let mut client = WatchServiceClient::new(with(channel.clone(), &environment.server_key));
            // Dropped while it does not stand yet.
            let opening = client.watch(pb::WatchRequest::default());
            let _ = tokio::time::timeout(Duration::from_millis(1), opening).await;
        };
        let (right, wrong, open, _) = tokio::join!(
            futures_util::future::join_all(right),
            futures_util::future::join_all(wrong),
            futures_util::future::join_all((0..10).map(|_| open())),
            futures_util::future::join_all((0..10).map(|_| forget())),
        );
        answered += right.iter().filter(|answer| answer.is_ok()).count();
        refused += wrong.iter().filter(|answer| answer.is_err()).count();
        opened += open.iter().filter(|opened| **opened).count();
        assert!(wrong.iter().all(Result::is_err), "a key that does not exist was let in");
        if caught_up.elapsed() > Duration::from_millis(500) {
            world.catch_up().await;
            caught_up = tokio::time::Instant::now();
        }
    }
    println!("flood: {answered} answered, {refused} refused, {opened} streams opened and reset");
    assert!(
        answered > 20 && refused > 20 && opened > 10,
        "{answered}, {refused}, {opened}: no flood"
    );
}
