//! Whether a flag makes sense: everything that can be said when it is written, so that evaluation need not.
//!
//! All violations come back together. Paths begin at the checked thing: `variants[2].key`.

use std::collections::HashSet;

use super::flag::{Configuration, Definition, Metadata};
use super::form;
use super::invalid::Violations;
use super::key;
use super::limits;
use super::rule::{Condition, Operand, Operator, Rule, Serve, Split};
use super::value::Value;

/// Checks what people say of a flag.
pub fn metadata(metadata: &Metadata) -> Result<(), Violations> {
    let mut violations = Violations::new();
    let Metadata {
        name,
        description,
        tags,
        owner,
        lifecycle: _,
    } = metadata;
    text(&mut violations, "name", name, limits::NAME_CHARS);
    text(&mut violations, "description", description, limits::DESCRIPTION_CHARS);
    text(&mut violations, "owner", owner, limits::NAME_CHARS);
    at_most(&mut violations, "tags", tags.len(), limits::TAGS);
    for (n, tag) in tags.iter().enumerate().take(limits::TAGS) {
        let field = format!("tags[{n}]");
        if tag.is_empty() {
            violations.add(&field, "is empty; leave it out");
        }
        text(&mut violations, &field, tag, limits::TAG_CHARS);
    }
    violations.or(())
}

/// Checks the length of a text, and that it holds no control characters but line breaks and tabs.
pub fn text(violations: &mut Violations, field: &str, text: &str, max_chars: usize) {
    if text.chars().count() > max_chars {
        violations.add(field, format!("is longer than {max_chars} characters"));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        violations.add(field, "holds a control character");
    }
}

/// Checks a definition by itself.
pub fn definition(definition: &Definition) -> Result<(), Violations> {
    let mut violations = Violations::new();
    let Definition {
        key: _,
        value_type,
        variants,
        off_variant,
        default_variant,
        client_visible: _,
    } = definition;
    if variants.is_empty() {
        violations.add("variants", "is empty; a flag needs at least one variant");
    }
    at_most(&mut violations, "variants", variants.len(), limits::VARIANTS);
    let mut keys = HashSet::new();
    for (n, variant) in variants.iter().enumerate().take(limits::VARIANTS) {
        if !keys.insert(&variant.key) {
            violations.add(
                format!("variants[{n}].key"),
                "is there twice; keys of variants are unique in a flag",
            );
        }
        if variant.value.value_type() != *value_type {
            violations.add(
                format!("variants[{n}]"),
                format!(
                    "has a value of type {}; the flag is of type {}",
                    variant.value.value_type().name(),
                    value_type.name()
                ),
            );
        }
        value(&mut violations, &format!("variants[{n}]"), &variant.value);
        text(
            &mut violations,
            &format!("variants[{n}].description"),
            &variant.description,
            limits::DESCRIPTION_CHARS,
        );
    }
    for (field, variant) in [("off_variant", off_variant), ("default_variant", default_variant)] {
        if let Some(variant) = variant
            && !keys.contains(variant)
        {
            violations.add(field, format!("names {variant}, which is not a variant of the flag"));
        }
    }
    if form::write_definition(definition).len() > limits::FORM_BYTES {
        violations.add(
            "variants",
            format!("are larger than {} bytes in all", limits::FORM_BYTES),
        );
    }
    violations.or(())
}

fn value(violations: &mut Violations, field: &str, value: &Value) {
    match value {
        Value::Double(number) if !number.is_finite() => {
            violations.add(format!("{field}.double_value"), "is not a finite number");
        }
        Value::String(text) if has_nul(text) => violations.add(format!("{field}.string_value"), NUL),
        Value::Object(object) => {
            let field = format!("{field}.object_value");
            if depth(object.values()) >= limits::DEPTH {
                violations.add(field, format!("is nested more than {} levels deep", limits::DEPTH));
            } else if object
                .iter()
                .any(|(name, value)| has_nul(name) || has_nul_within(value))
            {
                violations.add(field, NUL);
            }
        }
        Value::Bool(_) | Value::String(_) | Value::Integer(_) | Value::Double(_) => {}
    }
}

/// PostgreSQL's `jsonb`, and C in general, cannot hold the character: a form that has it could not be queried.
const NUL: &str = "holds a NUL character";

fn has_nul(text: &str) -> bool {
    text.contains('\0')
}

/// Whether a value has a NUL anywhere. For values that are not nested too deep.
fn has_nul_within(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => has_nul(text),
        serde_json::Value::Array(items) => items.iter().any(has_nul_within),
        serde_json::Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| has_nul(name) || has_nul_within(value)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => false,
    }
}

fn depth<'a>(values: impl Iterator<Item = &'a serde_json::Value>) -> usize {
    let below = values.map(|value| match value {
        serde_json::Value::Array(items) => 1 + depth(items.iter()),
        serde_json::Value::Object(fields) => 1 + depth(fields.values()),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => 0,
    });
    below.max().unwrap_or(0)
}

/// Checks a configuration against the definition of its flag.
pub fn configuration(configuration: &Configuration, definition: &Definition) -> Result<(), Violations> {
    let mut violations = Violations::new();
    let Configuration {
        enabled: _,
        prerequisites: _,
        rules,
        default,
        salt,
    } = configuration;
    at_most(&mut violations, "rules", rules.len(), limits::RULES);
    let mut keys = HashSet::new();
    for (n, rule) in rules.iter().enumerate().take(limits::RULES) {
        if !keys.insert(&rule.key) {
            violations.add(
                format!("rules[{n}].key"),
                "is there twice; keys of rules are unique in a configuration",
            );
        }
        violations.take(&format!("rules[{n}]"), check_rule(rule, definition));
    }
    if let Some(default) = default {
        violations.take("default_serve", serve(default, definition));
    }
    if let Some(salt) = salt {
        text(&mut violations, "salt", salt, limits::SALT_CHARS);
    }
    if form::write_configuration(configuration).len() > limits::FORM_BYTES {
        violations.add("rules", format!("are larger than {} bytes in all", limits::FORM_BYTES));
    }
    violations.or(())
}

