//! Creating and updating, and what every write of an experiment has in common.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::types::{Json, ToSql};
use uuid::Uuid;

use super::around::{self, Around};
use super::rows::{self as stored, ExperimentRow, FIND, to_sql};
use super::{Experiment, ExperimentPatch, Iteration, NewExperiment, unknown};
use crate::domain::check::{self, Checked};
use crate::domain::experiment::{Design, Metadata, State};
use crate::domain::invalid::Violations;
use crate::domain::{draft, key, limits};
use crate::store::audit::{self, Record};
use crate::store::environments::Address;
use crate::store::error::{Entity, Error};
use crate::store::journal::Journal;
use crate::store::lock::{self, Locked, LockedEnvironment, Scope};
use crate::store::mutation::{Mutation, Written, set};
use crate::store::page::{check_etag, etag};
use crate::store::{pipeline, rows};

const COUNTS: &str = "
    select count(*) as experiments, count(*) filter (where f.key = $3 and e.state <> 'stopped') as of_flag
    from projects p
    join environments v on v.project_id = p.id
    join experiments e on e.environment_id = v.id
    join flags f on f.id = e.flag_id
    where p.key = $1 and v.key = $2";
const INSERT: &str = "
    insert into experiments (
        project_id, environment_id, flag_id, key, name, description, hypothesis, owner, state, audience, allocation, attribute, sticky,
        layer_id, layer_share, layer_start, layer_end, before_rule, primary_metric, guardrail_metrics, salt, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, 'draft', $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $21)
    returning id, version";
const UPDATE: &str = "
    update experiments set name = $2, description = $3, hypothesis = $4, owner = $5, state = $6, audience = $7, allocation = $8,
        largest_allocation = $9, attribute = $10, sticky = $11, layer_id = coalesce($12, case when $13::integer is null then null else layer_id end),
        layer_share = $13, layer_start = $14, layer_end = $15, before_rule = $16, primary_metric = $17, guardrail_metrics = $18,
        iteration = $19, winner = $20, form = $21, form_version = $22, version = $23, updated_at = $24, started_at = $25,
        stopped_at = $26
    where id = $1";
const INSERT_ARMS: &str = "
    insert into experiment_arms (experiment_id, position, variant, weight, control)
    select $1, a.position, a.variant, a.weight, a.control
    from unnest($2::text[], $3::integer[], $4::boolean[]) with ordinality as a (variant, weight, control, position)";
/// Of a draft only: with the arms of one that was started its assignments would go.
const FORGET_ARMS: &str = "delete from experiment_arms where experiment_id = $1";
const WEIGHTS: &str = "
    update experiment_arms a set weight = n.weight
    from unnest($2::text[], $3::integer[]) as n (variant, weight)
    where a.experiment_id = $1 and a.variant = n.variant";
const END_ITERATION: &str = "
    update experiment_iterations set ended_at = $2 where experiment_id = $1 and ended_at is null";
const BEGIN_ITERATION: &str = "
    insert into experiment_iterations (experiment_id, number, weights, allocation, audience, started_at)
    values ($1, $2, $3, $4, $5, $6)";
const FORGET_SEGMENTS: &str = "delete from experiment_segments where experiment_id = $1";
const INSERT_SEGMENTS: &str = "
    insert into experiment_segments (project_id, environment_id, experiment_id, segment_id)
    select $1, $2, $3, s.id from segments s where s.project_id = $1 and s.key = any($4::text[])";

/// An experiment under its locks, with what is around it.
pub(super) struct Held {
    pub(super) locked: Locked,
    pub(super) row: ExperimentRow,
    pub(super) around: Around,
}

