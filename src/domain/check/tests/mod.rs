//! What is refused, where and with which words, and what is not.

mod conditions;
mod configurations;
mod definitions;
mod dependencies;
mod segments;
mod warnings;

use std::collections::{HashMap, HashSet};

use super::*;
use crate::domain::draft::{Condition, Rule, Serve};
use crate::domain::flag::Variant;
use crate::domain::graph::Graph;
use crate::domain::key;
use crate::domain::rule::{Operand, Operator};
use crate::domain::value::{Value, ValueType};

/// A flag with the variants `on` and `off`.
fn flag(key: &str) -> Definition {
    let variants = [("on", true), ("off", false)].map(|(key, value)| Variant {
        key: key::Variant::new(key).unwrap(),
        value: Value::Bool(value),
        description: String::new(),
    });
    Definition {
        key: key::Flag::new(key).unwrap(),
        value_type: ValueType::Bool,
        variants: variants.into(),
        off_variant: None,
        default_variant: None,
        client_visible: false,
    }
}

/// The flags `f` and `g`, and the segments `beta` and `staff`. `f` is what is configured.
struct World {
    flag: Definition,
    flags: HashMap<String, Definition>,
    prerequisites: Graph,
    segments: HashSet<String>,
}

impl World {
    fn new() -> Self {
        Self {
            flag: flag("f"),
            flags: ["f", "g"].map(|key| (key.to_owned(), flag(key))).into(),
            prerequisites: Graph::new(),
            segments: ["beta", "staff"].map(str::to_owned).into(),
        }
    }

    fn check(&self, draft: &draft::Configuration) -> Result<Checked<Configuration>, Violations> {
        configuration(
            draft,
            &Surroundings {
                flag: &self.flag,
                flags: &self.flags,
                prerequisites: &self.prerequisites,
                segments: &self.segments,
            },
        )
    }
}

/// `field: description` of everything that is wrong.
fn told<T>(result: Result<T, Violations>) -> Vec<String> {
    let violations = result.err().unwrap_or_default();
    violations
        .iter()
        .map(|violation| format!("{}: {}", violation.field, violation.description))
        .collect()
}

fn fields<T>(result: Result<T, Violations>) -> Vec<String> {
    let violations = result.err().unwrap_or_default();
    violations.iter().map(|violation| violation.field.clone()).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "it gives what drafts take")]
fn text(text: &str) -> Option<Operand> {
    Some(Operand::String(text.to_owned()))
}

fn asking<const N: usize>(attribute: &str, operator: Operator, values: [Option<Operand>; N]) -> Condition {
    Condition {
        attribute: attribute.to_owned(),
        operator: Some(operator),
        values: values.into(),
        negated: false,
    }
}

fn rule(key: &str, conditions: Vec<Condition>) -> Rule {
    Rule {
        key: key.to_owned(),
        conditions,
        serve: Serve::Variant("on".to_owned()),
        ..Rule::default()
    }
}

fn with_rules(rules: Vec<Rule>) -> draft::Configuration {
    draft::Configuration {
        rules,
        ..draft::Configuration::default()
    }
}
