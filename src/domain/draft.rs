//! What someone proposes to write, before it is checked: the same shape as what it will be, but anything may be wrong with it.
//!
//! `check` turns drafts into the types of [`flag`], [`segment`] and [`experiment`], or tells everything that is
//! wrong at once. Nothing here is stored or evaluated.

use super::invalid::Violations;
use super::rule::{self, Operand, Operator, Weighted};
use super::value::{Value, ValueType};
use super::{experiment, flag, segment};

/// A definition to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The flag's key.
    pub key: String,
    /// The type of every variant. `None`: not said, or unknown to this version.
    pub value_type: Option<ValueType>,
    /// In their order.
    pub variants: Vec<Variant>,
    /// The key of what is served while the flag is off. `None`: no value.
    pub off_variant: Option<String>,
    /// The key of what is served by default. `None`: the off variant.
    pub default_variant: Option<String>,
    /// Whether client keys may evaluate it.
    pub client_visible: bool,
}

/// A variant to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Its key.
    pub key: String,
    /// What is served, or why what was said cannot be; paths begin beside `key`.
    pub value: Result<Value, Violations>,
    /// For people. Empty: none.
    pub description: String,
}

/// A configuration to be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Configuration {
    /// Whether the flag is to be on.
    pub enabled: bool,
    /// Other flags that must serve certain variants.
    pub prerequisites: Vec<Prerequisite>,
    /// In their order.
    pub rules: Vec<Rule>,
    /// Served when no rule holds. `None`: the flag's default variant.
    pub default: Option<Serve>,
    /// What splits are salted with. `None`: the flag's key.
    pub salt: Option<String>,
}

/// A prerequisite to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prerequisite {
    /// The other flag's key.
    pub flag: String,
    /// The keys of variants of which it must serve one.
    pub variants: Vec<String>,
}

/// A rule to be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rule {
    /// Its key. Empty: one is made up from its place.
    pub key: String,
    /// For people. Empty: none.
    pub description: String,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What to serve.
    pub serve: Serve,
}

/// A condition to be.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Condition {
    /// A name or path; empty for segments.
    pub attribute: String,
    /// How to compare. `None`: not said, or unknown to this version.
    pub operator: Option<Operator>,
    /// What to compare with. `None`: neither a string nor a number nor a bool.
    pub values: Vec<Option<Operand>>,
    /// Whether it holds if the operator does not.
    pub negated: bool,
}

/// What to serve.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Serve {
    /// Not said.
    #[default]
    Nothing,
    /// The key of one variant for everyone.
    Variant(String),
    /// Variants shared out by weight.
    Split(Split),
}

/// A split to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Split {
    /// Variants' keys with their weights, in their written order.
    pub variants: Vec<(String, u32)>,
    /// The attribute that buckets. `None`: the targeting key.
    pub attribute: Option<String>,
}

/// A segment's configuration to be; its key list is not written with it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Segment {
    /// Targeting keys that belong to it.
    pub included: Vec<String>,
    /// Targeting keys that do not.
    pub excluded: Vec<String>,
    /// The keys of segments that it is made of.
    pub segments: Vec<String>,
    /// Whoever satisfies them all belongs to it.
    pub conditions: Vec<Condition>,
}

/// What an experiment is to compare, and on whom.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Experiment {
    /// In their written order.
    pub arms: Vec<Arm>,
    /// Whoever satisfies them all is asked.
    pub audience: Vec<Condition>,
    /// Millionths of the audience that take part.
    pub allocation: u32,
    /// The attribute that is the unit. `None`: the layer's, or the targeting key.
    pub attribute: Option<String>,
    /// Whether assignments are stored.
    pub sticky: bool,
    /// The key of a layer, and how many millionths of its space.
    pub layer: Option<(String, u32)>,
    /// The key of the rule before which it is asked.
    pub before_rule: Option<String>,
}

/// An arm to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arm {
    /// The key of a variant.
    pub variant: String,
    /// Its weight.
    pub weight: u32,
    /// Whether it is the control.
    pub control: bool,
}

