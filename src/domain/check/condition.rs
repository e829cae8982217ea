//! Conditions: an operator, its attribute, and values that it can compare with.

use std::collections::HashSet;

use super::part::{self, NUL, has_nul, text};
use crate::domain::invalid::Violations;
use crate::domain::operand::{self, Unfit};
use crate::domain::rule::{Condition, Operand, Operator};
use crate::domain::{draft, key, limits};

/// Checks the conditions of one configuration.
pub(super) struct Conditions<'a> {
    /// The keys of the segments that may be named.
    segments: &'a HashSet<String>,
    /// Regular expressions so far.
    patterns: usize,
    /// Questions about segments so far.
    questions: usize,
}

/// What an operator compares with.
enum Wanted {
    Anything,
    Text,
    Pattern,
    Number,
    Version,
    Moment,
    Network,
    Segment,
}

/// How many values an operator takes, and which.
enum Takes {
    Nothing,
    One(Wanted),
    Any(Wanted),
}

fn takes(operator: Operator) -> Takes {
    match operator {
        Operator::Equals => Takes::One(Wanted::Anything),
        Operator::OneOf => Takes::Any(Wanted::Anything),
        Operator::Contains | Operator::StartsWith | Operator::EndsWith => Takes::Any(Wanted::Text),
        Operator::Matches => Takes::Any(Wanted::Pattern),
        Operator::NumberEqual
        | Operator::NumberNotEqual
        | Operator::NumberLess
        | Operator::NumberLessOrEqual
        | Operator::NumberGreater
        | Operator::NumberGreaterOrEqual => Takes::One(Wanted::Number),
        Operator::VersionEqual
        | Operator::VersionNotEqual
        | Operator::VersionLess
        | Operator::VersionLessOrEqual
        | Operator::VersionGreater
        | Operator::VersionGreaterOrEqual
        | Operator::VersionTilde
        | Operator::VersionCaret => Takes::One(Wanted::Version),
        Operator::Before | Operator::After => Takes::One(Wanted::Moment),
        Operator::IpInRange => Takes::Any(Wanted::Network),
        Operator::Exists => Takes::Nothing,
        Operator::InSegment => Takes::Any(Wanted::Segment),
    }
}

impl<'a> Conditions<'a> {
    /// Checks conditions that may name these segments.
    pub(super) fn new(segments: &'a HashSet<String>) -> Self {
        Self {
            segments,
            patterns: 0,
            questions: 0,
        }
    }

    /// Checks the conditions of a rule or a segment; paths begin at `conditions`.
    pub(super) fn check(&mut self, violations: &mut Violations, drafts: &[draft::Condition]) -> Vec<Condition> {
        self.check_at(violations, "conditions", drafts)
    }

    /// The same of those of another name.
    pub(super) fn check_at(
        &mut self,
        violations: &mut Violations,
        field: &str,
        drafts: &[draft::Condition],
    ) -> Vec<Condition> {
        let check = |draft: &_| self.condition(draft);
        part::list(violations, field, drafts, limits::CONDITIONS, check)
    }

    /// Whether there were more regular expressions or questions about segments than may be; those beyond were not looked at.
    pub(super) fn too_many(&self, violations: &mut Violations, field: &str) {
        if self.patterns > limits::PATTERNS {
            let limit = limits::PATTERNS;
            violations.add(
                field,
                format!("have more than {limit} regular expressions in all; join some with |"),
            );
        }
        if self.questions > limits::SEGMENT_QUESTIONS {
            let limit = limits::SEGMENT_QUESTIONS;
            violations.add(
                field,
                format!("ask about more than {limit} segments in all; make a segment of some"),
            );
        }
    }

    fn condition(&mut self, draft: &draft::Condition) -> Result<Condition, Violations> {
        let draft::Condition {
            attribute,
            operator,
            values,
            negated,
        } = draft;
        let mut violations = Violations::new();
        check_attribute(&mut violations, attribute, *operator);
        let Some(operator) = *operator else {
            violations.add("operator", "is not an operator that this version knows");
            return Err(violations);
        };
        let values = self.values(&mut violations, operator, values);
        violations.or(Condition {
            attribute: attribute.clone(),
            operator,
            values,
            negated: *negated,
        })
    }

