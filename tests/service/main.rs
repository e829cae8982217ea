//! The service as its users see it: through gRPC, on a real PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]
#![allow(missing_docs, reason = "tests are named by what they show")]
#![allow(
    clippy::unnecessary_wraps,
    reason = "the words for messages give what the messages' fields take"
)]

#[path = "../support/mod.rs"]
mod support;

mod app;
mod follower;
mod listener;
mod people;
mod raw;
mod refusals;
mod words;

mod accounted;
mod accounts;
mod ahead;
mod answers;
mod at_once;
mod audit;
mod auth;
mod bounds;
mod checks;
mod compaction;
mod conventions;
mod environments;
mod evaluation;
mod events;
mod experiments;
mod flags;
mod front;
mod hand_edits;
mod history;
mod http;
mod invitations;
mod lists;
mod machines;
mod matrix;
mod members;
mod metrics;
mod openid;
mod outage;
mod playground;
mod polling;
mod prerequisites;
mod projects;
mod proofs;
mod propagation;
mod replicas;
mod segments;
mod sidecar;
mod traces;
mod unread;
mod users;
mod viewers;
mod watching;
