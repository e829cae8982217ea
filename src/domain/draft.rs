//! What someone proposes to write, before it is checked: the same shape as what it will be, but anything may be wrong with it.
//!
//! `check` turns drafts into the types of [`flag`](super::flag) and [`segment`](super::segment), or tells everything that is
//! wrong at once. Nothing here is stored or evaluated.

use super::rule::{Operand, Operator};

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
