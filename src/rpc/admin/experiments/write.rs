//! What callers are told of experiments and layers.

use crate::domain::experiment::{Arm, Design, Goal, LayerShare, Metadata, Metric, MetricKind, State};
use crate::pb::admin::v1 as pb;
use crate::rpc::convert::common::timestamp;
use crate::rpc::convert::flag::write_condition;
use crate::store::experiments::assignments::StoredAssignment;
use crate::store::experiments::layers::{Layer, Part};
use crate::store::experiments::{Experiment, Iteration};

fn write_state(state: State) -> pb::ExperimentState {
    match state {
        State::Draft => pb::ExperimentState::Draft,
        State::Running => pb::ExperimentState::Running,
        State::Paused => pb::ExperimentState::Paused,
        State::Stopped => pb::ExperimentState::Stopped,
    }
}

fn write_metric(metric: &Metric) -> pb::Metric {
    let Metric { key, kind, goal } = metric;
    let kind = match kind {
        MetricKind::Conversion => pb::MetricKind::Conversion,
        MetricKind::Value => pb::MetricKind::Value,
        MetricKind::Count => pb::MetricKind::Count,
    };
    let goal = match goal {
        Goal::Increase => pb::MetricGoal::Increase,
        Goal::Decrease => pb::MetricGoal::Decrease,
    };
    pb::Metric {
        key: key.to_string(),
        kind: kind.into(),
        goal: goal.into(),
    }
}

fn write_iteration(iteration: &Iteration) -> pb::Iteration {
    let Iteration {
        number,
        weights,
        allocation,
        started_at,
        ended_at,
    } = iteration;
    pb::Iteration {
        number: *number,
        weights: weights.clone(),
        allocation_millionths: *allocation,
        start_time: Some(timestamp(*started_at)),
        end_time: ended_at.map(timestamp),
    }
}

fn write_arm(arm: &Arm) -> pb::Arm {
    let Arm {
        variant,
        weight,
        control,
    } = arm;
    pb::Arm {
        variant: variant.to_string(),
        weight: *weight,
        control: *control,
    }
}

pub(super) fn write(experiment: &Experiment) -> pb::Experiment {
    let Experiment {
        project,
        environment,
        key,
        flag,
        state,
        metadata,
        design,
        layer_part: _,
        salt,
        largest_allocation,
        iterations,
        winner,
        started_at,
        stopped_at,
        created_at,
        updated_at,
        etag,
    } = experiment;
    let Metadata {
        name,
        description,
        hypothesis,
        owner,
        primary_metric,
        guardrail_metrics,
    } = metadata.clone();
    let Design {
        arms,
        audience,
        allocation,
        attribute,
        sticky,
        layer,
        before_rule,
    } = design;
    let (layer, share) = layer
        .as_ref()
        .map(|LayerShare { layer, share }| (layer.to_string(), *share))
        .unwrap_or_default();
    pb::Experiment {
        project: project.to_string(),
        environment: environment.to_string(),
        key: key.to_string(),
        flag: flag.to_string(),
        name,
        description,
        hypothesis,
        owner,
        arms: arms.iter().map(write_arm).collect(),
        audience: audience.iter().map(write_condition).collect(),
        allocation_millionths: *allocation,
        unit_attribute: attribute.clone().unwrap_or_default(),
        without_storage: !sticky,
        layer,
        layer_share_millionths: share,
        before_rule: before_rule.as_ref().map(ToString::to_string).unwrap_or_default(),
        primary_metric: primary_metric.as_ref().map(write_metric),
        guardrail_metrics: guardrail_metrics.iter().map(write_metric).collect(),
        state: write_state(*state).into(),
        iterations: iterations.iter().map(write_iteration).collect(),
        winner: winner.as_ref().map(ToString::to_string).unwrap_or_default(),
        largest_allocation_millionths: *largest_allocation,
        salt: salt.to_string(),
        create_time: Some(timestamp(*created_at)),
        update_time: Some(timestamp(*updated_at)),
        start_time: started_at.map(timestamp),
        stop_time: stopped_at.map(timestamp),
        etag: etag.clone(),
    }
}

pub(super) fn write_layer(layer: &Layer) -> pb::Layer {
    let free_millionths = layer.free();
    let Layer {
        project,
        environment,
        key,
        name,
        description,
        attribute,
        salt: _,
        parts,
        created_at,
        etag,
    } = layer;
    let share = |Part { experiment, start, end }: &Part| pb::LayerShare {
        experiment: experiment.to_string(),
        start: *start,
        end: *end,
    };
    pb::Layer {
        project: project.to_string(),
        environment: environment.to_string(),
        key: key.to_string(),
        name: name.clone(),
        description: description.clone(),
        unit_attribute: attribute.clone().unwrap_or_default(),
        shares: parts.iter().map(share).collect(),
        free_millionths,
        create_time: Some(timestamp(*created_at)),
        etag: etag.clone(),
    }
}

pub(super) fn write_assignment(assignment: &StoredAssignment) -> pb::Assignment {
    let StoredAssignment {
        experiment,
        unit,
        arm,
        iteration,
        assigned_at,
    } = assignment;
    pb::Assignment {
        experiment: experiment.to_string(),
        unit: unit.clone(),
        arm: arm.to_string(),
        iteration: *iteration,
        assign_time: Some(timestamp(*assigned_at)),
    }
}
