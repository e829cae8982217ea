//! Flags: definitions and configurations, in and out.

use std::collections::HashSet;

use prost_types::value::Kind;

use super::value;
use crate::domain::flag::{Configuration, Definition, Prerequisite, Variant};
use crate::domain::invalid::Violations;
use crate::domain::rule::{Condition, Operand, Operator, Rule, Serve, Split, Weighted};
use crate::domain::value::ValueType;
use crate::domain::{draft, key, limits};
use crate::pb::evaluation::v1 as pb;

/// Reads the type of a flag. `None`: unspecified, or unknown to this version.
pub fn read_type(value_type: i32) -> Option<ValueType> {
    pb::ValueType::try_from(value_type).ok().and_then(value::read_type)
}

/// Reads variants.
pub fn read_variants(variants: Vec<pb::Variant>) -> Vec<draft::Variant> {
    list(variants, limits::VARIANTS, read_variant)
}

fn read_variant(variant: pb::Variant) -> draft::Variant {
    let pb::Variant {
        key,
        value,
        description,
    } = variant;
    let value = match value {
        Some(value) => value::read(value),
        None => Err(Violations::one("value", "is absent")),
    };
    draft::Variant {
        key,
        value,
        description,
    }
}

/// Reads rules. A rule without a key is named after its place, around the names that are taken.
pub fn read_rules(rules: Vec<pb::Rule>) -> Vec<draft::Rule> {
    let mut rules = list(rules, limits::RULES, read_rule);
    let taken: HashSet<String> = rules.iter().map(|rule| rule.key.clone()).collect();
    for (n, rule) in rules.iter_mut().enumerate().filter(|(_, rule)| rule.key.is_empty()) {
        let mut name = format!("rule-{}", n + 1);
        while taken.contains(&name) {
            name.push_str("-b");
        }
        rule.key = name;
    }
    rules
}

fn read_rule(rule: pb::Rule) -> draft::Rule {
    let pb::Rule {
        key,
        description,
        conditions,
        serve,
    } = rule;
    draft::Rule {
        key,
        description,
        conditions: read_conditions(conditions),
        serve: serve.map(read_serve).unwrap_or_default(),
    }
}

/// Reads conditions.
pub fn read_conditions(conditions: Vec<pb::Condition>) -> Vec<draft::Condition> {
    list(conditions, limits::CONDITIONS, read_condition)
}

fn read_condition(condition: pb::Condition) -> draft::Condition {
    let pb::Condition {
        attribute,
        operator,
        values,
        negated,
    } = condition;
    draft::Condition {
        attribute,
        operator: pb::Operator::try_from(operator).ok().and_then(read_operator),
        values: list(values, limits::CONDITION_VALUES, read_operand),
        negated,
    }
}

fn read_operand(value: prost_types::Value) -> Option<Operand> {
    match value.kind? {
        Kind::BoolValue(value) => Some(Operand::Bool(value)),
        Kind::NumberValue(value) => Some(Operand::Number(value)),
        Kind::StringValue(value) => Some(Operand::String(value)),
        Kind::NullValue(_) | Kind::StructValue(_) | Kind::ListValue(_) => None,
    }
}

/// Reads what is served.
pub fn read_serve(serve: pb::Serve) -> draft::Serve {
    match serve.serve {
        None => draft::Serve::Nothing,
        Some(pb::serve::Serve::Variant(variant)) => draft::Serve::Variant(variant),
        Some(pb::serve::Serve::Split(pb::Split { variants, attribute })) => draft::Serve::Split(draft::Split {
            variants: list(variants, limits::VARIANTS, |share| {
                let pb::WeightedVariant { variant, weight } = share;
                (variant, weight)
            }),
            attribute: (!attribute.is_empty()).then_some(attribute),
        }),
    }
}

/// Reads prerequisites.
pub fn read_prerequisites(prerequisites: Vec<pb::Prerequisite>) -> Vec<draft::Prerequisite> {
    list(prerequisites, limits::PREREQUISITES, |prerequisite| {
        let pb::Prerequisite { flag, variants } = prerequisite;
        let variants = list(variants, limits::VARIANTS, |variant| variant);
        draft::Prerequisite { flag, variants }
    })
}

