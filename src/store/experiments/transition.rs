//! Starting, pausing, resuming, stopping.

use bytes::Bytes;
use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::update::checked;
use super::write::{Held, begin_iteration, finish, hold, record, write};
use super::{Experiment, Step};
use crate::domain::check::{Checked, Warning};
use crate::domain::experiment::Transition;
use crate::domain::flag::Configuration;
use crate::domain::invalid::Violations;
use crate::domain::rule::Serve;
use crate::domain::{draft, form, key};
use crate::store::configurations::{self, ConfigurationRow};
use crate::store::environments::Address;
use crate::store::error::{Entity, Error};
use crate::store::journal::Journal;
use crate::store::lock::LockedEnvironment;
use crate::store::mutation::{Mutation, Written};
use crate::store::{columns, pipeline, rows};

pub(super) async fn step(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    experiment: &key::Experiment,
    step: Step,
    etag: &str,
) -> Result<Written<Experiment>, Error> {
    let Held { locked, row, around } = hold(transaction, mutation, at, experiment, etag).await?;
    let environment = locked.environment(at.environment)?;
    let before = &row.experiment;
    let transition = step.transition();
    let Some(state) = before.state.after(transition) else {
        return Err(refused(before, transition));
    };
    let mut warnings = Vec::new();
    let mut after = row.clone();
    let is = &mut after.experiment;
    is.state = state;
    match transition {
        // What it was designed against may be another by now.
        Transition::Start | Transition::Resume => {
            let design = draft::Experiment::from(&is.design);
            let Checked { warnings: odd, .. } = checked(&design, &is.metadata, &around, false)?;
            warnings = odd;
            if !around.configuration.as_ref().is_some_and(|it| it.enabled) {
                warnings.push(Warning {
                    field: "experiment".to_owned(),
                    description: "is on a flag that is off in this environment: nobody is asked until it is on"
                        .to_owned(),
                });
            }
        }
        Transition::Pause | Transition::Stop => {}
    }
    if transition == Transition::Start {
        is.started_at = Some(locked.now);
        begin_iteration(is, locked.now);
    }
    let mut default = None;
    if let Step::Stop { winner, make_default } = step {
        let winner = check_winner(is, winner, make_default)?;
        is.stopped_at = Some(locked.now);
        // Others may have its part of the layer.
        is.layer_part = None;
        if let Some(last) = is.iterations.last_mut() {
            last.ended_at.get_or_insert(locked.now);
        }
        default = winner.clone().filter(|_| make_default);
        is.winner = winner;
    }
    let mut journal = Journal::new(mutation, &locked);
    let mut items = finish(&mut after, &row, environment, locked.now);
    journal.record(record(
        action(transition),
        Some(&row.experiment),
        Some(&after.experiment),
    )?);
    let served = match default {
        Some(winner) => serve_by_default(transaction, at, &row.experiment, environment, winner, locked.now).await?,
        None => None,
    };
    let columns = served
        .as_ref()
        .map(|served| served.columns(locked.project.id, environment));
    let parameters = columns.as_ref().map(Parameters::of);
    let mut others: Vec<pipeline::Query<'_>> = Vec::new();
    if let Some((served, parameters)) = served.as_ref().zip(parameters.as_ref()) {
        let version = environment.next_revision();
        items.push(configurations::item(
            &row.experiment.flag,
            version,
            Some(served.form.clone()),
        ));
        journal.record(configurations::record(
            "flag_configuration.update",
            &served.before,
            &served.after.configuration,
        )?);
        others.push((configurations::UPSERT, parameters));
    }
    journal.change(environment, items);
    let written = write(
        transaction,
        journal,
        (&locked, environment),
        (&row, after),
        None,
        &others,
    )
    .await?;
    Ok(written.with_warnings(warnings))
}

fn action(transition: Transition) -> &'static str {
    match transition {
        Transition::Start => "experiment.start",
        Transition::Pause => "experiment.pause",
        Transition::Resume => "experiment.resume",
        Transition::Stop => "experiment.stop",
    }
}

fn refused(experiment: &Experiment, transition: Transition) -> Error {
    let wanted = match transition {
        Transition::Start => "only a draft can be started",
        Transition::Pause => "only a running experiment can be paused",
        Transition::Resume => "only a paused experiment can be resumed",
        Transition::Stop => "it is over already",
    };
    let state = experiment.state.name();
    Error::blocked(Entity::Experiment, &experiment.key, format!("is {state}; {wanted}"))
}

fn check_winner(
    experiment: &Experiment,
    winner: Option<key::Variant>,
    make_default: bool,
) -> Result<Option<key::Variant>, Violations> {
    let mut violations = Violations::new();
    match &winner {
        Some(winner) if experiment.design.arm(winner.as_str()).is_none() => {
            violations.add("winner", "is not an arm of the experiment");
        }
        Some(_) if experiment.started_at.is_none() => {
            violations.add("winner", "is given for an experiment that never ran");
        }
        None if make_default => violations.add("winner", "is empty; say which arm is to be the default"),
        Some(_) | None => {}
    }
    violations.or(winner)
}

/// The flag's configuration as it becomes.
struct Served {
    before: ConfigurationRow,
    after: ConfigurationRow,
    form: Bytes,
}

/// Makes a variant the flag's default in the environment. `None`: it is already.
async fn serve_by_default(
    transaction: &Transaction<'_>,
    at: Address<'_>,
    experiment: &Experiment,
    environment: &LockedEnvironment,
    winner: key::Variant,
    now: jiff::Timestamp,
) -> Result<Option<Served>, Error> {
    // The environment is locked: nobody else changes it now.
    let before = configurations::read(transaction, at, &environment.environment, &experiment.flag).await?;
    let configuration = Configuration {
        default: Some(Serve::Variant(winner)),
        ..before.configuration.configuration.clone()
    };
    if configuration == before.configuration.configuration {
        return Ok(None);
    }
    let form = Bytes::from(form::write_configuration(&configuration));
    let after = before.written(configuration, environment, now);
    Ok(Some(Served { before, after, form }))
}

/// The columns of a configuration.
struct Columns<'a> {
    project: i64,
    environment: i64,
    version: i64,
    now: Option<jiff::Timestamp>,
    written: columns::Configurations<'a>,
}

impl Served {
    fn columns(&self, project: i64, environment: &LockedEnvironment) -> Columns<'_> {
        let mut written = columns::Configurations::default();
        let configuration = &self.after.configuration;
        written.push(self.after.flag_id(), &configuration.configuration, &self.form);
        Columns {
            project,
            environment: environment.environment.id.0,
            version: rows::to_sql(environment.next_revision()),
            now: configuration.updated_at,
            written,
        }
    }
}

/// As the statement takes them.
struct Parameters;

impl Parameters {
    fn of<'a>(of: &'a Columns<'a>) -> [&'a (dyn ToSql + Sync); 11] {
        [
            &of.project,
            &of.environment,
            &of.version,
            &of.now,
            &of.written.flag_ids,
            &of.written.forms,
            &of.written.enabled,
            &of.written.rules,
            &of.written.default_serves,
            &of.written.salts,
            &of.written.prerequisites,
        ]
    }
}
