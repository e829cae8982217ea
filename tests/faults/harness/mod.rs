//! Worlds that can be broken: real processes, clients that record, and what stands between them.

pub mod calls;
mod carry;
pub mod doors;
pub mod evaluator;
pub mod heal;
pub mod keys;
pub mod mirror;
pub mod postgres;
pub mod recorder;
pub mod replica;
pub mod rounds;
pub mod spans;
pub mod template;
pub mod wire;
pub mod world;
pub mod writer;
