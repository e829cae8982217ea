//! Configurations: the sparse state of a flag in one environment. A flag without one is off.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::audit::{self, Record};
use super::environments::{Address, Environment};
use super::error::{Entity, Error};
use super::flags::FlagRow;
use super::journal::{Item, Journal};
use super::lock::{self, Locked, LockedEnvironment, Scope};
use super::mutation::{Mutation, Outcome, Versioned, Written, set};
use super::page::{check_etag, etag};
use super::{Store, columns, pipeline, rows};
use crate::domain::check::{self, Checked};
use crate::domain::flag::{Configuration, Definition};
use crate::domain::form::{self, ItemId, Kind};
use crate::domain::graph::Graph;
use crate::domain::invalid::Violations;
use crate::domain::{draft, key, limits};

/// Flags by their keys, with one environment's configurations.
const FIND: &str = "
    select f.id, f.key, f.form, f.archived_at, c.form as configuration_form, c.version as configuration_version,
        c.updated_at as configuration_updated_at
    from projects p
    join flags f on f.project_id = p.id
    left join environments e on e.project_id = p.id and e.key = $2
    left join flag_configurations c on c.environment_id = e.id and c.flag_id = f.id
    where p.key = $1 and f.key = any($3::text[])";
const UPSERT: &str = "
    insert into flag_configurations (
        project_id, environment_id, flag_id, form, enabled, rules, default_serve, salt, prerequisites, version, updated_at)
    select $1::bigint, $2::bigint, n.flag_id, n.form, n.enabled, n.rules, n.default_serve, n.salt, n.prerequisites, $3::bigint,
        $4::timestamptz
    from unnest($5::bigint[], $6::bytea[], $7::boolean[], $8::json[], $9::json[], $10::text[], $11::json[])
        as n (flag_id, form, enabled, rules, default_serve, salt, prerequisites)
    on conflict (environment_id, flag_id) do update
    set form = excluded.form, enabled = excluded.enabled, rules = excluded.rules, default_serve = excluded.default_serve,
        salt = excluded.salt, prerequisites = excluded.prerequisites, version = excluded.version,
        updated_at = excluded.updated_at";
/// The links of flags whose dependencies changed go, and come anew: statements of their own, since joined ones would not see
/// what the other did.
const UNLINK_PREREQUISITES: &str = "
    delete from flag_prerequisites where environment_id = $1 and flag_id = any($2::bigint[])";
const UNLINK_SEGMENTS: &str = "
    delete from flag_segments where environment_id = $1 and flag_id = any($2::bigint[])";
const LINK_PREREQUISITES: &str = "
    insert into flag_prerequisites (project_id, environment_id, flag_id, prerequisite_id)
    select $1::bigint, $2::bigint, n.flag_id, f.id
    from unnest($3::bigint[], $4::text[]) as n (flag_id, key)
    join flags f on f.project_id = $1 and f.key = n.key";
const LINK_SEGMENTS: &str = "
    insert into flag_segments (project_id, environment_id, flag_id, segment_id)
    select $1::bigint, $2::bigint, n.flag_id, s.id
    from unnest($3::bigint[], $4::text[]) as n (flag_id, key)
    join segments s on s.project_id = $1 and s.key = n.key";

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
            update(transaction, mutation, at, flag, patch, etag).await
        })
        .await
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
            toggle(transaction, mutation, at, toggles).await
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
        let found = pipeline::one(&client, query).await?;
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

