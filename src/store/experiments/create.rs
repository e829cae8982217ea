//! Creating an experiment, a draft.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::around::{self, Around};
use super::rows::{ExperimentRow, FIND};
use super::update::checked;
use super::write::{Arms, Columns, INSERT_ARMS, INSERT_SEGMENTS, record};
use super::{Experiment, NewExperiment};
use crate::domain::check::Checked;
use crate::domain::experiment::State;
use crate::domain::limits;
use crate::store::environments::Address;
use crate::store::error::{Entity, Error};
use crate::store::journal::Journal;
use crate::store::lock::{self, Locked, LockedEnvironment, Scope};
use crate::store::mutation::{Mutation, Written};
use crate::store::page::etag;
use crate::store::{pipeline, rows};

const COUNTS: &str = "
    select count(*) as experiments, count(*) filter (where f.key = $3) as of_flag
    from projects p
    join environments v on v.project_id = p.id
    join experiments e on e.environment_id = v.id
    join flags f on f.id = e.flag_id
    where p.key = $1 and v.key = $2 and e.state <> 'stopped'";
const INSERT: &str = "
    insert into experiments (
        project_id, environment_id, flag_id, key, name, description, hypothesis, owner, state, audience, allocation, attribute, sticky,
        layer_id, layer_share, layer_start, layer_end, before_rule, primary_metric, guardrail_metrics, salt, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, 'draft', $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $21)
    returning id, version";

pub(super) async fn create(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    new: NewExperiment,
) -> Result<Written<Experiment>, Error> {
    let NewExperiment {
        key,
        flag,
        metadata,
        design,
        strict,
    } = new;
    let (project, environment) = (at.project.as_str(), at.environment.as_str());
    let reads: [pipeline::Query<'_>; 6] = [
        (FIND, &[&project, &environment, &key.as_str()]),
        (COUNTS, &[&project, &environment, &flag.as_str()]),
        (around::FLAG, &[&project, &environment, &flag.as_str(), &""]),
        (around::LAYERS, &[&project, &environment]),
        (around::TAKEN, &[&project, &environment]),
        (around::SEGMENTS, &[&project]),
    ];
    let (locked, [existing, counts, found, layers, taken, segments]) =
        lock::acquire(transaction, &mutation.caller, Scope::Environment(at), reads).await?;
    locked.require_change()?;
    let environment = locked.environment(at.environment)?;
    let found = found.first().ok_or_else(|| Error::not_found(Entity::Flag, &flag))?;
    if rows::get::<Option<Timestamp>>(found, "archived_at")?.is_some() {
        return Err(Error::not_found(Entity::Flag, &flag));
    }
    let around = Around::read(found, [&layers, &taken, &segments])?;
    let Checked {
        value: design,
        warnings,
    } = checked(&design, &metadata, &around, strict)?;
    if !existing.is_empty() {
        let (entity, key) = (Entity::Experiment, key.to_string());
        return Err(Error::AlreadyExists { entity, key });
    }
    for (column, limit) in [
        ("experiments", limits::EXPERIMENTS),
        ("of_flag", limits::FLAG_EXPERIMENTS),
    ] {
        let count = counts.first().map(|row| rows::number(row, column)).transpose()?;
        if count >= Some(limit as u64) {
            let entity = Entity::Experiment;
            return Err(Error::LimitReached { entity, limit });
        }
    }
    let place = design
        .layer
        .as_ref()
        .map(|share| around.place("", share, None))
        .transpose();
    let place = place.map_err(|violations| violations.below("experiment"))?;

    let now = locked.now;
    let mut row = ExperimentRow {
        id: 0,
        flag_id: rows::get(found, "id")?,
        version: 0,
        form: None,
        form_version: 0,
        experiment: Experiment {
            project: at.project.clone(),
            environment: at.environment.clone(),
            key,
            flag,
            state: State::Draft,
            metadata,
            design,
            layer_part: place.map(|(_, part)| part),
            salt: Uuid::new_v4(),
            largest_allocation: 0,
            iterations: Vec::new(),
            winner: None,
            started_at: None,
            stopped_at: None,
            created_at: now,
            updated_at: now,
            etag: String::new(),
        },
    };
    let id = insert(transaction, &locked, environment, place.map(|(id, _)| id), &row).await?;
    row.experiment.etag = etag([rows::get(&id, "id")?, rows::get(&id, "version")?]);
    let id: i64 = rows::get(&id, "id")?;
    let experiment = row.experiment;
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("experiment.create", None, Some(&experiment))?);
    let arms = Arms::of(&experiment.design);
    let segments: Vec<_> = experiment.design.segments().map(ToOwned::to_owned).collect();
    let (project, environment) = (locked.project.id, environment.environment.id.0);
    let writes: [pipeline::Query<'_>; 2] = [
        (INSERT_ARMS, &[&id, &arms.variants, &arms.weights, &arms.controls]),
        (INSERT_SEGMENTS, &[&project, &environment, &id, &segments]),
    ];
    let written = journal.write(transaction, &writes, experiment.clone()).await?;
    Ok(written.with_warnings(warnings))
}

async fn insert(
    transaction: &Transaction<'_>,
    locked: &Locked,
    environment: &LockedEnvironment,
    layer: Option<i64>,
    row: &ExperimentRow,
) -> Result<Row, Error> {
    let columns = Columns::of(row);
    let Experiment {
        key, metadata, design, ..
    } = &row.experiment;
    let insert: pipeline::Query<'_> = (
        INSERT,
        &[
            &locked.project.id,
            &environment.environment.id.0,
            &row.flag_id,
            &key.as_str(),
            &metadata.name,
            &metadata.description,
            &metadata.hypothesis,
            &metadata.owner,
            &Json(&design.audience),
            &columns.allocation,
            &design.attribute,
            &design.sticky,
            &layer,
            &columns.layer_share,
            &columns.layer_start,
            &columns.layer_end,
            &columns.before_rule,
            &metadata.primary_metric.as_ref().map(Json),
            &Json(&metadata.guardrail_metrics),
            &row.experiment.salt,
            &locked.now,
        ],
    );
    pipeline::row(transaction, insert)
        .await
        .map_err(|error| error.about(key.as_str()))
}
