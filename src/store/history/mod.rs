//! What was: the change log read as history. Nothing here writes; a rollback is a configuration's new revision.
//!
//! | file | what |
//! |---|---|
//! | `revisions` | the revisions that changed a flag, newest first |
//! | `state` | the part of an environment's state as of a revision that some flags need |
//!
//! The log is whole from revision 1 on until a retention takes rows away, and then from its floor on (see
//! [`compaction`](super::compaction)): questions about what is gone are refused rather than answered wrongly.

mod revisions;
mod state;

use deadpool_postgres::GenericClient;
use jiff::Timestamp;

pub use revisions::{FlagChange, FlagRevision, Part};
pub use state::PastState;

use super::environments::Environment;
use super::error::{Entity, Error};
use super::{pipeline, rows};
use crate::domain::flag::Configuration;
use crate::domain::{form, key};

/// From where on the log is whole, how many revisions there are from there up to one, counted in the index, and when that one was
/// committed.
const KNOWN: &str = "
    select h.history_revision as floor,
        (
            select count(*) from changes c
            where c.environment_id = $1 and c.revision >= h.history_revision and c.revision <= $2
        ) as revisions,
        (select c.committed_at from changes c where c.environment_id = $1 and c.revision = $2) as committed_at
    from environment_heads h where h.environment_id = $1";
/// A flag's configuration as of a revision.
const CONFIGURATION: &str = "
    select form from change_items
    where environment_id = $1 and kind = 'flag_configuration' and key = $2 and revision <= $3
    order by revision desc limit 1";

/// When a revision was committed, if all that led to it is still there.
pub(super) async fn committed_at(
    client: &impl GenericClient,
    environment: &Environment,
    revision: u64,
) -> Result<Timestamp, Error> {
    if revision == 0 || revision > environment.revision {
        return Err(Error::not_found(Entity::Revision, revision));
    }
    let known: pipeline::Query<'_> = (KNOWN, &[&environment.id.0, &rows::to_sql(revision)]);
    let known = pipeline::one(client, known).await?;
    // Deleted a moment ago.
    let row = known
        .first()
        .ok_or_else(|| Error::not_found(Entity::Environment, &environment.key))?;
    let floor = rows::number(row, "floor")?;
    if revision < floor {
        return Err(gone(revision, floor));
    }
    let committed_at = rows::get::<Option<Timestamp>>(row, "committed_at")?;
    let whole = rows::number(row, "revisions")? == revision - floor.max(1) + 1;
    committed_at.filter(|_| whole).ok_or_else(|| Error::Blocked {
        entity: Entity::Revision,
        key: revision.to_string(),
        description: "cannot be rebuilt: rows of its history are missing".to_owned(),
    })
}

/// A revision before the floor.
fn gone(revision: u64, floor: u64) -> Error {
    Error::Blocked {
        entity: Entity::Revision,
        key: revision.to_string(),
        description: format!(
            "is older than the history that is kept, which begins at revision {floor}; ask for that one or a later one, or keep \
             more (--history-retention)"
        ),
    }
}

/// A flag's configuration as of a revision; off without rules if it had none.
pub(super) async fn configuration_at(
    client: &impl GenericClient,
    environment: &Environment,
    flag: &key::Flag,
    revision: u64,
) -> Result<Configuration, Error> {
    committed_at(client, environment, revision).await?;
    let revision = rows::to_sql(revision);
    let query: pipeline::Query<'_> = (CONFIGURATION, &[&environment.id.0, &flag.as_str(), &revision]);
    let found = pipeline::one(client, query).await?;
    let form = match found.first() {
        Some(row) => rows::get::<Option<&[u8]>>(row, "form")?,
        None => None,
    };
    form.map_or_else(|| Ok(Configuration::default()), form::read_configuration)
        .map_err(|_| Error::Blocked {
            entity: Entity::Revision,
            key: revision.to_string(),
            description: "cannot be gone back to: the configuration was edited by hand and cannot be read".to_owned(),
        })
}
