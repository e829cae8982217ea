//! What callers say of experiments and layers, and what they are told.

use crate::domain::experiment::{Arm, Design, Goal, LayerShare, Metadata, Metric, MetricKind, State};
use crate::domain::invalid::Violations;
use crate::domain::{check, draft, key, limits};
use crate::pb::admin::v1 as pb;
use crate::rpc::admin::name_or;
use crate::rpc::convert::common::{Mask, finish, key, place, timestamp};
use crate::rpc::convert::flag::{list, read_conditions, write_condition};
use crate::store::experiments::assignments::StoredAssignment;
use crate::store::experiments::layers::{Layer, NewLayer, Part};
use crate::store::experiments::{Experiment, ExperimentPatch, Iteration, NewExperiment};

/// One thing in an environment.
pub(super) struct Place<K> {
    pub(super) project: key::Project,
    pub(super) environment: key::Environment,
    pub(super) named: K,
}

/// Where a thing is, as the thing says itself.
pub(super) fn read_place(project: &str, environment: &str) -> Result<(key::Project, key::Environment), Violations> {
    let mut violations = Violations::new();
    let place = place(&mut violations, project, environment);
    finish(violations, place)
}

/// What a caller says of an experiment.
struct Said {
    key: Option<key::Experiment>,
    flag: String,
    metadata: Metadata,
    design: draft::Experiment,
}

fn read(violations: &mut Violations, experiment: pb::Experiment) -> Said {
    let pb::Experiment {
        project: _,
        environment: _,
        key: own_key,
        flag,
        name,
        description,
        hypothesis,
        owner,
        arms,
        audience,
        allocation_millionths,
        unit_attribute,
        without_storage,
        layer,
        layer_share_millionths,
        before_rule,
        primary_metric,
        guardrail_metrics,
        state: _,
        iterations: _,
        winner: _,
        largest_allocation_millionths: _,
        salt: _,
        create_time: _,
        update_time: _,
        start_time: _,
        stop_time: _,
        etag: _,
    } = experiment;
    let key: Option<key::Experiment> = key(violations, "key", &own_key);
    let some = |text: String| (!text.is_empty()).then_some(text);
    let primary_metric = primary_metric.and_then(|metric| violations.take("primary_metric", read_metric(metric)));
    if guardrail_metrics.len() > limits::GUARDRAIL_METRICS {
        let limit = limits::GUARDRAIL_METRICS;
        violations.add(
            "guardrail_metrics",
            format!("has more entries than the limit of {limit}"),
        );
    }
    let guardrail_metrics = guardrail_metrics
        .into_iter()
        .take(limits::GUARDRAIL_METRICS)
        .enumerate();
    let guardrail_metrics = guardrail_metrics
        .filter_map(|(n, metric)| violations.take(&format!("guardrail_metrics[{n}]"), read_metric(metric)));
    let guardrail_metrics = guardrail_metrics.collect();
    Said {
        metadata: Metadata {
            name: name_or(name, key.as_ref()),
            description,
            hypothesis,
            owner,
            primary_metric,
            guardrail_metrics,
        },
        design: draft::Experiment {
            arms: list(arms, limits::VARIANTS, read_arm),
            audience: read_conditions(audience),
            allocation: allocation_millionths,
            attribute: some(unit_attribute),
            sticky: !without_storage,
            layer: some(layer).map(|layer| (layer, layer_share_millionths)),
            before_rule: some(before_rule),
        },
        key,
        flag,
    }
}

fn read_arm(arm: pb::Arm) -> draft::Arm {
    let pb::Arm {
        variant,
        weight,
        control,
    } = arm;
    draft::Arm {
        variant,
        weight,
        control,
    }
}

fn read_metric(metric: pb::Metric) -> Result<Metric, Violations> {
    let pb::Metric {
        key: own_key,
        kind,
        goal,
    } = metric;
    let mut violations = Violations::new();
    let key = key(&mut violations, "key", &own_key);
    let kind = match pb::MetricKind::try_from(kind) {
        Ok(pb::MetricKind::Conversion) => Some(MetricKind::Conversion),
        Ok(pb::MetricKind::Value) => Some(MetricKind::Value),
        Ok(pb::MetricKind::Count) => Some(MetricKind::Count),
        Ok(pb::MetricKind::Unspecified) | Err(_) => {
            violations.add("kind", "is not said: conversion, value or count");
            None
        }
    };
    let goal = match pb::MetricGoal::try_from(goal) {
        Ok(pb::MetricGoal::Unspecified | pb::MetricGoal::Increase) => Some(Goal::Increase),
        Ok(pb::MetricGoal::Decrease) => Some(Goal::Decrease),
        Err(_) => {
            violations.add("goal", "is not one that this version knows");
            None
        }
    };
    let metric = key.zip(kind).zip(goal);
    finish(violations, metric.map(|((key, kind), goal)| Metric { key, kind, goal }))
}

