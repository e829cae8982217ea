//! Crowds: everybody comes back at once, or half of them never read.

use std::time::{Duration, Instant};

use halyard::pb::evaluation::v1::{Intent, SnapshotReason};

use crate::harness::crowd::{Crowd, Shows, Unread};
use crate::harness::probe::probe;
use crate::harness::world::{Setup, World};
use crate::support::eventually;

/// What a stream may take of the server's memory, with its share of a connection and of what is on its way.
const MEMORY_KIB: u64 = 96;
/// What a server may take beside that.
const MARGIN_KIB: u64 = 50 * 1024;
/// How long anything may take for whole crowds.
const PATIENCE: Duration = Duration::from_mins(2);
/// What is on its way at most on the streams of those who do not read: less than everything, and a bit more.
const WINDOWS: [u32; 2] = [1024, 16 * 1024];

/// Few write, so that the crowd is what there is to do. Whoever notes when heartbeats come shares two cores with 10 000 clients that all
/// come at once.
pub fn quiet() -> Setup {
    Setup {
        environments: 1,
        recorders: 2,
        sharing_recorders: 1,
        writers: 1,
        pause: Duration::from_millis(100),
        heartbeat_tolerance: Duration::from_secs(5),
        ..Setup::default()
    }
}

/// All have tokens: nobody is sent everything.
pub async fn with_tokens(world: &mut World) {
    let mut crowd = settled(world).await;
    crowd_returns(world, &mut crowd, &Shows::Own).await;
    let snapshots: usize = crowd
        .first()
        .iter()
        .filter(|((intent, _), _)| *intent == Intent::Snapshot)
        .map(|(_, n)| n)
        .sum();
    assert_eq!(snapshots, 0, "{:?}", crowd.first());
}

/// Nobody has one.
pub async fn without_tokens(world: &mut World) {
    let mut crowd = settled(world).await;
    crowd_returns(world, &mut crowd, &Shows::Nothing).await;
    all_are(&crowd, SnapshotReason::NoState);
}

/// All have tokens of a revision that nothing leads on from any more.
pub async fn with_old_tokens(world: &mut World) {
    let environment = world.first_environment();
    let channel = world.doors.own(0).expect("a replica");
    let old = probe(channel, &environment.server_key, &environment.key, Vec::new())
        .await
        .expect("a snapshot");
    world.writes(5).await;
    let mut crowd = settled(world).await;
    let sql = "
        update environment_heads set compacted_revision = revision
        where environment_id in (select id from environments where key = $1)";
    world.sql().await.execute(sql, &[&environment.key]).await.unwrap();
    // It reads the log as far as it goes when it starts.
    world.replicas[1].kill();
    world.start_replica(1).await;
    crowd_returns(world, &mut crowd, &Shows::This(old.commit.resume_token)).await;
    all_are(&crowd, SnapshotReason::Compacted);
}

fn size(world: &World) -> usize {
    if world.is_long() { 10_000 } else { 1_000 }
}

/// Everybody is at replica 0, and has the newest token.
async fn settled(world: &mut World) -> Crowd {
    let environment = world.first_environment();
    let (mut crowd, channel) = (Crowd::of(size(world)), world.doors.own(0).expect("a replica"));
    let now = probe(channel, &environment.server_key, &environment.key, Vec::new())
        .await
        .expect("a snapshot");
    let address = world.doors.address(0).expect("a replica");
    crowd
        .come(address, &environment.server_key, &Shows::This(now.commit.resume_token))
        .await;
    live(&crowd).await;
    crowd
}

async fn live(crowd: &Crowd) {
    let all = tokio::time::timeout(PATIENCE, crowd.all_live()).await;
    assert!(
        all.is_ok(),
        "not all were live again after {PATIENCE:?}: {:?}",
        crowd.first()
    );
}

fn all_are(crowd: &Crowd, reason: SnapshotReason) {
    let first = crowd.first();
    assert!(first.keys().all(|key| *key == (Intent::Snapshot, reason)), "{first:?}");
}

