//! Flags: the definition, once per project. A change of its form is a change of every environment.

mod held;
mod list;
mod table;
mod write;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use super::error::{Entity, Error, Flaw};
use super::mutation::{Mutation, Outcome, Versioned, Written};
use super::page::etag;
use super::{Store, pipeline, projects, rows};
use crate::domain::flag::{Definition, Lifecycle, Lifespan, Metadata};
use crate::domain::{draft, form, key};

pub(super) use list::any_case;
pub use list::{FlagFilter, FlagState};
pub(super) use table::INSERT_VARIANTS;

const FIND: &str = "
    select p.key as project, f.id, f.key, f.name, f.description, f.tags, f.owner, f.lifecycle, f.expected_removal_at, f.form,
        f.version, f.form_version, f.archived_at, f.created_at, f.updated_at
    from flags f join projects p on p.id = f.project_id
    where p.key = $1 and f.key = $2";

/// A flag. What serialises is what audit entries keep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flag {
    /// Its project.
    #[serde(skip)]
    pub project: key::Project,
    /// What can alter an answer.
    #[serde(flatten)]
    pub definition: Definition,
    /// What cannot.
    #[serde(flatten)]
    pub metadata: Metadata,
    /// When it was archived. `None`: it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived_at: Option<Timestamp>,
    /// When it was created.
    #[serde(skip)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[serde(skip)]
    pub updated_at: Timestamp,
    /// Changes with every change of the flag itself. Empty: nothing was written, only validated.
    #[serde(skip)]
    pub etag: String,
}

/// A flag to be, off in every environment.
#[derive(Debug, Clone)]
pub struct NewFlag {
    /// What can alter an answer.
    pub definition: Definition,
    /// What cannot.
    pub metadata: Metadata,
}

/// What to change of a flag, unchecked. `None`: leave it.
#[derive(Debug, Clone, Default)]
pub struct FlagPatch {
    /// For people.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// For people.
    pub tags: Option<Vec<String>>,
    /// Who looks after it.
    pub owner: Option<String>,
    /// How long it is meant to live. What becomes permanent has no date any more.
    pub lifespan: Option<Lifespan>,
    /// When it is expected to be removed; `Some(None)`: nobody says. Only for what is temporary.
    pub expected_removal: Option<Option<Timestamp>>,
    /// All variants, in their order.
    pub variants: Option<Vec<draft::Variant>>,
    /// Served while the flag is off; `Some(None)`: no value.
    pub off_variant: Option<Option<String>>,
    /// Served by an enabled configuration without a default; `Some(None)`: the off variant.
    pub default_variant: Option<Option<String>>,
    /// Whether client keys may evaluate it.
    pub client_visible: Option<bool>,
}

/// A flag as it is stored.
pub(super) struct FlagRow {
    pub id: i64,
    pub flag: Flag,
    /// The version of the definition's item.
    pub form_version: u64,
    version: i64,
}

impl Versioned for Flag {
    fn forget_etag(&mut self) {
        self.etag.clear();
    }
}

impl Store {
    /// Creates a flag, off in every environment.
    pub async fn create_flag(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        new: NewFlag,
        respond: impl FnOnce(&Written<Flag>) -> Vec<u8>,
    ) -> Result<Outcome<Flag>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            write::create(transaction, mutation, project, new).await
        })
        .await
    }

    /// Changes a flag. A variant that a configuration serves cannot be removed.
    pub async fn update_flag(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        flag: &key::Flag,
        patch: FlagPatch,
        etag: &str,
        respond: impl FnOnce(&Written<Flag>) -> Vec<u8>,
    ) -> Result<Outcome<Flag>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            write::update(transaction, mutation, project, flag, patch, etag).await
        })
        .await
    }

    /// Archives a flag: it leaves every environment's state; its rows are kept. An archived flag stays as it is.
    pub async fn archive_flag(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        flag: &key::Flag,
        etag: &str,
        respond: impl FnOnce(&Written<Flag>) -> Vec<u8>,
    ) -> Result<Outcome<Flag>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            write::archive(transaction, mutation, project, flag, etag).await
        })
        .await
    }

    /// Takes a flag out of the archive: it is back in every environment's state, with the configurations that it had. One that
    /// is not archived stays as it is.
    pub async fn restore_flag(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        flag: &key::Flag,
        etag: &str,
        respond: impl FnOnce(&Written<Flag>) -> Vec<u8>,
    ) -> Result<Outcome<Flag>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            write::restore(transaction, mutation, project, flag, etag).await
        })
        .await
    }

    /// Deletes a flag with its configurations; answers with what it was.
    pub async fn delete_flag(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        flag: &key::Flag,
        etag: &str,
        respond: impl FnOnce(&Written<Flag>) -> Vec<u8>,
    ) -> Result<Outcome<Flag>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            write::delete(transaction, mutation, project, flag, etag).await
        })
        .await
    }

    /// Reads a flag.
    pub async fn get_flag(&self, project: &key::Project, flag: &key::Flag) -> Result<Flag, Error> {
        let client = self.reader().await?;
        let query: pipeline::Query<'_> = (FIND, &[&project.as_str(), &flag.as_str()]);
        match pipeline::one(&*client, query).await?.first() {
            Some(row) => Ok(from_row(row)?.flag),
            None if projects::exists(&*client, project).await? => Err(Error::not_found(Entity::Flag, flag)),
            None => Err(Error::not_found(Entity::Project, project)),
        }
    }
}

/// Reads a flag with its project's key.
pub(super) fn from_row(row: &Row) -> Result<FlagRow, Error> {
    let (id, version) = (rows::get(row, "id")?, rows::get(row, "version")?);
    let definition = form::read_definition(rows::get(row, "form")?).map_err(|error| rows::corrupt("form", error))?;
    if definition.key.as_str() != rows::get::<&str>(row, "key")? {
        return Err(rows::corrupt("key", Flaw::Range));
    }
    Ok(FlagRow {
        id,
        form_version: rows::number(row, "form_version")?,
        version,
        flag: Flag {
            project: rows::parsed(row, "project", key::Project::new)?,
            definition,
            metadata: Metadata {
                name: rows::get(row, "name")?,
                description: rows::get(row, "description")?,
                tags: rows::get(row, "tags")?,
                owner: rows::get(row, "owner")?,
                lifecycle: lifecycle(row)?,
            },
            archived_at: rows::get(row, "archived_at")?,
            created_at: rows::get(row, "created_at")?,
            updated_at: rows::get(row, "updated_at")?,
            etag: etag([id, version]),
        },
    })
}

fn lifecycle(row: &Row) -> Result<Lifecycle, Error> {
    let lifespan = rows::named(row, "lifecycle", Lifespan::from_name)?;
    let expected_removal = rows::get(row, "expected_removal_at")?;
    Lifecycle::new(lifespan, expected_removal).map_err(|violations| rows::corrupt("expected_removal_at", violations))
}
