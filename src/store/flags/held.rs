//! A flag under its locks, with its configurations and those who depend on it: what may happen to it, and what that means for
//! every environment.

use bytes::Bytes;
use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::write::definition_item;
use super::{FIND, FlagRow, from_row};
use crate::domain::access::Permission;
use crate::domain::change::EnvironmentId;
use crate::domain::flag::{Configuration, Definition};
use crate::domain::rule::Serve;
use crate::domain::{form, key};
use crate::store::error::{Entity, Error};
use crate::store::journal::Journal;
use crate::store::lock::{self, Locked, LockedEnvironment, Scope};
use crate::store::mutation::Mutation;
use crate::store::{configurations, pipeline, rows};

const CONFIGURATIONS: &str = "
    select c.environment_id, c.form, c.version
    from flag_configurations c
    join flags f on f.id = c.flag_id
    join projects p on p.id = f.project_id
    where p.key = $1 and f.key = $2
    order by c.environment_id";
/// Whose prerequisite the flag is, and where; archived flags last.
const DEPENDANTS: &str = "
    select d.key as flag, e.key as environment, d.archived_at is not null as archived
    from projects p
    join flags f on f.project_id = p.id
    join flag_prerequisites l on l.prerequisite_id = f.id
    join flags d on d.id = l.flag_id
    join environments e on e.id = l.environment_id
    where p.key = $1 and f.key = $2
    order by archived, flag, environment limit $3";
/// The same with all that they say.
const DEPENDANT_FORMS: &str = "
    select d.key as flag, e.key as environment, c.form
    from flag_prerequisites l
    join flags d on d.id = l.flag_id
    join environments e on e.id = l.environment_id
    join flag_configurations c on c.environment_id = l.environment_id and c.flag_id = l.flag_id
    where l.prerequisite_id = $1
    order by flag, environment";
/// Experiments on the flag that are not stopped, with their arms.
const EXPERIMENTS: &str = "
    select x.key as flag, e.key as environment,
        array(select a.variant from experiment_arms a where a.experiment_id = x.id order by a.position) as variants
    from projects p
    join flags f on f.project_id = p.id
    join experiments x on x.flag_id = f.id and x.state <> 'stopped'
    join environments e on e.id = x.environment_id
    where p.key = $1 and f.key = $2
    order by flag, environment";
/// What the flag needs that is archived.
const ARCHIVED_PREREQUISITES: &str = "
    select p.key as flag, e.key as environment
    from flag_prerequisites l
    join flags p on p.id = l.prerequisite_id
    join environments e on e.id = l.environment_id
    where l.flag_id = $1 and p.archived_at is not null
    order by flag, environment limit $2";

/// How many places a refusal names; more only show that there are more.
const NAMED: usize = 10;

pub(super) struct Held {
    pub locked: Locked,
    pub row: FlagRow,
    /// The form of its definition.
    pub form: Bytes,
    configurations: Vec<HeldConfiguration>,
    dependants: Vec<Dependant>,
    experiments: Vec<Experimenting>,
}

struct HeldConfiguration {
    environment: EnvironmentId,
    form: Bytes,
    configuration: Configuration,
    version: u64,
}

/// An experiment on the flag that is not stopped.
struct Experimenting {
    place: String,
    variants: Vec<String>,
}

struct Dependant {
    place: String,
    archived: bool,
}

pub(super) async fn hold(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    flag: &key::Flag,
    permission: Permission,
) -> Result<Held, Error> {
    let limit = rows::to_sql(NAMED as u64 + 1);
    let reads: [pipeline::Query<'_>; 4] = [
        (FIND, &[&project.as_str(), &flag.as_str()]),
        (CONFIGURATIONS, &[&project.as_str(), &flag.as_str()]),
        (DEPENDANTS, &[&project.as_str(), &flag.as_str(), &limit]),
        (EXPERIMENTS, &[&project.as_str(), &flag.as_str()]),
    ];
    let (locked, [found, configurations, dependants, experiments]) =
        lock::acquire(transaction, &mutation.caller, Scope::Project(project), reads).await?;
    locked.require(permission)?;
    let found = found.first().ok_or_else(|| Error::not_found(Entity::Flag, flag))?;
    Ok(Held {
        locked,
        row: from_row(found)?,
        form: Bytes::copy_from_slice(rows::get(found, "form")?),
        configurations: configurations.iter().map(configuration).collect::<Result<_, _>>()?,
        dependants: dependants.iter().map(dependant).collect::<Result<_, _>>()?,
        experiments: experiments.iter().map(experimenting).collect::<Result<_, _>>()?,
    })
}

