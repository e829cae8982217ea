//! What taking events costs beside writing them: `cargo bench --bench track`. The same events, half of them exposures, half of them
//! values, go through gRPC to `halyard serve`, and by bare binary COPY into the same tables with the same indexes, in transactions as
//! large as Halyard's groups can be. Both take turns on one durable PostgreSQL, whose days before are full of ids. Then more and more
//! callers push faster than it can be written, while the server's memory is watched.
//!
//! `BENCH_ROUNDS`, `BENCH_BATCHES` (of 1 000 events, each turn), `BENCH_CALLERS` and `BENCH_KNOWN` (ids of each day before) make it
//! shorter or longer.

#![allow(clippy::print_stdout, reason = "a benchmark's output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on fails"
)]

mod bare;
mod events;
mod place;
mod send;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use events::{BATCH, make};
use place::Place;
use send::Batches;
use support::numbers::median;
use support::process::SHARED;
use support::world::{Replica, World};
use support::{Result, setting, table};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Callers that push, each with a batch in flight.
const CROWDS: [usize; 4] = [32, 256, 1_024, 4_096];
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    let known = setting("BENCH_KNOWN", 500_000)?;
    let world = World::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let replica = world.serve(SHARED, 2, &[])?;
    let key = world.furnish(&world.administrator(&replica)?)?;
    let (mut sql, place) = runtime.block_on(async {
        let (sql, connection) = world.config()?.connect(NoTls).await?;
        tokio::spawn(connection);
        let place = place::prepare(&sql, known).await?;
        Ok::<_, support::Error>((sql, place))
    })?;
    runtime.block_on(measure_rate(&replica, &key, &mut sql, &place, known))?;
    drop(replica);
    measure_memory(&runtime, &world, &key)
}

async fn measure_rate(replica: &Replica, key: &str, sql: &mut Client, place: &Place, known: u32) -> Result<()> {
    let rounds = setting("BENCH_ROUNDS", 5)?;
    let batches = setting("BENCH_BATCHES", 200)? as usize;
    let callers = setting("BENCH_CALLERS", 32)? as usize;
    let (mut bare, mut tracked) = (Vec::new(), Vec::new());
    // The first turn of each warms up.
    for round in 0..=rounds {
        let events = make(batches);
        let begun = Instant::now();
        bare::copy(sql, place, &events).await?;
        let copied = begun.elapsed();
        let ready = Batches::of(replica, key, make(batches))?;
        let begun = Instant::now();
        ready.send(replica, callers).await?;
        let taken = begun.elapsed();
        if round > 0 {
            bare.push(rate(batches, copied));
            tracked.push(rate(batches, taken));
        }
        sql.batch_execute("checkpoint").await?;
    }
    let ratios = tracked.iter().zip(&bare).map(|(tracked, bare)| tracked / bare);
    let (ratio, bare, tracked) = (median(ratios), median(bare), median(tracked));
    let row = |name: &str, rate: f64, ratio: f64| {
        vec![
            name.to_owned(),
            table::thousands(rate),
            format!("{:.0} %", ratio * 100.0),
        ]
    };
    table::print(
        &format!("{callers} callers with batches of {BATCH}, {known} ids on each of four days before"),
        &["written", "events/s", "to bare"],
        &[row("bare binary COPY", bare, 1.0), row("Track", tracked, ratio)],
    );
    Ok(())
}

/// A server of its own for each crowd, so that none is charged with the one before.
fn measure_memory(runtime: &Runtime, world: &World, key: &str) -> Result<()> {
    let mut rows = Vec::new();
    for callers in CROWDS {
        let replica = world.serve(SHARED, 2, &[])?;
        let batches = (2 * callers).max(setting("BENCH_BATCHES", 200)? as usize);
        let before = replica.process.resident_kib()?;
        let (most, refused, time) = runtime.block_on(push(&replica, key, callers, batches))?;
        rows.push(vec![
            callers.to_string(),
            table::thousands(rate(batches, time)),
            refused.to_string(),
            format!("{:.0} → {:.0}", before / 1024.0, most / 1024.0),
        ]);
    }
    table::print(
        &format!("Batches of {BATCH}, sent again 50 ms after they were refused"),
        &[
            "callers",
            "events/s",
            "times a batch was refused",
            "server's memory MiB before → most",
        ],
        &rows,
    );
    Ok(())
}

/// The most memory that the server had meanwhile in KiB, how often a batch was refused, and how long it took until all were taken.
async fn push(replica: &Replica, key: &str, callers: usize, batches: usize) -> Result<(f64, u64, Duration)> {
    let ready = Batches::of(replica, key, make(batches))?;
    let begun = Instant::now();
    let mut sending = std::pin::pin!(ready.send(replica, callers));
    let mut most: f64 = 0.0;
    loop {
        tokio::select! {
            refused = &mut sending => return Ok((most, refused?, begun.elapsed())),
            () = tokio::time::sleep(LOOK) => most = most.max(replica.process.resident_kib()?),
        }
    }
}

fn rate(batches: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(batches * BATCH).unwrap()) / time.as_secs_f64()
}
