//! Single connections of replicas to PostgreSQL: ended by an administrator, or stopped.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::evidence::{Loses, Notices};
use crate::harness::calls::with;
use crate::harness::keys;
use crate::harness::postgres::signal;
use crate::harness::wire::{Flow, Notifier};
use crate::harness::world::{Setup, World};
pub use crate::notifications::one_writes;

/// The listeners' connections are ended ten times a second, so that most notifications meet nobody. Now and then everybody rests, so that
/// no later notification makes up for one that was missed.
pub async fn listeners_terminated(world: &mut World) {
    let (mut rounds, mut ended, mut round) = (world.rounds(Duration::from_millis(100)), 0, 0_u32);
    while rounds.next().await {
        ended += world.terminate("halyard listener").await;
        round += 1;
        if round.is_multiple_of(5) {
            world.pause_writers().await;
            world.catch_up().await;
            world.resume_writers();
        }
    }
    assert!(ended > 0, "no listener was there to be ended");
}

/// A listener's connection is ended, and the one that follows is held up before it listens. Meanwhile somebody writes, and nobody does
/// after it listens; and polls are so rare that they find nothing in time. What was written is found only by whoever looks after it
/// listens.
pub async fn listens_late(world: &mut World) {
    let (deaf, mut rounds) = (1, world.rounds(Duration::from_millis(100)));
    while rounds.next().await {
        world.wires[deaf].set(|way| way.listens = Flow::Hold);
        let before = world.wires[deaf].counts.listens.load(Ordering::Relaxed);
        let listeners = world.wires[deaf].backends("halyard listener");
        assert!(!listeners.is_empty(), "nobody listened");
        end(world, &listeners).await;
        // Not before: until then it heard everything.
        let cut = world.cut_off(deaf, Loses::Notifications, Notices::AtOnce);
        world
            .until("a listener that is held up", async |world| {
                world.wires[deaf].counts.listens.load(Ordering::Relaxed) > before
            })
            .await;
        // Whatever looked before it listens has looked by then.
        let time = Duration::from_millis(world.rng.u64(50..150));
        world.go_on(time).await;
        world.writes(5).await;
        world.pause_writers().await;
        cut.close(Instant::now());
        world.wires[deaf].set(|way| way.listens = Flow::Pass);
        world.catch_up().await;
        world.resume_writers();
    }
}

async fn end(world: &World, processes: &[u32]) {
    let processes: Vec<_> = processes.iter().map(|process| process.cast_signed()).collect();
    let sql = "select pg_terminate_backend(pid) from unnest($1::int[]) as pid";
    world.sql().await.execute(sql, &[&processes]).await.unwrap();
}

