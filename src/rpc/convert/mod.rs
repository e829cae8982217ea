//! Between messages and domain types: checked once on the way in, infallible on the way out.
//!
//! Messages are destructured in full, so that a new field breaks the build here and not a user somewhere.

pub mod common;
pub mod context;
pub mod evaluation;
pub mod event;
pub mod experiment;
pub mod explanation;
pub mod flag;
pub mod segment;
pub mod value;
