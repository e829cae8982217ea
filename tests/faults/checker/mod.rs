//! Holds what was seen against the history, and tells every promise that was broken.
//!
//! Nothing here does IO: the tests beside it break the evidence and see that it is told.

mod ages;
mod answers;
mod edits;
mod heartbeats;
mod history;
mod streams;
#[cfg(test)]
mod tests;
mod writes;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::evidence::Evidence;
use history::Histories;

/// Which promise was broken, with the column of the summary that it counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Something acknowledged or committed is nowhere, or never arrived.
    Lost,
    /// A step was not whole.
    Torn,
    /// Something went back.
    OutOfOrder,
    /// Something came twice.
    Duplicate,
    /// The hash of what is held is not the hash of what should be held.
    WrongHash,
    /// Something was seen that never was.
    Phantom,
    /// A heartbeat claimed to know what could not be known.
    Lie,
    /// What was refused was done after all.
    Refused,
    /// An evaluation failed, or was wrong.
    Answer,
    /// It took longer than ten times the promise, or something was left behind.
    Late,
}

/// One broken promise.
#[derive(Debug, Clone)]
pub struct Violation {
    pub kind: Kind,
    pub words: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.words)
    }
}

/// What a heartbeat may be off by: it travels, and both ends share two cores with everything else.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    pub heartbeat: Duration,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
        }
    }
}

/// Collects what is broken.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    pub fn add(&mut self, kind: Kind, words: impl Into<String>) {
        self.0.push(Violation {
            kind,
            words: words.into(),
        });
    }
}

/// Every promise that was broken, in the order of the kinds.
pub fn check(evidence: &Evidence, tolerance: Tolerance) -> Vec<Violation> {
    let mut violations = Violations::default();
    let histories = Histories::read(&evidence.eras, &mut violations);
    for recording in &evidence.recordings {
        streams::check(recording, &histories, &mut violations);
        heartbeats::check(recording, evidence, tolerance, &mut violations);
    }
    ages::check(evidence, tolerance, &mut violations);
    writes::check(&evidence.writes, &evidence.eras, &mut violations);
    edits::check(&evidence.writes, &evidence.eras, &mut violations);
    answers::check(&evidence.answers, &evidence.absences, &histories, &mut violations);
    for words in &evidence.unfinished {
        violations.add(Kind::Lost, words);
    }
    let Violations(mut violations) = violations;
    violations.sort_by_key(|violation| violation.kind);
    violations
}

/// How many there are of each kind.
pub fn count(violations: &[Violation]) -> BTreeMap<Kind, usize> {
    let mut counts = BTreeMap::new();
    for violation in violations {
        *counts.entry(violation.kind).or_default() += 1;
    }
    counts
}