fn check_rule(rule: &Rule, definition: &Definition) -> Result<(), Violations> {
    let mut violations = Violations::new();
    let Rule {
        key: _,
        description,
        conditions,
        serve: served,
    } = rule;
    text(&mut violations, "description", description, limits::DESCRIPTION_CHARS);
    if conditions.is_empty() {
        violations.add("conditions", "is empty; what is for everyone belongs into the default");
    }
    at_most(&mut violations, "conditions", conditions.len(), limits::CONDITIONS);
    for (n, condition) in conditions.iter().enumerate().take(limits::CONDITIONS) {
        violations.take(&format!("conditions[{n}]"), check_condition(condition));
    }
    violations.take("serve", serve(served, definition));
    violations.or(())
}

fn check_condition(condition: &Condition) -> Result<(), Violations> {
    let mut violations = Violations::new();
    let Condition {
        attribute,
        operator,
        values,
        negated: _,
    } = condition;
    attribute_name(&mut violations, attribute);
    if values.is_empty() {
        violations.add("values", "is empty; there is nothing to compare with");
    }
    at_most(&mut violations, "values", values.len(), limits::CONDITION_VALUES);
    let (one_value, wanted) = match operator {
        Operator::Equals => (true, None),
        Operator::OneOf => (false, None),
        Operator::Contains
        | Operator::StartsWith
        | Operator::EndsWith
        | Operator::Matches
        | Operator::IpInRange
        | Operator::InSegment
        | Operator::Exists => (false, Some("a string")),
        Operator::VersionEqual
        | Operator::VersionNotEqual
        | Operator::VersionLess
        | Operator::VersionLessOrEqual
        | Operator::VersionGreater
        | Operator::VersionGreaterOrEqual
        | Operator::VersionTilde
        | Operator::VersionCaret
        | Operator::Before
        | Operator::After => (true, Some("a string")),
        Operator::NumberEqual
        | Operator::NumberNotEqual
        | Operator::NumberLess
        | Operator::NumberLessOrEqual
        | Operator::NumberGreater
        | Operator::NumberGreaterOrEqual => (true, Some("a number")),
    };
    if one_value && values.len() > 1 {
        violations.add("values", "has more than the one value that this operator compares with");
    }
    for (n, operand) in values.iter().enumerate().take(limits::CONDITION_VALUES) {
        let (is, wrong) = match operand {
            Operand::Bool(_) => ("a bool", None),
            Operand::Number(number) => ("a number", (!number.is_finite()).then_some("is not a finite number")),
            Operand::String(text) => ("a string", has_nul(text).then_some(NUL)),
        };
        if let Some(wrong) = wrong {
            violations.add(format!("values[{n}]"), wrong);
        }
        if let Some(wanted) = wanted
            && is != wanted
        {
            violations.add(
                format!("values[{n}]"),
                format!("is {is}; this operator compares with {wanted}"),
            );
        }
    }
    violations.or(())
}

fn attribute_name(violations: &mut Violations, name: &str) {
    if name.is_empty() {
        violations.add("attribute", "is empty; name an attribute of the context");
    }
    text(violations, "attribute", name, limits::ATTRIBUTE_CHARS);
}

fn serve(serve: &Serve, definition: &Definition) -> Result<(), Violations> {
    let mut violations = Violations::new();
    match serve {
        Serve::Variant(variant) => known(&mut violations, "variant", variant, definition),
        Serve::Split(split) => {
            violations.take("split", check_split(split, definition));
        }
    }
    violations.or(())
}

fn check_split(split: &Split, definition: &Definition) -> Result<(), Violations> {
    let mut violations = Violations::new();
    let Split { variants, attribute } = split;
    at_most(&mut violations, "variants", variants.len(), limits::VARIANTS);
    let mut seen = HashSet::new();
    for (n, share) in variants.iter().enumerate().take(limits::VARIANTS) {
        let field = format!("variants[{n}].variant");
        known(&mut violations, &field, &share.variant, definition);
        if !seen.insert(&share.variant) {
            violations.add(field, "is there twice; give it one weight");
        }
    }
    let total: u64 = variants.iter().map(|share| u64::from(share.weight)).sum();
    if total == 0 {
        violations.add(
            "variants",
            "have weights that sum to zero; at least one must be positive",
        );
    }
    if total > limits::TOTAL_WEIGHT {
        violations.add(
            "variants",
            format!("have weights that sum to more than {}", limits::TOTAL_WEIGHT),
        );
    }
    if let Some(attribute) = attribute {
        attribute_name(&mut violations, attribute);
    }
    violations.or(())
}

fn known(violations: &mut Violations, field: &str, variant: &key::Variant, definition: &Definition) {
    if definition.variant(variant).is_none() {
        violations.add(field, format!("names {variant}, which is not a variant of the flag"));
    }
}

fn at_most(violations: &mut Violations, field: &str, count: usize, limit: usize) {
    if count > limit {
        violations.add(field, format!("has {count} entries; the limit is {limit}"));
    }
}

#[cfg(test)]
mod tests;
