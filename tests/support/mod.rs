//! What tests against a real PostgreSQL share: one private cluster per test program, a migrated database per test.

pub mod cluster;
pub mod eventually;
pub mod proxy;

pub use cluster::{Database, database};
pub use eventually::{eventually, within};
