//! A flag's definition, and what people say of it.

use std::collections::HashSet;

use super::part::{self, NUL, at_most, has_nul, text};
use crate::domain::flag::{Definition, Metadata, Variant};
use crate::domain::invalid::Violations;
use crate::domain::value::{Value, ValueType};
use crate::domain::{draft, form, key, limits};

/// Checks what people say of a flag.
pub fn metadata(metadata: &Metadata) -> Result<(), Violations> {
    let mut violations = Violations::new();
    let Metadata {
        name,
        description,
        tags,
        owner,
        // Its type says it: only what is temporary has a day of removal.
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

/// Checks a definition by itself.
pub fn definition(draft: &draft::Definition) -> Result<Definition, Violations> {
    let mut violations = Violations::new();
    let draft::Definition {
        key,
        value_type,
        variants: drafts,
        off_variant,
        default_variant,
        client_visible,
    } = draft;
    let key: Option<key::Flag> = violations.take("key", key.parse());
    if value_type.is_none() {
        violations.add("type", "is not a type that flags can have");
    }
    // Of a type that is not known, nobody can say whether none will do: a flag of type bool is given its own.
    if drafts.is_empty() && value_type.is_some() {
        violations.add("variants", "is empty; a flag needs at least one variant");
    }
    let mut seen = HashSet::new();
    let variants = part::list(&mut violations, "variants", drafts, limits::VARIANTS, |draft| {
        let again = !seen.insert(draft.key.as_str());
        variant(draft, again, *value_type)
    });
    let off_variant = named(&mut violations, "off_variant", off_variant.as_deref(), &seen);
    let default_variant = named(&mut violations, "default_variant", default_variant.as_deref(), &seen);
    let Some((key, value_type)) = key.zip(*value_type) else {
        return Err(violations);
    };
    let definition = Definition {
        key,
        value_type,
        variants,
        off_variant,
        default_variant,
        client_visible: *client_visible,
    };
    if form::write_definition(&definition).len() > limits::FORM_BYTES {
        let limit = limits::FORM_BYTES;
        violations.add("variants", format!("are larger than {limit} bytes in all"));
    }
    violations.or(definition)
}

/// One of the variants, whatever else is wrong with that one.
fn named(
    violations: &mut Violations,
    field: &str,
    text: Option<&str>,
    variants: &HashSet<&str>,
) -> Option<key::Variant> {
    let known = |key: &key::Variant| variants.contains(key.as_str());
    violations.take(field, part::known(text?, known, "a variant of the flag"))
}

/// `again`: an earlier variant has the key.
fn variant(draft: &draft::Variant, again: bool, wanted: Option<ValueType>) -> Result<Variant, Violations> {
    let draft::Variant {
        key,
        value,
        description,
    } = draft;
    let mut violations = Violations::new();
    let key = violations.take("key", key.parse());
    if again {
        violations.add("key", "is there twice; keys of variants are unique in a flag");
    }
    let value = violations.take("", value.clone());
    if let Some(value) = &value {
        check_type(&mut violations, value, wanted);
        check_value(&mut violations, value);
    }
    text(&mut violations, "description", description, limits::DESCRIPTION_CHARS);
    match key.zip(value) {
        Some((key, value)) => violations.or(Variant {
            key,
            value,
            description: description.clone(),
        }),
        None => Err(violations),
    }
}

fn check_type(violations: &mut Violations, value: &Value, wanted: Option<ValueType>) {
    let is = value.value_type();
    if let Some(wanted) = wanted.filter(|wanted| *wanted != is) {
        let (is, wanted) = (is.name(), wanted.name());
        violations.add("", format!("has a value of type {is}; the flag is of type {wanted}"));
    }
}

fn check_value(violations: &mut Violations, value: &Value) {
    match value {
        Value::Double(number) if !number.is_finite() => violations.add("double_value", "is not a finite number"),
        Value::String(text) if has_nul(text) => violations.add("string_value", NUL),
        Value::Object(object) => {
            if depth(object.values()) >= limits::DEPTH {
                let limit = limits::DEPTH;
                violations.add("object_value", format!("is nested more than {limit} levels deep"));
            } else if object
                .iter()
                .any(|(name, value)| has_nul(name) || has_nul_within(value))
            {
                violations.add("object_value", NUL);
            }
        }
        Value::Bool(_) | Value::String(_) | Value::Integer(_) | Value::Double(_) => {}
    }
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
