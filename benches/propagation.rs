//! How long a toggle takes to reach the streams of another replica, beside a bare tonic server that sends the same messages to as
//! many streams: `cargo bench --bench propagation`.
//!
//! Two `halyard serve` and their PostgreSQL keep to one core; the one caller and all receivers keep to the other. One toggle at a
//! time goes through replica A; the moment at which its Commit arrives is noted for every stream of replica B.
//!
//! `cargo bench --bench propagation -- instructions` counts what replica B computes for a delivered step, with valgrind, and
//! `cargo bench --bench propagation -- writes` how often it writes to its connections, with strace.

#![allow(clippy::print_stdout, reason = "a benchmark's output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on fails"
)]

mod support;

use std::time::Instant;

use tokio::runtime::{Builder, Runtime};

use support::numbers::{median, percentile};
use support::process::{CLIENT, SERVER, keep_to};
use support::toggles::{Moments, Sender};
use support::world::{Replica, World};
use support::{Result, arguments, floor as bare, observe, setting, table};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Streams, over so many connections.
const SHAPES: [(usize, usize); 4] = [(1, 1), (100, 20), (1_000, 20), (10_000, 100)];
/// The messages of a step: Begin, Item, Commit.
const MESSAGES: u32 = 3;
/// Steps that do not count.
const WARM_UP: u32 = 10;

fn main() -> Result<()> {
    let arguments = arguments();
    match arguments.split_first() {
        Some((what, rest)) if what == "floor" => bare::run(rest),
        Some((what, _)) if what == "instructions" => count_instructions(),
        Some((what, _)) if what == "writes" => count_writes(),
        _ => measure(),
    }
}

/// Two replicas, and who listens to the second.
struct Bench {
    world: World,
    a: Replica,
    key: String,
    runtime: Runtime,
}

impl Bench {
    fn new() -> Result<Self> {
        let world = World::start()?;
        let a = world.serve(SERVER, 1, &[])?;
        let key = world.furnish(&world.administrator(&a)?)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { world, a, key, runtime })
    }

    fn replica(&self, before: &[String]) -> Result<Replica> {
        self.world.serve(SERVER, 1, before)
    }

    fn service(&self, b: &Replica, shape: (usize, usize)) -> Result<Sender> {
        keep_to(CLIENT)?;
        let opened = Sender::service(self.a.address, b.address, &self.key, shape);
        self.runtime.block_on(opened)
    }

    fn floor(&self, bare: &Replica, shape: (usize, usize)) -> Result<Sender> {
        keep_to(CLIENT)?;
        self.runtime.block_on(Sender::floor(bare.address, &self.key, shape))
    }

    fn steps(&self, sender: &mut Sender, count: u32) -> Result<Vec<Moments>> {
        self.runtime.block_on(sender.steps(count))
    }
}

fn measure() -> Result<()> {
    let (toggles, rounds) = (setting("BENCH_TOGGLES", 200)?, setting("BENCH_ROUNDS", 3)?);
    let bench = Bench::new()?;
    let b = bench.replica(&[])?;
    let (mut rows, mut ratios) = (Vec::new(), Vec::new());
    for shape in SHAPES {
        let (mut ours, mut floors, mut to_floor) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut sender = bench.service(&b, shape)?;
            bench.steps(&mut sender, WARM_UP)?;
            let our_moments = bench.steps(&mut sender, toggles / rounds)?;
            let bare = sender.bare(&[])?;
            drop(sender);
            let mut sender = bench.floor(&bare, shape)?;
            bench.steps(&mut sender, WARM_UP)?;
            let floor_moments = bench.steps(&mut sender, toggles / rounds)?;
            to_floor.push(spread(&our_moments) / spread(&floor_moments));
            ours.extend(our_moments);
            floors.extend(floor_moments);
        }
        rows.push(row("Halyard", shape, &ours));
        rows.push(row("bare fan-out", shape, &floors));
        ratios.push(vec![shape.0.to_string(), format!("{:.2} ×", median(to_floor))]);
    }
    let head = [
        "p50 / p99 ms",
        "streams / connections",
        "request → response",
        "request → first stream",
        "written → first stream",
        "written → last stream",
        "first → last stream",
    ];
    table::print("A toggle through replica A to the streams of replica B", &head, &rows);
    let head = ["streams", "first → last stream, to floor"];
    table::print("The median of the rounds' ratios of medians", &head, &ratios);
    Ok(())
}

