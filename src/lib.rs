//! Halyard.

pub mod auth;
pub mod domain;
pub mod embedded;
pub mod pb;
pub mod watch;
