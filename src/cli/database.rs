//! The database that a command works on: somebody's PostgreSQL, or a private one that lives as long as the command.

use anyhow::Context as _;
use tokio_postgres::config::Host;

use crate::config::{Database, Embedded};
use crate::embedded::{Cluster, Options};
use crate::store::connect;

/// A database at hand.
pub struct Opened {
    /// How to connect to it.
    pub config: tokio_postgres::Config,
    cluster: Option<Cluster>,
}

impl Opened {
    /// Reaches somebody's PostgreSQL, or starts a private one.
    pub async fn open(database: Database) -> anyhow::Result<Self> {
        match database {
            Database::Url(url) => {
                let config = connect::parse(url.expose()).context("the database URL")?;
                let reached = connect::dedicated(&config).await.map(drop);
                reached.with_context(|| format!("no connection to {}", place(&config)))?;
                Ok(Self { config, cluster: None })
            }
            Database::Embedded(embedded) => Self::start(embedded).await,
        }
    }

    /// Starts a private PostgreSQL, which starts again should it crash: meanwhile evaluations go on from memory.
    pub async fn start(embedded: Embedded) -> anyhow::Result<Self> {
        let Embedded {
            data_dir,
            postgres_bin_dir,
        } = embedded;
        let data_dir = data_dir.map_or_else(Options::default_data_dir, Ok)?;
        let mut options = Options::new(data_dir);
        options.binaries = postgres_bin_dir;
        options.restart_on_crash = true;
        let cluster = Cluster::start(options).await?;
        Ok(Self {
            config: connect::parse(&cluster.url()).context("the private server's URL")?,
            cluster: Some(cluster),
        })
    }

    /// The folder that holds the data of a private PostgreSQL.
    pub fn data_dir(&self) -> Option<&std::path::Path> {
        self.cluster.as_ref().map(Cluster::data_dir)
    }

    /// Stops a private PostgreSQL in good order.
    pub async fn close(self) -> anyhow::Result<()> {
        if let Some(cluster) = self.cluster {
            cluster.stop().await?;
        }
        Ok(())
    }
}

/// What to call a database in messages; its password is not in it.
fn place(config: &tokio_postgres::Config) -> String {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => format!("{host}:{port}"),
        Some(Host::Unix(folder)) => format!("{}/.s.PGSQL.{port}", folder.display()),
        None => config
            .get_hostaddrs()
            .first()
            .map_or_else(String::new, |address| format!("{address}:{port}")),
    };
    let user = config.get_user().unwrap_or_default();
    let database = config.get_dbname().unwrap_or(user);
    format!("PostgreSQL at {host}, database {database}, user {user}")
}