/// The median of the times from the first stream to the last, in milliseconds.
fn spread(moments: &[Moments]) -> f64 {
    median(
        moments
            .iter()
            .map(|moments| (moments.last - moments.first).as_secs_f64() * 1e3),
    )
}

fn row(name: &str, (streams, connections): (usize, usize), moments: &[Moments]) -> Vec<String> {
    let between = |from: fn(&Moments) -> Option<Instant>, to: fn(&Moments) -> Instant| {
        let times = moments
            .iter()
            .filter_map(|moments| Some(to(moments).saturating_duration_since(from(moments)?)));
        let mut times: Vec<_> = times.map(|time| time.as_secs_f64() * 1e3).collect();
        if times.is_empty() {
            return "–".to_owned();
        }
        format!(
            "{:.2} / {:.2}",
            percentile(&mut times, 0.5),
            percentile(&mut times, 0.99)
        )
    };
    vec![
        name.to_owned(),
        format!("{streams} / {connections}"),
        between(|moments| Some(moments.sent), |moments| moments.answered),
        between(|moments| Some(moments.sent), |moments| moments.first),
        between(|moments| moments.written, |moments| moments.first),
        between(|moments| moments.written, |moments| moments.last),
        between(|moments| Some(moments.first), |moments| moments.last),
    ]
}

/// Between two dumps, so that neither the start nor the first steps count.
fn count_instructions() -> Result<()> {
    const STEPS: u32 = 20;
    let bench = Bench::new()?;
    let mut rows = Vec::new();
    for (turn, shape) in (1..).zip([(100, 20), (1_000, 20)]) {
        let (ours, bare) = (format!("halyard.{turn}"), format!("floor.{turn}"));
        let count = |sender: &mut Sender, server: &Replica, name: &str| {
            bench.steps(sender, WARM_UP)?;
            observe::zero(&server.process)?;
            bench.steps(sender, STEPS)?;
            let instructions = observe::instructions(&server.process, name, 1)?;
            Ok::<_, support::Error>(instructions / per(shape, STEPS))
        };
        let b = bench.replica(&observe::callgrind(&ours))?;
        let mut sender = bench.service(&b, shape)?;
        let halyard = count(&mut sender, &b, &ours)?;
        let server = sender.bare(&observe::callgrind(&bare))?;
        drop((sender, b));
        let floor = count(&mut bench.floor(&server, shape)?, &server, &bare)?;
        rows.extend(compared(shape, halyard, floor, table::thousands));
    }
    let head = ["server", "streams / connections", "instructions/message", "to floor"];
    table::print("Instructions per delivered message (callgrind)", &head, &rows);
    Ok(())
}

fn count_writes() -> Result<()> {
    const STEPS: u32 = 50;
    let bench = Bench::new()?;
    let b = bench.replica(&[])?;
    let mut rows = Vec::new();
    for shape in SHAPES {
        let count = |sender: &mut Sender, server: &Replica| {
            bench.steps(sender, WARM_UP)?;
            let writes = observe::writes(&server.process, || bench.steps(sender, STEPS).map(drop))?;
            Ok::<_, support::Error>(writes / per(shape, STEPS))
        };
        let mut sender = bench.service(&b, shape)?;
        let halyard = count(&mut sender, &b)?;
        let bare = sender.bare(&[])?;
        drop(sender);
        let floor = count(&mut bench.floor(&bare, shape)?, &bare)?;
        rows.extend(compared(shape, halyard, floor, |writes| format!("{writes:.4}")));
    }
    let head = ["server", "streams / connections", "writes/message", "to floor"];
    table::print("System calls that write, per delivered message (strace)", &head, &rows);
    Ok(())
}

/// How many messages are delivered.
fn per((streams, _): (usize, usize), steps: u32) -> f64 {
    f64::from(u32::try_from(streams).unwrap() * steps * MESSAGES)
}

fn compared(
    (streams, connections): (usize, usize),
    ours: f64,
    floor: f64,
    write: impl Fn(f64) -> String,
) -> [Vec<String>; 2] {
    let line = |name: &str, count: f64| {
        vec![
            name.to_owned(),
            format!("{streams} / {connections}"),
            write(count),
            format!("{:.2} ×", count / floor),
        ]
    };
    [line("bare fan-out", floor), line("Halyard", ours)]
}