fn configuration(row: &Row) -> Result<HeldConfiguration, Error> {
    let form: &[u8] = rows::get(row, "form")?;
    Ok(HeldConfiguration {
        environment: rows::environment_id(row, "environment_id")?,
        configuration: form::read_configuration(form).map_err(|error| rows::corrupt("form", error))?,
        form: Bytes::copy_from_slice(form),
        version: rows::number(row, "version")?,
    })
}

fn dependant(row: &Row) -> Result<Dependant, Error> {
    Ok(Dependant {
        place: place(row)?,
        archived: rows::get(row, "archived")?,
    })
}

fn experimenting(row: &Row) -> Result<Experimenting, Error> {
    Ok(Experimenting {
        place: place(row)?,
        variants: rows::get(row, "variants")?,
    })
}

/// A flag or an experiment in an environment, as a refusal names it.
fn place(row: &Row) -> Result<String, Error> {
    let (flag, environment): (&str, &str) = (rows::get(row, "flag")?, rows::get(row, "environment")?);
    Ok(format!("{flag} in {environment}"))
}

impl Held {
    /// Deletes the flag's items from the state of every environment.
    pub(super) fn leave_every_environment(&self, journal: &mut Journal<'_>) {
        for environment in &self.locked.environments {
            let configuration = self
                .configuration(environment)
                .map(|held| configurations::item(&self.row.flag.definition.key, held.version, None));
            let definition = definition_item(&self.row.flag, self.row.form_version, None);
            journal.change(environment, configuration.into_iter().chain([definition]).collect());
        }
    }

    /// Puts the flag's items back into the state of every environment, as they were; the definition as this version, each
    /// configuration as the environment's next revision, since versions never repeat. Answers with the environments in which
    /// there is a configuration, and its version.
    pub(super) fn enter_every_environment(&self, journal: &mut Journal<'_>, form_version: u64) -> (Vec<i64>, Vec<i64>) {
        let mut versions = (Vec::new(), Vec::new());
        for environment in &self.locked.environments {
            let mut items = vec![definition_item(&self.row.flag, form_version, Some(self.form.clone()))];
            if let Some(held) = self.configuration(environment) {
                let version = environment.next_revision();
                let key = &self.row.flag.definition.key;
                items.push(configurations::item(key, version, Some(held.form.clone())));
                versions.0.push(held.environment.0);
                versions.1.push(rows::to_sql(version));
            }
            journal.change(environment, items);
        }
        versions
    }

    fn configuration(&self, environment: &LockedEnvironment) -> Option<&HeldConfiguration> {
        let mut held = self.configurations.iter();
        held.find(|held| held.environment == environment.environment.id)
    }

    /// Refuses to archive what a flag that is not archived depends on.
    pub(super) fn refuse_while_evaluated(&self) -> Result<(), Error> {
        self.refuse_experiments()?;
        self.refuse_dependants(|dependant| !dependant.archived)
    }

    /// Refuses to delete what any flag depends on.
    pub(super) fn refuse_while_named(&self) -> Result<(), Error> {
        self.refuse_experiments()?;
        self.refuse_dependants(|_| true)
    }

    fn refuse_experiments(&self) -> Result<(), Error> {
        let places: Vec<_> = self.experiments.iter().map(|it| it.place.clone()).collect();
        self.refuse("has experiments that are not stopped:", &places)
    }