/// Reads a text that may be left out.
pub fn read_optional(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Reads each entry, up to one beyond the limit: so many that it is noticed, and no more memory than that.
pub fn list<M, T>(messages: Vec<M>, limit: usize, read: impl Fn(M) -> T) -> Vec<T> {
    messages.into_iter().take(limit + 1).map(read).collect()
}

/// A definition as its message.
pub fn write_definition(definition: &Definition) -> pb::FlagDefinition {
    let Definition {
        key,
        value_type,
        variants,
        off_variant,
        default_variant,
        client_visible,
    } = definition;
    pb::FlagDefinition {
        key: key.to_string(),
        r#type: value::write_type(*value_type).into(),
        variants: variants.iter().map(write_variant).collect(),
        off_variant: write_variant_key(off_variant.as_ref()),
        default_variant: write_variant_key(default_variant.as_ref()),
        client_visible: *client_visible,
    }
}

/// A configuration as its message.
pub fn write_configuration(flag: &str, configuration: &Configuration) -> pb::FlagConfiguration {
    let Configuration {
        enabled,
        prerequisites,
        rules,
        default,
        salt,
    } = configuration;
    pb::FlagConfiguration {
        flag: flag.to_owned(),
        enabled: *enabled,
        rules: rules.iter().map(write_rule).collect(),
        default_serve: default.as_ref().map(write_serve),
        salt: salt.clone().unwrap_or_default(),
        prerequisites: prerequisites.iter().map(write_prerequisite).collect(),
    }
}

/// A prerequisite as its message.
pub fn write_prerequisite(prerequisite: &Prerequisite) -> pb::Prerequisite {
    let Prerequisite { flag, variants } = prerequisite;
    pb::Prerequisite {
        flag: flag.to_string(),
        variants: variants.iter().map(ToString::to_string).collect(),
    }
}

/// A variant as its message.
pub fn write_variant(variant: &Variant) -> pb::Variant {
    let Variant {
        key,
        value,
        description,
    } = variant;
    pb::Variant {
        key: key.to_string(),
        value: Some(value::write(value)),
        description: description.clone(),
    }
}

/// An optional variant key; none is empty.
pub fn write_variant_key(variant: Option<&key::Variant>) -> String {
    variant.map(ToString::to_string).unwrap_or_default()
}

/// A rule as its message.
pub fn write_rule(rule: &Rule) -> pb::Rule {
    let Rule {
        key,
        description,
        conditions,
        serve,
    } = rule;
    pb::Rule {
        key: key.to_string(),
        description: description.clone(),
        conditions: conditions.iter().map(write_condition).collect(),
        serve: Some(write_serve(serve)),
    }
}

/// A condition as its message.
pub fn write_condition(condition: &Condition) -> pb::Condition {
    let Condition {
        attribute,
        operator,
        values,
        negated,
    } = condition;
    pb::Condition {
        attribute: attribute.clone(),
        operator: write_operator(*operator).into(),
        values: values.iter().map(write_operand).collect(),
        negated: *negated,
    }
}

fn write_operand(operand: &Operand) -> prost_types::Value {
    let kind = match operand {
        Operand::Bool(value) => Kind::BoolValue(*value),
        Operand::Number(value) => Kind::NumberValue(*value),
        Operand::String(value) => Kind::StringValue(value.clone()),
    };
    prost_types::Value { kind: Some(kind) }
}

/// What is served as its message.
pub fn write_serve(serve: &Serve) -> pb::Serve {
    let serve = match serve {
        Serve::Variant(variant) => pb::serve::Serve::Variant(variant.to_string()),
        Serve::Split(Split { variants, attribute }) => pb::serve::Serve::Split(pb::Split {
            variants: variants.iter().map(write_share).collect(),
            attribute: attribute.clone().unwrap_or_default(),
        }),
    };
    pb::Serve { serve: Some(serve) }
}

/// A variant with its weight.
pub fn write_share(share: &Weighted) -> pb::WeightedVariant {
    let Weighted { variant, weight } = share;
    pb::WeightedVariant {
        variant: variant.to_string(),
        weight: *weight,
    }
}

fn read_operator(operator: pb::Operator) -> Option<Operator> {
    match operator {
        pb::Operator::Unspecified => None,
        pb::Operator::Equals => Some(Operator::Equals),
        pb::Operator::OneOf => Some(Operator::OneOf),
        pb::Operator::EndsWith => Some(Operator::EndsWith),
        pb::Operator::Contains => Some(Operator::Contains),
        pb::Operator::StartsWith => Some(Operator::StartsWith),
        pb::Operator::Matches => Some(Operator::Matches),
        pb::Operator::VersionEqual => Some(Operator::VersionEqual),
        pb::Operator::VersionNotEqual => Some(Operator::VersionNotEqual),
        pb::Operator::VersionLess => Some(Operator::VersionLess),
        pb::Operator::VersionLessOrEqual => Some(Operator::VersionLessOrEqual),
        pb::Operator::VersionGreater => Some(Operator::VersionGreater),
        pb::Operator::VersionGreaterOrEqual => Some(Operator::VersionGreaterOrEqual),
        pb::Operator::VersionTilde => Some(Operator::VersionTilde),
        pb::Operator::VersionCaret => Some(Operator::VersionCaret),
        pb::Operator::Before => Some(Operator::Before),
        pb::Operator::After => Some(Operator::After),
        pb::Operator::IpInRange => Some(Operator::IpInRange),
        pb::Operator::Exists => Some(Operator::Exists),
        pb::Operator::InSegment => Some(Operator::InSegment),
        pb::Operator::NumberEqual => Some(Operator::NumberEqual),
        pb::Operator::NumberNotEqual => Some(Operator::NumberNotEqual),
        pb::Operator::NumberLess => Some(Operator::NumberLess),
        pb::Operator::NumberLessOrEqual => Some(Operator::NumberLessOrEqual),
        pb::Operator::NumberGreater => Some(Operator::NumberGreater),
        pb::Operator::NumberGreaterOrEqual => Some(Operator::NumberGreaterOrEqual),
    }
}

/// An operator as its message.
pub fn write_operator(operator: Operator) -> pb::Operator {
    match operator {
        Operator::Equals => pb::Operator::Equals,
        Operator::OneOf => pb::Operator::OneOf,
        Operator::EndsWith => pb::Operator::EndsWith,
        Operator::Contains => pb::Operator::Contains,
        Operator::StartsWith => pb::Operator::StartsWith,
        Operator::Matches => pb::Operator::Matches,
        Operator::VersionEqual => pb::Operator::VersionEqual,
        Operator::VersionNotEqual => pb::Operator::VersionNotEqual,
        Operator::VersionLess => pb::Operator::VersionLess,
        Operator::VersionLessOrEqual => pb::Operator::VersionLessOrEqual,
        Operator::VersionGreater => pb::Operator::VersionGreater,
        Operator::VersionGreaterOrEqual => pb::Operator::VersionGreaterOrEqual,
        Operator::VersionTilde => pb::Operator::VersionTilde,
        Operator::VersionCaret => pb::Operator::VersionCaret,
        Operator::Before => pb::Operator::Before,
        Operator::After => pb::Operator::After,
        Operator::IpInRange => pb::Operator::IpInRange,
        Operator::Exists => pb::Operator::Exists,
        Operator::InSegment => pb::Operator::InSegment,
        Operator::NumberEqual => pb::Operator::NumberEqual,
        Operator::NumberNotEqual => pb::Operator::NumberNotEqual,
        Operator::NumberLess => pb::Operator::NumberLess,
        Operator::NumberLessOrEqual => pb::Operator::NumberLessOrEqual,
        Operator::NumberGreater => pb::Operator::NumberGreater,
        Operator::NumberGreaterOrEqual => pb::Operator::NumberGreaterOrEqual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_comes_back_as_it_went_in() {
        for operator in Operator::ALL {
            assert_eq!(read_operator(write_operator(operator)), Some(operator));
        }
    }

    #[test]
    fn rules_without_keys_are_named_after_their_place() {
        let rule = |key: &str| pb::Rule {
            key: key.into(),
            serve: Some(pb::Serve {
                serve: Some(pb::serve::Serve::Variant("on".into())),
            }),
            ..pb::Rule::default()
        };
        let rules = read_rules(vec![rule(""), rule("rule-3"), rule("")]);
        let keys: Vec<_> = rules.iter().map(|rule| rule.key.as_str()).collect();
        assert_eq!(keys, ["rule-1", "rule-3", "rule-3-b"]);
    }

    #[test]
    fn what_cannot_be_understood_is_kept_as_such() {
        let rule = pb::Rule {
            conditions: vec![pb::Condition {
                operator: 77,
                values: vec![prost_types::Value { kind: None }],
                ..pb::Condition::default()
            }],
            ..pb::Rule::default()
        };
        let rules = read_rules(vec![rule]);
        assert_eq!(rules[0].serve, draft::Serve::Nothing);
        assert_eq!(
            (rules[0].conditions[0].operator, &*rules[0].conditions[0].values),
            (None, &[None][..])
        );
    }

    #[test]
    fn one_too_many_is_kept_and_no_more() {
        let condition = pb::Condition {
            values: vec![prost_types::Value { kind: None }; limits::CONDITION_VALUES + 10],
            ..pb::Condition::default()
        };
        let conditions = read_conditions(vec![condition; limits::CONDITIONS + 10]);
        assert_eq!(conditions.len(), limits::CONDITIONS + 1);
        assert_eq!(conditions[0].values.len(), limits::CONDITION_VALUES + 1);
    }
}