/// Polls come once a minute, and everybody writes through the first replica.
pub fn few_polls() -> Setup {
    Setup {
        arguments: &[
            "--poll-interval",
            "1m",
            "--scan-interval",
            "1m",
            // Whoever gives the first one up has nothing for a minute.
            "--feed-query-timeout",
            "10s",
        ],
        ..one_writes()
    }
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

/// The process that serves a replica's listener stands still: the connection is open, and silent. The replica must notice by itself.
pub async fn listener_stopped(world: &mut World) {
    let number = world.rng.usize(..world.replicas.len());
    let listeners = world.wires[number].backends("halyard listener");
    let one = *listeners.first().expect("it listens");
    signal(one, Signal::STOP);
    let cut = world.cut_off(number, Loses::Notifications, Notices::ByProbe);
    let mut rounds = world.rounds(Duration::from_secs(1));
    while rounds.next().await {
        world.writes(5).await;
        world.catch_up().await;
        // It has noticed, and hears of changes again.
        let listeners = world.wires[number].backends("halyard listener");
        if listeners.iter().any(|process| *process != one) {
            cut.close(Instant::now());
        }
    }
    cut.close(Instant::now());
    signal(one, Signal::CONT);
}

/// One process that serves a connection for requests stands still, and then another. Whoever has it gives up; others go on.
pub async fn requests_stopped(world: &mut World) {
    stop_in_turn(world, "halyard").await;
}

/// The same of the connections for polls, loads and notifications.
pub async fn feeds_stopped(world: &mut World) {
    stop_in_turn(world, "halyard feed").await;
}

async fn stop_in_turn(world: &mut World, name: &str) {
    let (mut rounds, mut stopped) = (world.rounds(Duration::from_millis(200)), 0);
    while rounds.next().await {
        let processes = world.backends(name).await;
        if processes.is_empty() {
            continue;
        }
        let one = processes[world.rng.usize(..processes.len())];
        signal(one, Signal::STOP);
        stopped += 1;
        let time = world.time_left().min(Duration::from_millis(world.rng.u64(500..3_000)));
        world.go_on(time).await;
        signal(one, Signal::CONT);
    }
    assert!(stopped > 0, "no process was there to be stopped");
}

/// A replica's connection is reset whenever it tells the others of a write, so that they never hear of it. Nothing else is touched.
pub async fn notifiers_ended(world: &mut World) {
    for wire in &world.wires {
        wire.set(|way| way.notifier = Notifier::Reset);
    }
    let mut rounds = world.rounds(Duration::from_millis(500));
    while rounds.next().await {
        world.writes(5).await;
        world.catch_up().await;
    }
    let ended = world.wires[0].counts.notifiers.load(Ordering::Relaxed);
    assert!(ended > 0, "nobody was told of anything");
}

/// Others take every connection that PostgreSQL has, as often as those of the replicas are ended.
pub async fn connections_used_up(world: &mut World) {
    let administrator = world.sql().await;
    let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'halyard%'";
    let (mut rounds, mut others, mut refused) = (world.rounds(Duration::from_millis(200)), Vec::new(), 0);
    while rounds.next_until(others.len() > FEW / 2).await {
        administrator.execute(sql, &[]).await.unwrap();
        loop {
            match world.postgres.config().connect(NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    others.push(client);
                }
                Err(error) => {
                    assert_eq!(error.code(), Some(&SqlState::TOO_MANY_CONNECTIONS), "{error}");
                    refused += 1;
                    break;
                }
            }
        }
    }
    assert!(refused > 0 && others.len() > FEW / 2, "there were connections left");
    others.clear();
    // The processes that served them take a moment to go.
    let sql = "select count(*) from pg_stat_activity where application_name = 'faults'";
    world
        .until("the end of whoever took the connections", async |_| {
            let left: i64 = administrator.query_one(sql, &[]).await.unwrap().get(0);
            left == 1
        })
        .await;
    world.postgres.answers().await;
}

const FEW: usize = 30;

/// So few that they can be used up.
pub fn few_connections() -> Setup {
    Setup {
        postgres: &["max_connections=30"],
        ..Setup::default()
    }
}

/// Keys are made and revoked again while the listeners' connections are ended ten times a second. The stream of each, at either
/// replica, ends after it is revoked, idle or not, and the key opens no other.
pub async fn keys_revoked(world: &mut World) {
    let (mut rounds, mut streams, mut ended) = (world.rounds(Duration::from_millis(100)), JoinSet::new(), 0);
    while rounds.next().await {
        ended += world.terminate("halyard listener").await;
        let number = world.rng.usize(..world.furniture.environments.len());
        let environment = world.furniture.environments[number].key.clone();
        let admin = world.doors.shared(world.rng.usize(..world.replicas.len())).unwrap();
        let admin = with(admin, &world.furniture.token);
        let (id, secret) = keys::create(admin.clone(), &environment).await;
        let mut open = Vec::new();
        for replica in 0..world.replicas.len() {
            let channel = world.doors.shared(replica).unwrap();
            let stream = keys::watch(channel.clone(), &secret).await;
            open.push((stream.expect("a new key opens a stream"), channel));
        }
        keys::revoke(admin, &environment, &id).await;
        for (stream, channel) in open {
            streams.spawn(keys::is_over(stream, channel, secret.clone()));
        }
    }
    assert!(ended > 0 && !streams.is_empty(), "nothing was revoked under a storm");
    while let Some(stream) = streams.join_next().await {
        stream.unwrap();
    }
}
