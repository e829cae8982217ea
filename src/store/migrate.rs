//! Bringing the schema up to date.

use refinery::error::Kind;
use tokio_postgres::{Client, Config};

use super::connect;
use super::error::Error as StoreError;

mod embedded {
    #![allow(missing_docs, reason = "generated code")]
    refinery::embed_migrations!("migrations");
}

/// Names the lock that keeps two instances from migrating at the same time: "halyard" in ASCII.
const LOCK: i64 = 0x68_616c_7961_7264;

/// Why the schema is not as this version needs it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL cannot be asked, or is too old.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A newer version has migrated it.
    #[error(
        "the database schema has version {version}, which this version of Halyard does not know; start a newer one"
    )]
    Newer {
        /// The version found.
        version: i64,
    },
    /// An applied migration is not the one that this version knows.
    #[error(
        "migration {version} was applied with other content than this version of Halyard holds; the schema cannot be trusted"
    )]
    Divergent {
        /// Which one.
        version: i64,
    },
    /// A migration failed, and was rolled back.
    #[error("a migration failed")]
    Failed(#[source] refinery::Error),
}

/// Applies what is missing, and returns the versions applied. Instances that start together wait for each other.
pub async fn run(config: &Config) -> Result<Vec<i64>, Error> {
    let (mut client, connection) = connect::dedicated(config).await?;
    let driver = tokio::spawn(connection);
    let applied = locked(&mut client).await;
    // Closing the connection gives the lock back.
    drop(client);
    let _ = driver.await;
    applied
}

async fn locked(client: &mut Client) -> Result<Vec<i64>, Error> {
    connect::check_version(client).await?;
    let statement = "select pg_advisory_lock($1)";
    client.execute(statement, &[&LOCK]).await.map_err(StoreError::from)?;
    let report = embedded::migrations::runner()
        .run_async(client)
        .await
        .map_err(explain)?;
    let applied = report.applied_migrations().iter();
    Ok(applied.map(refinery::Migration::version).collect())
}

fn explain(error: refinery::Error) -> Error {
    match error.kind() {
        Kind::MissingVersion(migration) => Error::Newer {
            version: migration.version(),
        },
        Kind::DivergentVersion(applied, _) => Error::Divergent {
            version: applied.version(),
        },
        Kind::InvalidName
        | Kind::InvalidVersion
        | Kind::RepeatedVersion(_)
        | Kind::InvalidMigrationPath(..)
        | Kind::ConfigError(_)
        | Kind::Connection(..)
        | Kind::InvalidMigrationFile(..) => Error::Failed(error),
    }
}
