//! Definitions and what people say of flags.

use super::*;
use crate::domain::flag::Metadata;
use crate::domain::limits;

fn draft() -> draft::Definition {
    (&flag("f")).into()
}

fn variant(key: &str, value: Value) -> draft::Variant {
    draft::Variant {
        key: key.to_owned(),
        value: Ok(value),
        description: String::new(),
    }
}

#[test]
fn a_sensible_definition_comes_back_as_it_was() {
    assert_eq!(definition(&draft()), Ok(flag("f")));
}

#[test]
fn every_violation_of_a_definition_is_told() {
    let mut draft = draft();
    draft.key = "no key".to_owned();
    draft.variants.push(variant("on", Value::Integer(1)));
    draft.variants.push(variant("No", Value::Bool(true)));
    draft.variants.push(draft::Variant {
        key: "absent".to_owned(),
        value: Err(Violations::one("value", "is absent")),
        description: "\u{0}".to_owned(),
    });
    draft.off_variant = Some("maybe".to_owned());
    draft.default_variant = Some("OFF".to_owned());
    assert_eq!(
        fields(definition(&draft)),
        [
            "key",
            "variants[2].key",
            "variants[2]",
            "variants[3].key",
            "variants[4].value",
            "variants[4].description",
            "off_variant",
            "default_variant"
        ]
    );
}

#[test]
fn a_variant_that_is_wrong_may_still_be_named() {
    let mut draft = draft();
    draft.variants.push(variant("other", Value::Integer(1)));
    draft.default_variant = Some("other".to_owned());
    assert_eq!(
        told(definition(&draft)),
        ["variants[2]: has a value of type integer; the flag is of type bool"]
    );
}

#[test]
fn what_is_not_said_is_told() {
    let mut draft = draft();
    draft.variants.clear();
    assert_eq!(fields(definition(&draft)), ["variants"]);
    // Whether none will do depends on the type.
    draft.value_type = None;
    assert_eq!(fields(definition(&draft)), ["type"]);
}

#[test]
fn variants_have_their_limits() {
    let mut draft = draft();
    draft.value_type = Some(ValueType::String);
    let long = "x".repeat(3_000);
    draft.variants = (0..=limits::VARIANTS)
        .map(|n| variant(&format!("v{n}"), Value::String(long.clone())))
        .collect();
    assert_eq!(
        told(definition(&draft)),
        [
            "variants: has more entries than the limit of 100",
            "variants: are larger than 262144 bytes in all"
        ]
    );
}

#[test]
fn nul_characters_and_what_is_not_finite_are_refused() {
    let check = |value: Value, field: &str| {
        let mut draft = draft();
        draft.value_type = Some(value.value_type());
        draft.variants = vec![variant("on", value.clone())];
        assert_eq!(
            fields(definition(&draft)),
            [format!("variants[0].{field}")],
            "{value:?}"
        );
    };
    let object = |json: serde_json::Value| Value::Object(json.as_object().unwrap().clone());
    check(Value::Double(f64::NAN), "double_value");
    check(Value::Double(f64::INFINITY), "double_value");
    check(Value::String("a\0".into()), "string_value");
    check(object(serde_json::json!({"a\0": 1})), "object_value");
    check(object(serde_json::json!({"a": [{"b": "\0"}]})), "object_value");
    check(object(serde_json::json!({"a": [{"\0": null}]})), "object_value");
    let deep = (0..limits::DEPTH).fold(serde_json::json!({}), |inner, _| serde_json::json!({ "a": inner }));
    check(object(deep), "object_value");
}

#[test]
fn what_people_say_has_its_limits() {
    let long = Metadata {
        name: "n".repeat(limits::NAME_CHARS + 1),
        description: "\u{7}".to_owned(),
        tags: [
            vec![String::new(), "t".repeat(limits::TAG_CHARS + 1)],
            vec!["t".to_owned(); limits::TAGS],
        ]
        .concat(),
        owner: "o".repeat(limits::NAME_CHARS + 1),
        ..Metadata::default()
    };
    assert_eq!(
        fields(metadata(&long)),
        ["name", "description", "owner", "tags", "tags[0]", "tags[1]"]
    );
    let allowed = Metadata {
        name: "ü".repeat(limits::NAME_CHARS),
        description: "a\n\tb".to_owned(),
        ..Metadata::default()
    };
    assert_eq!(metadata(&allowed), Ok(()));
}
