//! An experiment as it is stored.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;

use super::{Experiment, Iteration, unknown};
use crate::domain::experiment::{Arm, Design, LayerPart, LayerShare, Metadata, Running, State};
use crate::domain::form::{self, ItemId, Kind};
use crate::domain::rule::Weighted;
use crate::domain::{experiment, key};
use crate::store::error::{Error, Flaw};
use crate::store::journal::Item;
use crate::store::page::etag;
use crate::store::rows;

/// Experiments with all that belongs to them, up to the conditions.
macro_rules! columns {
    () => {
        "
    select p.key as project, v.key as environment, f.key as flag, f.id as flag_id, e.id, e.key, e.name, e.description, e.hypothesis,
        e.owner, e.state, e.audience::text, e.allocation, e.largest_allocation, e.attribute, e.sticky, l.key as layer,
        l.salt as layer_salt, e.layer_share, e.layer_start, e.layer_end, e.before_rule, e.primary_metric::text,
        e.guardrail_metrics::text, e.salt, e.winner, e.form, e.form_version, e.version, e.created_at, e.updated_at, e.started_at,
        e.stopped_at,
        array(select a.variant from experiment_arms a where a.experiment_id = e.id order by a.position) as variants,
        array(select a.weight from experiment_arms a where a.experiment_id = e.id order by a.position) as weights,
        array(select a.control from experiment_arms a where a.experiment_id = e.id order by a.position) as controls,
        (select coalesce(json_agg(json_build_object('number', i.number, 'weights', i.weights, 'allocation', i.allocation,
                'started_at', i.started_at, 'ended_at', i.ended_at) order by i.number), '[]')::text
            from experiment_iterations i where i.experiment_id = e.id) as iterations
    from projects p
    join environments v on v.project_id = p.id
    join experiments e on e.environment_id = v.id
    join flags f on f.id = e.flag_id
    left join layers l on l.id = e.layer_id
    "
    };
}
pub(super) use columns;

/// One by its key.
pub(super) const FIND: &str = concat!(columns!(), "where p.key = $1 and v.key = $2 and e.key = $3");

/// An experiment as it is stored, or as it would be.
#[derive(Debug, Clone)]
pub(super) struct ExperimentRow {
    pub(super) id: i64,
    pub(super) flag_id: i64,
    pub(super) version: i64,
    /// What is evaluated of it. `None`: it is not running.
    pub(super) form: Option<Bytes>,
    pub(super) form_version: u64,
    pub(super) experiment: Experiment,
}

/// The experiment in the rows of [`FIND`].
pub(super) fn found(found: &[Row], experiment: &key::Experiment) -> Result<ExperimentRow, Error> {
    from_row(found.first().ok_or_else(|| unknown(experiment))?)
}

/// Reads an experiment.
pub(super) fn from_row(row: &Row) -> Result<ExperimentRow, Error> {
    let (id, version) = (rows::get(row, "id")?, rows::get(row, "version")?);
    let layer = rows::get::<Option<&str>>(row, "layer")?.zip(small_option(row, "layer_share")?);
    let layer = layer.map(|(layer, share)| {
        let layer = key::Layer::new(layer).map_err(|violations| rows::corrupt("layer", violations))?;
        Ok::<_, Error>(LayerShare { layer, share })
    });
    let layer_salt: Option<uuid::Uuid> = rows::get(row, "layer_salt")?;
    let range = small_option(row, "layer_start")?.zip(small_option(row, "layer_end")?);
    let before_rule: Option<&str> = rows::get(row, "before_rule")?;
    let winner: Option<&str> = rows::get(row, "winner")?;
    let form: Option<&[u8]> = rows::get(row, "form")?;
    let experiment = Experiment {
        project: rows::parsed(row, "project", key::Project::new)?,
        environment: rows::parsed(row, "environment", key::Environment::new)?,
        key: rows::parsed(row, "key", key::Experiment::new)?,
        flag: rows::parsed(row, "flag", key::Flag::new)?,
        state: rows::named(row, "state", State::from_name)?,
        metadata: Metadata {
            name: rows::get(row, "name")?,
            description: rows::get(row, "description")?,
            hypothesis: rows::get(row, "hypothesis")?,
            owner: rows::get(row, "owner")?,
            primary_metric: rows::get::<Option<&str>>(row, "primary_metric")?
                .map(|json| parse(json, "primary_metric"))
                .transpose()?,
            guardrail_metrics: parse(rows::get(row, "guardrail_metrics")?, "guardrail_metrics")?,
        },
        design: Design {
            arms: arms(row)?,
            audience: parse(rows::get(row, "audience")?, "audience")?,
            allocation: small(row, "allocation")?,
            attribute: rows::get(row, "attribute")?,
            sticky: rows::get(row, "sticky")?,
            layer: layer.transpose()?,
            before_rule: before_rule
                .map(key::Rule::new)
                .transpose()
                .map_err(|violations| rows::corrupt("before_rule", violations))?,
        },
        layer_part: layer_salt
            .zip(range)
            .map(|(salt, (start, end))| LayerPart { salt, start, end }),
        salt: rows::get(row, "salt")?,
        largest_allocation: small(row, "largest_allocation")?,
        iterations: parse::<Vec<Iteration>>(rows::get(row, "iterations")?, "iterations")?,
        winner: winner
            .map(key::Variant::new)
            .transpose()
            .map_err(|violations| rows::corrupt("winner", violations))?,
        started_at: rows::get(row, "started_at")?,
        stopped_at: rows::get(row, "stopped_at")?,
        created_at: rows::get(row, "created_at")?,
        updated_at: rows::get(row, "updated_at")?,
        etag: etag([id, version]),
    };
    Ok(ExperimentRow {
        id,
        flag_id: rows::get(row, "flag_id")?,
        version,
        form: form.map(Bytes::copy_from_slice),
        form_version: rows::number(row, "form_version")?,
        experiment,
    })
}

