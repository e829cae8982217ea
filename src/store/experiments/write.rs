//! What every write of an experiment has in common.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::types::{Json, ToSql};

use super::around::{self, Around};
use super::rows::{self as stored, ExperimentRow, FIND, columns, from_row, to_sql};
use super::{Experiment, Iteration, unknown};
use crate::domain::experiment::{Design, State};
use crate::domain::key;
use crate::store::audit::{self, Record};
use crate::store::environments::Address;
use crate::store::error::{Entity, Error};
use crate::store::journal::{Item, Journal};
use crate::store::lock::{self, Locked, LockedEnvironment, Scope};
use crate::store::mutation::{Mutation, Written};
use crate::store::page::{check_etag, etag};
use crate::store::{pipeline, rows};

/// All on a flag, whatever their state.
const OF_FLAG: &str = concat!(columns!(), "where p.key = $1 and f.key = $2 order by v.key, e.key");
const UPDATE: &str = "
    update experiments set name = $2, description = $3, hypothesis = $4, owner = $5, state = $6, audience = $7, allocation = $8,
        largest_allocation = $9, attribute = $10, sticky = $11, layer_id = coalesce($12, case when $13::integer is null then null else layer_id end),
        layer_share = $13, layer_start = $14, layer_end = $15, before_rule = $16, primary_metric = $17, guardrail_metrics = $18,
        iteration = $19, winner = $20, form = $21, form_version = $22, version = $23, updated_at = $24, started_at = $25,
        stopped_at = $26
    where id = $1";
pub(super) const INSERT_ARMS: &str = "
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
pub(super) const INSERT_SEGMENTS: &str = "
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
) -> Vec<Item> {
    after.version = before.version + 1;
    after.experiment.updated_at = now;
    after.experiment.etag = etag([after.id, after.version]);
    after.renew_form(before, environment.next_revision());
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
pub(super) struct Columns<'a> {
    pub(super) allocation: i32,
    pub(super) largest_allocation: i32,
    pub(super) layer_share: Option<i32>,
    pub(super) layer_start: Option<i32>,
    pub(super) layer_end: Option<i32>,
    pub(super) before_rule: Option<&'a str>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(row: &'a ExperimentRow) -> Self {
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
pub(super) struct Arms {
    pub(super) variants: Vec<String>,
    pub(super) weights: Vec<i32>,
    pub(super) controls: Vec<bool>,
}

impl Arms {
    pub(super) fn of(design: &Design) -> Self {
        Self {
            variants: design.arms.iter().map(|arm| arm.variant.to_string()).collect(),
            weights: design.arms.iter().map(|arm| to_sql(arm.weight)).collect(),
            controls: design.arms.iter().map(|arm| arm.control).collect(),
        }
    }
}

/// What the audit log keeps of the experiments that go with a flag.
pub(in crate::store) async fn deletions(
    transaction: &Transaction<'_>,
    project: &key::Project,
    flag: &key::Flag,
) -> Result<Vec<Record>, Error> {
    let found = pipeline::one(transaction, (OF_FLAG, &[&project.as_str(), &flag.as_str()])).await?;
    let record = |row| record("experiment.delete", Some(&from_row(row)?.experiment), None);
    found.iter().map(record).collect()
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
