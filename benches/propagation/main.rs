//! What it takes to tell many clients of a change, beside a bare tonic server that sends the same messages to as many streams:
//! `cargo bench --bench propagation` measures all but what needs other programs, and
//! `cargo bench --bench propagation -- <what>` one of these:
//!
//! - `latency`: how long a toggle takes to reach the streams of another replica.
//! - `memory`: what an idle client takes.
//! - `writing`: how much notification slows writing down.
//! - `growth`: what more environments, and more clients, cost a replica and PostgreSQL.
//! - `instructions`: what a delivered message takes to compute (needs valgrind).
//! - `writes`: how many system calls (needs strace).
//!
//! Servers and their PostgreSQL keep to one core; the one caller and all receivers keep to the other.

#![allow(clippy::print_stdout, reason = "a benchmark's output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on fails"
)]

mod counts;
mod growth;
mod latency;
mod memory;
mod writing;

#[path = "../support/mod.rs"]
mod support;

use tokio::runtime::{Builder, Runtime};

use support::process::{CLIENT, SERVER, keep_to};
use support::toggles::{Moments, Sender};
use support::world::{Administrator, Replica, World};
use support::{Result, arguments, floor as bare};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Streams, over so many connections.
const SHAPES: [Shape; 4] = [(1, 1), (100, 20), (1_000, 20), (10_000, 100)];
/// Steps that do not count.
const WARM_UP: u32 = 10;

type Shape = (usize, usize);

fn main() -> Result<()> {
    let arguments = arguments();
    match arguments.split_first() {
        None => {
            latency::measure()?;
            memory::measure()?;
            writing::measure()?;
            growth::measure()
        }
        Some((what, rest)) => match what.as_str() {
            "floor" => bare::run(rest),
            "latency" => latency::measure(),
            "memory" => memory::measure(),
            "writing" => writing::measure(),
            "growth" => growth::measure(),
            "instructions" => counts::instructions(),
            "writes" => counts::writes(),
            _ => Err("latency, memory, writing, growth, instructions or writes".into()),
        },
    }
}

/// A replica to write to, a PostgreSQL, and who listens to other replicas.
struct Bench {
    world: World,
    a: Replica,
    administrator: Administrator,
    key: String,
    runtime: Runtime,
}

impl Bench {
    fn new() -> Result<Self> {
        let world = World::start()?;
        let a = world.serve(SERVER, 1, &[])?;
        let administrator = world.administrator(&a)?;
        let key = world.furnish(&administrator)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self {
            world,
            a,
            administrator,
            key,
            runtime,
        })
    }

    fn replica(&self, before: &[String]) -> Result<Replica> {
        self.world.serve(SERVER, 1, before)
    }

    /// Toggles, and streams of `b` that have them.
    fn service(&self, b: &Replica, shape: Shape) -> Result<Sender> {
        keep_to(CLIENT)?;
        self.runtime.block_on(async {
            let administrator = self.administrator.again(self.a.address).await?;
            Sender::service(administrator, b.address, &self.key, shape).await
        })
    }

    /// Calls of a floor, and its streams.
    fn floor(&self, bare: &Replica, shape: Shape) -> Result<Sender> {
        keep_to(CLIENT)?;
        self.runtime.block_on(Sender::floor(bare.address, &self.key, shape))
    }

    fn steps(&self, sender: &mut Sender, count: u32) -> Result<Vec<Moments>> {
        self.runtime.block_on(sender.steps(count))
    }
}

fn shaped((streams, connections): Shape) -> String {
    format!("{streams} / {connections}")
}
