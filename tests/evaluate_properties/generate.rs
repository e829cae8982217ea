//! Random flags and contexts from few names and values, so that conditions hold about as often as not. Most flags make sense;
//! some do not.

use halyard::domain::context::{Attribute, Context, Object};
use halyard::domain::flag::{Configuration, Definition, Variant};
use halyard::domain::key;
use halyard::domain::rule::{Condition, Operand, Operator, Rule, Serve, Split, Weighted};
use halyard::domain::value::{Value, ValueType};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const TYPES: [ValueType; 5] = [
    ValueType::Bool,
    ValueType::String,
    ValueType::Integer,
    ValueType::Double,
    ValueType::Object,
];
const TEXTS: [&str; 6] = ["", "a", "b", "ab", "ø", "1"];
const NUMBERS: [f64; 7] = [0.0, -0.0, 1.0, -1.0, 1.5, 2.0, 1e20];
const ATTRIBUTES: [&str; 8] = ["x", "y", "o", "o.x", "o.o.y", "o.z", "targeting_key", "targeting_key.x"];

/// The definition of the flag `key`.
pub fn definition(key: &str) -> impl Strategy<Value = Definition> + use<> {
    let key = key::Flag::new(key).unwrap_or_else(|violations| panic!("{violations}"));
    let variants = select(&TYPES[..]).prop_flat_map(|value_type| {
        let own = value(value_type);
        let value = prop_oneof![40 => own, 1 => value(ValueType::Integer)];
        (Just(value_type), vec(value, 3), 0..40_usize)
    });
    let named = || option::of(variant_key());
    (variants, named(), named(), any::<bool>()).prop_map(
        move |((value_type, values, twice), off_variant, default_variant, client_visible)| {
            let keys = if twice == 0 { ["a", "a", "c"] } else { ["a", "b", "c"] };
            let variants = keys.into_iter().zip(values).map(|(key, value)| Variant {
                key: key.parse().unwrap_or_else(|violations| panic!("{violations}")),
                value,
                description: String::new(),
            });
            Definition {
                key: key.clone(),
                value_type,
                variants: variants.collect(),
                off_variant,
                default_variant,
                client_visible,
            }
        },
    )
}

/// A configuration of a flag that [`definition`] made.
pub fn configuration() -> impl Strategy<Value = Configuration> {
    let salt = option::of(select(&TEXTS[..]).prop_map(str::to_owned));
    let enabled = prop::bool::weighted(0.9);
    (enabled, vec(rule(), 0..4), option::of(serve()), salt).prop_map(|(enabled, mut rules, default, salt)| {
        for (n, rule) in rules.iter_mut().enumerate().skip(1) {
            // Only the first two rules can have one key.
            if n > 1 || rule.description.is_empty() {
                rule.key = numbered_rule(n);
            }
        }
        Configuration {
            enabled,
            rules,
            default,
            salt,
        }
    })
}

/// Who asks.
pub fn context() -> impl Strategy<Value = Context> {
    let targeting_key = select(&["", "a", "ab", "user-1", "user-2"][..]);
    (targeting_key, object()).prop_map(|(key, attributes)| Context::new(key.to_owned(), attributes))
}

fn numbered_rule(n: usize) -> key::Rule {
    let key = format!("r{n}");
    key.parse().unwrap_or_else(|violations| panic!("{violations}"))
}

fn variant_key() -> impl Strategy<Value = key::Variant> {
    let key = prop_oneof![20 => Just("a"), 20 => Just("b"), 20 => Just("c"), 1 => Just("unknown")];
    key.prop_map(|key| key.parse().unwrap_or_else(|violations| panic!("{violations}")))
}

fn value(value_type: ValueType) -> BoxedStrategy<Value> {
    match value_type {
        ValueType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        ValueType::String => any::<String>()
            .prop_map(|text| Value::String(text.chars().take(20).collect()))
            .boxed(),
        ValueType::Integer => any::<i64>().prop_map(Value::Integer).boxed(),
        ValueType::Double => prop::num::f64::NORMAL.prop_map(Value::Double).boxed(),
        ValueType::Object => prop::num::f64::NORMAL
            .prop_map(|number| {
                let field = serde_json::json!([{ "number": number }, null, true, "text"]);
                Value::Object([("field".to_owned(), field)].into_iter().collect())
            })
            .boxed(),
    }
}

