//! How an answer came about, for people: what was asked, in order, up to what decided.
//!
//! Owned, since it outlives the state that it tells of. What a context has comes with it up to a limit, so that an explanation of a
//! large context by many conditions stays smaller than both.

use std::sync::Arc;

use super::{Outcome, Reason};
use crate::domain::context::Attribute;
use crate::domain::key;
use crate::domain::rule::Operator;

/// How one flag's answer came about. What was not asked is not here.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The flag's key.
    pub flag: Arc<str>,
    /// What was served. `None`: no value.
    pub variant: Option<key::Variant>,
    /// Why.
    pub reason: Reason,
    /// The prerequisites, up to the first that failed.
    pub prerequisites: Vec<Prerequisite>,
    /// The rules, up to the one that served.
    pub rules: Vec<Rule>,
    /// The experiments that were asked, up to the one that served.
    pub experiments: Vec<Experiment>,
    /// How the default's split chose. `None`: the default was not asked, or is no split.
    pub default_split: Option<Split>,
}

/// How a prerequisite was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Prerequisite {
    /// The other flag's key.
    pub flag: key::Flag,
    /// The variants of which it must serve one.
    pub variants: Vec<key::Variant>,
    /// Whether it does.
    pub satisfied: bool,
    /// How its own answer came about. `None`: there is no such flag, too many were asked already, or it lies
    /// [`EXPLANATION_DEPTH`](crate::domain::limits::EXPLANATION_DEPTH) deep.
    pub explanation: Option<Explanation>,
}

/// How an experiment was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiment {
    /// Its key.
    pub experiment: Arc<str>,
    /// How many rules were asked before it.
    pub rules_before: usize,
    /// What became of it.
    pub outcome: ExperimentOutcome,
}

/// What became of an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExperimentOutcome {
    /// The context takes part, and it served.
    Served,
    /// The context lacks the attribute that is the unit, or has an empty text, a list or an object there.
    NoUnit,
    /// A condition of the audience does not hold.
    OutsideAudience,
    /// The unit's place in the layer is not the experiment's.
    OutsideLayer,
    /// The unit is not among those that take part.
    OutsideAllocation,
}

impl From<&Outcome<'_>> for ExperimentOutcome {
    fn from(outcome: &Outcome<'_>) -> Self {
        match outcome {
            Outcome::NoUnit => Self::NoUnit,
            Outcome::OutsideAudience => Self::OutsideAudience,
            Outcome::OutsideLayer => Self::OutsideLayer,
            Outcome::OutsideAllocation => Self::OutsideAllocation,
            Outcome::Assigned(..) => Self::Served,
        }
    }
}

/// How a rule was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its key.
    pub rule: key::Rule,
    /// What became of it.
    pub outcome: RuleOutcome,
    /// Its conditions in order, up to the first that does not hold.
    pub conditions: Vec<Condition>,
    /// How its split chose. `None`: it is no split, or was not asked.
    pub split: Option<Split>,
}

/// What became of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleOutcome {
    /// Its conditions hold and it served.
    Served,
    /// A condition does not hold: the last of those listed.
    NotMatched,
    /// Its conditions hold, but its split has nothing to bucket by.
    NotBucketed,
}

/// How a condition was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The attribute's name or path. Empty: it asks about segments.
    pub attribute: String,
    /// How it compares.
    pub operator: Operator,
    /// Whether it holds if the operator does not.
    pub negated: bool,
    /// What the context has there. `None`: nothing, or too much to repeat it here.
    pub value: Option<Attribute>,
    /// What became of it, negation included.
    pub outcome: ConditionOutcome,
    /// The segments that it asked about, up to the first that the context is in.
    pub segments: Vec<Segment>,
}

/// What became of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionOutcome {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// The context lacks the attribute: it does not hold, negated or not.
    Absent,
    /// The operator cannot ask what the context has there: it does not hold, negated or not.
    WrongType,
}

/// How a segment was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its key.
    pub segment: Arc<str>,
    /// Whether the context is in it, and why.
    pub outcome: SegmentOutcome,
}

/// Why a context is in a segment, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentOutcome {
    /// In: its targeting key is included by name.
    Included,
    /// In: its targeting key is in the key list.
    Listed,
    /// In: it is in another segment that this one is made of.
    Part,
    /// In: the conditions hold.
    Conditions,
    /// Not in: its targeting key is excluded.
    Excluded,
    /// Not in: nothing says that it is.
    Outside,
    /// Not in: the segment is not configured in this environment.
    Unconfigured,
    /// Not in: the stored segment cannot be read or compiled, or too many segments were asked already.
    Malformed,
}

impl SegmentOutcome {
    /// Whether the context is in the segment.
    pub fn is_member(self) -> bool {
        match self {
            Self::Included | Self::Listed | Self::Part | Self::Conditions => true,
            Self::Excluded | Self::Outside | Self::Unconfigured | Self::Malformed => false,
        }
    }
}

/// How a split chose.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The attribute that buckets.
    pub attribute: String,
    /// What the context has there. `None`: nothing, or too much to repeat it here.
    pub value: Option<Attribute>,
    /// What it was salted with.
    pub salt: Arc<str>,
    /// From 0 to below `total_weight`. `None`: there was nothing to bucket by, and the split did not choose.
    pub bucket: Option<u32>,
    /// The sum of the weights.
    pub total_weight: u32,
    /// The shares in their written order, without those of weight zero.
    pub shares: Vec<Share>,
}

/// A share of a split: the buckets from the end of the share before, or 0, to below its own end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// What it serves.
    pub variant: key::Variant,
    /// The first bucket that is no longer its own.
    pub end: u32,
}
