//! Which values pass an operator's test, as far as it can be said without trying them.
//!
//! Everything that is claimed here is certain; what is not known is not claimed. "Within" and "apart" are about single values: what
//! lists make of it is told in `asked`.

use std::cmp::Ordering;
use std::collections::HashSet;

use ipnet::IpNet;
use semver::{Comparator, Op, Prerelease, Version};

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

/// Certain values.
#[derive(Debug, Default)]
pub(super) struct Among<'a> {
    texts: HashSet<&'a str>,
    numbers: Vec<Number>,
    yes: bool,
    no: bool,
}

/// Where in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Start,
    End,
    Anywhere,
}

/// What can be asked at all: what is of another kind fails, negated or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds {
    bools: bool,
    numbers: bool,
    texts: Option<Texts>,
}

/// Kinds of texts. No text is of two kinds but for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Texts {
    Any,
    Versions,
    Moments,
    Addresses,
}

/// A finite number; the two zeros are one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number(f64);

/// A version without what does not count.
#[derive(Debug, Clone)]
pub(super) struct Precedence(Version);

/// What a test makes of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passes,
    Fails,
    CannotBeAsked,
    Unknown,
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
    pub(super) fn of_targeting_key(self) -> Self {
        match self {
            Self::Among(Among { texts, .. }) => Self::Among(Among {
                texts,
                ..Among::default()
            }),
            other => other,
        }
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

    /// Whether whatever passes this passes the other.
    pub(super) fn within(&self, other: &Self) -> bool {
        if other.is_everything() && self.kinds().within(other.kinds()) {
            return true;
        }
        match (self, other) {
            (Self::Among(among), _) => among.all(|value| other.ask(value) == Verdict::Passes),
            (Self::Numbers(one), Self::Numbers(two)) => one.within(two),
            (Self::Numbers(one), Self::Among(two)) => one.within(&two.numbers()),
            (Self::Versions(one), Self::Versions(two)) => one.within(two),
            (Self::VersionRange(one), Self::VersionRange(two)) => one == two,
            (Self::VersionRange(one), Self::Versions(two)) => hull(one).within(two),
            (Self::Moments(one), Self::Moments(two)) => one.within(two),
            (Self::Networks(one), Self::Networks(two)) => one.iter().all(|one| two.iter().any(|two| two.contains(one))),
            (Self::Texts(place, one), Self::Texts(other, two)) => {
                let covered = |one: &&str| two.iter().any(|two| covers(*other, two, *place, one));
                one.iter().all(covered)
            }
            (Self::Patterns(one), Self::Patterns(two)) => one.is_subset(two),
            (
                Self::Numbers(_)
                | Self::Versions(_)
                | Self::VersionRange(_)
                | Self::Moments(_)
                | Self::Networks(_)
                | Self::Texts(..)
                | Self::Patterns(_),
                _,
            ) => false,
        }
    }

    /// Whether no value passes both.
    pub(super) fn apart(&self, other: &Self) -> bool {
        if self.kinds().apart(other.kinds()) {
            return true;
        }
        let fails = |verdict| matches!(verdict, Verdict::Fails | Verdict::CannotBeAsked);
        match (self, other) {
            (Self::Among(among), other) | (other, Self::Among(among)) => among.all(|value| fails(other.ask(value))),
            (Self::Numbers(one), Self::Numbers(two)) => !one.meets(two),
            (Self::Versions(one), Self::Versions(two)) => !one.meets(two),
            (Self::VersionRange(range), Self::Versions(ranges))
            | (Self::Versions(ranges), Self::VersionRange(range)) => !hull(range).meets(ranges),
            (Self::VersionRange(one), Self::VersionRange(two)) => !hull(one).meets(&hull(two)),
            (Self::Moments(one), Self::Moments(two)) => !one.meets(two),
            (Self::Networks(one), Self::Networks(two)) => {
                let meet = |one: &IpNet, two: &IpNet| one.contains(two) || two.contains(one);
                !one.iter().any(|one| two.iter().any(|two| meet(one, two)))
            }
            (Self::Texts(Place::Start, one), Self::Texts(Place::Start, two)) => {
                let meet = |one: &str, two: &str| one.starts_with(two) || two.starts_with(one);
                !one.iter().any(|one| two.iter().any(|two| meet(one, two)))
            }
            (Self::Texts(Place::End, one), Self::Texts(Place::End, two)) => {
                let meet = |one: &str, two: &str| one.ends_with(two) || two.ends_with(one);
                !one.iter().any(|one| two.iter().any(|two| meet(one, two)))
            }
            (
                Self::Numbers(_)
                | Self::Versions(_)
                | Self::VersionRange(_)
                | Self::Moments(_)
                | Self::Networks(_)
                | Self::Texts(..)
                | Self::Patterns(_),
                _,
            ) => false,
        }
    }

    /// Whether whatever can be asked this and fails passes the other.
    pub(super) fn failing_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Versions(one), Self::Versions(two)) => one.outside_within(two),
            (Self::Moments(one), Self::Moments(two)) => one.outside_within(two),
            (Self::Numbers(_) | Self::Among(_), Self::Numbers(_) | Self::Among(_)) => {
                self.failing_scalars_within(other)
            }
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
            ) => false,
        }
    }

    /// Of tests of which each asks numbers, bools or texts as they are.
    fn failing_scalars_within(&self, other: &Self) -> bool {
        let kinds = self.kinds();
        if kinds.texts.is_some() {
            return false;
        }
        let numbers = !kinds.numbers || self.numbers().outside_within(&other.numbers());
        let ((yes, no), (other_yes, other_no)) = (self.bools(), other.bools());
        let bools = !kinds.bools || ((yes || other_yes) && (no || other_no));
        numbers && bools
    }

    /// The numbers that pass. For tests that ask numbers, and for those by which none passes.
    fn numbers(&self) -> Ranges<Number> {
        match self {
            Self::Numbers(ranges) => ranges.clone(),
            Self::Among(among) => among.numbers(),
            Self::Versions(_)
            | Self::VersionRange(_)
            | Self::Moments(_)
            | Self::Networks(_)
            | Self::Texts(..)
            | Self::Patterns(_) => Ranges::points([]),
        }
    }

    /// Whether true passes, and whether false does.
    fn bools(&self) -> (bool, bool) {
        match self {
            Self::Among(among) => (among.yes, among.no),
            Self::Numbers(_)
            | Self::Versions(_)
            | Self::VersionRange(_)
            | Self::Moments(_)
            | Self::Networks(_)
            | Self::Texts(..)
            | Self::Patterns(_) => (false, false),
        }
    }

    /// Whether no value passes this and fails the other, being one that the other can be asked.
    pub(super) fn never_where_fails(&self, other: &Self) -> bool {
        if self.kinds().apart(other.kinds()) {
            return true;
        }
        match self {
            Self::Among(among) => {
                among.all(|value| matches!(other.ask(value), Verdict::Passes | Verdict::CannotBeAsked))
            }
            Self::Numbers(_)
            | Self::Versions(_)
            | Self::VersionRange(_)
            | Self::Moments(_)
            | Self::Networks(_)
            | Self::Texts(..)
            | Self::Patterns(_) => self.within(other),
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

/// One value that an attribute may have.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Bool(bool),
    Number(Number),
    Text(&'a str),
}

impl From<bool> for Verdict {
    fn from(passes: bool) -> Self {
        if passes { Self::Passes } else { Self::Fails }
    }
}

fn parsed<T, E>(value: Result<T, E>, passes: impl FnOnce(T) -> bool) -> Verdict {
    value.map_or(Verdict::CannotBeAsked, |value| passes(value).into())
}

impl<'a> Among<'a> {
    fn new(values: &'a [Operand]) -> Self {
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

    fn kinds(&self) -> Kinds {
        Kinds {
            bools: self.yes || self.no,
            numbers: !self.numbers.is_empty(),
            texts: (!self.texts.is_empty()).then_some(Texts::Any),
        }
    }

    fn numbers(&self) -> Ranges<Number> {
        Ranges::points(self.numbers.iter().copied())
    }

    fn all(&self, mut so: impl FnMut(Value<'_>) -> bool) -> bool {
        (!self.yes || so(Value::Bool(true)))
            && (!self.no || so(Value::Bool(false)))
            && self.numbers.iter().all(|number| so(Value::Number(*number)))
            && self.texts.iter().all(|text| so(Value::Text(text)))
    }

    fn ask(&self, value: Value<'_>) -> Verdict {
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

impl Place {
    fn holds(self, text: &str, part: &str) -> bool {
        match self {
            Self::Start => text.starts_with(part),
            Self::End => text.ends_with(part),
            Self::Anywhere => text.contains(part),
        }
    }
}

/// Whether every text with `inner` at its place has `outer` at the other.
fn covers(outer_place: Place, outer: &str, inner_place: Place, inner: &str) -> bool {
    outer.is_empty()
        || ((outer_place == Place::Anywhere || outer_place == inner_place) && outer_place.holds(inner, outer))
}

impl Kinds {
    const NONE: Self = Self {
        bools: false,
        numbers: false,
        texts: None,
    };

    /// Whether a text can be asked.
    pub(super) fn has_texts(self) -> bool {
        self.texts.is_some()
    }

    /// Whether whatever can be asked the one can be asked the other.
    pub(super) fn within(self, other: Self) -> bool {
        let texts = match (self.texts, other.texts) {
            (None, _) | (_, Some(Texts::Any)) => true,
            (one, two) => one == two,
        };
        texts && self.bools <= other.bools && self.numbers <= other.numbers
    }

    /// Whether nothing can be asked both.
    pub(super) fn apart(self, other: Self) -> bool {
        let texts = match (self.texts, other.texts) {
            (None, _) | (_, None) => true,
            (Some(Texts::Any), _) | (_, Some(Texts::Any)) => false,
            (one, two) => one != two,
        };
        texts && !(self.bools && other.bools) && !(self.numbers && other.numbers)
    }
}

/// Where the versions lie that a range matches; between them there are others, pre-releases.
fn hull(range: &Comparator) -> Ranges<Precedence> {
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
    fn new(number: f64) -> Self {
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