/// Locks the environment of an experiment, and finds it there.
pub(super) async fn hold(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    experiment: &key::Experiment,
    given: &str,
) -> Result<Held, Error> {
    let (project, environment, key) = (at.project.as_str(), at.environment.as_str(), experiment.as_str());
    let reads: [pipeline::Query<'_>; 5] = [
        (FIND, &[&project, &environment, &key]),
        (around::FLAG, &[&project, &environment, &"", &key]),
        (around::LAYERS, &[&project, &environment]),
        (around::TAKEN, &[&project, &environment]),
        (around::SEGMENTS, &[&project]),
    ];
    let (locked, [found, flag, layers, taken, segments]) =
        lock::acquire(transaction, &mutation.caller, Scope::Environment(at), reads).await?;
    locked.require_change()?;
    locked.environment(at.environment)?;
    let row = stored::found(&found, experiment)?;
    check_etag(given, &row.experiment.etag, Entity::Experiment, key)?;
    let flag = flag.first().ok_or_else(|| unknown(experiment))?;
    let around = Around::read(flag, [&layers, &taken, &segments])?;
    Ok(Held { locked, row, around })
}

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
) -> Result<tokio_postgres::Row, Error> {
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

pub(super) async fn update(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    experiment: &key::Experiment,
    patch: ExperimentPatch,
    etag: &str,
) -> Result<Written<Experiment>, Error> {
    let Held { locked, row, around } = hold(transaction, mutation, at, experiment, etag).await?;
    let environment = locked.environment(at.environment)?;
    let before = &row.experiment;
    let strict = patch.strict;
    let (metadata, design) = patched(before, patch);
    let Checked {
        value: design,
        warnings,
    } = match before.state {
        // What it was checked against may be gone by now.
        State::Stopped if draft::Experiment::from(&before.design) == design => Checked {
            value: checked_metadata(&metadata).map(|()| before.design.clone())?,
            warnings: Vec::new(),
        },
        State::Draft | State::Running | State::Paused | State::Stopped => checked(&design, &metadata, &around, strict)?,
    };
    let change = check::experiment_change(before.state, &before.design, &design);
    change.map_err(|violations| violations.below("experiment"))?;
    let mut after = row.clone();
    let is = &mut after.experiment;
    let mut layer = None;
    if before.design.layer != design.layer {
        let place = design.layer.as_ref();
        let place = place.map(|share| around.place(experiment.as_str(), share, before.layer_part));
        let place = place.transpose().map_err(|violations| violations.below("experiment"))?;
        is.layer_part = place.map(|(_, part)| part);
        layer = place.map(|(id, _)| id);
    }
    let compares_as_before = before.design.compares_as(&design);
    (is.metadata, is.design) = (metadata, design);
    if is.metadata == before.metadata && is.design == before.design {
        return Ok(Written::unchanged(row.experiment).with_warnings(warnings));
    }
    if !compares_as_before && matches!(before.state, State::Running | State::Paused) {
        begin_iteration(is, locked.now);
    }
    let mut journal = Journal::new(mutation, &locked);
    let items = finish(&mut after, &row, environment, locked.now);
    journal.change(environment, items);
    journal.record(record(
        "experiment.update",
        Some(&row.experiment),
        Some(&after.experiment),
    )?);
    let written = write(transaction, journal, (&locked, environment), (&row, after), layer, &[]).await?;
    Ok(written.with_warnings(warnings))
}

/// Ends the iteration that goes on, if one does, and begins another.
pub(super) fn begin_iteration(experiment: &mut Experiment, now: Timestamp) {
    let number = experiment.iterations.last().map_or(1, |last| last.number + 1);
    if let Some(last) = experiment.iterations.last_mut() {
        last.ended_at.get_or_insert(now);
    }
    let design = &experiment.design;
    experiment.largest_allocation = experiment.largest_allocation.max(design.allocation);
    experiment.iterations.push(Iteration {
        number,
        weights: design.arms.iter().map(|arm| arm.weight).collect(),
        allocation: design.allocation,
        started_at: now,
        ended_at: None,
    });
}

/// Gives what is to be written its version, etag and form; answers with the item, if another is evaluated.
pub(super) fn finish(
    after: &mut ExperimentRow,
    before: &ExperimentRow,
    environment: &LockedEnvironment,
    now: Timestamp,
) -> Vec<crate::store::journal::Item> {
    after.version = before.version + 1;
    after.experiment.updated_at = now;
    after.experiment.etag = etag([after.id, after.version]);
    after.renew_form(environment.next_revision());
    if after.form == before.form {
        return Vec::new();
    }
    // Of one that is deleted the version is the last that it had.
    let version = if after.form.is_some() {
        after.form_version
    } else {
        before.form_version
    };
    vec![after.item(version, after.form.clone())]
}

/// Writes an experiment that was finished. `layer`: the layer's id, if it is another.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    journal: Journal<'_>,
    (locked, environment): (&Locked, &LockedEnvironment),
    (before, after): (&ExperimentRow, ExperimentRow),
    layer: Option<i64>,
    others: &[pipeline::Query<'_>],
) -> Result<Written<Experiment>, Error> {
    let (id, now) = (after.id, locked.now);
    let columns = Columns::of(&after);
    let experiment = &after.experiment;
    let Experiment { metadata, design, .. } = experiment;
    let iteration = experiment.iterations.last();
    let number = iteration.map_or(0, |iteration| to_sql(iteration.number));
    let (audience, primary) = (Json(&design.audience), metadata.primary_metric.as_ref().map(Json));
    let guardrails = Json(&metadata.guardrail_metrics);
    let (form, winner) = (
        after.form.as_deref(),
        experiment.winner.as_ref().map(key::Variant::as_str),
    );
    let parameters: [&(dyn ToSql + Sync); 26] = [
        &id,
        &metadata.name,
        &metadata.description,
        &metadata.hypothesis,
        &metadata.owner,
        &experiment.state.name(),
        &audience,
        &columns.allocation,
        &columns.largest_allocation,
        &design.attribute,
        &design.sticky,
        &layer,
        &columns.layer_share,
        &columns.layer_start,
        &columns.layer_end,
        &columns.before_rule,
        &primary,
        &guardrails,
        &number,
        &winner,
        &form,
        &rows::to_sql(after.form_version),
        &after.version,
        &experiment.updated_at,
        &experiment.started_at,
        &experiment.stopped_at,
    ];
    let arms = Arms::of(design);
    let of_arms: [&(dyn ToSql + Sync); 4] = [&id, &arms.variants, &arms.weights, &arms.controls];
    let segments: Vec<_> = match experiment.state {
        State::Draft | State::Running | State::Paused => design.segments().collect(),
        // What it asked about may be deleted: it asks no more.
        State::Stopped => Vec::new(),
    };
    let (project, environment) = (locked.project.id, environment.environment.id.0);
    let of_segments: [&(dyn ToSql + Sync); 4] = [&project, &environment, &id, &segments];
    let begun: [&(dyn ToSql + Sync); 6] = [&id, &number, &arms.weights, &columns.allocation, &audience, &now];
    let own: [&(dyn ToSql + Sync); 1] = [&id];
    let ended: [&(dyn ToSql + Sync); 2] = [&id, &now];

    let mut writes: Vec<pipeline::Query<'_>> = vec![(UPDATE, &parameters)];
    if before.experiment.design.arms != design.arms {
        if before.experiment.state == State::Draft {
            writes.extend([(FORGET_ARMS, own.as_slice()), (INSERT_ARMS, of_arms.as_slice())]);
        } else {
            writes.push((WEIGHTS, &of_arms[..3]));
        }
    }
    if experiment.state == State::Stopped || experiment.iterations.len() > before.experiment.iterations.len() {
        writes.push((END_ITERATION, &ended));
    }
    if experiment.iterations.len() > before.experiment.iterations.len() {
        writes.push((BEGIN_ITERATION, &begun));
    }
    writes.extend([
        (FORGET_SEGMENTS, own.as_slice()),
        (INSERT_SEGMENTS, of_segments.as_slice()),
    ]);
    writes.extend_from_slice(others);
    journal.write(transaction, &writes, experiment.clone()).await
}

/// The columns of an experiment that are not as its fields are.
struct Columns<'a> {
    allocation: i32,
    largest_allocation: i32,
    layer_share: Option<i32>,
    layer_start: Option<i32>,
    layer_end: Option<i32>,
    before_rule: Option<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(row: &'a ExperimentRow) -> Self {
        let Experiment {
            design,
            layer_part,
            largest_allocation,
            ..
        } = &row.experiment;
        Self {
            allocation: to_sql(design.allocation),
            largest_allocation: to_sql(*largest_allocation),
            layer_share: design.layer.as_ref().map(|layer| to_sql(layer.share)),
            layer_start: layer_part.map(|part| to_sql(part.start)),
            layer_end: layer_part.map(|part| to_sql(part.end)),
            before_rule: design.before_rule.as_ref().map(key::Rule::as_str),
        }
    }
}

