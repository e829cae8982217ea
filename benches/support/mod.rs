//! What the benchmarks of the running service share: processes that are kept to cores, the service with data to serve, bare
//! floors, a load generator leaner than what it measures, and tables.
//!
//! A benchmark's program starts itself again for the processes that it needs: the first argument says as what.

#![allow(dead_code, reason = "each benchmark uses its own part of this")]

#[path = "../../tests/support/mod.rs"]
pub mod tests_support;

pub mod constant;
pub mod flags;
pub mod floor;
pub mod guesses;
pub mod load;
pub mod numbers;
pub mod observe;
pub mod process;
pub mod streams;
pub mod table;
pub mod toggles;
pub mod world;

use std::env;
use std::time::Duration;

/// What goes wrong in a benchmark ends it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// What a benchmark does.
pub type Result<T> = std::result::Result<T, Error>;

/// The arguments, without those that `cargo bench` adds.
pub fn arguments() -> Vec<String> {
    env::args().skip(1).filter(|argument| argument != "--bench").collect()
}

/// A number from an environment variable, for longer or shorter runs.
pub fn setting(name: &str, default: u32) -> Result<u32> {
    match env::var(name) {
        Ok(text) => Ok(text.parse().map_err(|error| format!("{name}: {error}"))?),
        Err(_) => Ok(default),
    }
}

/// A time in seconds from an environment variable.
pub fn seconds(name: &str, default: f64) -> Result<Duration> {
    match env::var(name) {
        Ok(text) => Ok(Duration::try_from_secs_f64(text.parse()?).map_err(|error| format!("{name}: {error}"))?),
        Err(_) => Ok(Duration::from_secs_f64(default)),
    }
}
