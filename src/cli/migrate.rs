//! `halyard migrate`: brings the database's schema up to date.

use super::database::Opened;
use crate::config::Migrate;
use crate::store;

/// Migrates, and says what was applied.
pub async fn run(migrate: Migrate) -> anyhow::Result<()> {
    let Migrate { database } = migrate;
    let database = Opened::open(database).await?;
    let migrated = store::migrate::run(&database.target).await;
    database.close().await?;
    match migrated?.as_slice() {
        [] => super::say("The schema is up to date."),
        versions => super::say(&format!("Applied the migrations {versions:?}.")),
    }
    Ok(())
}
