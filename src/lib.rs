//! Halyard.

pub mod domain;
pub mod evaluate;
pub mod pb;
pub mod watch;
