//! Which values pass an operator's test, as far as it can be said without trying them.

mod among;
mod compare;
mod kinds;
mod line;

use std::collections::HashSet;

use ipnet::IpNet;
use semver::Comparator;

use self::among::{Among, Value, Verdict, parsed};
use self::kinds::{Kinds, Texts};
use self::line::{Number, Precedence};
use super::ranges::Ranges;
use crate::domain::operand::{self, Moment, Range};
use crate::domain::rule::{Operand, Operator};

/// The values that pass a test.
#[derive(Debug)]
pub(super) enum Passing<'a> {
    /// These.
    Among(Among<'a>),
    /// Numbers.
    Numbers(Ranges<Number>),
    /// Versions, by their precedence.
    Versions(Ranges<Precedence>),
    /// Versions that a range matches.
    VersionRange(Comparator),
    /// Moments.
    Moments(Ranges<Moment>),
    /// Addresses in any of these.
    Networks(Vec<IpNet>),
    /// Texts with any of these at that place.
    Texts(Place, Vec<&'a str>),
    /// Texts in which any of these patterns is found.
    Patterns(HashSet<&'a str>),
}

/// Where in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Start,
    End,
    Anywhere,
}

impl<'a> Passing<'a> {
    /// What passes an operator with these values. `None`: the operator asks of no value, or the values are not for it.
    pub(super) fn new(operator: Operator, values: &'a [Operand]) -> Option<Self> {
        let passing = match operator {
            Operator::Equals | Operator::OneOf => Self::Among(Among::new(values)),
            Operator::Contains => Self::Texts(Place::Anywhere, texts(values)?),
            Operator::StartsWith => Self::Texts(Place::Start, texts(values)?),
            Operator::EndsWith => Self::Texts(Place::End, texts(values)?),
            Operator::Matches => Self::Patterns(texts(values)?.into_iter().collect()),
            Operator::NumberEqual => Self::Numbers(Ranges::points([number(values)?])),
            Operator::NumberNotEqual => Self::Numbers(Ranges::points([number(values)?]).outside()),
            Operator::NumberLess => Self::Numbers(Ranges::less(number(values)?)),
            Operator::NumberLessOrEqual => Self::Numbers(Ranges::at_most(number(values)?)),
            Operator::NumberGreater => Self::Numbers(Ranges::at_most(number(values)?).outside()),
            Operator::NumberGreaterOrEqual => Self::Numbers(Ranges::less(number(values)?).outside()),
            Operator::VersionEqual => Self::Versions(Ranges::points([version(values)?])),
            Operator::VersionNotEqual => Self::Versions(Ranges::points([version(values)?]).outside()),
            Operator::VersionLess => Self::Versions(Ranges::less(version(values)?)),
            Operator::VersionLessOrEqual => Self::Versions(Ranges::at_most(version(values)?)),
            Operator::VersionGreater => Self::Versions(Ranges::at_most(version(values)?).outside()),
            Operator::VersionGreaterOrEqual => Self::Versions(Ranges::less(version(values)?).outside()),
            Operator::VersionTilde => Self::VersionRange(operand::range(Range::Tilde, text(values)?).ok()?),
            Operator::VersionCaret => Self::VersionRange(operand::range(Range::Caret, text(values)?).ok()?),
            Operator::Before => Self::Moments(Ranges::less(moment(values)?)),
            Operator::After => Self::Moments(Ranges::at_most(moment(values)?).outside()),
            Operator::IpInRange => {
                let networks = texts(values)?.into_iter().map(operand::network);
                Self::Networks(networks.collect::<Result<_, _>>().ok()?)
            }
            Operator::Exists | Operator::InSegment => return None,
        };
        Some(passing)
    }

    /// The same for the targeting key, which is a text.
    pub(super) fn of_targeting_key(mut self) -> Self {
        if let Self::Among(Among {
            texts: _,
            numbers,
            yes,
            no,
        }) = &mut self
        {
            numbers.clear();
            (*yes, *no) = (false, false);
        }
        self
    }

    /// What can be asked.
    pub(super) fn kinds(&self) -> Kinds {
        let texts = |texts| Kinds {
            texts: Some(texts),
            ..Kinds::NONE
        };
        match self {
            Self::Among(among) => among.kinds(),
            Self::Numbers(_) => Kinds {
                numbers: true,
                ..Kinds::NONE
            },
            Self::Versions(_) | Self::VersionRange(_) => texts(Texts::Versions),
            Self::Moments(_) => texts(Texts::Moments),
            Self::Networks(_) => texts(Texts::Addresses),
            Self::Texts(..) | Self::Patterns(_) => texts(Texts::Any),
        }
    }

    /// About how much work it is to compare the two.
    pub(super) fn work(&self, other: &Self) -> usize {
        let (one, two) = (self.size(), other.size());
        match (self, other) {
            // What is looked up is found at once.
            (Self::Among(_), Self::Among(_)) | (Self::Patterns(_), Self::Patterns(_)) => 1 + one + two,
            (
                Self::Among(_)
                | Self::Numbers(_)
                | Self::Versions(_)
                | Self::VersionRange(_)
                | Self::Moments(_)
                | Self::Networks(_)
                | Self::Texts(..)
                | Self::Patterns(_),
                _,
            ) => 1 + one.saturating_mul(two),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Among(among) => among.texts.len() + among.numbers.len(),
            Self::Numbers(ranges) => ranges.size(),
            Self::Versions(ranges) => ranges.size(),
            Self::Moments(ranges) => ranges.size(),
            Self::VersionRange(_) => 1,
            Self::Networks(networks) => networks.len(),
            Self::Texts(_, texts) => texts.len(),
            Self::Patterns(patterns) => patterns.len(),
        }
    }

    /// Whether no targeting key passes, which is never empty.
    pub(super) fn is_no_targeting_key(&self) -> bool {
        matches!(self, Self::Among(among) if among.texts.iter().all(|text| text.is_empty()))
    }

    /// Whether everything that can be asked passes.
    pub(super) fn is_everything(&self) -> bool {
        match self {
            Self::Among(among) => among.yes && among.no && among.texts.is_empty() && among.numbers.is_empty(),
            Self::Texts(_, texts) => texts.contains(&""),
            Self::Numbers(_)
            | Self::Versions(_)
            | Self::VersionRange(_)
            | Self::Moments(_)
            | Self::Networks(_)
            | Self::Patterns(_) => false,
        }
    }

    fn ask(&self, value: Value<'_>) -> Verdict {
        match (self, value) {
            (Self::Among(among), value) => among.ask(value),
            (Self::Numbers(ranges), Value::Number(number)) => ranges.contains(&number).into(),
            (Self::Versions(ranges), Value::Text(text)) => {
                parsed(operand::version(text), |version| ranges.contains(&Precedence(version)))
            }
            (Self::VersionRange(range), Value::Text(text)) => {
                parsed(operand::version(text), |version| range.matches(&version))
            }
            (Self::Moments(ranges), Value::Text(text)) => {
                parsed(operand::instant(text), |moment| ranges.contains(&moment))
            }
            (Self::Networks(networks), Value::Text(text)) => parsed(operand::address(text), |address| {
                networks.iter().any(|network| network.contains(&address))
            }),
            (Self::Texts(place, parts), Value::Text(text)) => parts.iter().any(|part| place.holds(text, part)).into(),
            (Self::Patterns(_), Value::Text(_)) => Verdict::Unknown,
            (
                Self::Numbers(_)
                | Self::Versions(_)
                | Self::VersionRange(_)
                | Self::Moments(_)
                | Self::Networks(_)
                | Self::Texts(..)
                | Self::Patterns(_),
                _,
            ) => Verdict::CannotBeAsked,
        }
    }
}

impl Place {
    fn holds(self, text: &str, part: &str) -> bool {
        match self {
            Self::Start => text.starts_with(part),
            Self::End => text.ends_with(part),
            Self::Anywhere => text.contains(part),
        }
    }
}

fn texts(values: &[Operand]) -> Option<Vec<&str>> {
    let text = |value| match value {
        &Operand::Bool(_) | &Operand::Number(_) => None,
        Operand::String(text) => Some(text.as_str()),
    };
    values.iter().map(text).collect()
}

fn text(values: &[Operand]) -> Option<&str> {
    texts(values)?.first().copied()
}

fn number(values: &[Operand]) -> Option<Number> {
    match values.first()? {
        Operand::Number(number) => Some(Number::new(*number)),
        Operand::Bool(_) | Operand::String(_) => None,
    }
}

fn version(values: &[Operand]) -> Option<Precedence> {
    operand::version(text(values)?).ok().map(Precedence)
}

fn moment(values: &[Operand]) -> Option<Moment> {
    operand::instant(text(values)?).ok()
}
