//! How much notification slows writing down: the same toggles, as fast as PostgreSQL takes them, without anybody who listens or is
//! told, with a process that tells two replicas, and with streams on these besides.
//!
//! PostgreSQL and the replicas keep to one core, the writers to the other: what replicas read and send takes from PostgreSQL's
//! time, as on a small machine where all share it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use halyard::domain::change::EnvironmentId;
use halyard::store::feed::{Feed, Hints, Options};
use halyard::store::{Settings, Store, feed_pool};
use tokio_util::sync::CancellationToken;

use super::support::process::{CLIENT, SERVER, keep_to};
use super::support::{Result, seconds, setting, table};
use super::{Bench, WARM_UP};
