//! What a flag is, and everything else that Halyard has words for.
//!
//! Architecture invariant: nothing here does IO, reads a clock, draws a random number, or knows of proto or SQL. Values are
//! checked when they are made, so that a value of these types cannot be wrong.

pub mod access;
pub mod audit;
pub mod change;
pub mod check;
pub mod context;
pub mod decimal;
pub mod draft;
pub mod email;
pub mod event;
pub mod experiment;
pub mod flag;
pub mod form;
pub mod graph;
pub mod identity;
pub mod invalid;
pub mod key;
pub mod limits;
mod moment;
pub mod operand;
pub mod propagation;
pub mod rule;
pub mod segment;
pub mod staleness;
pub mod statistics;
pub mod value;
