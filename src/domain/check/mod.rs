//! Whether what someone proposes makes sense: everything that can be said when it is written, so that evaluation need not.
//!
//! Drafts go in; what comes out cannot be wrong by itself. All violations come back together, with paths that begin at the checked
//! thing: `rules[3].conditions[0].values[2]`. What makes sense to Halyard but perhaps not to its author comes back as warnings.

mod condition;
mod definition;
mod dependencies;
mod experiment;
mod flag;
mod part;
mod segment;
mod serve;
mod warnings;

use std::collections::{HashMap, HashSet};

pub use definition::{definition, metadata};
pub use experiment::{experiment_change, experiment_metadata};
pub use part::{id, text};
pub use segment::targeting_key;

use super::draft;
use super::flag::{Configuration, Definition};
use super::graph::Graph;
use super::invalid::Violations;

/// What was checked, and what is odd about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked<T> {
    /// It makes sense.
    pub value: T,
    /// At most [`limits::VIOLATIONS`](super::limits::VIOLATIONS).
    pub warnings: Vec<Warning>,
}

/// Something that makes sense to Halyard but perhaps not to whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The path of the field, such as `rules[3]`.
    pub field: String,
    /// What is odd about it: a sentence about the field.
    pub description: String,
}

/// What a flag's configuration depends on.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The flag that is configured.
    pub flag: &'a Definition,
    /// The flags that may be named as prerequisites, archived ones left out, by their keys.
    pub flags: &'a HashMap<String, Definition>,
    /// Which flags the flags of the environment depend on. What it says of this flag is passed over.
    pub prerequisites: &'a Graph,
    /// The keys of the project's segments; those that the rules do not name need not be there.
    pub segments: &'a HashSet<String>,
}

/// What a segment's configuration depends on.
#[derive(Debug, Clone, Copy)]
pub struct SegmentSurroundings<'a> {
    /// The key of the segment that is configured.
    pub key: &'a str,
    /// The keys of the project's segments; those that are not named need not be there.
    pub segments: &'a HashSet<String>,
    /// Which segments the segments of the environment are made of. What it says of this segment is passed over.
    pub parts: &'a Graph,
}

/// What an experiment's design depends on.
#[derive(Debug, Clone, Copy)]
pub struct ExperimentSurroundings<'a> {
    /// The flag that it is on.
    pub flag: &'a Definition,
    /// The rules of the flag in the environment; none if it is not configured.
    pub rules: &'a [super::rule::Rule],
    /// The layers of the environment, with the attribute that is the unit of each; those that are not named need not be there.
    pub layers: &'a HashMap<String, Option<String>>,
    /// The keys of the project's segments; those that are not named need not be there.
    pub segments: &'a HashSet<String>,
}

/// Checks an experiment's design. Of a layer it takes the unit, if it names none itself.
pub fn experiment(
    draft: &draft::Experiment,
    around: &ExperimentSurroundings<'_>,
) -> Result<Checked<super::experiment::Design>, Violations> {
    let value = experiment::design(draft, around)?;
    let warnings = warnings::of_audience(&value.audience);
    Ok(Checked { value, warnings })
}

/// Checks a flag's configuration.
pub fn configuration(
    draft: &draft::Configuration,
    around: &Surroundings<'_>,
) -> Result<Checked<Configuration>, Violations> {
    let value = flag::configuration(draft, around)?;
    let warnings = warnings::of_rules(&value.rules);
    Ok(Checked { value, warnings })
}

/// Checks a segment's configuration; its key list is not written with it, and there is none in what comes back. Keys that are
/// included or excluded come back sorted and without repetition.
pub fn segment(
    draft: &draft::Segment,
    around: &SegmentSurroundings<'_>,
) -> Result<Checked<super::segment::Configuration>, Violations> {
    let value = segment::configuration(draft, around)?;
    let warnings = warnings::of_segment(&value);
    Ok(Checked { value, warnings })
}

impl<T> Checked<T> {
    /// The same, with every warning's field below `prefix`.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Self {
        for warning in &mut self.warnings {
            warning.field = match warning.field.as_str() {
                "" => prefix.to_owned(),
                field => format!("{prefix}.{field}"),
            };
        }
        self
    }

    /// The same, with warnings refused as if they were violations.
    pub fn strictly(self) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        for Warning { field, description } in &self.warnings {
            violations.add(field, description);
        }
        violations.or(self)
    }
}

#[cfg(test)]
mod tests;
