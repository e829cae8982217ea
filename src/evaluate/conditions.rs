//! From written conditions to compiled ones.

use super::malformed::Malformed;
use super::matcher::{Comparison, Condition, Place, Question, Test};
use super::networks::Networks;
use super::path::Path;
use super::values::Values;
use crate::domain::key;
use crate::domain::operand::{self, Range, Unfit};
use crate::domain::rule::{self, Operand, Operator};

/// Compiles the conditions of a rule or a segment.
pub(super) fn compile(conditions: Vec<rule::Condition>) -> Result<Box<[Condition]>, Malformed> {
    conditions.into_iter().map(condition).collect()
}

fn condition(condition: rule::Condition) -> Result<Condition, Malformed> {
    let rule::Condition {
        attribute,
        operator,
        values,
        negated,
    } = condition;
    let question = match what(operator) {
        What::Segments => segments(attribute, values)?,
        What::Attribute(test) => {
            let path = Path::new(&attribute).ok_or(Malformed::NoAttribute)?;
            let test = test(values).map_err(|wrong| wrong.of(attribute))?;
            Question::Attribute(path, test)
        }
    };
    Ok(Condition {
        operator,
        negated,
        question,
    })
}

/// What is wrong with the values of a condition.
enum Wrong {
    /// Their number or their types.
    Values,
    /// The text of one.
    Unfit(Unfit),
}

impl Wrong {
    fn of(self, attribute: String) -> Malformed {
        match self {
            Self::Values => Malformed::Values(attribute),
            Self::Unfit(unfit) => Malformed::Unfit { attribute, unfit },
        }
    }
}

impl From<Unfit> for Wrong {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

/// What an operator asks about, and how its values are read.
enum What {
    Segments,
    Attribute(fn(Vec<Operand>) -> Result<Test, Wrong>),
}

/// The operators, in the order of the documentation.
fn what(operator: Operator) -> What {
    What::Attribute(match operator {
        Operator::Equals => |values| only(values).map(Test::Equals),
        Operator::OneOf => |values| some(values).map(|values| Test::OneOf(Box::new(Values::new(values)))),
        Operator::Contains => |values| place(Place::Anywhere, values),
        Operator::StartsWith => |values| place(Place::Start, values),
        Operator::EndsWith => |values| place(Place::End, values),
        Operator::Matches => |values| texts(values, operand::pattern).map(|patterns| Test::Matches(patterns.into())),
        Operator::NumberEqual => |values| number(Comparison::Equal, values),
        Operator::NumberNotEqual => |values| number(Comparison::NotEqual, values),
        Operator::NumberLess => |values| number(Comparison::Less, values),
        Operator::NumberLessOrEqual => |values| number(Comparison::LessOrEqual, values),
        Operator::NumberGreater => |values| number(Comparison::Greater, values),
        Operator::NumberGreaterOrEqual => |values| number(Comparison::GreaterOrEqual, values),
        Operator::VersionEqual => |values| version(Comparison::Equal, values),
        Operator::VersionNotEqual => |values| version(Comparison::NotEqual, values),
        Operator::VersionLess => |values| version(Comparison::Less, values),
        Operator::VersionLessOrEqual => |values| version(Comparison::LessOrEqual, values),
        Operator::VersionGreater => |values| version(Comparison::Greater, values),
        Operator::VersionGreaterOrEqual => |values| version(Comparison::GreaterOrEqual, values),
        Operator::VersionTilde => |values| range(Range::Tilde, values),
        Operator::VersionCaret => |values| range(Range::Caret, values),
        Operator::Before => |values| moment(Comparison::Less, values),
        Operator::After => |values| moment(Comparison::Greater, values),
        Operator::IpInRange => {
            |values| texts(values, operand::network).map(|networks| Test::Address(Box::new(Networks::new(networks))))
        }
        Operator::Exists => |values| match values.as_slice() {
            [] => Ok(Test::Exists),
            [_, ..] => Err(Wrong::Values),
        },
        Operator::InSegment => return What::Segments,
    })
}

fn segments(attribute: String, values: Vec<Operand>) -> Result<Question, Malformed> {
    if !attribute.is_empty() {
        return Err(Malformed::Attribute(attribute));
    }
    let keys = some(values).and_then(|values| values.into_iter().map(segment).collect());
    keys.map(Question::Segments).map_err(|_| Malformed::Segments)
}

fn segment(value: Operand) -> Result<std::sync::Arc<str>, Wrong> {
    let key = key::Segment::new(&text(value)?).map_err(|_| Wrong::Values)?;
    Ok(key.into())
}

fn place(place: Place, values: Vec<Operand>) -> Result<Test, Wrong> {
    let texts = some(values)?.into_iter().map(|value| text(value).map(Into::into));
    Ok(Test::Text(place, texts.collect::<Result<_, _>>()?))
}

fn number(comparison: Comparison, values: Vec<Operand>) -> Result<Test, Wrong> {
    match only(values)? {
        Operand::Number(number) => Ok(Test::Number(comparison, number)),
        Operand::Bool(_) | Operand::String(_) => Err(Wrong::Values),
    }
}

fn version(comparison: Comparison, values: Vec<Operand>) -> Result<Test, Wrong> {
    let version = operand::version(&text(only(values)?)?)?;
    Ok(Test::Version(comparison, Box::new(version)))
}

fn range(kind: Range, values: Vec<Operand>) -> Result<Test, Wrong> {
    let range = operand::range(kind, &text(only(values)?)?)?;
    Ok(Test::VersionRange(Box::new(range)))
}

fn moment(comparison: Comparison, values: Vec<Operand>) -> Result<Test, Wrong> {
    let moment = operand::instant(&text(only(values)?)?)?;
    Ok(Test::Moment(comparison, moment))
}

/// At least one text, each parsed.
fn texts<T>(values: Vec<Operand>, parse: impl Fn(&str) -> Result<T, Unfit>) -> Result<Vec<T>, Wrong> {
    let values = some(values)?.into_iter();
    values.map(|value| Ok(parse(&text(value)?)?)).collect()
}

fn some(values: Vec<Operand>) -> Result<Vec<Operand>, Wrong> {
    if values.is_empty() {
        return Err(Wrong::Values);
    }
    Ok(values)
}

fn only(values: Vec<Operand>) -> Result<Operand, Wrong> {
    let [value] = <[Operand; 1]>::try_from(values).map_err(|_| Wrong::Values)?;
    Ok(value)
}

fn text(value: Operand) -> Result<String, Wrong> {
    match value {
        Operand::String(text) => Ok(text),
        Operand::Bool(_) | Operand::Number(_) => Err(Wrong::Values),
    }
}
