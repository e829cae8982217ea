//! Certain values, and what a test makes of one.

use std::collections::HashSet;

use super::kinds::{Kinds, Texts};
use super::line::Number;
use crate::domain::check::warnings::ranges::Ranges;
use crate::domain::rule::Operand;

/// Certain values.
#[derive(Debug, Default)]
pub(in crate::domain::check::warnings) struct Among<'a> {
    pub(super) texts: HashSet<&'a str>,
    pub(super) numbers: Vec<Number>,
    pub(super) yes: bool,
    pub(super) no: bool,
}

/// What a test makes of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Passes,
    Fails,
    CannotBeAsked,
    Unknown,
}

/// One value that an attribute may have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Bool(bool),
    Number(Number),
    Text(&'a str),
}

impl From<bool> for Verdict {
    fn from(passes: bool) -> Self {
        if passes { Self::Passes } else { Self::Fails }
    }
}

pub(super) fn parsed<T, E>(value: Result<T, E>, passes: impl FnOnce(T) -> bool) -> Verdict {
    value.map_or(Verdict::CannotBeAsked, |value| passes(value).into())
}

impl<'a> Among<'a> {
    pub(super) fn new(values: &'a [Operand]) -> Self {
        let mut among = Self::default();
        for value in values {
            match value {
                Operand::Bool(true) => among.yes = true,
                Operand::Bool(false) => among.no = true,
                Operand::Number(number) => among.numbers.push(Number::new(*number)),
                Operand::String(text) => drop(among.texts.insert(text)),
            }
        }
        among.numbers.sort_unstable();
        among.numbers.dedup();
        among
    }

    pub(super) fn kinds(&self) -> Kinds {
        Kinds {
            bools: self.yes || self.no,
            numbers: !self.numbers.is_empty(),
            texts: (!self.texts.is_empty()).then_some(Texts::Any),
        }
    }

    pub(super) fn numbers(&self) -> Ranges<Number> {
        Ranges::points(self.numbers.iter().copied())
    }

    pub(super) fn all(&self, mut so: impl FnMut(Value<'_>) -> bool) -> bool {
        (!self.yes || so(Value::Bool(true)))
            && (!self.no || so(Value::Bool(false)))
            && self.numbers.iter().all(|number| so(Value::Number(*number)))
            && self.texts.iter().all(|text| so(Value::Text(text)))
    }

    pub(super) fn ask(&self, value: Value<'_>) -> Verdict {
        let kinds = self.kinds();
        let (asked, passes) = match value {
            Value::Bool(true) => (kinds.bools, self.yes),
            Value::Bool(false) => (kinds.bools, self.no),
            Value::Number(number) => (kinds.numbers, self.numbers.binary_search(&number).is_ok()),
            Value::Text(text) => (kinds.texts.is_some(), self.texts.contains(text)),
        };
        if asked { passes.into() } else { Verdict::CannotBeAsked }
    }
}
