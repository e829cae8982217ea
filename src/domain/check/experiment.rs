//! An experiment's design, what people know of it, and what of it may change while it runs.

use std::collections::HashSet;

use super::ExperimentSurroundings;
use super::condition::{Conditions, attribute_name};
use super::part::{self, text};
use super::serve;
use crate::domain::context::own_attribute;
use crate::domain::experiment::{Arm, Design, LayerShare, Metadata, Metric, State, WHOLE};
use crate::domain::flag::Definition;
use crate::domain::invalid::Violations;
use crate::domain::{draft, key, limits};

pub(super) fn design(draft: &draft::Experiment, around: &ExperimentSurroundings<'_>) -> Result<Design, Violations> {
    let draft::Experiment {
        arms,
        audience,
        allocation,
        attribute,
        sticky,
        layer,
        before_rule,
    } = draft;
    let mut violations = Violations::new();
    let arms = check_arms(&mut violations, arms, around.flag);
    let mut checker = Conditions::new(around.segments);
    let audience = checker.check_at(&mut violations, "audience", audience);
    checker.too_many(&mut violations, "audience");
    millionths(&mut violations, "allocation_millionths", *allocation);
    if let Some(attribute) = attribute {
        attribute_name(&mut violations, "unit_attribute", attribute);
    }
    let (layer, attribute) = check_layer(&mut violations, layer.as_ref(), attribute.as_ref(), around);
    let before_rule = before_rule
        .as_ref()
        .and_then(|rule| violations.take("before_rule", known_rule(rule, around)));
    let design = Design {
        arms,
        audience,
        allocation: *allocation,
        attribute,
        sticky: *sticky,
        layer,
        before_rule,
    };
    // What the form adds to it is a few keys and numbers.
    let bytes = serde_json::to_vec(&design.audience).map_or(usize::MAX, |json| json.len());
    if bytes > limits::FORM_BYTES / 2 {
        let limit = limits::FORM_BYTES / 2;
        violations.add(
            "audience",
            format!("is larger than {limit} bytes in all; put long lists into segments"),
        );
    }
    violations.or(design)
}

fn check_arms(violations: &mut Violations, drafts: &[draft::Arm], flag: &Definition) -> Vec<Arm> {
    let mut seen = HashSet::new();
    let arms = part::list(violations, "arms", drafts, limits::VARIANTS, |draft| {
        let draft::Arm {
            variant,
            weight,
            control,
        } = draft;
        let mut violations = Violations::new();
        let key = violations.take("variant", serve::variant(variant, flag));
        if !seen.insert(variant.clone()) {
            violations.add("variant", "is there twice; give it one weight");
        }
        if *weight == 0 {
            violations.add(
                "weight",
                "is zero; an arm that nobody is given is none, leave it out or give it a weight",
            );
        }
        match key {
            Some(variant) => violations.or(Arm {
                variant,
                weight: *weight,
                control: *control,
            }),
            None => Err(violations),
        }
    });
    if drafts.len() < 2 {
        violations.add("arms", "are fewer than two; there is nothing to compare");
    }
    let controls = drafts.iter().filter(|arm| arm.control).count();
    if controls != 1 && !drafts.is_empty() {
        violations.add(
            "arms",
            format!("have {controls} controls; mark the one that the others are compared with"),
        );
    }
    let total: u64 = drafts.iter().map(|arm| u64::from(arm.weight)).sum();
    if total > limits::TOTAL_WEIGHT {
        let limit = limits::TOTAL_WEIGHT;
        violations.add("arms", format!("have weights that sum to more than {limit}"));
    }
    arms
}

fn millionths(violations: &mut Violations, field: &str, share: u32) {
    if share == 0 || share > WHOLE {
        violations.add(field, format!("is {share}; it must be from 1 to {WHOLE}, the whole"));
    }
}

/// The layer, and the attribute that is the unit: units of different kinds could not exclude each other.
fn check_layer(
    violations: &mut Violations,
    layer: Option<&(String, u32)>,
    attribute: Option<&String>,
    around: &ExperimentSurroundings<'_>,
) -> (Option<LayerShare>, Option<String>) {
    let own = attribute.and_then(|name| own_attribute(name));
    let Some((layer, share)) = layer else {
        return (None, own.map(ToOwned::to_owned));
    };
    millionths(violations, "layer_share_millionths", *share);
    let of_layer = around.layers.get(layer);
    let known = |_: &key::Layer| of_layer.is_some();
    let checked = violations.take("layer", part::known(layer, known, "a layer of the environment"));
    let of_layer = of_layer.cloned().flatten();
    if checked.is_some() && attribute.is_some() && own != of_layer.as_deref() {
        let unit = of_layer.as_deref().unwrap_or("the targeting key");
        violations.add(
            "unit_attribute",
            format!("is not that of the layer, {unit}; leave it out, or the experiments could not exclude each other"),
        );
    }
    (checked.map(|layer| LayerShare { layer, share: *share }), of_layer)
}

fn known_rule(rule: &str, around: &ExperimentSurroundings<'_>) -> Result<key::Rule, Violations> {
    let known = |key: &key::Rule| around.rules.iter().any(|rule| rule.key == *key);
    part::known(rule, known, "a rule of the flag in this environment")
}

/// Checks what people know of an experiment; paths begin at its fields.
pub fn experiment_metadata(metadata: &Metadata) -> Result<(), Violations> {
    let Metadata {
        name,
        description,
        hypothesis,
        owner,
        primary_metric,
        guardrail_metrics,
    } = metadata;
    let mut violations = Violations::new();
    text(&mut violations, "name", name, limits::NAME_CHARS);
    text(&mut violations, "description", description, limits::DESCRIPTION_CHARS);
    text(&mut violations, "hypothesis", hypothesis, limits::DESCRIPTION_CHARS);
    text(&mut violations, "owner", owner, limits::NAME_CHARS);
    let mut seen: HashSet<_> = primary_metric.iter().map(|metric: &Metric| &metric.key).collect();
    let guardrails = "guardrail_metrics";
    part::at_most(
        &mut violations,
        guardrails,
        guardrail_metrics.len(),
        limits::GUARDRAIL_METRICS,
    );
    for (n, metric) in guardrail_metrics.iter().enumerate().take(limits::GUARDRAIL_METRICS) {
        if !seen.insert(&metric.key) {
            violations.add(
                format!("{guardrails}[{n}].key"),
                format!("names {} again; name each metric once", metric.key),
            );
        }
    }
    violations.or(())
}

/// Checks whether an experiment that stands there may change from one design to the other.
pub fn experiment_change(state: State, before: &Design, after: &Design) -> Result<(), Violations> {
    let mut violations = Violations::new();
    match state {
        State::Draft => {}
        State::Running | State::Paused => {
            let started = "cannot change once the experiment was started: make another experiment";
            let of = |design: &Design| -> Vec<_> {
                let arms = design.arms.iter();
                arms.map(|arm| (arm.variant.clone(), arm.control)).collect()
            };
            if of(before) != of(after) {
                violations.add("arms", format!("{started}; of its arms only the weights may"));
            }
            if before.attribute != after.attribute {
                violations.add("unit_attribute", started);
            }
            if before.sticky != after.sticky {
                violations.add("without_storage", started);
            }
            let layer = |design: &Design| design.layer.as_ref().map(|part| part.layer.clone());
            if layer(before) != layer(after) {
                violations.add("layer", started);
            } else if before.layer != after.layer {
                violations.add("layer_share_millionths", started);
            }
        }
        State::Stopped => {
            if before != after {
                violations.add("", "is stopped: its design cannot change; make another experiment");
            }
        }
    }
    violations.or(())
}