    fn values(&mut self, violations: &mut Violations, operator: Operator, values: &[Option<Operand>]) -> Vec<Operand> {
        let wanted = match takes(operator) {
            Takes::Nothing => {
                if !values.is_empty() {
                    violations.add("values", "is not empty; this operator compares with nothing");
                }
                return Vec::new();
            }
            Takes::One(wanted) => {
                if values.len() > 1 {
                    violations.add("values", "has more than the one value that this operator compares with");
                }
                wanted
            }
            Takes::Any(wanted) => wanted,
        };
        if values.is_empty() {
            violations.add("values", "is empty; there is nothing to compare with");
        }
        let mut asked = HashSet::new();
        let check = |value: &Option<Operand>| {
            if let (Wanted::Segment, Some(Operand::String(segment))) = (&wanted, value)
                && !asked.insert(segment.clone())
            {
                return Err(Violations::one("", "is there twice; name it once"));
            }
            let Some(value) = value else {
                return Err(Violations::one("", "is neither a string nor a number nor a bool"));
            };
            self.value(&wanted, value)
                .map_err(|wrong| Violations::one("", wrong))
                .map(|()| value.clone())
        };
        part::list(violations, "values", values, limits::CONDITION_VALUES, check)
    }

    fn value(&mut self, wanted: &Wanted, value: &Operand) -> Result<(), String> {
        match value {
            Operand::Number(number) if !number.is_finite() => return Err("is not a finite number".to_owned()),
            Operand::String(text) if has_nul(text) => return Err(NUL.to_owned()),
            Operand::Bool(_) | Operand::Number(_) | Operand::String(_) => {}
        }
        match (wanted, value) {
            (Wanted::Anything, _) | (Wanted::Number, Operand::Number(_)) | (Wanted::Text, Operand::String(_)) => Ok(()),
            (Wanted::Pattern, Operand::String(text)) => self.pattern(text),
            (Wanted::Version, Operand::String(text)) => fits(operand::version(text)),
            (Wanted::Moment, Operand::String(text)) => fits(operand::instant(text)),
            (Wanted::Network, Operand::String(text)) => fits(operand::network(text)),
            (Wanted::Segment, Operand::String(text)) => self.segment(text),
            (
                Wanted::Text
                | Wanted::Pattern
                | Wanted::Number
                | Wanted::Version
                | Wanted::Moment
                | Wanted::Network
                | Wanted::Segment,
                _,
            ) => Err(format!(
                "is {}; this operator compares with {}",
                described(value),
                wanted.described()
            )),
        }
    }

    fn pattern(&mut self, text: &str) -> Result<(), String> {
        self.patterns += 1;
        // Compiling takes its time; a few too many are told without.
        if self.patterns > limits::PATTERNS {
            return Ok(());
        }
        fits(operand::pattern(text))
    }

    fn segment(&mut self, text: &str) -> Result<(), String> {
        self.questions += 1;
        let known = |key: &key::Segment| self.segments.contains(key.as_str());
        let segment = part::known(text, known, "a segment of the project");
        segment.map(|_| ()).map_err(|violations| violations.to_string())
    }
}

fn check_attribute(violations: &mut Violations, attribute: &str, operator: Option<Operator>) {
    if operator == Some(Operator::InSegment) {
        if !attribute.is_empty() {
            violations.add(
                "attribute",
                "is not empty; whether someone is in a segment is asked of no attribute",
            );
        }
    } else {
        attribute_name(violations, "attribute", attribute);
    }
}

/// Checks the name of an attribute, or the path to it.
pub(super) fn attribute_name(violations: &mut Violations, field: &str, name: &str) {
    if name.is_empty() {
        violations.add(field, "is empty; name an attribute of the context");
    }
    text(violations, field, name, limits::ATTRIBUTE_CHARS);
}

fn fits<T>(parsed: Result<T, Unfit>) -> Result<(), String> {
    parsed.map(|_| ()).map_err(|unfit| unfit.to_string())
}

fn described(value: &Operand) -> &'static str {
    match value {
        Operand::Bool(_) => "a bool",
        Operand::Number(_) => "a number",
        Operand::String(_) => "a string",
    }
}

impl Wanted {
    fn described(&self) -> &'static str {
        match self {
            Self::Anything => "a string, a number or a bool",
            Self::Text => "a string",
            Self::Pattern => "a regular expression, a string",
            Self::Number => "a number",
            Self::Version => "a semantic version, a string",
            Self::Moment => "a date and time, a string",
            Self::Network => "a network or an address, a string",
            Self::Segment => "the key of a segment, a string",
        }
    }
}
