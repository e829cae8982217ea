//! Halyard.

pub mod auth;
pub mod domain;
pub mod pb;
pub mod watch;
