//! How the store reaches PostgreSQL: the pools, and connections of one's own.
//!
//! [`Target`] is a connection string, understood: [`text`] reads it, [`tls`] makes what encrypts, [`malformed`] and [`failure`] say
//! what is wrong with the one and with the other. [`attempt`] connects, everywhere, and for so long only; [`begun`] does it for the
//! pools.

mod attempt;
mod begun;
mod failure;
mod malformed;
mod target;
mod text;
mod tls;

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, QueueMode, RecyclingMethod, Runtime};
use tokio_postgres::{Client, Connection, Socket};

pub use failure::Failure;
pub use malformed::Malformed;
pub use target::Target;
pub(super) use target::Waits;
pub use tls::{Stream, Tls};

use begun::Begun;

use super::assignments;
use super::error::{Cause, Error};
use super::pool::{Pool, Pools};

/// The oldest server that works: `xid8` columns and their functions are in it.
const OLDEST_VERSION: i32 = 140_000;
/// How long anyone waits for a connection, one of the pool's or a new one, at each address and unless the connection string says how
/// long: with PostgreSQL away, a write fails quickly.
const PATIENCE: Duration = Duration::from_secs(2);
/// After so long without a statement inside a transaction, PostgreSQL ends it: a process that hangs keeps no locks.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);
/// After so long without an answer to what was sent, the connection counts as lost.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);

/// Connections of the feed at most: two for reading states, one for polls, notifications and answers between them.
const FEED_CONNECTIONS: usize = 3;

/// How to reach PostgreSQL.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is, as whom, and how encrypted. Its `Debug` leaves the password out.
    pub target: Target,
    /// Connections at most, besides those of the feed. Small is fast: writers of one environment wait for each other anyway.
    pub pool_size: usize,
    /// How long a statement may take, waiting for locks included.
    pub statement_timeout: Duration,
    /// How assignments of experiments are kept.
    pub assignments: assignments::Options,
    /// The pools that are made from these settings, for whoever wants to know how they are doing.
    pub pools: Pools,
}

impl Settings {
    /// The usual settings for a server.
    pub fn new(target: impl Into<Target>) -> Self {
        Self {
            target: target.into(),
            pool_size: 8,
            statement_timeout: Duration::from_secs(10),
            assignments: assignments::Options::default(),
            pools: Pools::default(),
        }
    }
}

/// Reads a connection string; see [`Target::parse`].
pub fn parse(text: &str) -> Result<Target, Malformed> {
    Target::parse(text)
}

/// A connection of its own, outside the pool. The second part has to be polled for the first to work.
pub async fn dedicated(target: &Target) -> Result<(Client, Connection<Socket, Stream>), Error> {
    Ok(target.connect().await?)
}

/// A pool, by what it is for. Connects to nothing yet.
pub(super) fn pool(name: &'static str, settings: &Settings) -> Result<Pool, Error> {
    queued_pool(name, settings, QueueMode::Fifo)
}

fn queued_pool(name: &'static str, settings: &Settings, queue_mode: QueueMode) -> Result<Pool, Error> {
    let mut config = settings.target.config().clone();
    let timeouts = format!(
        "-c statement_timeout={} -c idle_in_transaction_session_timeout={}",
        settings.statement_timeout.as_millis(),
        IDLE_IN_TRANSACTION.as_millis()
    );
    let options = match config.get_options() {
        Some(given) => format!("{given} {timeouts}"),
        None => timeouts,
    };
    config.options(options);
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let begun = Begun::new(settings.target.tls().clone());
    // Connecting has bounds of its own.
    let pool = deadpool_postgres::Pool::builder(Manager::from_connect(config, begun, recycling))
        .max_size(settings.pool_size)
        .queue_mode(queue_mode)
        .wait_timeout(Some(PATIENCE))
        .recycle_timeout(Some(PATIENCE))
        .runtime(Runtime::Tokio1)
        .build();
    let pool = pool.map_err(|error| Error::Bug(error.into()))?.into();
    settings.pools.add(name, &pool);
    Ok(pool)
}

/// A pool for the feed alone, so that writers which wait for each other do not keep changes and revocations from spreading. The
/// feed has bounds of its own for how long it waits; PostgreSQL only ends what would take longer than the longest of them.
/// Connects to nothing yet.
pub fn feed_pool(settings: &Settings, longest: Duration) -> Result<Pool, Error> {
    let mut settings = settings.clone();
    settings.statement_timeout = settings.statement_timeout.max(longest);
    settings.target = settings.target.named("halyard feed");
    settings.pool_size = FEED_CONNECTIONS;
    // The session that was used last has what it needs at hand: many small questions in turn cost PostgreSQL less of one than of three.
    queued_pool("feed", &settings, QueueMode::Lifo)
}

/// Connections for first answers of experiments alone, so that no request of administrators' keeps them waiting for one. What they
/// ask has an index, and a plan that was made while the tables were small must not read them whole when they have grown. Nor is there
/// a better plan for one lot than for another: to look for it would take longer than to store a small one.
pub(super) fn assignment_pool(settings: &Settings) -> Result<Pool, Error> {
    const PLANS: &str =
        "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c plan_cache_mode=force_generic_plan";
    // Whatever the server's default is: what another replica stored meanwhile must be no conflict.
    const ISOLATION: &str = r"-c default_transaction_isolation=read\ committed";
    let mut settings = settings.clone();
    let given = settings.target.config().get_options().unwrap_or_default();
    let options = format!("{given} {PLANS} {ISOLATION}");
    settings.target.config_mut().options(options.trim_start());
    settings.target = settings.target.named("halyard assignments");
    settings.statement_timeout = Duration::from_secs(5);
    settings.pool_size = assignments::CONNECTIONS;
    pool("assignments", &settings)
}

/// Refuses a server that is too old.
pub(super) async fn check_version(client: &Client) -> Result<(), Error> {
    let row = client
        .query_one("select current_setting('server_version_num')::integer as version", &[])
        .await?;
    match row.try_get("version")? {
        version if version < OLDEST_VERSION => Err(Error::Unavailable(Cause::Version(version))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
