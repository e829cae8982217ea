//! How the store reaches PostgreSQL: the connection string, the pool, and connections of one's own.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, QueueMode, RecyclingMethod, Runtime};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, NoTls, Socket};

use super::assignments;
use super::error::{Cause, Error};
use super::pool::{Pool, Pools};

/// The oldest server that works: `xid8` columns and their functions are in it.
const OLDEST_VERSION: i32 = 140_000;
/// How long anyone waits for a connection, a new one or one of the pool's: with PostgreSQL away, a write fails quickly.
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
    /// Where it is and as whom; see [`parse`]. Its `Debug` leaves the password out.
    pub config: Config,
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
    pub fn new(config: Config) -> Self {
        Self {
            config,
            pool_size: 8,
            statement_timeout: Duration::from_secs(10),
            assignments: assignments::Options::default(),
            pools: Pools::default(),
        }
    }
}

/// What is wrong with a connection string. Never shows any part of it: the password is in there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It cannot be read.
    #[error(
        "is not a connection string that can be read; write postgres://user:password@host:5432/database, with special \
         characters percent-encoded"
    )]
    Syntax,
    /// It does not say where.
    #[error("names no host; write postgres://user:password@host:5432/database")]
    Host,
    /// It asks for TLS.
    #[error("asks for TLS to PostgreSQL, which is not supported yet; use sslmode=disable or sslmode=prefer")]
    Tls,
}

/// Reads a connection string, `postgres://…` or `key=value …`, and adds what a service needs: a name, timeouts, keepalives.
pub fn parse(text: &str) -> Result<Config, Malformed> {
    if asks_for_tls(text) {
        return Err(Malformed::Tls);
    }
    let mut config: Config = text.parse().map_err(|_| Malformed::Syntax)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(Malformed::Host);
    }
    if !matches!(config.get_ssl_mode(), SslMode::Disable | SslMode::Prefer) {
        return Err(Malformed::Tls);
    }
    if config.get_application_name().is_none() {
        config.application_name("halyard");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(PATIENCE);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(UNACKNOWLEDGED);
    }
    config
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3);
    Ok(config)
}

/// Whether the string has options that only make sense with TLS; the driver would call them syntax errors.
fn asks_for_tls(text: &str) -> bool {
    let options = text.split(|c: char| c == '?' || c == '&' || c.is_whitespace());
    options.into_iter().any(|option| {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "sslmode" => !matches!(value.trim_matches('\''), "disable" | "prefer"),
            "sslcert" | "sslkey" | "sslrootcert" => true,
            _ => false,
        }
    })
}

/// A connection of its own, outside the pool. The second part has to be polled for the first to work.
pub async fn dedicated(config: &Config) -> Result<(Client, Connection<Socket, NoTlsStream>), Error> {
    Ok(config.connect(NoTls).await?)
}

/// A pool, by what it is for. Connects to nothing yet.
pub(super) fn pool(name: &'static str, settings: &Settings) -> Result<Pool, Error> {
    queued_pool(name, settings, QueueMode::Fifo)
}

fn queued_pool(name: &'static str, settings: &Settings, queue_mode: QueueMode) -> Result<Pool, Error> {
    let mut config = settings.config.clone();
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
    let pool = deadpool_postgres::Pool::builder(Manager::from_config(config, NoTls, recycling))
        .max_size(settings.pool_size)
        .queue_mode(queue_mode)
        .wait_timeout(Some(PATIENCE))
        .create_timeout(Some(PATIENCE))
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
    settings.config.application_name("halyard feed");
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
    let given = settings.config.get_options().unwrap_or_default();
    let options = format!("{given} {PLANS} {ISOLATION}");
    settings.config.options(options.trim_start());
    settings.config.application_name("halyard assignments");
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
mod tests {
    use super::*;

    fn refused(text: &str) -> Malformed {
        parse(text).unwrap_err()
    }

    #[test]
    fn tls_is_refused_by_name() {
        for mode in ["require", "verify-ca", "verify-full"] {
            assert_eq!(refused(&format!("postgres://u:p@h/d?sslmode={mode}")), Malformed::Tls);
            assert_eq!(refused(&format!("host=h sslmode={mode} user=u")), Malformed::Tls);
        }
        assert_eq!(refused("postgres://u@h/d?sslrootcert=/ca.pem"), Malformed::Tls);
        for mode in ["disable", "prefer"] {
            assert!(parse(&format!("postgres://u:p@h/d?sslmode={mode}")).is_ok());
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for text in [
            "postgres://u:hunter2@h:port/d",
            "hunter2",
            "postgres://u:hunter2@h/d?nonsense=1",
        ] {
            let error = refused(text);
            assert_eq!(error, Malformed::Syntax, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
        assert_eq!(refused("user=u dbname=d"), Malformed::Host);
    }

    #[test]
    fn what_a_service_needs_is_added_and_what_was_said_is_kept() {
        let config = parse("postgres://u@h/d").unwrap();
        assert_eq!(config.get_application_name(), Some("halyard"));
        assert_eq!(config.get_connect_timeout(), Some(&PATIENCE));
        let config = parse("postgres://u@h/d?connect_timeout=7&application_name=x").unwrap();
        assert_eq!(config.get_application_name(), Some("x"));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(7)));
    }
}
