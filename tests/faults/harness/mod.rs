//! Worlds that can be broken: real processes, clients that record, and what stands between them.

pub mod ages;
pub mod balanced;
pub mod calls;
mod carry;
pub mod crowd;
pub mod doors;
pub mod evaluator;
pub mod guests;
pub mod hand;
pub mod heal;
pub mod keeper;
pub mod keys;
pub mod listener;
pub mod mirror;
pub mod postgres;
pub mod probe;
pub mod recorder;
pub mod replica;
pub mod road;
pub mod rounds;
pub mod sidecar;
pub mod spans;
pub mod template;
pub mod wire;
pub mod world;
pub mod writer;