impl ConfigurationRow {
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

/// A configuration before and after.
struct Edit {
    before: ConfigurationRow,
    after: Configuration,
}

/// A configuration after the edit; if it differs, with what it was and its new form.
struct Edited {
    row: ConfigurationRow,
    written: Option<(Configuration, Bytes)>,
}

async fn update(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    flag: &key::Flag,
    patch: ConfigurationPatch,
    etag: &str,
) -> Result<Written<FlagConfiguration>, Error> {
    let (locked, found) = find(transaction, mutation, at, &[flag.as_str()]).await?;
    let environment = locked.environment(at.environment)?;
    let row = found.first().ok_or_else(|| Error::not_found(Entity::Flag, flag))?;
    let before = from_row(row, &environment.environment, rows::get(row, "id")?, flag)?;
    check_etag(
        etag,
        &before.configuration.etag,
        Entity::FlagConfiguration,
        flag.as_str(),
    )?;
    if is_archived(row)? {
        return Err(Error::Blocked {
            entity: Entity::Flag,
            key: flag.to_string(),
            description: "is archived".to_owned(),
        });
    }
    let definition = form::read_definition(rows::get(row, "form")?).map_err(|error| rows::corrupt("form", error))?;
    let around = surroundings(definition);
    let checked = patched(&before.configuration.configuration, patch, &around.borrow());
    let Checked { value: after, warnings } = checked.map_err(|violations| violations.below("configuration"))?;

    let action = "flag_configuration.update";
    let written = write(
        transaction,
        mutation,
        &locked,
        environment,
        action,
        vec![Edit { before, after }],
    )
    .await?;
    let written = written.try_map(|configurations| {
        let only = configurations.into_iter().next();
        only.ok_or_else(|| Error::not_found(Entity::Flag, flag))
    })?;
    Ok(written.with_warnings(warnings))
}

/// The configuration as the patch makes it, or everything that is wrong with that.
fn patched(
    before: &Configuration,
    patch: ConfigurationPatch,
    around: &check::Surroundings<'_>,
) -> Result<Checked<Configuration>, Violations> {
    let ConfigurationPatch {
        enabled,
        prerequisites,
        rules,
        default,
        salt,
        strict,
    } = patch;
    let mut after = draft::Configuration::from(before);
    set(&mut after.enabled, enabled);
    set(&mut after.prerequisites, prerequisites);
    set(&mut after.rules, rules);
    set(&mut after.default, default);
    set(&mut after.salt, salt);
    let checked = check::configuration(&after, around)?;
    let checked = if strict { checked.strictly()? } else { checked };
    Ok(checked.below("configuration"))
}

/// What a configuration depends on.
struct Surroundings {
    flag: Definition,
    flags: HashMap<String, Definition>,
    prerequisites: Graph,
    segments: HashSet<String>,
}

impl Surroundings {
    fn borrow(&self) -> check::Surroundings<'_> {
        check::Surroundings {
            flag: &self.flag,
            flags: &self.flags,
            prerequisites: &self.prerequisites,
            segments: &self.segments,
        }
    }
}

/// What the configuration of a flag depends on.
fn surroundings(flag: Definition) -> Surroundings {
    Surroundings {
        flag,
        flags: HashMap::new(),
        prerequisites: Graph::new(),
        segments: HashSet::new(),
    }
}

