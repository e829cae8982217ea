//! What is refused, where, and what is not.

use super::*;
use crate::domain::flag::Variant;
use crate::domain::rule::Weighted;
use crate::domain::value::ValueType;

fn variant(key: &str) -> key::Variant {
    key::Variant::new(key).unwrap()
}

fn flag() -> Definition {
    let variants = [("on", true), ("off", false)].map(|(key, value)| Variant {
        key: variant(key),
        value: Value::Bool(value),
        description: String::new(),
    });
    Definition {
        key: key::Flag::new("f").unwrap(),
        value_type: ValueType::Bool,
        variants: variants.into(),
        off_variant: Some(variant("off")),
        default_variant: None,
        client_visible: false,
    }
}

fn fields(result: Result<(), Violations>) -> Vec<String> {
    let violations = result.err().unwrap_or_default();
    violations.iter().map(|v| v.field.clone()).collect()
}

fn split(shares: &[(&str, u32)]) -> Serve {
    let variants = shares
        .iter()
        .map(|&(key, weight)| Weighted {
            variant: variant(key),
            weight,
        })
        .collect();
    Serve::Split(Split {
        variants,
        attribute: None,
    })
}

fn default_of(serve: Serve) -> Configuration {
    Configuration {
        enabled: true,
        default: Some(serve),
        ..Configuration::default()
    }
}

#[test]
fn a_sensible_flag_has_no_violations() {
    assert_eq!(definition(&flag()), Ok(()));
    assert_eq!(
        configuration(&default_of(split(&[("on", 1), ("off", 99_999)])), &flag()),
        Ok(())
    );
}

#[test]
fn every_violation_of_a_definition_is_named() {
    let mut flag = flag();
    flag.variants.push(Variant {
        key: variant("on"),
        value: Value::Integer(1),
        description: "\u{0}".into(),
    });
    flag.default_variant = Some(variant("maybe"));
    assert_eq!(
        fields(definition(&flag)),
        [
            "variants[2].key",
            "variants[2]",
            "variants[2].description",
            "default_variant"
        ]
    );
}

#[test]
fn nul_characters_are_refused_wherever_text_is_kept() {
    let check = |value: Value, field: &str| {
        let mut flag = flag();
        flag.value_type = value.value_type();
        for variant in &mut flag.variants {
            variant.value = value.clone();
        }
        let expected: Vec<_> = [0, 1].map(|n| format!("variants[{n}].{field}")).into();
        assert_eq!(fields(definition(&flag)), expected, "{value:?}");
    };
    let object = |json: serde_json::Value| Value::Object(json.as_object().unwrap().clone());
    check(Value::String("a\0".into()), "string_value");
    check(object(serde_json::json!({"a\0": 1})), "object_value");
    check(object(serde_json::json!({"a": [{"b": "\0"}]})), "object_value");
    check(object(serde_json::json!({"a": [{"\0": null}]})), "object_value");

    let rule = Rule {
        key: key::Rule::new("r").unwrap(),
        description: String::new(),
        conditions: vec![Condition {
            attribute: "a".into(),
            operator: Operator::OneOf,
            values: vec![Operand::String("fine".into()), Operand::String("\0".into())],
            negated: false,
        }],
        serve: Serve::Variant(variant("on")),
    };
    let configured = Configuration {
        rules: vec![rule],
        ..Configuration::default()
    };
    assert_eq!(
        fields(configuration(&configured, &flag())),
        ["rules[0].conditions[0].values[1]"]
    );
}

#[test]
fn weights_must_sum_to_something_that_can_be_bucketed() {
    let check = |shares: &[(&str, u32)], expected: &[&str]| {
        assert_eq!(
            fields(configuration(&default_of(split(shares)), &flag())),
            expected,
            "{shares:?}"
        );
    };
    let sum = &["default_serve.split.variants"];
    check(&[], sum);
    check(&[("on", 0), ("off", 0)], sum);
    check(&[("on", u32::MAX)], sum);
    check(&[("on", (1 << 31) - 1)], &[]);
    check(&[("on", 1), ("on", 1)], &["default_serve.split.variants[1].variant"]);
    check(&[("maybe", 1)], &["default_serve.split.variants[0].variant"]);
}

#[test]
fn rules_say_what_is_wrong_where() {
    let rule = Rule {
        key: key::Rule::new("r").unwrap(),
        description: String::new(),
        conditions: vec![Condition {
            attribute: String::new(),
            operator: Operator::NumberLess,
            values: vec![Operand::String("5".into()), Operand::Number(5.0)],
            negated: false,
        }],
        serve: Serve::Variant(variant("on")),
    };
    let empty = Rule {
        conditions: vec![],
        ..rule.clone()
    };
    let configuration_with = Configuration {
        rules: vec![rule, empty],
        ..Configuration::default()
    };
    assert_eq!(
        fields(configuration(&configuration_with, &flag())),
        [
            "rules[0].conditions[0].attribute",
            "rules[0].conditions[0].values",
            "rules[0].conditions[0].values[0]",
            "rules[1].key",
            "rules[1].conditions"
        ]
    );
}