pub(super) fn read_new(experiment: pb::Experiment, strict: bool) -> Result<NewExperiment, Violations> {
    let mut violations = Violations::new();
    let Said {
        key: own_key,
        flag,
        metadata,
        design,
    } = read(&mut violations, experiment);
    let flag = key(&mut violations, "flag", &flag);
    let new = own_key.zip(flag).map(|(key, flag)| NewExperiment {
        key,
        flag,
        metadata,
        design,
        strict,
    });
    finish(violations, new)
}

pub(super) fn read_patch(
    experiment: pb::Experiment,
    mask: &Mask<'_>,
    strict: bool,
) -> Result<(key::Experiment, ExperimentPatch), Violations> {
    let mut violations = Violations::new();
    let Said {
        key,
        flag: _,
        metadata,
        design,
    } = read(&mut violations, experiment);
    let Metadata {
        name,
        description,
        hypothesis,
        owner,
        primary_metric,
        guardrail_metrics,
    } = metadata;
    let draft::Experiment {
        arms,
        audience,
        allocation,
        attribute,
        sticky,
        layer,
        before_rule,
    } = design;
    let (layer, share) = layer.unwrap_or_default();
    let patch = ExperimentPatch {
        name: mask.pick("name", name),
        description: mask.pick("description", description),
        hypothesis: mask.pick("hypothesis", hypothesis),
        owner: mask.pick("owner", owner),
        primary_metric: mask.pick("primary_metric", primary_metric),
        guardrail_metrics: mask.pick("guardrail_metrics", guardrail_metrics),
        arms: mask.pick("arms", arms),
        audience: mask.pick("audience", audience),
        allocation: mask.pick("allocation_millionths", allocation),
        attribute: mask.pick("unit_attribute", attribute),
        sticky: mask.pick("without_storage", sticky),
        layer: mask.pick("layer", layer),
        layer_share: mask.pick("layer_share_millionths", share),
        before_rule: mask.pick("before_rule", before_rule),
        strict,
    };
    finish(violations, key.map(|key| (key, patch)))
}

/// Reads a state to filter by. `None`: any.
pub(super) fn read_state(violations: &mut Violations, state: i32) -> Option<State> {
    match pb::ExperimentState::try_from(state) {
        Ok(pb::ExperimentState::Unspecified) => None,
        Ok(pb::ExperimentState::Draft) => Some(State::Draft),
        Ok(pb::ExperimentState::Running) => Some(State::Running),
        Ok(pb::ExperimentState::Paused) => Some(State::Paused),
        Ok(pb::ExperimentState::Stopped) => Some(State::Stopped),
        Err(_) => {
            violations.add("state", "is not a state that this version knows");
            None
        }
    }
}

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

pub(super) fn read_layer(layer: pb::Layer) -> Result<NewLayer, Violations> {
    let pb::Layer {
        project: _,
        environment: _,
        key: own_key,
        name,
        description,
        unit_attribute,
        shares: _,
        free_millionths: _,
        create_time: _,
        etag: _,
    } = layer;
    let mut violations = Violations::new();
    let key: Option<key::Layer> = key(&mut violations, "key", &own_key);
    let name = name_or(name, key.as_ref());
    check::text(&mut violations, "name", &name, limits::NAME_CHARS);
    check::text(&mut violations, "description", &description, limits::DESCRIPTION_CHARS);
    check::text(
        &mut violations,
        "unit_attribute",
        &unit_attribute,
        limits::ATTRIBUTE_CHARS,
    );
    let new = key.map(|key| NewLayer {
        key,
        name,
        description,
        attribute: (!unit_attribute.is_empty()).then_some(unit_attribute),
    });
    finish(violations, new)
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
