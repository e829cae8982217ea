//! Whether a condition holds for a context.
//!
//! A test of one attribute has three outcomes: it holds, it does not, or it cannot be asked because the attribute is absent or of
//! the wrong type. Negation swaps the first two; what cannot be asked does not hold, negated or not.

use std::cmp::Ordering;
use std::convert::Infallible;
use std::sync::Arc;

use regex::Regex;
use semver::{Comparator, Version};

use super::explanation::ConditionOutcome;
use super::networks::Networks;
use super::path::Path;
use super::snapshot::Snapshot;
use super::values::Values;
use crate::domain::context::{Attribute, Context};
use crate::domain::operand::{self, Moment};
use crate::domain::rule::{Operand, Operator};

/// A condition, compiled.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) operator: Operator,
    pub(super) negated: bool,
    pub(super) question: Question,
}

/// What a condition asks, before negation.
#[derive(Debug)]
pub(super) enum Question {
    /// Whether an attribute passes a test.
    Attribute(Path, Test),
    /// Whether the context is in any of these segments.
    Segments(Box<[Arc<str>]>),
}

impl Condition {
    /// Whether it holds, in a rule.
    pub(super) fn holds(&self, context: &Context, snapshot: &Snapshot) -> bool {
        let Ok(outcome) = self.ask(context, |segment| {
            Ok::<_, Infallible>(snapshot.membership(segment, context).is_member())
        });
        outcome == ConditionOutcome::Holds
    }

    /// What becomes of it, `in_segment` saying whether the context is in a segment. Fails only if that does.
    pub(super) fn ask<E>(
        &self,
        context: &Context,
        mut in_segment: impl FnMut(&Arc<str>) -> Result<bool, E>,
    ) -> Result<ConditionOutcome, E> {
        let outcome = match &self.question {
            Question::Attribute(path, test) => match (path.find(context), test) {
                (attribute, Test::Exists) => attribute.is_some(),
                (None, _) => return Ok(ConditionOutcome::Absent),
                (Some(attribute), test) => match test.ask(attribute) {
                    Some(passes) => passes,
                    None => return Ok(ConditionOutcome::WrongType),
                },
            },
            Question::Segments(segments) => {
                let mut any = false;
                for segment in segments {
                    any = in_segment(segment)?;
                    if any {
                        break;
                    }
                }
                any
            }
        };
        Ok(if outcome == self.negated {
            ConditionOutcome::Fails
        } else {
            ConditionOutcome::Holds
        })
    }
}

/// An operator with its values.
#[derive(Debug)]
pub(super) enum Test {
    /// Is the value, of the same type.
    Equals(Operand),
    /// Is one of the values, of the same type.
    OneOf(Box<Values>),
    /// Is text that has any of these in this place.
    Text(Place, Box<[Box<str>]>),
    /// Is text that any of these finds something in.
    Matches(Box<[Regex]>),
    /// Is a number that compares so with this one.
    Number(Comparison, f64),
    /// Is a version that compares so with this one.
    Version(Comparison, Box<Version>),
    /// Is a version in this range.
    VersionRange(Box<Comparator>),
    /// Is a moment that compares so with this one.
    Moment(Comparison, Moment),
    /// Is an address in one of these networks.
    Address(Box<Networks>),
    /// Is there at all.
    Exists,
}

/// Where a text is looked for in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Anywhere,
    Start,
    End,
}

/// How two things compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Test {
    /// Whether an attribute passes; of a list, whether any element does. `None`: it cannot be asked; of a list, no element can.
    fn ask(&self, attribute: &Attribute) -> Option<bool> {
        let Attribute::List(elements) = attribute else {
            return self.ask_one(attribute);
        };
        let mut any = None;
        for element in elements {
            match self.ask_one(element) {
                Some(true) => return Some(true),
                Some(false) => any = Some(false),
                None => {}
            }
        }
        any
    }

    /// Lists are the wrong type here: elements that are lists themselves are passed over.
    fn ask_one(&self, attribute: &Attribute) -> Option<bool> {
        match self {
            Self::Equals(operand) => equals(operand, attribute),
            Self::OneOf(values) => values.contain(attribute),
            Self::Text(place, texts) => {
                let text = text(attribute)?;
                Some(texts.iter().any(|sought| place.has(text, sought)))
            }
            Self::Matches(patterns) => {
                let text = text(attribute)?;
                Some(patterns.iter().any(|pattern| pattern.is_match(text)))
            }
            Self::Number(comparison, than) => match attribute {
                Attribute::Number(number) => Some(comparison.holds(number, than)),
                Attribute::Bool(_) | Attribute::String(_) | Attribute::List(_) | Attribute::Object(_) => None,
            },
            Self::Version(comparison, than) => {
                let version = operand::version(text(attribute)?).ok()?;
                Some(comparison.holds(&version.cmp_precedence(than), &Ordering::Equal))
            }
            Self::VersionRange(range) => {
                let version = operand::version(text(attribute)?).ok()?;
                Some(range.matches(&version))
            }
            Self::Moment(comparison, than) => {
                let moment = operand::instant(text(attribute)?).ok()?;
                Some(comparison.holds(&moment, than))
            }
            Self::Address(networks) => {
                let address = operand::address(text(attribute)?).ok()?;
                Some(networks.contain(address))
            }
            Self::Exists => Some(true),
        }
    }
}