/// The arms, a vector per column.
struct Arms {
    variants: Vec<String>,
    weights: Vec<i32>,
    controls: Vec<bool>,
}

impl Arms {
    fn of(design: &Design) -> Self {
        Self {
            variants: design.arms.iter().map(|arm| arm.variant.to_string()).collect(),
            weights: design.arms.iter().map(|arm| to_sql(arm.weight)).collect(),
            controls: design.arms.iter().map(|arm| arm.control).collect(),
        }
    }
}

/// The experiment as the patch would make it.
fn patched(before: &Experiment, patch: ExperimentPatch) -> (Metadata, draft::Experiment) {
    let ExperimentPatch {
        name,
        description,
        hypothesis,
        owner,
        primary_metric,
        guardrail_metrics,
        arms,
        audience,
        allocation,
        attribute,
        sticky,
        layer,
        layer_share,
        before_rule,
        strict: _,
    } = patch;
    let (mut metadata, mut design) = (before.metadata.clone(), draft::Experiment::from(&before.design));
    set(&mut metadata.name, name);
    set(&mut metadata.description, description);
    set(&mut metadata.hypothesis, hypothesis);
    set(&mut metadata.owner, owner);
    set(&mut metadata.primary_metric, primary_metric);
    set(&mut metadata.guardrail_metrics, guardrail_metrics);
    set(&mut design.arms, arms);
    set(&mut design.audience, audience);
    set(&mut design.allocation, allocation);
    set(&mut design.sticky, sticky);
    set(&mut design.before_rule, before_rule);
    let (mut in_layer, mut share) = design.layer.take().unwrap_or_default();
    if layer.as_ref().is_some_and(|layer| *layer != in_layer) && attribute.is_none() {
        // The unit was the former layer's; it is now the new one's.
        design.attribute = None;
    }
    set(&mut in_layer, layer);
    set(&mut share, layer_share);
    set(&mut design.attribute, attribute);
    design.layer = (!in_layer.is_empty()).then_some((in_layer, share));
    (metadata, design)
}

