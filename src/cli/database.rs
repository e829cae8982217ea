//! The database that a command works on: somebody's PostgreSQL, or a private one that lives as long as the command.

use anyhow::Context as _;

use crate::config::{Database, Embedded};
use crate::embedded::{Cluster, Options};
use crate::store::connect::{self, Target};

/// A database at hand.
pub struct Opened {
    /// How to connect to it.
    pub target: Target,
    cluster: Option<Cluster>,
}

impl Opened {
    /// Reaches somebody's PostgreSQL, or starts a private one.
    pub async fn open(database: Database) -> anyhow::Result<Self> {
        match database {
            Database::Url(target) => {
                let reached = connect::dedicated(&target).await.map(drop);
                reached.with_context(|| format!("no connection to {target}"))?;
                Ok(Self { target, cluster: None })
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
            target: connect::parse(&cluster.url()).context("the private server's URL")?,
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
