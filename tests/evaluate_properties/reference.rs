//! A second evaluator, written as plainly as the contract reads and without a thought for speed. It shares the domain's types with
//! the first, and nothing else.

use halyard::domain::check;
use halyard::domain::context::{Attribute, Context};
use halyard::domain::flag::{Configuration, Definition};
use halyard::domain::rule::{Condition, Operand, Operator, Serve, Split};
use halyard::evaluate::{Answer, Error, Reason};

/// An answer, by keys.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub variant: Option<String>,
    pub reason: Reason,
    pub rule: Option<String>,
}

impl From<Answer<'_>> for Outcome {
    fn from(answer: Answer<'_>) -> Self {
        Self {
            variant: answer.variant.map(|variant| variant.key.as_str().to_owned()),
            reason: answer.reason,
            rule: answer.rule.map(str::to_owned),
        }
    }
}

pub fn evaluate(definition: &Definition, configuration: Option<&Configuration>, context: &Context) -> Outcome {
    let outcome = |variant: Option<String>, reason, rule: Option<&str>| Outcome {
        variant,
        reason,
        rule: rule.map(str::to_owned),
    };
    if check::definition(definition).is_err() {
        return outcome(None, Reason::Error(Error::FlagMalformed), None);
    }
    let off = definition.off_variant.as_ref().map(ToString::to_string);
    let Some(configuration) = configuration else {
        return outcome(off, Reason::Disabled, None);
    };
    if check::configuration(configuration, definition).is_err() {
        return outcome(off, Reason::Error(Error::FlagMalformed), None);
    }
    if !configuration.enabled {
        return outcome(off, Reason::Disabled, None);
    }
    let salt = configuration.salt.as_deref().unwrap_or(definition.key.as_str());
    for rule in &configuration.rules {
        if rule.conditions.iter().any(|condition| !holds(condition, context)) {
            continue;
        }
        match &rule.serve {
            Serve::Variant(variant) => {
                return outcome(
                    Some(variant.to_string()),
                    Reason::TargetingMatch,
                    Some(rule.key.as_str()),
                );
            }
            Serve::Split(split) => {
                if let Some(variant) = share(split, salt, context) {
                    return outcome(Some(variant), Reason::Split, Some(rule.key.as_str()));
                }
            }
        }
    }
    let unsplit = if configuration.rules.is_empty() {
        Reason::Static
    } else {
        Reason::Default
    };
    match &configuration.default {
        Some(Serve::Variant(variant)) => outcome(Some(variant.to_string()), unsplit, None),
        Some(Serve::Split(split)) => match share(split, salt, context) {
            Some(variant) => outcome(Some(variant), Reason::Split, None),
            None => outcome(off, Reason::Error(Error::TargetingKeyMissing), None),
        },
        None => {
            let default = definition.default_variant.as_ref().map(ToString::to_string);
            outcome(default.or(off), unsplit, None)
        }
    }
}

fn find<'c>(path: &str, context: &'c Context) -> Option<&'c Attribute> {
    if path == "targeting_key" {
        return context.targeting_key();
    }
    if let Some(attribute) = context.attributes().get(path) {
        return Some(attribute);
    }
    let mut parts = path.split('.');
    let first = parts.next().filter(|first| *first != "targeting_key")?;
    parts.try_fold(context.attributes().get(first)?, |attribute, name| match attribute {
        Attribute::Object(object) => object.get(name),
        Attribute::Bool(_) | Attribute::Number(_) | Attribute::String(_) | Attribute::List(_) => None,
    })
}

fn holds(condition: &Condition, context: &Context) -> bool {
    let elements = match find(&condition.attribute, context) {
        None => return false,
        Some(Attribute::List(elements)) => elements.iter().collect(),
        Some(attribute) => vec![attribute],
    };
    let same_type = |operand: &Operand, attribute: &Attribute| {
        matches!(
            (operand, attribute),
            (Operand::Bool(_), Attribute::Bool(_))
                | (Operand::Number(_), Attribute::Number(_))
                | (Operand::String(_), Attribute::String(_))
        )
    };
    let asked: Vec<_> = elements
        .into_iter()
        .filter(|attribute| condition.values.iter().any(|operand| same_type(operand, attribute)))
        .collect();
    if asked.is_empty() {
        return false;
    }
    let compare = |attribute: &Attribute| {
        condition
            .values
            .iter()
            .any(|operand| compare(condition.operator, attribute, operand))
    };
    asked.into_iter().any(compare) != condition.negated
}

#[expect(clippy::float_cmp, reason = "people who ask for equality mean equality")]
fn compare(operator: Operator, attribute: &Attribute, operand: &Operand) -> bool {
    match (attribute, operand) {
        (Attribute::Bool(attribute), Operand::Bool(operand)) => attribute == operand,
        (Attribute::String(attribute), Operand::String(operand)) if operator == Operator::EndsWith => {
            attribute.ends_with(operand.as_str())
        }
        (Attribute::String(attribute), Operand::String(operand)) => attribute == operand,
        (Attribute::Number(attribute), Operand::Number(operand)) => match operator {
            Operator::NumberLess => attribute < operand,
            Operator::NumberLessOrEqual => attribute <= operand,
            Operator::NumberGreater => attribute > operand,
            Operator::NumberGreaterOrEqual => attribute >= operand,
            Operator::NumberNotEqual => attribute != operand,
            Operator::Equals | Operator::OneOf | Operator::EndsWith | Operator::NumberEqual => attribute == operand,
        },
        _ => false,
    }
}

fn share(split: &Split, salt: &str, context: &Context) -> Option<String> {
    let value = match find(split.attribute.as_deref().unwrap_or("targeting_key"), context)? {
        Attribute::String(text) => text.clone(),
        Attribute::Bool(value) => value.to_string(),
        // Between 1e-6 and 1e21 Rust writes numbers as RFC 8785 does, but for the sign of zero.
        Attribute::Number(number) => (number + 0.0).to_string(),
        Attribute::List(_) | Attribute::Object(_) => return None,
    };
    let total: u64 = split.variants.iter().map(|share| u64::from(share.weight)).sum();
    let bucket = (u64::from(hash(&format!("{salt}:{value}"))) * total) >> 32;
    let mut below = 0;
    let share = split.variants.iter().find(|share| {
        below += u64::from(share.weight);
        bucket < below
    });
    share.map(|share| share.variant.to_string())
}

fn hash(text: &str) -> u32 {
    let text = format!("{text:100}");
    let (head, length) = match u16::try_from(text.len()) {
        Ok(length) if length < 256 => (0x78, length.to_be_bytes()[1..].to_vec()),
        Ok(length) => (0x79, length.to_be_bytes().to_vec()),
        Err(error) => panic!("the texts of these tests are short: {error}"),
    };
    let mut input = [vec![head], length, text.into_bytes()].concat();
    let length = u32::try_from(input.len()).unwrap_or_default();
    let whole_blocks = input.len() / 4;
    input.resize(input.len().next_multiple_of(4), 0);
    let mut hash = 0_u32;
    for (n, block) in input.chunks(4).enumerate() {
        let number = block
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u32::from(*byte));
        hash ^= number
            .wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593);
        if n < whole_blocks {
            hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
        }
    }
    hash ^= length;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}
