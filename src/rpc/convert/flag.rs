//! Flags: definitions and configurations, in and out.

use prost_types::value::Kind;

use super::common::{finish, key, optional_key, required};
use super::value;
use crate::domain::flag::{Configuration, Definition, Prerequisite, Variant};
use crate::domain::invalid::Violations;
use crate::domain::limits;
use crate::domain::rule::{Condition, Operand, Operator, Rule, Serve, Split, Weighted};
use crate::domain::{key, value::ValueType};
use crate::pb::evaluation::v1 as pb;

/// Reads the type of a flag.
pub fn read_type(violations: &mut Violations, field: &str, value_type: i32) -> Option<ValueType> {
    let read = pb::ValueType::try_from(value_type).ok().and_then(value::read_type);
    if read.is_none() {
        violations.add(field, "is not a type that flags can have");
    }
    read
}

/// Reads variants; paths begin at `variants`.
pub fn read_variants(variants: Vec<pb::Variant>) -> Result<Vec<Variant>, Violations> {
    list("variants", variants, limits::VARIANTS, read_variant)
}

fn read_variant(variant: pb::Variant) -> Result<Variant, Violations> {
    let pb::Variant {
        key: name,
        value,
        description,
    } = variant;
    let mut violations = Violations::new();
    let name = key(&mut violations, "key", &name);
    let value = required(&mut violations, "value", value).and_then(|value| violations.take("", value::read(value)));
    let variant = name.zip(value).map(|(key, value)| Variant {
        key,
        value,
        description,
    });
    finish(violations, variant)
}

/// Reads rules; paths begin at `rules`. A rule without a key is named after its place, around the names that are taken.
pub fn read_rules(rules: Vec<pb::Rule>) -> Result<Vec<Rule>, Violations> {
    let taken: Vec<String> = rules.iter().map(|rule| rule.key.clone()).collect();
    let mut rules = rules;
    for (n, rule) in rules.iter_mut().enumerate().filter(|(_, rule)| rule.key.is_empty()) {
        let mut name = format!("rule-{}", n + 1);
        while taken.contains(&name) {
            name.push_str("-b");
        }
        rule.key = name;
    }
    list("rules", rules, limits::RULES, read_rule)
}

fn read_rule(rule: pb::Rule) -> Result<Rule, Violations> {
    let pb::Rule {
        key: name,
        description,
        conditions,
        serve,
    } = rule;
    let mut violations = Violations::new();
    let name = key(&mut violations, "key", &name);
    let conditions = violations.take("", list("conditions", conditions, limits::CONDITIONS, read_condition));
    let serve = required(&mut violations, "serve", serve).and_then(|serve| violations.take("serve", read_serve(serve)));
    let rule = name.zip(conditions).zip(serve).map(|((key, conditions), serve)| Rule {
        key,
        description,
        conditions,
        serve,
    });
    finish(violations, rule)
}

fn read_condition(condition: pb::Condition) -> Result<Condition, Violations> {
    let pb::Condition {
        attribute,
        operator,
        values,
        negated,
    } = condition;
    let mut violations = Violations::new();
    let operator = pb::Operator::try_from(operator).ok().and_then(read_operator);
    if operator.is_none() {
        violations.add("operator", "is not an operator");
    }
    let values = violations.take("", list("values", values, limits::CONDITION_VALUES, read_operand));
    let condition = operator.zip(values).map(|(operator, values)| Condition {
        attribute,
        operator,
        values,
        negated,
    });
    finish(violations, condition)
}

fn read_operand(value: prost_types::Value) -> Result<Operand, Violations> {
    match value.kind {
        Some(Kind::BoolValue(value)) => Ok(Operand::Bool(value)),
        Some(Kind::NumberValue(value)) => Ok(Operand::Number(value)),
        Some(Kind::StringValue(value)) => Ok(Operand::String(value)),
        None | Some(Kind::NullValue(_) | Kind::StructValue(_) | Kind::ListValue(_)) => {
            Err(Violations::one("", "is neither a string nor a number nor a bool"))
        }
    }
}

/// Reads what is served; paths begin at `variant` or `split`.
pub fn read_serve(serve: pb::Serve) -> Result<Serve, Violations> {
    let mut violations = Violations::new();
    let serve = match serve.serve {
        None => {
            violations.add("", "says neither a variant nor a split");
            None
        }
        Some(pb::serve::Serve::Variant(name)) => key(&mut violations, "variant", &name).map(Serve::Variant),
        Some(pb::serve::Serve::Split(pb::Split { variants, attribute })) => {
            let shares = list("split.variants", variants, limits::VARIANTS, |share| {
                let pb::WeightedVariant { variant, weight } = share;
                let mut violations = Violations::new();
                let variant = key(&mut violations, "variant", &variant);
                finish(violations, variant.map(|variant| Weighted { variant, weight }))
            });
            let attribute = (!attribute.is_empty()).then_some(attribute);
            let shares = violations.take("", shares);
            shares.map(|variants| Serve::Split(Split { variants, attribute }))
        }
    };
    finish(violations, serve)
}

/// Reads an optional variant key of a definition.
pub fn read_variant_key(violations: &mut Violations, field: &str, name: &str) -> Option<key::Variant> {
    optional_key(violations, field, name)
}

/// Reads each entry, with its index in the path. What is beyond the limit is not even read.
fn list<M, T>(
    field: &str,
    messages: Vec<M>,
    limit: usize,
    read: impl Fn(M) -> Result<T, Violations>,
) -> Result<Vec<T>, Violations> {
    let mut violations = Violations::new();
    if messages.len() > limit {
        violations.add(field, format!("has {} entries; the limit is {limit}", messages.len()));
    }
    let mut items = Vec::with_capacity(messages.len().min(limit));
    for (n, message) in messages.into_iter().enumerate().take(limit) {
        items.extend(violations.take(&format!("{field}[{n}]"), read(message)));
    }
    violations.or(items)
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
            variants: variants
                .iter()
                .map(|Weighted { variant, weight }| pb::WeightedVariant {
                    variant: variant.to_string(),
                    weight: *weight,
                })
                .collect(),
            attribute: attribute.clone().unwrap_or_default(),
        }),
    };
    pb::Serve { serve: Some(serve) }
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
        let rules = read_rules(vec![rule(""), rule("rule-3"), rule("")]).unwrap();
        let keys: Vec<_> = rules.iter().map(|rule| rule.key.as_str()).collect();
        assert_eq!(keys, ["rule-1", "rule-3", "rule-3-b"]);
    }

    #[test]
    fn violations_name_the_place() {
        let rule = pb::Rule {
            key: "No".into(),
            conditions: vec![pb::Condition {
                operator: 77,
                values: vec![prost_types::Value { kind: None }],
                ..pb::Condition::default()
            }],
            ..pb::Rule::default()
        };
        let violations = read_rules(vec![rule]).unwrap_err();
        let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "rules[0].key",
                "rules[0].conditions[0].operator",
                "rules[0].conditions[0].values[0]",
                "rules[0].serve"
            ]
        );
    }
}
