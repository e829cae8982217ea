//! Configurations: the sparse state of a flag in one environment. A flag without one is off.

mod edit;
mod surroundings;
mod toggle;
mod write;

use bytes::Bytes;
use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

pub(super) use write::{LINK_PREREQUISITES, LINK_SEGMENTS, UNLINK_PREREQUISITES, UNLINK_SEGMENTS, UPSERT, record};

use super::environments::{Address, Environment};
use super::error::{Entity, Error};
use super::flags::FlagRow;
use super::journal::Item;
use super::lock::{self, Locked, LockedEnvironment, Scope};
use super::mutation::{Mutation, Outcome, Versioned, Written};
use super::page::etag;
use super::{Store, pipeline, rows};
use crate::domain::check::Checked;
use crate::domain::flag::Configuration;
use crate::domain::form::{self, ItemId, Kind};
use crate::domain::{draft, key};

/// Flags by their keys, with one environment's configurations.
const FIND: &str = "
    select f.id, f.key, f.form, f.archived_at, c.form as configuration_form, c.version as configuration_version,
        c.updated_at as configuration_updated_at
    from projects p
    join flags f on f.project_id = p.id
    left join environments e on e.project_id = p.id and e.key = $2
    left join flag_configurations c on c.environment_id = e.id and c.flag_id = f.id
    where p.key = $1 and f.key = any($3::text[])";
/// What stands for the version in the etag of a configuration that was never written; versions begin at 1.
const UNWRITTEN: i64 = 0;

/// A flag's state in one environment. What serialises is what audit entries keep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlagConfiguration {
    /// Its project.
    #[serde(skip)]
    pub project: key::Project,
    /// The environment.
    #[serde(skip)]
    pub environment: key::Environment,
    /// The flag.
    pub flag: key::Flag,
    /// The state; off if it was never written.
    #[serde(flatten)]
    pub configuration: Configuration,
    /// When it was last changed. `None`: it was never written.
    #[serde(skip)]
    pub updated_at: Option<Timestamp>,
    /// Changes with every change; one that was never written has one too. Empty: nothing was written, only validated.
    #[serde(skip)]
    pub etag: String,
}

/// What to change of a configuration, unchecked. `None`: leave it.
#[derive(Debug, Clone, Default)]
pub struct ConfigurationPatch {
    /// Whether the flag is on.
    pub enabled: Option<bool>,
    /// All prerequisites, in their order.
    pub prerequisites: Option<Vec<draft::Prerequisite>>,
    /// All rules, in their order.
    pub rules: Option<Vec<draft::Rule>>,
    /// Served when no rule holds; `Some(None)`: the flag's default variant.
    pub default: Option<Option<draft::Serve>>,
    /// What splits are salted with; `Some(None)`: the flag's key.
    pub salt: Option<Option<String>>,
    /// Whether what is odd about it is refused as if it were wrong.
    pub strict: bool,
}

/// One flag's switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toggle {
    /// Which flag.
    pub flag: key::Flag,
    /// Whether it is to be on.
    pub enabled: bool,
}

/// A flag's configuration as it is stored, or as it would be.
#[derive(Clone)]
pub(super) struct ConfigurationRow {
    flag_id: i64,
    /// Of a configuration that was written.
    version: Option<u64>,
    pub configuration: FlagConfiguration,
}

impl Versioned for FlagConfiguration {
    fn forget_etag(&mut self) {
        self.etag.clear();
    }
}

impl Store {
    /// Changes a flag's configuration.
    pub async fn update_configuration(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        flag: &key::Flag,
        patch: ConfigurationPatch,
        etag: &str,
        respond: impl FnOnce(&Written<FlagConfiguration>) -> Vec<u8>,
    ) -> Result<Outcome<FlagConfiguration>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            edit::update(transaction, mutation, at, flag, patch, etag).await
        })
        .await
    }

    /// Writes the configuration that a flag had as of a revision of the environment, if it still makes sense; off without rules
    /// if it had none.
    pub async fn rollback_configuration(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        flag: &key::Flag,
        revision: u64,
        etag: &str,
        respond: impl FnOnce(&Written<FlagConfiguration>) -> Vec<u8>,
    ) -> Result<Outcome<FlagConfiguration>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            edit::rollback(transaction, mutation, at, flag, revision, etag).await
        })
        .await
    }

    /// Checks a configuration as if it were written now; fields are below `draft`. An archived flag counts as unknown.
    pub async fn check_configuration(
        &self,
        environment: &Environment,
        flag: &key::Flag,
        draft: &draft::Configuration,
    ) -> Result<Checked<Configuration>, Error> {
        edit::check(&*self.reader().await?, environment, flag, draft).await
    }

    /// Turns flags of one environment on or off: all or none, one revision. Answers with the configurations in the order of the
    /// toggles.
    pub async fn toggle_flags(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        toggles: &[Toggle],
        respond: impl FnOnce(&Written<Vec<FlagConfiguration>>) -> Vec<u8>,
    ) -> Result<Outcome<Vec<FlagConfiguration>>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            toggle::toggle(transaction, mutation, at, toggles).await
        })
        .await
    }

    /// Reads a flag's configuration; off, with an etag that holds until it is first written, if it was never written.
    pub async fn get_configuration(&self, at: Address<'_>, flag: &key::Flag) -> Result<FlagConfiguration, Error> {
        let environment = self.get_environment(at).await?;
        let client = self.reader().await?;
        let query: pipeline::Query<'_> = (
            FIND,
            &[&at.project.as_str(), &environment.key.as_str(), &vec![flag.as_str()]],
        );
        let found = pipeline::one(&*client, query).await?;
        let row = found.first().ok_or_else(|| Error::not_found(Entity::Flag, flag))?;
        Ok(from_row(row, &environment, rows::get(row, "id")?, flag)?.configuration)
    }
}

