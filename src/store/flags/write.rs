//! Writing flags: under the lock of the whole project, since every environment holds every definition.

use bytes::Bytes;
use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::table::{self, Redefinition};
use super::{FIND, Flag, FlagPatch, FlagRow, NewFlag, from_row};
use crate::domain::access::Permission;
use crate::domain::change::EnvironmentId;
use crate::domain::flag::{Configuration, Definition, Metadata};
use crate::domain::form::{self, ItemId, Kind};
use crate::domain::invalid::Violations;
use crate::domain::rule::Serve;
use crate::domain::{check, draft, key, limits};
use crate::store::audit::{self, Record};
use crate::store::error::{Entity, Error};
use crate::store::journal::{Item, Journal};
use crate::store::lock::{self, Locked, LockedEnvironment, Scope};
use crate::store::mutation::{Mutation, Written, set};
use crate::store::page::{check_etag, etag};
use crate::store::{configurations, pipeline, rows};

const CONFIGURATIONS: &str = "
    select c.environment_id, c.form, c.version
    from flag_configurations c
    join flags f on f.id = c.flag_id
    join projects p on p.id = f.project_id
    where p.key = $1 and f.key = $2
    order by c.environment_id";
const COUNT: &str = "
    select count(*) as flags from flags f join projects p on p.id = f.project_id where p.key = $1";
const DELETE: &str = "delete from flags where id = $1";

pub(super) async fn create(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    new: NewFlag,
) -> Result<Written<Flag>, Error> {
    let NewFlag { definition, metadata } = new;
    let metadata = tidy(metadata);
    let key = definition.key.clone();
    let reads: [pipeline::Query<'_>; 2] = [
        (FIND, &[&project.as_str(), &key.as_str()]),
        (COUNT, &[&project.as_str()]),
    ];
    let (locked, [existing, counted]) =
        lock::acquire(transaction, &mutation.caller, Scope::Project(project), reads).await?;
    // Off everywhere, it still alters answers: what was unknown is now the off variant.
    locked.require_change()?;
    let definition = check_flag(&(&definition).into(), &metadata)?;
    if !existing.is_empty() {
        return Err(Error::AlreadyExists {
            entity: Entity::Flag,
            key: key.to_string(),
        });
    }
    let flags = counted.first().map(|row| rows::number(row, "flags")).transpose()?;
    if flags >= Some(limits::FLAGS as u64) {
        return Err(Error::LimitReached {
            entity: Entity::Flag,
            limit: limits::FLAGS,
        });
    }

    let form = Bytes::from(form::write_definition(&definition));
    let now = locked.now;
    let row = table::insert(transaction, &locked, &definition, &metadata, &form).await?;
    let version = rows::number(&row, "form_version")?;
    let flag = Flag {
        project: project.clone(),
        definition,
        metadata,
        archived_at: None,
        created_at: now,
        updated_at: now,
        etag: etag([rows::get(&row, "id")?, rows::get(&row, "version")?]),
    };
    let mut journal = Journal::new(mutation, &locked);
    for environment in &locked.environments {
        journal.change(environment, vec![definition_item(&flag, version, Some(form.clone()))]);
    }
    journal.record(record("flag.create", &flag.project, None, Some(&flag))?);
    journal.write(transaction, &[], flag).await
}

/// A flag under its locks, with its configurations.
struct Held {
    locked: Locked,
    row: FlagRow,
    configurations: Vec<HeldConfiguration>,
}

struct HeldConfiguration {
    environment: EnvironmentId,
    configuration: Configuration,
    version: u64,
}

async fn hold(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    flag: &key::Flag,
    permission: Permission,
) -> Result<Held, Error> {
    let reads: [pipeline::Query<'_>; 2] = [
        (FIND, &[&project.as_str(), &flag.as_str()]),
        (CONFIGURATIONS, &[&project.as_str(), &flag.as_str()]),
    ];
    let (locked, [found, configurations]) =
        lock::acquire(transaction, &mutation.caller, Scope::Project(project), reads).await?;
    locked.require(permission)?;
    let row = from_row(found.first().ok_or_else(|| Error::not_found(Entity::Flag, flag))?)?;
    let configurations = configurations
        .iter()
        .map(held_configuration)
        .collect::<Result<_, _>>()?;
    Ok(Held {
        locked,
        row,
        configurations,
    })
}