fn arms(row: &Row) -> Result<Vec<Arm>, Error> {
    let (variants, weights): (Vec<&str>, Vec<i32>) = (rows::get(row, "variants")?, rows::get(row, "weights")?);
    let controls: Vec<bool> = rows::get(row, "controls")?;
    let arms = variants.into_iter().zip(weights).zip(controls);
    arms.map(|((variant, weight), control)| {
        Ok(Arm {
            variant: key::Variant::new(variant).map_err(|violations| rows::corrupt("variants", violations))?,
            weight: u32::try_from(weight).map_err(|_| rows::corrupt("weights", Flaw::Range))?,
            control,
        })
    })
    .collect()
}

/// A number that is never negative.
pub(super) fn small(row: &Row, column: &'static str) -> Result<u32, Error> {
    u32::try_from(rows::get::<i32>(row, column)?).map_err(|_| rows::corrupt(column, Flaw::Range))
}

/// The same, where the column may be null.
pub(super) fn small_option(row: &Row, column: &'static str) -> Result<Option<u32>, Error> {
    let number = rows::get::<Option<i32>>(row, column)?.map(u32::try_from).transpose();
    number.map_err(|_| rows::corrupt(column, Flaw::Range))
}

/// A number as PostgreSQL keeps it. What is checked is smaller than that.
pub(super) fn to_sql(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn parse<T: DeserializeOwned>(json: &str, column: &'static str) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|_| rows::corrupt(column, Flaw::Range))
}

impl ExperimentRow {
    /// What is evaluated of it. `None`: it is not running.
    pub(super) fn running(&self) -> Option<Running> {
        let Experiment {
            flag,
            state,
            design,
            layer_part,
            salt,
            largest_allocation,
            iterations,
            ..
        } = &self.experiment;
        if *state != State::Running {
            return None;
        }
        let share = |arm: &Arm| Weighted {
            variant: arm.variant.clone(),
            weight: arm.weight,
        };
        Some(Running {
            flag: flag.clone(),
            salt: *salt,
            iteration: iterations.last().map_or(1, |iteration| iteration.number),
            arms: design.arms.iter().map(share).collect(),
            audience: design.audience.clone(),
            allocation: design.allocation,
            largest_allocation: *largest_allocation,
            attribute: design.attribute.clone(),
            sticky: design.sticky,
            layer: *layer_part,
            before_rule: design.before_rule.clone(),
        })
    }

    /// Its item. `None`: it is deleted.
    pub(super) fn item(&self, version: u64, form: Option<Bytes>) -> Item {
        let Experiment { flag, key, .. } = &self.experiment;
        let id = ItemId {
            kind: Kind::Experiment,
            key: experiment::item(flag.as_str(), key.as_str()),
        };
        Item { id, version, form }
    }

    /// Whether somebody edited what is evaluated of it: its form is not what its columns say.
    pub(super) fn is_edited(&self) -> bool {
        let evaluated = self.form.as_deref().map(form::read_experiment);
        match (evaluated, self.running()) {
            (Some(Ok(evaluated)), Some(running)) => evaluated != running,
            (None, None) => false,
            (Some(_), _) | (None, Some(_)) => true,
        }
    }

    /// Notes what is evaluated of it, as this version would write it, if that is another than it was. What is as it was keeps its form,
    /// which somebody may have edited, and the form its version.
    pub(super) fn renew_form(&mut self, before: &Self, version: u64) {
        let running = self.running();
        if running != before.running() {
            self.form = running.map(|running| Bytes::from(form::write_experiment(&running)));
            self.form_version = version;
        }
    }
}