/// Checks all of an experiment; paths begin at the request.
pub(super) fn checked(
    design: &draft::Experiment,
    metadata: &Metadata,
    around: &Around,
    strict: bool,
) -> Result<Checked<Design>, Violations> {
    let mut violations = Violations::new();
    violations.take("experiment", check::experiment_metadata(metadata));
    let design = check::experiment(design, &around.borrow());
    let design = if strict {
        design.and_then(Checked::strictly)
    } else {
        design
    };
    match violations.take("experiment", design) {
        Some(design) => violations.or(design.below("experiment")),
        None => Err(violations),
    }
}

fn checked_metadata(metadata: &Metadata) -> Result<(), Violations> {
    check::experiment_metadata(metadata).map_err(|violations| violations.below("experiment"))
}

pub(super) fn record(
    action: &'static str,
    before: Option<&Experiment>,
    after: Option<&Experiment>,
) -> Result<Record, Error> {
    let named = before.or(after);
    Ok(Record {
        action,
        entity: Entity::Experiment,
        key: named.map(|it| it.key.to_string()).unwrap_or_default(),
        project: named.map(|it| it.project.to_string()).unwrap_or_default(),
        environment: named.map(|it| it.environment.to_string()).unwrap_or_default(),
        before: before.map(audit::json).transpose()?,
        after: after.map(audit::json).transpose()?,
    })
}
