//! Sets of values to compare with: however many there are, asking costs about the same.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use crate::domain::context::Attribute;
use crate::domain::rule::Operand;

/// Values of a "one of", by type.
#[derive(Debug)]
pub(super) struct Values {
    strings: Strings,
    /// Sorted.
    numbers: Box<[u64]>,
    has_true: bool,
    has_false: bool,
}

/// Strings to be found again.
#[derive(Debug)]
pub(super) enum Strings {
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
                Operand::String(text) => strings.push(text),
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

    /// Whether an attribute is among them. `None`: none of them is of its type.
    pub(super) fn contain(&self, attribute: &Attribute) -> Option<bool> {
        match attribute {
            Attribute::String(text) => (!self.strings.are_none()).then(|| self.strings.contain(text)),
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
    /// Takes strings; one that is there twice is there once.
    pub(super) fn new(strings: Vec<String>) -> Self {
        let strings = strings.into_iter().map(String::into_boxed_str);
        if strings.len() < MANY_STRINGS {
            Self::Few(strings.collect())
        } else {
            Self::Many(strings.collect())
        }
    }

    /// Whether a text is among them.
    pub(super) fn contain(&self, text: &str) -> bool {
        match self {
            Self::Few(strings) => strings.iter().any(|string| **string == *text),
            Self::Many(strings) => strings.contains(text),
        }
    }

    fn are_none(&self) -> bool {
        match self {
            Self::Few(strings) => strings.is_empty(),
            Self::Many(strings) => strings.is_empty(),
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

    #[test]
    fn the_two_zeros_are_one_number() {
        for zero in [0.0, -0.0] {
            for other in [0.0, -0.0] {
                let values = Values::new(vec![Operand::Number(zero)]);
                assert_eq!(values.contain(&Attribute::Number(other)), Some(true));
            }
        }
    }

    #[test]
    fn values_cannot_be_asked_of_a_type_that_none_of_them_has() {
        let text = Values::new(vec![Operand::String("1".into())]);
        let number = Values::new(vec![Operand::Number(1.0)]);
        let both = Values::new(vec![Operand::Number(1.0), Operand::Bool(false)]);
        let check = |values: &Values, attribute: Attribute, expected| {
            assert_eq!(values.contain(&attribute), expected, "{values:?} of {attribute:?}");
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
        for count in [0, MANY_STRINGS - 1, MANY_STRINGS, MANY_STRINGS + 1, 1_000] {
            let strings = Strings::new((0..count).map(|n| format!("company-{n}")).collect());
            for n in [0, count / 2, count] {
                assert_eq!(strings.contain(&format!("company-{n}")), n < count, "{n} among {count}");
            }
            assert_eq!(strings.are_none(), count == 0);
        }
    }
}
