//! Halyard, a feature-flag service.

pub mod embedded;
