//! Whether a condition holds for a context.
//!
//! A test of one attribute has three outcomes: it holds, it does not, or it cannot be asked because the attribute is absent or of
//! the wrong type. Negation swaps the first two; what cannot be asked does not hold, negated or not.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use super::path::Path;
use crate::domain::context::{Attribute, Context};
use crate::domain::rule::Operand;

/// A condition, compiled.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) attribute: Path,
    pub(super) test: Test,
    pub(super) negated: bool,
}

impl Condition {
    /// Whether it holds.
    pub(super) fn holds(&self, context: &Context) -> bool {
        let attribute = self.attribute.find(context);
        let outcome = attribute.and_then(|attribute| self.test.ask(attribute));
        outcome.is_some_and(|holds| holds != self.negated)
    }
}

/// An operator with its values.
#[derive(Debug)]
pub(super) enum Test {
    /// Is the value, of the same type.
    Equals(Operand),
    /// Is one of the values, of the same type.
    OneOf(Box<Values>),
    /// Is text with one of these endings.
    EndsWith(Box<[Box<str>]>),
    /// Is a number that compares so with this one.
    Number(Comparison, f64),
}

/// How two numbers compare.
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
            Self::EndsWith(endings) => match attribute {
                Attribute::String(text) => Some(endings.iter().any(|ending| text.ends_with(&**ending))),
                Attribute::Bool(_) | Attribute::Number(_) | Attribute::List(_) | Attribute::Object(_) => None,
            },
            Self::Number(comparison, than) => match attribute {
                Attribute::Number(number) => Some(comparison.holds(*number, *than)),
                Attribute::Bool(_) | Attribute::String(_) | Attribute::List(_) | Attribute::Object(_) => None,
            },
        }
    }
}

fn equals(operand: &Operand, attribute: &Attribute) -> Option<bool> {
    match (operand, attribute) {
        (Operand::Bool(operand), Attribute::Bool(attribute)) => Some(operand == attribute),
        (Operand::Number(operand), Attribute::Number(attribute)) => Some(Comparison::Equal.holds(*attribute, *operand)),
        (Operand::String(operand), Attribute::String(attribute)) => Some(operand == attribute),
        (Operand::Bool(_) | Operand::Number(_) | Operand::String(_), _) => None,
    }
}

impl Comparison {
    #[expect(clippy::float_cmp, reason = "people who ask for equality mean equality")]
    fn holds(self, number: f64, than: f64) -> bool {
        match self {
            Self::Equal => number == than,
            Self::NotEqual => number != than,
            Self::Less => number < than,
            Self::LessOrEqual => number <= than,
            Self::Greater => number > than,
            Self::GreaterOrEqual => number >= than,
        }
    }
}

/// Values of a "one of", by type: however many there are, asking costs about the same.
#[derive(Debug)]
pub(super) struct Values {
    strings: Strings,
    /// Sorted.
    numbers: Box<[u64]>,
    has_true: bool,
    has_false: bool,
}

#[derive(Debug)]
enum Strings {
    /// So few that comparing with each is faster than hashing.
    Few(Box<[Box<str>]>),
    /// The set is seeded by the process, so that nobody can choose values that collide. No answer depends on the seed.
    Many(HashSet<Box<str>, RandomState>),
}

/// From how many strings on they are hashed.
const MANY_STRINGS: usize = 8;

impl Values {
    /// Sorts values by their types.
    pub(super) fn new(operands: Vec<Operand>) -> Self {
        let (mut strings, mut numbers) = (Vec::new(), Vec::new());
        let (mut has_true, mut has_false) = (false, false);
        for operand in operands {
            match operand {
                Operand::String(text) => strings.push(text.into()),
                Operand::Number(number) => numbers.push(bits(number)),
                Operand::Bool(true) => has_true = true,
                Operand::Bool(false) => has_false = true,
            }
        }
        numbers.sort_unstable();
        Self {
            strings: Strings::new(strings),
            numbers: numbers.into(),
            has_true,
            has_false,
        }
    }

    fn contain(&self, attribute: &Attribute) -> Option<bool> {
        match attribute {
            Attribute::String(text) => self.strings.contain(text),
            Attribute::Number(number) => {
                (!self.numbers.is_empty()).then(|| self.numbers.binary_search(&bits(*number)).is_ok())
            }
            Attribute::Bool(value) => {
                let has = if *value { self.has_true } else { self.has_false };
                (self.has_true || self.has_false).then_some(has)
            }
            Attribute::List(_) | Attribute::Object(_) => None,
        }
    }
}

impl Strings {
    fn new(strings: Vec<Box<str>>) -> Self {
        if strings.len() < MANY_STRINGS {
            Self::Few(strings.into())
        } else {
            Self::Many(strings.into_iter().collect())
        }
    }

    /// `None`: there are no strings at all.
    fn contain(&self, text: &str) -> Option<bool> {
        match self {
            Self::Few(strings) => (!strings.is_empty()).then(|| strings.iter().any(|string| **string == *text)),
            Self::Many(strings) => Some(strings.contains(text)),
        }
    }
}

/// The same bits for equal numbers: the two zeros are one.
fn bits(number: f64) -> u64 {
    (number + 0.0).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of<const N: usize>(operands: [Operand; N]) -> Test {
        Test::OneOf(Box::new(Values::new(operands.into())))
    }

    #[test]
    fn the_two_zeros_are_one_number() {
        for zero in [0.0, -0.0] {
            for other in [0.0, -0.0] {
                let attribute = Attribute::Number(other);
                assert_eq!(one_of([Operand::Number(zero)]).ask(&attribute), Some(true));
                assert_eq!(Test::Equals(Operand::Number(zero)).ask(&attribute), Some(true));
            }
        }
    }

    #[test]
    fn one_of_cannot_be_asked_of_a_type_that_none_of_the_values_has() {
        let text = one_of([Operand::String("1".into())]);
        let number = one_of([Operand::Number(1.0)]);
        let both = one_of([Operand::Number(1.0), Operand::Bool(false)]);
        let check = |test: &Test, attribute: Attribute, expected| {
            assert_eq!(test.ask(&attribute), expected, "{test:?} of {attribute:?}");
        };
        check(&text, Attribute::String("1".into()), Some(true));
        check(&text, Attribute::Number(1.0), None);
        check(&number, Attribute::String("1".into()), None);
        check(&number, Attribute::Bool(true), None);
        check(&both, Attribute::Bool(true), Some(false));
        check(&both, Attribute::Bool(false), Some(true));
        check(&both, Attribute::Number(2.0), Some(false));
        check(&both, Attribute::String("1".into()), None);
    }

    #[test]
    fn few_strings_and_many_are_asked_alike() {
        for count in [MANY_STRINGS - 1, MANY_STRINGS, MANY_STRINGS + 1, 1_000] {
            let operands = (0..count).map(|n| Operand::String(format!("company-{n}")));
            let test = Test::OneOf(Box::new(Values::new(operands.collect())));
            for n in [0, count / 2, count - 1, count] {
                let attribute = Attribute::String(format!("company-{n}"));
                assert_eq!(test.ask(&attribute), Some(n < count), "{n} among {count}");
            }
            assert_eq!(test.ask(&Attribute::Number(1.0)), None);
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
}
