//! Bringing the schema up to date.

use refinery::error::Kind;
use tokio_postgres::Client;

use super::connect::{self, Target};
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
        "the database's schema has migration {version}, which this Halyard does not know: a newer version has migrated it. Start \
         that version, or a newer one; the way back is a backup from before (docs/database.md)"
    )]
    Newer {
        /// The first that is not known.
        version: i64,
    },
    /// One of ours is missing, and a later one is there.
    #[error(
        "the database's schema lacks migration {missing}, and has {last}, which comes after it: nothing is applied out of turn, and the \
         schema cannot be trusted. The way back is a backup (docs/database.md)"
    )]
    Gap {
        /// The first that is missing.
        missing: i64,
        /// The last that is there.
        last: i64,
    },
    /// It is not migrated, and must not be now.
    #[error("the database{}, and this Halyard needs {needed}; run `halyard migrate` first, or start with --migrate at-start", at(*.version))]
    Older {
        /// The version found. `None`: there is no schema.
        version: Option<i64>,
        /// The version needed.
        needed: i64,
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
pub async fn run(target: impl Into<Target>) -> Result<Vec<i64>, Error> {
    let (mut client, connection) = connect::dedicated(&target.into()).await?;
    let driver = tokio::spawn(connection);
    let applied = locked(&mut client).await;
    // Closing the connection gives the lock back.
    drop(client);
    let _ = driver.await;
    applied
}

fn at(version: Option<i64>) -> String {
    match version {
        Some(version) => format!("'s schema is at version {version}"),
        None => " has no schema of Halyard's".to_owned(),
    }
}

/// Refuses every schema but the one that this version needs. Changes nothing.
pub async fn check(target: impl Into<Target>) -> Result<(), Error> {
    let (client, connection) = connect::dedicated(&target.into()).await?;
    let driver = tokio::spawn(connection);
    let checked = compare(&client).await;
    drop(client);
    let _ = driver.await;
    checked
}

async fn compare(client: &Client) -> Result<(), Error> {
    connect::check_version(client).await?;
    let known = embedded::migrations::runner();
    let known = known.get_migrations();
    let needed = known.iter().map(refinery::Migration::version).max().unwrap_or_default();
    let history = "select to_regclass('refinery_schema_history') is not null as there";
    let history = client.query_one(history, &[]).await.map_err(StoreError::from)?;
    if !history.try_get("there").map_err(StoreError::from)? {
        return Err(Error::Older { version: None, needed });
    }
    let applied = "select version::bigint as version, checksum from refinery_schema_history order by version";
    let mut last = None;
    let mut there = Vec::new();
    for row in client.query(applied, &[]).await.map_err(StoreError::from)? {
        let version: i64 = row.try_get("version").map_err(StoreError::from)?;
        let checksum: String = row.try_get("checksum").map_err(StoreError::from)?;
        match known.iter().find(|migration| migration.version() == version) {
            None => return Err(Error::Newer { version }),
            Some(migration) if migration.checksum().to_string() != checksum => {
                return Err(Error::Divergent { version });
            }
            Some(_) => {
                last = Some(version);
                there.push(version);
            }
        }
    }
    let missing = known.iter().map(refinery::Migration::version);
    let missing = missing.filter(|version| !there.contains(version)).min();
    match (missing, last) {
        (Some(missing), Some(last)) if missing < last => Err(Error::Gap { missing, last }),
        (Some(_), _) => Err(Error::Older { version: last, needed }),
        (None, _) => Ok(()),
    }
}

async fn locked(client: &mut Client) -> Result<Vec<i64>, Error> {
    connect::check_version(client).await?;
    let statement = "select pg_advisory_lock($1)";
    client.execute(statement, &[&LOCK]).await.map_err(StoreError::from)?;
    let report = match embedded::migrations::runner().run_async(client).await {
        Ok(report) => report,
        Err(error) => return Err(explain(client, error).await),
    };
    let applied = report.applied_migrations().iter();
    Ok(applied.map(refinery::Migration::version).collect())
}

async fn explain(client: &Client, error: refinery::Error) -> Error {
    match error.kind() {
        // Theirs that we do not have, or ours that they do not have although they have later ones; which ones it does not say.
        Kind::MissingVersion(_) => match compare(client).await {
            Err(explained) => explained,
            Ok(()) => Error::Failed(error),
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
