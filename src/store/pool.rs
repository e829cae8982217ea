//! A pool of connections to PostgreSQL that counts who takes one, and for how long they wait; and all pools of a server, by name.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, PoolError};

use crate::trace;

/// Connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pool {
    connections: deadpool_postgres::Pool,
    waits: Arc<Waits>,
}

/// What was waited for a pool's connections.
#[derive(Debug, Default)]
struct Waits {
    taken: AtomicU64,
    failed: AtomicU64,
    waited_ns: AtomicU64,
}

/// How a pool is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Connections that may be open.
    pub limit: usize,
    /// Connections that are open.
    pub open: usize,
    /// Those of them that somebody has.
    pub in_use: usize,
    /// Who waits for one now.
    pub waiting: usize,
    /// Connections that were taken so far.
    pub taken: u64,
    /// Times that none could be taken in time.
    pub failed: u64,
    /// How long all of those have waited, connecting included.
    pub waited: Duration,
}

impl Pool {
    /// A connection, which goes back when it is dropped.
    pub async fn get(&self) -> Result<Object, PoolError> {
        let began = Instant::now();
        let taken = trace::within("connection", self.connections.get()).await;
        let waited = u64::try_from(began.elapsed().as_nanos()).unwrap_or_default();
        let counted = if taken.is_ok() {
            &self.waits.taken
        } else {
            &self.waits.failed
        };
        counted.fetch_add(1, Ordering::Relaxed);
        self.waits.waited_ns.fetch_add(waited, Ordering::Relaxed);
        taken
    }

    /// How it is doing.
    pub fn usage(&self) -> Usage {
        let status = self.connections.status();
        let Waits {
            taken,
            failed,
            waited_ns,
        } = &*self.waits;
        Usage {
            limit: status.max_size,
            open: status.size,
            in_use: status.size.saturating_sub(status.available),
            waiting: status.waiting,
            taken: taken.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
            waited: Duration::from_nanos(waited_ns.load(Ordering::Relaxed)),
        }
    }
}

impl From<deadpool_postgres::Pool> for Pool {
    fn from(connections: deadpool_postgres::Pool) -> Self {
        Self {
            connections,
            waits: Arc::default(),
        }
    }
}

impl Deref for Pool {
    type Target = deadpool_postgres::Pool;

    fn deref(&self) -> &deadpool_postgres::Pool {
        &self.connections
    }
}

/// Every pool that was made from the same settings, by what it is for.
#[derive(Debug, Clone, Default)]
pub struct Pools(Arc<Mutex<Vec<(&'static str, Pool)>>>);

impl Pools {
    /// Takes a pool in.
    pub(super) fn add(&self, name: &'static str, pool: &Pool) {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pools.push((name, pool.clone()));
    }

    /// How each is doing.
    pub fn usage(&self) -> Vec<(&'static str, Usage)> {
        let pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pools.iter().map(|(name, pool)| (*name, pool.usage())).collect()
    }
}
