//! Writing one configuration: as someone says, or as it was.

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::Row;

use super::surroundings::{self, Named, Surroundings};
use super::write::{Edit, write};
use super::{ConfigurationPatch, ConfigurationRow, FIND, FlagConfiguration, find, from_row, is_archived};
use crate::domain::check::{self, Checked};
use crate::domain::flag::{Configuration, Definition};
use crate::domain::invalid::Violations;
use crate::domain::{draft, form, key};
use crate::store::environments::{Address, Environment};
use crate::store::error::{Entity, Error};
use crate::store::lock::{self, Locked, LockedEnvironment, Scope};
use crate::store::mutation::{Mutation, Written, set};
use crate::store::page::check_etag;
use crate::store::{history, pipeline, rows};

pub(super) async fn update(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    flag: &key::Flag,
    patch: ConfigurationPatch,
    etag: &str,
) -> Result<Written<FlagConfiguration>, Error> {
    let named = Named::of(
        patch.prerequisites.as_deref().unwrap_or_default(),
        patch.rules.as_deref().unwrap_or_default(),
    );
    let (project, environment, key) = (at.project.as_str(), at.environment.as_str(), flag.as_str());
    let keys: &[&str] = &[key];
    let reads: [pipeline::Query<'_>; 4] = [
        (FIND, &[&project, &environment, &keys]),
        (surroundings::FLAGS, &[&project, &environment, &key, &named.flags]),
        (surroundings::SEGMENTS, &[&project, &environment, &key, &named.segments]),
        (
            surroundings::PREREQUISITES,
            &[&project, &environment, &key, &named.flags],
        ),
    ];
    let (locked, [found, flags, segments, edges]) =
        lock::acquire(transaction, &mutation.caller, Scope::Environment(at), reads).await?;
    locked.require_change()?;
    let environment = locked.environment(at.environment)?;
    let (before, definition) = editable(&found, &environment.environment, flag, etag)?;
    let around = Surroundings::from_rows(definition, [&flags, &segments, &edges])?;
    let checked = patched(&before.configuration.configuration, patch, &around.borrow());
    let Checked { value: after, warnings } = checked.map_err(|violations| violations.below("configuration"))?;
    let action = "flag_configuration.update";
    let written = write_one(
        transaction,
        mutation,
        (&locked, environment),
        action,
        Edit { before, after },
    );
    Ok(written.await?.with_warnings(warnings))
}

pub(super) async fn rollback(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    flag: &key::Flag,
    revision: u64,
    etag: &str,
) -> Result<Written<FlagConfiguration>, Error> {
    let (locked, found) = find(transaction, mutation, at, &[flag.as_str()]).await?;
    let environment = locked.environment(at.environment)?;
    let (before, definition) = editable(&found, &environment.environment, flag, etag)?;
    let past = history::configuration_at(transaction, &environment.environment, flag, revision).await?;
    let draft = draft::Configuration::from(&past);
    let around = surroundings::around(transaction, at, definition, &draft).await?;
    let checked = check::configuration(&draft, &around.borrow());
    let Checked { value: after, warnings } = checked.map_err(|violations| violations.below("configuration"))?;
    let action = "flag_configuration.rollback";
    let written = write_one(
        transaction,
        mutation,
        (&locked, environment),
        action,
        Edit { before, after },
    );
    Ok(written.await?.with_warnings(warnings))
}

/// Checks a configuration of a flag that is not archived.
pub(super) async fn check(
    client: &impl GenericClient,
    environment: &Environment,
    flag: &key::Flag,
    draft: &draft::Configuration,
) -> Result<Checked<Configuration>, Error> {
    let (project, key) = (environment.project.as_str(), environment.key.as_str());
    let found = pipeline::one(client, (FIND, &[&project, &key, &[flag.as_str()].as_slice()])).await?;
    let row = found.first().ok_or_else(|| Error::not_found(Entity::Flag, flag))?;
    if is_archived(row)? {
        return Err(Error::not_found(Entity::Flag, flag));
    }
    let at = Address {
        project: &environment.project,
        environment: &environment.key,
    };
    let around = surroundings::around(client, at, definition(row)?, draft).await?;
    let checked = check::configuration(draft, &around.borrow());
    Ok(checked.map_err(|violations| violations.below("draft"))?.below("draft"))
}

/// The flag's configuration and definition, if it is there to be written.
fn editable(
    found: &[Row],
    environment: &Environment,
    flag: &key::Flag,
    etag: &str,
) -> Result<(ConfigurationRow, Definition), Error> {
    let row = found.first().ok_or_else(|| Error::not_found(Entity::Flag, flag))?;
    let before = from_row(row, environment, rows::get(row, "id")?, flag)?;
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
    Ok((before, definition(row)?))
}

fn definition(row: &Row) -> Result<Definition, Error> {
    form::read_definition(rows::get(row, "form")?).map_err(|error| rows::corrupt("form", error))
}

async fn write_one(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    (locked, environment): (&Locked, &LockedEnvironment),
    action: &'static str,
    edit: Edit,
) -> Result<Written<FlagConfiguration>, Error> {
    let flag = edit.before.configuration.flag.clone();
    let written = write(transaction, mutation, locked, environment, action, vec![edit]).await?;
    written.try_map(|configurations| {
        let only = configurations.into_iter().next();
        only.ok_or_else(|| Error::not_found(Entity::Flag, flag))
    })
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