/// The configuration in a row of a flag's.
pub(super) fn of_flag(row: &Row, environment: &Environment, flag: &FlagRow) -> Result<ConfigurationRow, Error> {
    from_row(row, environment, flag.id, &flag.flag.definition.key)
}

fn from_row(row: &Row, environment: &Environment, flag_id: i64, flag: &key::Flag) -> Result<ConfigurationRow, Error> {
    let mut found = ConfigurationRow {
        flag_id,
        version: None,
        configuration: FlagConfiguration {
            project: environment.project.clone(),
            environment: environment.key.clone(),
            flag: flag.clone(),
            configuration: Configuration::default(),
            updated_at: None,
            etag: etag([environment.id.0, flag_id, UNWRITTEN]),
        },
    };
    if let Some(form) = rows::get::<Option<&[u8]>>(row, "configuration_form")? {
        let configuration = form::read_configuration(form);
        found.configuration.configuration =
            configuration.map_err(|error| rows::corrupt("configuration_form", error))?;
        let version = rows::number(row, "configuration_version")?;
        found.write(environment, version, rows::get(row, "configuration_updated_at")?);
    }
    Ok(found)
}

/// The configuration of a flag, in a transaction that has its environment locked.
pub(super) async fn read(
    transaction: &Transaction<'_>,
    at: Address<'_>,
    environment: &Environment,
    flag: &key::Flag,
) -> Result<ConfigurationRow, Error> {
    let query: pipeline::Query<'_> = (
        FIND,
        &[&at.project.as_str(), &at.environment.as_str(), &vec![flag.as_str()]],
    );
    let found = pipeline::one(transaction, query).await?;
    let row = found.first().ok_or_else(|| Error::not_found(Entity::Flag, flag))?;
    from_row(row, environment, rows::get(row, "id")?, flag)
}

impl ConfigurationRow {
    /// The id of the flag.
    pub(super) fn flag_id(&self) -> i64 {
        self.flag_id
    }

    /// The same with another content, as the next revision of the environment writes it.
    pub(super) fn written(&self, configuration: Configuration, environment: &LockedEnvironment, at: Timestamp) -> Self {
        let mut after = self.clone();
        after.configuration.configuration = configuration;
        after.write(&environment.environment, environment.next_revision(), at);
        after
    }

    /// Notes that it was written, at this revision of the environment.
    fn write(&mut self, environment: &Environment, version: u64, at: Timestamp) {
        self.version = Some(version);
        self.configuration.updated_at = Some(at);
        self.configuration.etag = etag([environment.id.0, self.flag_id, rows::to_sql(version)]);
    }
}

/// The item of a configuration. `None`: it is deleted.
pub(super) fn item(flag: &key::Flag, version: u64, form: Option<Bytes>) -> Item {
    Item {
        id: ItemId {
            kind: Kind::FlagConfiguration,
            key: flag.clone().into(),
        },
        version,
        form,
    }
}

/// Locks the environment, and finds flags with their configurations in it.
async fn find(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    flags: &[&str],
) -> Result<(Locked, Vec<Row>), Error> {
    let reads: [pipeline::Query<'_>; 1] = [(FIND, &[&at.project.as_str(), &at.environment.as_str(), &flags])];
    let (locked, [found]) = lock::acquire(transaction, &mutation.caller, Scope::Environment(at), reads).await?;
    locked.require_change()?;
    Ok((locked, found))
}

fn is_archived(row: &Row) -> Result<bool, Error> {
    Ok(rows::get::<Option<Timestamp>>(row, "archived_at")?.is_some())
}