/// Replica 0 dies, and everybody comes to replica 1 at once.
async fn crowd_returns(world: &mut World, crowd: &mut Crowd, shows: &Shows) {
    let (environment, size) = (world.first_environment(), size(world));
    let address = world.doors.address(1).expect("a replica");
    let (memory, processor) = (world.replicas[1].resident_kib(), world.replicas[1].processor_time());
    let transactions = transactions(world).await;
    world.replicas[0].kill();
    let began = Instant::now();
    crowd.come(address, &environment.server_key, shows).await;
    live(crowd).await;
    let (took, peak) = (began.elapsed(), world.replicas[1].most_resident_kib());
    let processor = world.replicas[1].processor_time().saturating_sub(processor);
    let transactions = self::transactions(world).await - transactions;
    println!(
        "crowd: {size} live again after {:.2} s, {} streams had to try again; the server took {:.2} s of a processor and {} MiB, {} before; \
         {transactions} transactions of PostgreSQL",
        took.as_secs_f64(),
        crowd.ended(),
        processor.as_secs_f64(),
        peak / 1024,
        memory / 1024,
    );
    let most = memory + MARGIN_KIB + MEMORY_KIB * size as u64;
    assert!(
        peak < most,
        "{size} clients took the server from {memory} KiB to {peak}"
    );
    let most = i64::try_from(size / 4).unwrap() + 200 * i64::try_from(took.as_secs()).unwrap();
    assert!(transactions < most, "{transactions} transactions for {size} clients");
    world.start_replica(0).await;
    world.catch_up().await;
}

/// How many transactions PostgreSQL has ended, as far as it has counted them.
async fn transactions(world: &World) -> i64 {
    let sql = "select (xact_commit + xact_rollback)::bigint from pg_stat_database where datname = 'postgres'";
    world.sql().await.query_one(sql, &[]).await.unwrap().get(0)
}

/// A stream may be left unread for some seconds: who reads may have to wait for a processor that long.
pub fn impatient() -> Setup {
    Setup {
        arguments: &["--stream-stall", "5s"],
        pause: Duration::from_millis(20),
        heartbeat_tolerance: Duration::from_secs(2),
        ..quiet()
    }
}

/// Many never read, beside as many that do. They are released, those too whose last message was small and is stuck on the way.
pub async fn unread(world: &mut World) {
    let environment = world.first_environment();
    let size = if world.is_long() { 1_000 } else { 200 };
    let address = world.doors.address(0).expect("a replica");
    let mut readers = Crowd::of(size);
    readers.come(address, &environment.server_key, &Shows::Nothing).await;
    live(&readers).await;
    let quiet = Instant::now();
    world.go_on(world.time_left() / 3).await;
    let before = measured(&readers, quiet).await;

    let (memory, crowded) = (world.replicas[0].resident_kib(), Instant::now());
    let mut unread = Vec::new();
    for window in WINDOWS {
        unread.push(Unread::open(address, &environment.server_key, size / 2, window).await);
    }
    let opened = world.streams().await.expect("it is told");
    // While they are there, and being taken away.
    eventually("the release of those who do not read", async || {
        let streams = world.streams().await.ok()?;
        let most = u32::try_from(size).unwrap() + 10;
        (streams <= most && crowded.elapsed() > Duration::from_secs(2)).then_some(())
    })
    .await;
    let released = crowded.elapsed();
    let (during, peak) = (measured(&readers, crowded).await, world.replicas[0].most_resident_kib());
    assert_eq!(readers.ended(), 0, "who reads was harmed");
    println!(
        "unread: {size} beside {size}, {opened} streams were told of, released after {:.2} s; readers' p50 {:?} -> {:?}, p99 {:?} -> {:?}; \
         {} MiB -> {} MiB",
        released.as_secs_f64(),
        share(&before, 50),
        share(&during, 50),
        share(&before, 99),
        share(&during, 99),
        memory / 1024,
        peak / 1024,
    );
    let most = memory + MARGIN_KIB + MEMORY_KIB * size as u64;
    assert!(
        peak < most,
        "{size} that do not read took the server from {memory} KiB to {peak}"
    );
    for unread in unread {
        let told = tokio::time::timeout(PATIENCE, unread.read()).await.expect("they end");
        assert_eq!(told, size / 2, "not all were told why");
    }
}

/// What was measured since some moment, once there is something.
async fn measured(crowd: &Crowd, since: Instant) -> Vec<Duration> {
    eventually("a measure", async || {
        let latencies = crowd.latencies(since);
        (!latencies.is_empty()).then_some(latencies)
    })
    .await
}

fn share(sorted: &[Duration], percent: usize) -> Duration {
    assert!(!sorted.is_empty(), "nothing was measured");
    sorted[(sorted.len() - 1) * percent / 100]
}
