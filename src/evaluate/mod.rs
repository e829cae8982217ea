//! How a flag is answered: a [`Snapshot`] holds the flags and segments of one environment, compiled; [`Flag::evaluate`] answers for a
//! context, and [`Flag::explain`] says how the answer came about.
//!
//! The order of the questions, for one flag and one context:
//!
//! 0. Where the caller says how old the snapshot is and may be, and it is too old for the flag: the off variant, [`Reason::Stale`].
//!    A prerequisite that is too old is not met.
//! 1. A flag that cannot be compiled: the off variant (none, if it is the definition), [`Error::FlagMalformed`].
//! 2. Not enabled, or not configured in this environment: the off variant, [`Reason::Disabled`].
//! 3. The prerequisites, in their written order: other flags, answered for the same context. The first that is unknown, off, malformed,
//!    without its own prerequisites, or serves none of the variants asked for: the off variant, [`Reason::PrerequisiteFailed`]. If
//!    there are more than [`PREREQUISITE_EVALUATIONS`](crate::domain::limits::PREREQUISITE_EVALUATIONS) of them in all, as in a
//!    circle: the off variant of the flag that was asked for, [`Error::FlagMalformed`].
//! 4. The rules, in their written order. The first whose conditions all hold serves: its variant, [`Reason::TargetingMatch`], or
//!    its split, [`Reason::Split`]. A split without anything to bucket by does not serve: the next rule is asked.
//!    Running experiments of the flag stand among the rules, each before the rule that it names, or after all; those at one place are
//!    asked in the order of their keys. The first that the context takes part in serves: its arm, [`Reason::Experiment`]. One that it
//!    does not take part in is as if it were not there.
//! 5. The configuration's default, else the definition's, else the off variant: [`Reason::Default`], or [`Reason::Static`] if
//!    there are neither rules nor experiments. If it is a split: [`Reason::Split`], or without anything to bucket by the off variant and
//!    [`Error::TargetingKeyMissing`].
//!
//! A condition may ask whether the context is in a segment: not if its targeting key is excluded; else if it is included by name or
//! listed, if the context is in another segment that this one is made of, or if all conditions of the segment hold, asked in this
//! order. A segment that is not configured or cannot be compiled contains nobody, and so does one that would ask more than
//! [`SEGMENT_EVALUATIONS`](crate::domain::limits::SEGMENT_EVALUATIONS) others.
//!
//! Architecture invariant: nothing here does IO, reads a clock, or knows of proto or SQL, and no answer depends on anything but
//! the snapshot and the context. Forms are parsed and compiled by [`Snapshot::put`]; evaluation parses nothing but what the context
//! brings (versions, times, addresses), allocates nothing (but for versions with long pre-releases and for the scratch space of regular
//! expressions), has no error path besides the reasons above, and takes no more steps than the flags and segments that it may ask
//! have conditions, values and shares. What is deliberately absent: checking what people write (that is `domain::check`) and any
//! memory of earlier answers.
//!
//! An experiment may store who was assigned which arm, and evaluation does no IO: what is known of assignments is told by who asks, and
//! where more must be known the evaluation ends with a [`Need`], to be asked again when that is settled.
//!
//! `tests/vectors` holds the same semantics as data, for every implementation to run.

mod audience;
mod bucket;
mod budget;
mod compile;
mod conditions;
mod experiment;
mod experiments;
mod explain;
pub mod explanation;
mod flag;
mod keys;
mod malformed;
mod matcher;
mod murmur3;
mod networks;
mod path;
mod segment;
mod snapshot;
mod touched;
mod values;

pub use bucket::{bucket, choose, hash};
pub use budget::Freshness;
pub use experiment::{Assigned, Assignment, Experiment, Need, Outcome, Participation};
pub use explanation::Explanation;
pub use flag::Flag;
pub use keys::key_chunk;
pub use malformed::Malformed;
pub use snapshot::Snapshot;

use crate::domain::flag::Variant;

/// What a flag answers for a context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer<'a> {
    /// What is served. `None`: no value, the caller's own default applies.
    pub variant: Option<&'a Variant>,
    /// Why.
    pub reason: Reason,
    /// The key of the rule that served. `None`: none did.
    pub rule: Option<&'a str>,
    /// The experiment that served. `None`: none did.
    pub experiment: Option<Participation<'a>>,
}

/// Why a flag answers what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The flag is off in this environment: the off variant.
    Disabled,
    /// A prerequisite is not met: the off variant.
    PrerequisiteFailed,
    /// The conditions of a rule hold: its variant.
    TargetingMatch,
    /// A split, of a rule or the default, put the context there.
    Split,
    /// An experiment that the context takes part in: its arm.
    Experiment,
    /// No rule served: the default's variant.
    Default,
    /// There are neither rules nor experiments: the default's variant, whoever asks.
    Static,
    /// What is known is too old to answer for the flag: the off variant.
    Stale,
    /// It could not be answered as it was meant: the off variant.
    Error(Error),
}

/// What kept a flag from being answered as it was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Error {
    /// The default is a split, and the context lacks the attribute that it buckets by, or has a list or an object there.
    TargetingKeyMissing,
    /// The stored flag cannot be read or compiled, or its prerequisites are too many, as in a circle.
    FlagMalformed,
}