impl From<&flag::Definition> for Definition {
    fn from(definition: &flag::Definition) -> Self {
        let flag::Definition {
            key,
            value_type,
            variants,
            off_variant,
            default_variant,
            client_visible,
        } = definition;
        Self {
            key: key.to_string(),
            value_type: Some(*value_type),
            variants: variants.iter().map(Variant::from).collect(),
            off_variant: off_variant.as_ref().map(ToString::to_string),
            default_variant: default_variant.as_ref().map(ToString::to_string),
            client_visible: *client_visible,
        }
    }
}

impl From<&flag::Variant> for Variant {
    fn from(variant: &flag::Variant) -> Self {
        let flag::Variant {
            key,
            value,
            description,
        } = variant;
        Self {
            key: key.to_string(),
            value: Ok(value.clone()),
            description: description.clone(),
        }
    }
}

impl From<&flag::Configuration> for Configuration {
    fn from(configuration: &flag::Configuration) -> Self {
        let flag::Configuration {
            enabled,
            prerequisites,
            rules,
            default,
            salt,
        } = configuration;
        Self {
            enabled: *enabled,
            prerequisites: prerequisites.iter().map(Prerequisite::from).collect(),
            rules: rules.iter().map(Rule::from).collect(),
            default: default.as_ref().map(Serve::from),
            salt: salt.clone(),
        }
    }
}

impl From<&flag::Prerequisite> for Prerequisite {
    fn from(prerequisite: &flag::Prerequisite) -> Self {
        let flag::Prerequisite { flag, variants } = prerequisite;
        Self {
            flag: flag.to_string(),
            variants: variants.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&rule::Rule> for Rule {
    fn from(rule: &rule::Rule) -> Self {
        let rule::Rule {
            key,
            description,
            conditions,
            serve,
        } = rule;
        Self {
            key: key.to_string(),
            description: description.clone(),
            conditions: conditions.iter().map(Condition::from).collect(),
            serve: serve.into(),
        }
    }
}

impl From<&rule::Condition> for Condition {
    fn from(condition: &rule::Condition) -> Self {
        let rule::Condition {
            attribute,
            operator,
            values,
            negated,
        } = condition;
        Self {
            attribute: attribute.clone(),
            operator: Some(*operator),
            values: values.iter().cloned().map(Some).collect(),
            negated: *negated,
        }
    }
}

impl From<&rule::Serve> for Serve {
    fn from(serve: &rule::Serve) -> Self {
        match serve {
            rule::Serve::Variant(variant) => Self::Variant(variant.to_string()),
            rule::Serve::Split(rule::Split { variants, attribute }) => Self::Split(Split {
                variants: variants
                    .iter()
                    .map(|Weighted { variant, weight }| (variant.to_string(), *weight))
                    .collect(),
                attribute: attribute.clone(),
            }),
        }
    }
}

impl From<&segment::Configuration> for Segment {
    fn from(configuration: &segment::Configuration) -> Self {
        let segment::Configuration {
            included,
            excluded,
            segments,
            conditions,
            // Written by activating an upload, and by nothing else.
            key_list: _,
        } = configuration;
        Self {
            included: included.clone(),
            excluded: excluded.clone(),
            segments: segments.iter().map(ToString::to_string).collect(),
            conditions: conditions.iter().map(Condition::from).collect(),
        }
    }
}

impl From<&experiment::Design> for Experiment {
    fn from(design: &experiment::Design) -> Self {
        let experiment::Design {
            arms,
            audience,
            allocation,
            attribute,
            sticky,
            layer,
            before_rule,
        } = design;
        Self {
            arms: arms.iter().map(Arm::from).collect(),
            audience: audience.iter().map(Condition::from).collect(),
            allocation: *allocation,
            attribute: attribute.clone(),
            sticky: *sticky,
            layer: layer.as_ref().map(|part| (part.layer.to_string(), part.share)),
            before_rule: before_rule.as_ref().map(ToString::to_string),
        }
    }
}

impl From<&experiment::Arm> for Arm {
    fn from(arm: &experiment::Arm) -> Self {
        let experiment::Arm {
            variant,
            weight,
            control,
        } = arm;
        Self {
            variant: variant.to_string(),
            weight: *weight,
            control: *control,
        }
    }
}
