//! What lies on a line: numbers, and versions by their precedence.

use std::cmp::Ordering;

use semver::{Comparator, Op, Prerelease, Version};

use crate::domain::check::warnings::ranges::Ranges;

/// A finite number; the two zeros are one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::domain::check::warnings) struct Number(f64);

/// A version without what does not count.
#[derive(Debug, Clone)]
pub(in crate::domain::check::warnings) struct Precedence(pub(super) Version);

/// Where the versions lie that a range matches; between them there are others, pre-releases.
pub(super) fn hull(range: &Comparator) -> Ranges<Precedence> {
    let (major, minor, patch) = (
        range.major,
        range.minor.unwrap_or_default(),
        range.patch.unwrap_or_default(),
    );
    let version = |major, minor, patch, pre: &Prerelease| {
        Precedence(Version {
            pre: pre.clone(),
            ..Version::new(major, minor, patch)
        })
    };
    let first = version(major, minor, patch, &range.pre);
    let end = match (range.op == Op::Tilde, major, minor) {
        (true, ..) | (false, 0, 1..) => minor.checked_add(1).map(|minor| (major, minor, 0)),
        (false, 0, 0) => patch.checked_add(1).map(|patch| (0, 0, patch)),
        (false, 1.., _) => major.checked_add(1).map(|major| (major, 0, 0)),
    };
    match end {
        Some((major, minor, patch)) => Ranges::between(first, version(major, minor, patch, &Prerelease::EMPTY)),
        None => Ranges::less(first).outside(),
    }
}

impl Number {
    pub(super) fn new(number: f64) -> Self {
        // Adding a positive zero makes one of the two zeros.
        Self(number + 0.0)
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialEq for Precedence {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Precedence {}

impl PartialOrd for Precedence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Precedence {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp_precedence(&other.0)
    }
}