fn rule() -> impl Strategy<Value = Rule> {
    let conditions = prop_oneof![40 => vec(condition(), 1..4), 1 => Just(vec![])];
    let described = prop::bool::weighted(0.03);
    (conditions, serve(), described).prop_map(|(conditions, serve, described)| Rule {
        key: numbered_rule(0),
        description: if described {
            "described".to_owned()
        } else {
            String::new()
        },
        conditions,
        serve,
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    select(&Operator::ALL[..]).prop_flat_map(|operator| {
        let values = match operator {
            Operator::Equals => vec(operand(), 1).boxed(),
            Operator::OneOf => vec(operand(), 1..5).boxed(),
            Operator::EndsWith => vec(
                select(&TEXTS[..]).prop_map(|text| Operand::String(text.to_owned())),
                1..3,
            )
            .boxed(),
            Operator::NumberEqual
            | Operator::NumberNotEqual
            | Operator::NumberLess
            | Operator::NumberLessOrEqual
            | Operator::NumberGreater
            | Operator::NumberGreaterOrEqual => vec(select(&NUMBERS[..]).prop_map(Operand::Number), 1).boxed(),
        };
        let values = prop_oneof![60 => values, 1 => vec(operand(), 0..3)];
        (Just(operator), attribute_name(), values, any::<bool>()).prop_map(|(operator, attribute, values, negated)| {
            Condition {
                attribute,
                operator,
                values,
                negated,
            }
        })
    })
}

fn attribute_name() -> impl Strategy<Value = String> {
    prop_oneof![80 => select(&ATTRIBUTES[..]), 1 => Just("")].prop_map(str::to_owned)
}

fn operand() -> impl Strategy<Value = Operand> {
    prop_oneof![
        select(&TEXTS[..]).prop_map(|text| Operand::String(text.to_owned())),
        select(&NUMBERS[..]).prop_map(Operand::Number),
        any::<bool>().prop_map(Operand::Bool),
    ]
}

fn serve() -> impl Strategy<Value = Serve> {
    let weight = prop_oneof![2 => 0..5_u32, 2 => 0..1_000_000_u32, 1 => Just(1 << 29), 1 => any::<u32>()];
    let shares = (vec(weight, 3), prop::bool::weighted(0.95)).prop_flat_map(|(weights, distinct)| {
        let keys = if distinct { ["c", "a", "b"] } else { ["c", "a", "c"] };
        let shares = keys.into_iter().zip(weights).map(|(key, weight)| Weighted {
            variant: key.parse().unwrap_or_else(|violations| panic!("{violations}")),
            weight,
        });
        let shares: Vec<_> = shares.collect();
        proptest::sample::subsequence(shares, 1..=3)
    });
    let split = (shares, option::of(attribute_name())).prop_map(|(variants, attribute)| Split { variants, attribute });
    prop_oneof![variant_key().prop_map(Serve::Variant), split.prop_map(Serve::Split)]
}

fn object() -> impl Strategy<Value = Object> {
    let names = select(&["x", "y", "o", "o.x", "targeting_key"][..]).prop_map(str::to_owned);
    vec((names, attribute()), 0..5).prop_map(|fields| fields.into_iter().collect())
}

fn attribute() -> impl Strategy<Value = Attribute> {
    let scalar = prop_oneof![
        select(&TEXTS[..]).prop_map(|text| Attribute::String(text.to_owned())),
        select(&NUMBERS[..]).prop_map(Attribute::Number),
        any::<bool>().prop_map(Attribute::Bool),
    ];
    scalar.prop_recursive(3, 12, 3, |inner| {
        let names = select(&["x", "y", "o", "z"][..]).prop_map(str::to_owned);
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Attribute::List),
            vec((names, inner), 0..3).prop_map(|fields| Attribute::Object(fields.into_iter().collect())),
        ]
    })
}