async fn toggle(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    toggles: &[Toggle],
) -> Result<Written<Vec<FlagConfiguration>>, Error> {
    let keys: Vec<_> = toggles.iter().map(|toggle| toggle.flag.as_str()).collect();
    let (locked, found) = find(transaction, mutation, at, &keys).await?;
    let environment = locked.environment(at.environment)?;
    let edits = check_toggles(toggles, &found, &environment.environment)?;
    let action = "flag_configuration.toggle";
    write(transaction, mutation, &locked, environment, action, edits).await
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

fn check_toggles(toggles: &[Toggle], found: &[Row], environment: &Environment) -> Result<Vec<Edit>, Error> {
    let mut violations = Violations::new();
    if toggles.is_empty() {
        violations.add("toggles", "is empty; name at least one flag");
    }
    if toggles.len() > limits::TOGGLES {
        violations.add(
            "toggles",
            format!("has {} entries; the limit is {}", toggles.len(), limits::TOGGLES),
        );
        return Err(violations.into());
    }
    let mut by_key = HashMap::new();
    for row in found {
        by_key.insert(rows::get::<&str>(row, "key")?, row);
    }
    let mut seen = HashSet::new();
    let mut edits = Vec::with_capacity(toggles.len());
    for (n, toggle) in toggles.iter().enumerate() {
        let field = format!("toggles[{n}].flag");
        if !seen.insert(&toggle.flag) {
            violations.add(field, format!("names {} a second time", toggle.flag));
            continue;
        }
        match by_key.get(toggle.flag.as_str()) {
            None => violations.add(
                field,
                format!("names {}, which is not a flag of the project", toggle.flag),
            ),
            Some(row) if is_archived(row)? => {
                violations.add(field, format!("names {}, which is archived", toggle.flag));
            }
            Some(row) => edits.push(toggled(row, environment, toggle)?),
        }
    }
    violations.or(edits).map_err(Error::from)
}

fn toggled(row: &Row, environment: &Environment, toggle: &Toggle) -> Result<Edit, Error> {
    let before = from_row(row, environment, rows::get(row, "id")?, &toggle.flag)?;
    let after = Configuration {
        enabled: toggle.enabled,
        ..before.configuration.configuration.clone()
    };
    Ok(Edit { before, after })
}

fn is_archived(row: &Row) -> Result<bool, Error> {
    Ok(rows::get::<Option<Timestamp>>(row, "archived_at")?.is_some())
}

/// Writes what differs, as one revision. A configuration that was never written and says nothing stays unwritten.
async fn write(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    locked: &Locked,
    environment: &LockedEnvironment,
    action: &'static str,
    edits: Vec<Edit>,
) -> Result<Written<Vec<FlagConfiguration>>, Error> {
    let (revision, now) = (environment.next_revision(), locked.now);
    let mut journal = Journal::new(mutation, locked);
    let mut items = Vec::new();
    // Every configuration in the order of the edits.
    let mut edited = Vec::with_capacity(edits.len());
    for Edit { before, after } in edits {
        if before.configuration.configuration == after {
            edited.push(Edited {
                row: before,
                written: None,
            });
            continue;
        }
        let form = Bytes::from(form::write_configuration(&after));
        let mut row = before.clone();
        row.configuration.configuration = after;
        row.write(&environment.environment, revision, now);
        journal.record(record(action, &before, &row.configuration)?);
        items.push(item(&row.configuration.flag, revision, Some(form.clone())));
        edited.push(Edited {
            row,
            written: Some((before.configuration.configuration, form)),
        });
    }
    let (mut columns, mut links) = (columns::Configurations::default(), columns::Links::default());
    for Edited { row, written } in &edited {
        if let Some((before, form)) = written {
            let configuration = &row.configuration.configuration;
            columns.push(row.flag_id, configuration, form);
            links.push(row.flag_id, before, configuration);
        }
    }
    let written = if items.is_empty() {
        Written::unchanged(())
    } else {
        journal.change(environment, items);
        let (project, environment) = (locked.project.id, environment.environment.id.0);
        let upsert: pipeline::Query<'_> = (
            UPSERT,
            &[
                &project,
                &environment,
                &rows::to_sql(revision),
                &now,
                &columns.flag_ids,
                &columns.forms,
                &columns.enabled,
                &columns.rules,
                &columns.default_serves,
                &columns.salts,
                &columns.prerequisites,
            ],
        );
        let unlink: &[&(dyn ToSql + Sync)] = &[&environment, &links.changed];
        let (prerequisites, segments) = (&links.prerequisites, &links.segments);
        let link: [pipeline::Query<'_>; 4] = [
            (UNLINK_PREREQUISITES, unlink),
            (UNLINK_SEGMENTS, unlink),
            (
                LINK_PREREQUISITES,
                &[&project, &environment, &prerequisites.0, &prerequisites.1],
            ),
            (LINK_SEGMENTS, &[&project, &environment, &segments.0, &segments.1]),
        ];
        let link = if links.changed.is_empty() { &[][..] } else { &link };
        journal.write(transaction, &[&[upsert], link].concat(), ()).await?
    };
    written.try_map(|()| Ok(edited.into_iter().map(|edited| edited.row.configuration).collect()))
}

fn record(action: &'static str, before: &ConfigurationRow, after: &FlagConfiguration) -> Result<Record, Error> {
    Ok(Record {
        action,
        entity: Entity::FlagConfiguration,
        key: after.flag.to_string(),
        project: after.project.to_string(),
        environment: after.environment.to_string(),
        before: before.version.map(|_| audit::json(&before.configuration)).transpose()?,
        after: Some(audit::json(after)?),
    })
}
