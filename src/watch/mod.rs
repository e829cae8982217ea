//! From hints to streams: one immutable state per environment, and the streams that follow it.
//!
//! A [`source`] sends events; the [`Hub`] applies them, alone and in order, and publishes for each environment its newest
//! [`State`]. Everything else reads states: evaluations, and [`Subscription`]s, which lead clients from the state that they
//! hold to the newest.
//!
//! | file | what |
//! |---|---|
//! | `source` | what feeds the hub |
//! | `hub`, `environment`, `bell` | what is held, and how those are told who wait for it to change |
//! | `state`, `item`, `ring` | a state as a value, and the revisions that led to it |
//! | `token`, `connect` | where a client stands, and what it is answered: pure |
//! | `answers`, `age` | what a stream of answers is sent, and whether what answers has become too old |
//! | `ahead` | clients that know more than this replica |
//! | `request`, `subscription`, `step`, `credential` | a stream |
//! | `gate` | whose turn it is to be sent a snapshot |
//! | `open` | the streams that there are, and those that got stuck |
//! | `propagation` | how far the streams have come |
//! | `counts`, `latency` | what is counted of all that |
//! | `answered` | what is counted of evaluations |
//! | `message`, `options` | what a stream says, and what can be set |
//!
//! Architecture invariants:
//!
//! - Nothing is ever queued for a stream. It is told to look, and pulls; a client that cannot keep up costs only itself.
//! - Whatever has to be seen together is one value behind one atomic swap.
//! - Nothing here knows proto, SQL or status codes. Messages carry cells ([`Encoded`]) in which the edge keeps what it encoded.

mod age;
mod ahead;
mod answered;
mod answers;
mod bell;
mod connect;
mod counts;
mod credential;
mod environment;
mod gate;
mod hub;
mod item;
mod latency;
mod malformed;
mod message;
mod open;
mod options;
mod propagation;
mod request;
mod ring;
pub mod source;
mod state;
mod step;
mod subscription;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod token;
mod unsettled;

pub use age::Age;
pub use answered::{Answered, Reasons};
pub use answers::{Part, Question};
pub use counts::{Begun, Counts, EndedStreams, Kinds, RefusedStreams, Snapshots};
pub use credential::StillValid;
pub use environment::{Environment, NotReached};
pub use gate::Gate;
pub use hub::{Hub, Status};
pub use item::{Change, Deletion, Encoded, EncodedStep, Item};
pub use latency::{BOUNDS as LATENCY_BOUNDS, Distribution, Latency, Sharded};
pub use message::{
    Begin, Commit, Goodbye, GoodbyeReason, Heartbeat, Intent, Message, Reason, Step, StreamId, UNKNOWN_STALENESS,
};
pub use open::{Client, Stream};
pub use options::Options;
pub use propagation::NotTaken;
pub use request::{End, Refused, Request, View};
pub use source::{Quality, Unreachable};
pub use state::State;
pub use subscription::Subscription;
pub use token::{Fingerprint, Shown, Token};
