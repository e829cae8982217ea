//! What experiments cost whoever asks: `cargo bench --bench assignments` measures both, `cargo bench --bench assignments -- <what>` one:
//!
//! - `first`: first answers, which are stored: how many a second by the one task that writes for all, and how many by one insert and
//!   commit per request, on the same PostgreSQL with fsync on.
//! - `known`: an Evaluate over gRPC whose assignment is known, beside one without an experiment.
//!
//! What is compared takes turns.

#![allow(clippy::print_stdout, reason = "a benchmark's output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on fails"
)]

mod first;
mod known;
#[path = "../support/mod.rs"]
mod support;

use support::{Result, arguments, load};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<()> {
    let arguments = arguments();
    match arguments.split_first() {
        None => {
            first::measure()?;
            known::measure()
        }
        Some((what, rest)) => match what.as_str() {
            "load" => load::run(rest),
            "first" => first::measure(),
            "known" => known::measure(),
            other => Err(format!("no such measurement: {other}").into()),
        },
    }
}
