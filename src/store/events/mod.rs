//! Events of experiments: written in groups, each event once, to tables of their day.
//!
//! | file | what |
//! |---|---|
//! | `intake` | where batches wait, in bounded memory |
//! | `writer` | the task that writes them in groups |
//! | `catalogue` | what events may name: experiments that have run, their arms and metrics |
//! | `write` | one group in one transaction: which ids are new, and their events by COPY |
//! | `numeric` | exact values in PostgreSQL's binary form |
//! | `days` | the day that events are received on, its partitions, and the end of old ones |
//!
//! A batch is answered only when the transaction that holds it has been committed. So whoever was answered need not send it again,
//! and whoever was not may, as often as they like: an id counts once. See `docs/decisions/events.md`.
//!
//! Architecture invariants: no evaluation waits for anything here; connections are a pool of their own; what waits is bounded in
//! bytes.

mod catalogue;
pub mod days;
mod intake;
mod numeric;
mod write;
mod writer;

pub(super) use catalogue::metrics;
pub use days::Kept;
pub use intake::{Batch, Counts, Intake, Options, Refused};
pub use writer::Writer;
