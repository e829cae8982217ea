//! Rules: conditions that must all hold, and what to serve then.

use serde::{Deserialize, Serialize};

use super::key;

/// Conditions that must all hold, and what to serve then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique in the configuration.
    pub key: key::Rule,
    /// For people. Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// At least one: a rule for everyone is the default.
    pub conditions: Vec<Condition>,
    /// What to serve.
    pub serve: Serve,
}

/// A comparison of an attribute with values, or a question about segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// A name, or a path into nested objects with dots. Empty for [`Operator::InSegment`], and only there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attribute: String,
    /// How to compare.
    pub operator: Operator,
    /// What to compare with; at least one, but none for [`Operator::Exists`]. Keys of segments for [`Operator::InSegment`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Operand>,
    /// Whether the condition holds if the operator does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub negated: bool,
}

/// How a condition compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// Equal to the one value, of the same type.
    Equals,
    /// Equal to any of the values; values of another type than the attribute's are passed over.
    OneOf,
    /// Contains any of the values, strings.
    Contains,
    /// Starts with any of the values, strings.
    StartsWith,
    /// Ends with any of the values, strings.
    EndsWith,
    /// Matches any of the values, regular expressions, anywhere in the text.
    Matches,
    /// A number equal to the one value.
    NumberEqual,
    /// A number unlike the one value.
    NumberNotEqual,
    /// A number less than the one value.
    NumberLess,
    /// A number at most the one value.
    NumberLessOrEqual,
    /// A number greater than the one value.
    NumberGreater,
    /// A number at least the one value.
    NumberGreaterOrEqual,
    /// A semantic version of the same precedence as the one value.
    VersionEqual,
    /// A semantic version of another precedence than the one value.
    VersionNotEqual,
    /// A semantic version before the one value.
    VersionLess,
    /// A semantic version that is the one value or before it.
    VersionLessOrEqual,
    /// A semantic version after the one value.
    VersionGreater,
    /// A semantic version that is the one value or after it.
    VersionGreaterOrEqual,
    /// A semantic version in the tilde range of the one value: patches may differ.
    VersionTilde,
    /// A semantic version in the caret range of the one value: what is compatible.
    VersionCaret,
    /// A moment before the one value, both RFC 3339.
    Before,
    /// A moment after the one value, both RFC 3339.
    After,
    /// An IP address in any of the values, networks in CIDR notation.
    IpInRange,
    /// The attribute is there, whatever it is.
    Exists,
    /// The context is in any of the segments.
    InSegment,
}

impl Operator {
    /// Every operator, in the order of the documentation.
    pub const ALL: [Self; 25] = [
        Self::Equals,
        Self::OneOf,
        Self::Contains,
        Self::StartsWith,
        Self::EndsWith,
        Self::Matches,
        Self::NumberEqual,
        Self::NumberNotEqual,
        Self::NumberLess,
        Self::NumberLessOrEqual,
        Self::NumberGreater,
        Self::NumberGreaterOrEqual,
        Self::VersionEqual,
        Self::VersionNotEqual,
        Self::VersionLess,
        Self::VersionLessOrEqual,
        Self::VersionGreater,
        Self::VersionGreaterOrEqual,
        Self::VersionTilde,
        Self::VersionCaret,
        Self::Before,
        Self::After,
        Self::IpInRange,
        Self::Exists,
        Self::InSegment,
    ];
}

impl Condition {
    /// The keys of the segments that it asks about. None unless it is [`Operator::InSegment`].
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        let values = match self.operator {
            Operator::InSegment => self.values.as_slice(),
            Operator::Equals
            | Operator::OneOf
            | Operator::Contains
            | Operator::StartsWith
            | Operator::EndsWith
            | Operator::Matches
            | Operator::NumberEqual
            | Operator::NumberNotEqual
            | Operator::NumberLess
            | Operator::NumberLessOrEqual
            | Operator::NumberGreater
            | Operator::NumberGreaterOrEqual
            | Operator::VersionEqual
            | Operator::VersionNotEqual
            | Operator::VersionLess
            | Operator::VersionLessOrEqual
            | Operator::VersionGreater
            | Operator::VersionGreaterOrEqual
            | Operator::VersionTilde
            | Operator::VersionCaret
            | Operator::Before
            | Operator::After
            | Operator::IpInRange
            | Operator::Exists => &[],
        };
        values.iter().filter_map(|value| match value {
            Operand::String(key) => Some(key.as_str()),
            Operand::Bool(_) | Operand::Number(_) => None,
        })
    }
}

/// A value that a condition compares with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Operand {
    /// true or false.
    Bool(bool),
    /// A finite number.
    Number(f64),
    /// Text.
    String(String),
}

/// What a rule or the default serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serve {
    /// One variant for everyone.
    Variant(key::Variant),
    /// Variants shared out by weight.
    Split(Split),
}

/// Variants shared out by weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// In their written order.
    pub variants: Vec<Weighted>,
    /// The attribute that buckets. `None`: the targeting key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
}

/// One share of a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighted {
    /// What is served.
    pub variant: key::Variant,
    /// Relative to the sum of the split's weights. Zero: nobody.
    pub weight: u32,
}

impl Serve {
    /// Every variant that this can serve, weights of zero included.
    pub fn variants(&self) -> impl Iterator<Item = &key::Variant> {
        let (one, many) = match self {
            Self::Variant(variant) => (Some(variant), &[][..]),
            Self::Split(split) => (None, split.variants.as_slice()),
        };
        one.into_iter().chain(many.iter().map(|share| &share.variant))
    }
}
