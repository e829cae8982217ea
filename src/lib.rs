//! Halyard.

pub mod auth;
pub mod domain;
pub mod embedded;
pub mod evaluate;
pub mod pb;
pub mod watch;
