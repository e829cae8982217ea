//! Running experiments, as server clients see them.

use super::flag::{write_condition, write_share};
use crate::domain::experiment::{LayerPart, Running};
use crate::pb::evaluation::v1 as pb;

/// A running experiment as its message.
pub fn write_running(experiment: &str, running: &Running) -> pb::Experiment {
    let Running {
        flag,
        salt,
        iteration,
        arms,
        audience,
        allocation,
        largest_allocation,
        attribute,
        sticky,
        layer,
        before_rule,
    } = running;
    pb::Experiment {
        experiment: experiment.to_owned(),
        flag: flag.to_string(),
        salt: salt.to_string(),
        iteration: *iteration,
        arms: arms.iter().map(write_share).collect(),
        audience: audience.iter().map(write_condition).collect(),
        allocation_millionths: *allocation,
        largest_allocation_millionths: *largest_allocation,
        unit_attribute: attribute.clone().unwrap_or_default(),
        sticky: *sticky,
        layer: layer.map(|LayerPart { salt, start, end }| pb::LayerPart {
            salt: salt.to_string(),
            start,
            end,
        }),
        before_rule: before_rule.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
