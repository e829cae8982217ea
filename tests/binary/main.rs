//! The built binary as its users have it: processes, files, signals, exit codes and words.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]
#![allow(missing_docs, reason = "tests are named by what they show")]

#[path = "../support/mod.rs"]
mod support;

mod administration;
mod audit;
mod bench;
mod database;
mod dev;
mod hostile;
mod options;
mod restored;
mod secrets;
mod serve;
mod sidecar;
mod storm;
mod tls;
