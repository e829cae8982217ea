//! What a world is made of, as each fault wants it.

use std::time::Duration;

use super::writer::DEADLINE;

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    pub replicas: usize,
    /// The first so many of the template's.
    pub environments: usize,
    /// Recorders of each environment, each with its own connection.
    pub recorders: usize,
    /// Recorders of each environment that share a connection per replica.
    pub sharing_recorders: usize,
    /// Writers of each environment.
    pub writers: usize,
    /// Everybody writes through this replica, so that the others learn of it by notifications and polls alone. `None`: through any.
    pub write_through: Option<usize>,
    /// What a writer waits between two writes.
    pub pause: Duration,
    /// How long a write to the first environment may take.
    pub deadline_of_first: Duration,
    /// Settings of PostgreSQL, such as `max_connections=30`.
    pub postgres: &'static [&'static str],
    /// Further arguments of `halyard serve`.
    pub arguments: &'static [&'static str],
    /// What heartbeats may be off by. More where replicas or their clients' connections are held up.
    pub heartbeat_tolerance: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            replicas: 2,
            environments: 2,
            recorders: 3,
            sharing_recorders: 2,
            writers: 2,
            write_through: None,
            pause: Duration::from_millis(10),
            deadline_of_first: DEADLINE,
            postgres: &[],
            arguments: &[],
            heartbeat_tolerance: Duration::from_secs(1),
        }
    }
}
