//! What callers say of experiments and layers.

use crate::domain::context::own_attribute;
use crate::domain::experiment::{Goal, Metadata, Metric, MetricKind, State};
use crate::domain::invalid::Violations;
use crate::domain::{check, draft, key, limits};
use crate::pb::admin::v1 as pb;
use crate::rpc::admin::name_or;
use crate::rpc::convert::common::{Mask, finish, key, place};
use crate::rpc::convert::flag::{list, read_conditions};
use crate::store::experiments::layers::NewLayer;
use crate::store::experiments::{ExperimentPatch, NewExperiment};

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
        attribute: own_attribute(&unit_attribute).map(ToOwned::to_owned),
    });
    finish(violations, new)
}
