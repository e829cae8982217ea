//! Whether what is stored makes sense. What does not is malformed.

use std::collections::HashSet;
use std::hash::Hash;

use halyard::domain::flag::{Configuration, Definition};
use halyard::domain::key;
use halyard::domain::rule::{Condition, Operand, Operator, Serve};
use halyard::domain::segment;

use super::compare;

fn are_unique<T: Hash + Eq>(things: impl IntoIterator<Item = T>) -> bool {
    let mut seen = HashSet::new();
    things.into_iter().all(|thing| seen.insert(thing))
}

pub fn definition(definition: &Definition) -> bool {
    let variants = &definition.variants;
    let named = definition.off_variant.iter().chain(&definition.default_variant);
    !variants.is_empty()
        && variants
            .iter()
            .all(|variant| variant.value.value_type() == definition.value_type)
        && are_unique(variants.iter().map(|variant| &variant.key))
        && named.into_iter().all(|variant| definition.variant(variant).is_some())
}

/// For a definition that makes sense.
pub fn configuration(configuration: &Configuration, definition: &Definition) -> bool {
    let rules = &configuration.rules;
    let served = rules.iter().map(|rule| &rule.serve).chain(&configuration.default);
    are_unique(rules.iter().map(|rule| &rule.key))
        && rules
            .iter()
            .all(|rule| !rule.conditions.is_empty() && rule.conditions.iter().all(condition))
        && configuration
            .prerequisites
            .iter()
            .all(|prerequisite| !prerequisite.variants.is_empty())
        && served.into_iter().all(|served| serve(served, definition))
}

fn serve(serve: &Serve, definition: &Definition) -> bool {
    let splits = match serve {
        Serve::Variant(_) => true,
        Serve::Split(split) => {
            let total: u64 = split.variants.iter().map(|share| u64::from(share.weight)).sum();
            split.attribute.as_deref() != Some("")
                && are_unique(split.variants.iter().map(|share| &share.variant))
                && (1..1 << 31).contains(&total)
        }
    };
    splits && serve.variants().all(|variant| definition.variant(variant).is_some())
}

pub fn segment(segment: &segment::Configuration) -> bool {
    let list = segment.key_list.is_none_or(|list| list.chunks.is_power_of_two());
    list && segment.conditions.iter().all(condition)
}

fn condition(condition: &Condition) -> bool {
    let Condition {
        attribute,
        operator,
        values,
        negated: _,
    } = condition;
    let texts: Option<Vec<&str>> = values.iter().map(text).collect();
    let one_text = texts.as_deref().filter(|texts| texts.len() == 1).map(|texts| texts[0]);
    let texts = texts.filter(|texts| !texts.is_empty());
    let values_fit = match operator {
        Operator::Equals => values.len() == 1,
        Operator::OneOf => !values.is_empty(),
        Operator::Contains | Operator::StartsWith | Operator::EndsWith => texts.is_some(),
        Operator::Matches => texts.is_some_and(|texts| texts.iter().all(|text| regex::Regex::new(text).is_ok())),
        Operator::NumberEqual
        | Operator::NumberNotEqual
        | Operator::NumberLess
        | Operator::NumberLessOrEqual
        | Operator::NumberGreater
        | Operator::NumberGreaterOrEqual => matches!(values.as_slice(), [Operand::Number(_)]),
        Operator::VersionEqual
        | Operator::VersionNotEqual
        | Operator::VersionLess
        | Operator::VersionLessOrEqual
        | Operator::VersionGreater
        | Operator::VersionGreaterOrEqual
        | Operator::VersionTilde
        | Operator::VersionCaret => one_text.is_some_and(|text| compare::version(text).is_some()),
        Operator::Before | Operator::After => one_text.is_some_and(|text| compare::moment(text).is_some()),
        Operator::IpInRange => texts.is_some_and(|texts| texts.iter().all(|text| compare::network(text).is_some())),
        Operator::Exists => values.is_empty(),
        Operator::InSegment => texts.is_some_and(|texts| texts.iter().all(|text| text.parse::<key::Segment>().is_ok())),
    };
    values_fit && attribute.is_empty() == (*operator == Operator::InSegment)
}

fn text(value: &Operand) -> Option<&str> {
    match value {
        Operand::String(text) => Some(text),
        Operand::Bool(_) | Operand::Number(_) => None,
    }
}
