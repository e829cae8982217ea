//! Writing flags: under the lock of the whole project, since every environment holds every definition.

use bytes::Bytes;
use deadpool_postgres::Transaction;

use super::held::{Held, hold};
use super::table::{self, Redefinition};
use super::{FIND, Flag, FlagPatch, NewFlag};
use crate::domain::access::Permission;
use crate::domain::flag::{Definition, Lifecycle, Lifespan, Metadata};
use crate::domain::form::{self, ItemId, Kind};
use crate::domain::invalid::Violations;
use crate::domain::{check, draft, key, limits};
use crate::store::audit::{self, Record};
use crate::store::error::{Entity, Error};
use crate::store::experiments;
use crate::store::journal::{Item, Journal};
use crate::store::lock::{self, Scope};
use crate::store::mutation::{Mutation, Written, set};
use crate::store::page::{check_etag, etag};
use crate::store::{pipeline, rows};

const COUNT: &str = "
    select count(*) as flags from flags f join projects p on p.id = f.project_id where p.key = $1";
const RESTORE_CONFIGURATIONS: &str = "
    update flag_configurations c set version = n.version
    from unnest($2::bigint[], $3::bigint[]) as n (environment_id, version)
    where c.flag_id = $1 and c.environment_id = n.environment_id";
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
        held.refuse_lost_variants(transaction, &after.definition).await?;
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
    write(transaction, journal, &held, "flag.update", after, redefinition, &[]).await
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
    held.refuse_while_evaluated()?;
    let mut journal = Journal::new(mutation, &held.locked);
    held.leave_every_environment(&mut journal);
    let after = Flag {
        archived_at: Some(held.locked.now),
        ..before.clone()
    };
    write(transaction, journal, &held, "flag.archive", after, None, &[]).await
}

pub(super) async fn restore(
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
    if before.archived_at.is_none() {
        return Ok(Written::unchanged(before.clone()));
    }
    // Nothing else can have ceased to make sense meanwhile: archived flags count wherever something is checked or refused.
    held.refuse_archived_prerequisites(transaction).await?;
    let mut journal = Journal::new(mutation, &held.locked);
    let form_version = held.locked.project.definition_changes + 1;
    let (environments, versions) = held.enter_every_environment(&mut journal, form_version);
    let after = Flag {
        archived_at: None,
        ..before.clone()
    };
    let redefinition = Redefinition {
        form: held.form.clone(),
        form_version,
    };
    let versions: pipeline::Query<'_> = (RESTORE_CONFIGURATIONS, &[&held.row.id, &environments, &versions]);
    let action = "flag.restore";
    write(
        transaction,
        journal,
        &held,
        action,
        after,
        Some(redefinition),
        &[versions],
    )
    .await
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
    held.refuse_while_named()?;
    let mut journal = Journal::new(mutation, &held.locked);
    if before.archived_at.is_none() {
        held.leave_every_environment(&mut journal);
    }
    for deleted in experiments::deletions(transaction, project, flag).await? {
        journal.record(deleted);
    }
    journal.record(record("flag.delete", project, Some(&before), None)?);
    // With the assignments of its experiments, of which there may be many.
    let delete: [pipeline::Query<'_>; 2] = [pipeline::LONG, (DELETE, &[&held.row.id])];
    journal.write(transaction, &delete, before).await
}

/// Writes the flag's row, with what else there is to write, and what was journalled of it.
async fn write(
    transaction: &Transaction<'_>,
    mut journal: Journal<'_>,
    held: &Held,
    action: &'static str,
    after: Flag,
    redefinition: Option<Redefinition>,
    others: &[pipeline::Query<'_>],
) -> Result<Written<Flag>, Error> {
    let Held { locked, row, .. } = held;
    let (id, version, now) = (row.id, row.version + 1, locked.now);
    let after = Flag {
        updated_at: now,
        etag: etag([id, version]),
        ..after
    };
    journal.record(record(action, &after.project, Some(&row.flag), Some(&after))?);
    let written = table::update(
        transaction,
        journal,
        locked,
        (id, version),
        &after,
        redefinition,
        others,
    )
    .await?;
    written.try_map(|()| Ok(after))
}

/// The flag as the patch makes it, or everything that is wrong with that.
fn patched(before: &Flag, patch: FlagPatch) -> Result<Flag, Violations> {
    let FlagPatch {
        name,
        description,
        tags,
        owner,
        lifespan,
        expected_removal,
        variants,
        off_variant,
        default_variant,
        client_visible,
    } = patch;
    let mut violations = Violations::new();
    let mut definition = draft::Definition::from(&before.definition);
    let mut metadata = before.metadata.clone();
    set(&mut metadata.name, name);
    set(&mut metadata.description, description);
    set(&mut metadata.tags, tags);
    set(&mut metadata.owner, owner);
    let lifespan = lifespan.unwrap_or(metadata.lifecycle.lifespan());
    // What becomes permanent loses its date.
    let kept = match lifespan {
        Lifespan::Temporary => metadata.lifecycle.expected_removal(),
        Lifespan::Permanent => None,
    };
    let lifecycle = Lifecycle::new(lifespan, expected_removal.unwrap_or(kept));
    set(&mut metadata.lifecycle, violations.take("flag", lifecycle));
    set(&mut definition.variants, variants);
    set(&mut definition.off_variant, off_variant);
    set(&mut definition.default_variant, default_variant);
    set(&mut definition.client_visible, client_visible);
    let metadata = tidy(metadata);
    match violations.take("", check_flag(&definition, &metadata)) {
        Some(definition) => violations.or(Flag {
            definition,
            metadata,
            ..before.clone()
        }),
        None => Err(violations),
    }
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

pub(super) fn definition_item(flag: &Flag, version: u64, form: Option<Bytes>) -> Item {
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