    fn refuse_dependants(&self, counts: impl Fn(&Dependant) -> bool) -> Result<(), Error> {
        let dependants = self.dependants.iter().filter(|dependant| counts(dependant));
        let places = dependants.map(|dependant| {
            let archived = if dependant.archived { " (archived)" } else { "" };
            format!("{}{archived}", dependant.place)
        });
        self.refuse("is a prerequisite of", &places.collect::<Vec<_>>())
    }

    /// Refuses to restore a flag that depends on what is archived.
    pub(super) async fn refuse_archived_prerequisites(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        let limit = rows::to_sql(NAMED as u64 + 1);
        let archived = pipeline::one(transaction, (ARCHIVED_PREREQUISITES, &[&self.row.id, &limit])).await?;
        let places: Vec<_> = archived.iter().map(place).collect::<Result<_, _>>()?;
        self.refuse("has prerequisites that are archived, restore them first:", &places)
    }

    /// Refuses a definition that lacks a variant which a configuration serves, or which another flag's has as a prerequisite,
    /// saying where.
    pub(super) async fn refuse_lost_variants(
        &self,
        transaction: &Transaction<'_>,
        definition: &Definition,
    ) -> Result<(), Error> {
        let before = &self.row.flag.definition.variants;
        if before.iter().all(|variant| definition.variant(&variant.key).is_some()) {
            return Ok(());
        }
        self.refuse(
            "has variants to be removed that are still served:",
            &self.lost(definition),
        )?;
        let mut arms = Vec::new();
        for Experimenting { place, variants } in &self.experiments {
            let kept = |variant: &str| definition.variants.iter().any(|it| it.key.as_str() == variant);
            let lost = variants.iter().filter(|variant| !kept(variant));
            arms.extend(lost.map(|variant| format!("{variant} of {place}")));
        }
        self.refuse("has variants to be removed that are arms of experiments:", &arms)?;
        let dependants = pipeline::one(transaction, (DEPENDANT_FORMS, &[&self.row.id])).await?;
        let mut required = Vec::new();
        for row in &dependants {
            let form = form::read_configuration(rows::get(row, "form")?);
            let configuration = form.map_err(|error| rows::corrupt("form", error))?;
            let prerequisites = configuration.prerequisites.iter();
            let ours = prerequisites.filter(|prerequisite| prerequisite.flag == definition.key);
            let lost = without(definition, ours.flat_map(|prerequisite| &prerequisite.variants));
            let place = place(row)?;
            required.extend(lost.into_iter().map(|variant| format!("{variant} by {place}")));
        }
        self.refuse("has variants to be removed that prerequisites name:", &required)
    }

    /// The variants that configurations serve and the definition lacks.
    fn lost(&self, definition: &Definition) -> Vec<String> {
        let environments = self.locked.environments.iter();
        let lost = environments.flat_map(|environment| {
            let held = self.configuration(environment).into_iter();
            let lost = without(definition, held.flat_map(|held| served(&held.configuration)));
            let lost = lost.into_iter();
            lost.map(|variant| format!("{variant} in {}", environment.environment.key))
        });
        lost.collect()
    }

    /// Refuses if there are places to name.
    fn refuse(&self, what: &str, places: &[String]) -> Result<(), Error> {
        if places.is_empty() {
            return Ok(());
        }
        let more = if places.len() > NAMED { " and more" } else { "" };
        let named = places[..places.len().min(NAMED)].join(", ");
        Err(Error::Blocked {
            entity: Entity::Flag,
            key: self.row.flag.definition.key.to_string(),
            description: format!("{what} {named}{more}"),
        })
    }
}

fn served(configuration: &Configuration) -> impl Iterator<Item = &key::Variant> {
    let rules = configuration.rules.iter().map(|rule| &rule.serve);
    rules.chain(&configuration.default).flat_map(Serve::variants)
}

/// Those that the definition lacks, each once.
fn without<'a>(definition: &Definition, variants: impl Iterator<Item = &'a key::Variant>) -> Vec<&'a key::Variant> {
    let mut lost: Vec<_> = variants
        .filter(|&variant| definition.variant(variant).is_none())
        .collect();
    lost.sort();
    lost.dedup();
    lost
}
