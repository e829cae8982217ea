//! The private PostgreSQL server against the machine's real PostgreSQL: its life, its death, and who may enter.
//!
//! Run as root they show that PostgreSQL runs as somebody else; the part of an ordinary user is then played by one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod access;
mod death;
mod life;
#[path = "../support/processes.rs"]
mod processes;
mod refusals;
mod support;

#[tokio::test]
async fn part() {
    if let Ok(part) = std::env::var("PART") {
        support::play_part(&part).await;
    }
}
