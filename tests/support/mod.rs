//! What tests against a real PostgreSQL share: one private cluster per test program, a migrated database per test.

#![allow(dead_code, unused_imports, reason = "each test program uses its own part of this")]

pub mod cluster;
pub mod eventually;
pub mod half;
pub mod plain;
pub mod processes;
pub mod program;
pub mod proxy;
pub mod relay;
pub mod scrape;
pub mod server;
pub mod tls;

pub use cluster::{Database, database};
pub use eventually::{eventually, eventually_within, within};
pub use scrape::Scrape;
