//! The store on a real PostgreSQL: every operation, every refusal, and what must hold however they interleave.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the words of the tests, outside of test functions, fail by panicking too"
)]

mod generate;
mod people;
#[path = "../support/mod.rs"]
mod support;
mod world;

use support::cluster;

mod audited;
mod chains;
mod columns;
mod compaction;
mod configurations;
mod contention;
mod dependencies;
mod environments;
mod flags;
mod hand_edits;
mod history;
mod journal;
mod lists;
mod migrations;
mod mixture;
mod projects;
mod requests;
mod segments;
mod sessions;
mod users;