fn held_configuration(row: &Row) -> Result<HeldConfiguration, Error> {
    Ok(HeldConfiguration {
        environment: rows::environment_id(row, "environment_id")?,
        configuration: form::read_configuration(rows::get(row, "form")?)
            .map_err(|error| rows::corrupt("form", error))?,
        version: rows::number(row, "version")?,
    })
}

pub(super) async fn update(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    flag: &key::Flag,
    patch: FlagPatch,
    etag: &str,
) -> Result<Written<Flag>, Error> {
    let held = hold(transaction, mutation, project, flag, Permission::Change).await?;
    let Held { locked, row, .. } = &held;
    let before = &row.flag;
    check_etag(etag, &before.etag, Entity::Flag, flag.as_str())?;
    let after = patched(before, patch)?;
    if after.definition == before.definition && after.metadata == before.metadata {
        return Ok(Written::unchanged(after));
    }
    let mut journal = Journal::new(mutation, locked);
    let mut redefinition = None;
    if after.definition != before.definition {
        locked.require_change()?;
        held.refuse_lost_variants(&after.definition)?;
        let form = Bytes::from(form::write_definition(&after.definition));
        let form_version = locked.project.definition_changes + 1;
        if before.archived_at.is_none() {
            for environment in &locked.environments {
                let item = definition_item(before, form_version, Some(form.clone()));
                journal.change(environment, vec![item]);
            }
        }
        redefinition = Some(Redefinition { form, form_version });
    }
    write(transaction, journal, &held, "flag.update", after, redefinition).await
}

pub(super) async fn archive(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    flag: &key::Flag,
    etag: &str,
) -> Result<Written<Flag>, Error> {
    let held = hold(transaction, mutation, project, flag, Permission::Change).await?;
    held.locked.require_change()?;
    let before = &held.row.flag;
    check_etag(etag, &before.etag, Entity::Flag, flag.as_str())?;
    if before.archived_at.is_some() {
        return Ok(Written::unchanged(before.clone()));
    }
    let mut journal = Journal::new(mutation, &held.locked);
    held.leave_every_environment(&mut journal);
    let after = Flag {
        archived_at: Some(held.locked.now),
        ..before.clone()
    };
    write(transaction, journal, &held, "flag.archive", after, None).await
}

pub(super) async fn delete(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    flag: &key::Flag,
    etag: &str,
) -> Result<Written<Flag>, Error> {
    let held = hold(transaction, mutation, project, flag, Permission::Delete).await?;
    let before = held.row.flag.clone();
    check_etag(etag, &before.etag, Entity::Flag, flag.as_str())?;
    let mut journal = Journal::new(mutation, &held.locked);
    if before.archived_at.is_none() {
        held.leave_every_environment(&mut journal);
    }
    journal.record(record("flag.delete", project, Some(&before), None)?);
    journal.write(transaction, &[(DELETE, &[&held.row.id])], before).await
}

/// Writes the flag's row, and what was journalled of it.
async fn write(
    transaction: &Transaction<'_>,
    mut journal: Journal<'_>,
    held: &Held,
    action: &'static str,
    after: Flag,
    redefinition: Option<Redefinition>,
) -> Result<Written<Flag>, Error> {
    let Held { locked, row, .. } = held;
    let (id, version, now) = (row.id, row.version + 1, locked.now);
    let after = Flag {
        updated_at: now,
        etag: etag([id, version]),
        ..after
    };
    journal.record(record(action, &after.project, Some(&row.flag), Some(&after))?);
    let written = table::update(transaction, journal, locked, id, version, &after, redefinition).await?;
    written.try_map(|()| Ok(after))
}

