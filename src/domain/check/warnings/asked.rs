//! What one condition says of another. Whatever is claimed here holds for every context; what is not certain is not claimed.
//!
//! Of a list a test passes if any element passes, and its negation holds if there are elements that can be asked and none passes.
//! So what excludes each other for one value need not for a list, except in the targeting key, which is none.

use std::collections::HashSet;

use super::passing::Passing;
use crate::domain::context::TARGETING_KEY;
use crate::domain::rule::{Condition, Operand, Operator};

/// A condition, prepared for comparing.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    attribute: &'a str,
    test: Test<'a>,
    negated: bool,
}

#[derive(Debug)]
enum Test<'a> {
    Exists,
    Segments(HashSet<&'a str>),
    Passes(Passing<'a>),
}

/// How far two conditions exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exclusion {
    /// They never hold together.
    Always,
    /// They hold together only if the attribute is a list.
    UnlessList,
}

impl<'a> Asked<'a> {
    /// `None`: nothing can be said of the condition.
    pub(super) fn new(condition: &'a Condition) -> Option<Self> {
        let Condition {
            attribute,
            operator,
            values,
            negated,
        } = condition;
        let test = match operator {
            Operator::Exists => Test::Exists,
            Operator::InSegment => Test::Segments(condition.segments().collect()),
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
            | Operator::IpInRange => passing(attribute, *operator, values).map(Test::Passes)?,
        };
        Some(Self {
            attribute,
            test,
            negated: *negated,
        })
    }

    /// About how much work it is to compare the two.
    pub(super) fn work(&self, other: &Self) -> usize {
        if self.attribute != other.attribute {
            return 1;
        }
        match (&self.test, &other.test) {
            (Test::Passes(one), Test::Passes(two)) => one.work(two),
            (Test::Segments(one), Test::Segments(two)) => 1 + one.len() + two.len(),
            (Test::Exists | Test::Segments(_) | Test::Passes(_), _) => 1,
        }
    }

    /// Whether there is nobody for whom it holds.
    pub(super) fn never_holds(&self) -> bool {
        let Test::Passes(passing) = &self.test else {
            return false;
        };
        if self.is_of_targeting_key() && !passing.kinds().has_texts() {
            return true;
        }
        if self.negated {
            passing.is_everything()
        } else {
            self.is_of_targeting_key() && passing.is_no_targeting_key()
        }
    }

    /// Whether it can only hold for a context with a targeting key.
    pub(super) fn needs_targeting_key(&self) -> bool {
        let absent = self.negated && matches!(self.test, Test::Exists);
        self.is_of_targeting_key() && !absent
    }

    fn is_of_targeting_key(&self) -> bool {
        self.attribute == TARGETING_KEY && !matches!(self.test, Test::Segments(_))
    }

    /// Whether the other holds whenever this does.
    pub(super) fn implies(&self, other: &Self) -> bool {
        if self.attribute != other.attribute {
            return false;
        }
        match (&self.test, &other.test) {
            (Test::Segments(one), Test::Segments(two)) => match (self.negated, other.negated) {
                (false, false) => one.is_subset(two),
                (true, true) => two.is_subset(one),
                (false, true) | (true, false) => false,
            },
            (Test::Exists, Test::Exists) => self.negated == other.negated,
            // Whatever else is asked of an attribute needs it to be there.
            (Test::Passes(_), Test::Exists) => !other.negated,
            (Test::Passes(one), Test::Passes(two)) => match (self.negated, other.negated) {
                (false, false) => one.within(two),
                (true, true) => one.kinds().within(two.kinds()) && two.within(one),
                (true, false) => one.failing_within(two),
                (false, true) => self.is_of_targeting_key() && one.kinds().within(two.kinds()) && one.apart(two),
            },
            (Test::Segments(_), Test::Exists | Test::Passes(_))
            | (Test::Exists | Test::Passes(_), Test::Segments(_))
            | (Test::Exists, Test::Passes(_)) => false,
        }
    }

    /// Whether and how far the two exclude each other. `None`: not known to.
    pub(super) fn excludes(&self, other: &Self) -> Option<Exclusion> {
        if self.attribute != other.attribute {
            return None;
        }
        let certain = match (&self.test, &other.test) {
            (Test::Segments(one), Test::Segments(two)) => match (self.negated, other.negated) {
                (false, true) => one.is_subset(two),
                (true, false) => two.is_subset(one),
                (false, false) | (true, true) => false,
            },
            (Test::Exists, Test::Exists) => self.negated != other.negated,
            (Test::Exists, Test::Passes(_)) => self.negated,
            (Test::Passes(_), Test::Exists) => other.negated,
            (Test::Passes(one), Test::Passes(two)) => return self.excludes_value(one, other, two),
            (Test::Segments(_), Test::Exists | Test::Passes(_))
            | (Test::Exists | Test::Passes(_), Test::Segments(_)) => false,
        };
        certain.then_some(Exclusion::Always)
    }

    fn excludes_value(&self, one: &Passing<'_>, other: &Self, two: &Passing<'_>) -> Option<Exclusion> {
        let (for_lists, for_values) = match (self.negated, other.negated) {
            (false, false) => (false, one.apart(two)),
            (false, true) => (one.within(two), one.never_where_fails(two)),
            (true, false) => (two.within(one), two.never_where_fails(one)),
            (true, true) => (one.failing_within(two), one.kinds().apart(two.kinds())),
        };
        if for_lists || (for_values && self.is_of_targeting_key()) {
            Some(Exclusion::Always)
        } else {
            for_values.then_some(Exclusion::UnlessList)
        }
    }
}

fn passing<'a>(attribute: &str, operator: Operator, values: &'a [Operand]) -> Option<Passing<'a>> {
    let passing = Passing::new(operator, values)?;
    Some(if attribute == TARGETING_KEY {
        passing.of_targeting_key()
    } else {
        passing
    })
}
