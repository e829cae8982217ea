//! Changing an experiment, and checking all of it.

use deadpool_postgres::Transaction;

use super::around::Around;
use super::write::{Held, begin_iteration, finish, hold, record, write};
use super::{Experiment, ExperimentPatch};
use crate::domain::check::{self, Checked};
use crate::domain::experiment::{Design, Metadata, State};
use crate::domain::invalid::Violations;
use crate::domain::{draft, key};
use crate::store::environments::Address;
use crate::store::error::{Entity, Error};
use crate::store::journal::Journal;
use crate::store::mutation::{Mutation, Written, set};

/// Why a design cannot be changed whose form is another.
const EDITED: &str = "is not evaluated as it is designed, since its form was edited in the database; pause it and resume it, which has it \
    evaluated as designed again, then change it";

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
    if design != before.design && row.is_edited() {
        return Err(Error::blocked(Entity::Experiment, experiment, EDITED.to_owned()));
    }
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
