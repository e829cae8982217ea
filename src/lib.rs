//! Halyard.

pub mod auth;
pub mod cli;
pub mod config;
pub mod domain;
pub mod pb;
pub mod shutdown;
pub mod telemetry;
pub mod watch;