fn text(attribute: &Attribute) -> Option<&str> {
    match attribute {
        Attribute::String(text) => Some(text),
        Attribute::Bool(_) | Attribute::Number(_) | Attribute::List(_) | Attribute::Object(_) => None,
    }
}

fn equals(operand: &Operand, attribute: &Attribute) -> Option<bool> {
    match (operand, attribute) {
        (Operand::Bool(operand), Attribute::Bool(attribute)) => Some(operand == attribute),
        (Operand::Number(operand), Attribute::Number(attribute)) => Some(Comparison::Equal.holds(attribute, operand)),
        (Operand::String(operand), Attribute::String(attribute)) => Some(operand == attribute),
        (Operand::Bool(_) | Operand::Number(_) | Operand::String(_), _) => None,
    }
}

impl Place {
    fn has(self, text: &str, sought: &str) -> bool {
        match self {
            Self::Anywhere => text.contains(sought),
            Self::Start => text.starts_with(sought),
            Self::End => text.ends_with(sought),
        }
    }
}

impl Comparison {
    fn holds<T: PartialOrd>(self, thing: &T, than: &T) -> bool {
        match self {
            Self::Equal => thing == than,
            Self::NotEqual => thing != than,
            Self::Less => thing < than,
            Self::LessOrEqual => thing <= than,
            Self::Greater => thing > than,
            Self::GreaterOrEqual => thing >= than,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_zeros_are_one_number() {
        for zero in [0.0, -0.0] {
            for other in [0.0, -0.0] {
                let attribute = Attribute::Number(other);
                assert_eq!(Test::Equals(Operand::Number(zero)).ask(&attribute), Some(true));
                assert_eq!(Test::Number(Comparison::Less, zero).ask(&attribute), Some(false));
            }
        }
    }

    #[test]
    fn a_list_within_a_list_is_passed_over() {
        let test = Test::Number(Comparison::Less, 5.0);
        let inner = Attribute::List(vec![Attribute::Number(1.0)]);
        assert_eq!(test.ask(&Attribute::List(vec![inner.clone()])), None);
        assert_eq!(
            test.ask(&Attribute::List(vec![inner, Attribute::Number(9.0)])),
            Some(false)
        );
    }

    #[test]
    fn absence_is_told_apart_from_the_wrong_type() {
        let context = Context::new("u".to_owned(), crate::domain::context::Object::default());
        let check = |name: &str, test: Test, negated: bool, expected: ConditionOutcome| {
            let condition = Condition {
                operator: Operator::Exists,
                negated,
                question: Question::Attribute(Path::new(name).unwrap(), test),
            };
            let outcome = condition.ask(&context, |_| Ok::<_, Infallible>(false));
            assert_eq!(outcome, Ok(expected), "{condition:?}");
        };
        for negated in [false, true] {
            check(
                "x",
                Test::Number(Comparison::Less, 1.0),
                negated,
                ConditionOutcome::Absent,
            );
            check(
                "targeting_key",
                Test::Number(Comparison::Less, 1.0),
                negated,
                ConditionOutcome::WrongType,
            );
        }
        check("x", Test::Exists, false, ConditionOutcome::Fails);
        check("x", Test::Exists, true, ConditionOutcome::Holds);
        check("targeting_key", Test::Exists, false, ConditionOutcome::Holds);
        check("targeting_key", Test::Exists, true, ConditionOutcome::Fails);
    }
}