impl Held {
    /// Deletes the flag's items from the state of every environment.
    fn leave_every_environment(&self, journal: &mut Journal<'_>) {
        for environment in &self.locked.environments {
            let configuration = self
                .configuration(environment)
                .map(|held| configurations::item(&self.row.flag.definition.key, held.version, None));
            let definition = definition_item(&self.row.flag, self.row.form_version, None);
            journal.change(environment, configuration.into_iter().chain([definition]).collect());
        }
    }

    fn configuration(&self, environment: &LockedEnvironment) -> Option<&HeldConfiguration> {
        let mut held = self.configurations.iter();
        held.find(|held| held.environment == environment.environment.id)
    }

    /// Refuses a definition that lacks a variant which a configuration serves, saying where.
    fn refuse_lost_variants(&self, definition: &Definition) -> Result<(), Error> {
        let lost: Vec<_> = self
            .locked
            .environments
            .iter()
            .flat_map(|environment| {
                let served = self
                    .configuration(environment)
                    .into_iter()
                    .flat_map(|held| served(&held.configuration));
                let mut lost: Vec<_> = served
                    .filter(|&variant| definition.variant(variant).is_none())
                    .collect();
                lost.sort();
                lost.dedup();
                lost.into_iter()
                    .map(|variant| format!("{variant} in {}", environment.environment.key))
            })
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        Err(Error::Blocked {
            entity: Entity::Flag,
            key: definition.key.to_string(),
            description: format!("variants to be removed are still served: {}", lost.join(", ")),
        })
    }
}

fn served(configuration: &Configuration) -> impl Iterator<Item = &key::Variant> {
    let rules = configuration.rules.iter().map(|rule| &rule.serve);
    rules.chain(&configuration.default).flat_map(Serve::variants)
}

/// The flag as the patch makes it, or everything that is wrong with that.
fn patched(before: &Flag, patch: FlagPatch) -> Result<Flag, Violations> {
    let FlagPatch {
        name,
        description,
        tags,
        owner,
        variants,
        off_variant,
        default_variant,
        client_visible,
    } = patch;
    let mut definition = draft::Definition::from(&before.definition);
    let mut metadata = before.metadata.clone();
    set(&mut metadata.name, name);
    set(&mut metadata.description, description);
    set(&mut metadata.tags, tags);
    set(&mut metadata.owner, owner);
    set(&mut definition.variants, variants);
    set(&mut definition.off_variant, off_variant);
    set(&mut definition.default_variant, default_variant);
    set(&mut definition.client_visible, client_visible);
    let metadata = tidy(metadata);
    Ok(Flag {
        definition: check_flag(&definition, &metadata)?,
        metadata,
        ..before.clone()
    })
}

/// Tags are sorted and without repetition.
fn tidy(mut metadata: Metadata) -> Metadata {
    metadata.tags.sort();
    metadata.tags.dedup();
    metadata
}

fn check_flag(definition: &draft::Definition, metadata: &Metadata) -> Result<Definition, Violations> {
    let mut violations = Violations::new();
    violations.take("flag", check::metadata(metadata));
    match violations.take("flag", check::definition(definition)) {
        Some(definition) => violations.or(definition),
        None => Err(violations),
    }
}

fn definition_item(flag: &Flag, version: u64, form: Option<Bytes>) -> Item {
    Item {
        id: ItemId {
            kind: Kind::FlagDefinition,
            key: flag.definition.key.clone().into(),
        },
        version,
        form,
    }
}

fn record(
    action: &'static str,
    project: &key::Project,
    before: Option<&Flag>,
    after: Option<&Flag>,
) -> Result<Record, Error> {
    let key = before.or(after).map(|flag| flag.definition.key.to_string());
    Ok(Record {
        action,
        entity: Entity::Flag,
        key: key.unwrap_or_default(),
        project: project.to_string(),
        environment: String::new(),
        before: before.map(audit::json).transpose()?,
        after: after.map(audit::json).transpose()?,
    })
}
