//! Random definitions and configurations that make sense, with values that are hard to keep.

use halyard::domain::flag::{Configuration, Definition, Prerequisite, Variant};
use halyard::domain::key;
use halyard::domain::rule::{Condition, Operand, Operator, Rule, Serve, Split, Weighted};
use halyard::domain::value::{Value, ValueType};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value as Json};

const TYPES: [ValueType; 5] = [
    ValueType::Bool,
    ValueType::String,
    ValueType::Integer,
    ValueType::Double,
    ValueType::Object,
];
const NUMBERS: [f64; 8] = [0.0, -0.0, 1.0, 0.1, 1e15, 1e300, f64::MAX, 5e-324];
const INTEGERS: [i64; 4] = [0, -1, i64::MIN, i64::MAX];

/// What becomes of one flag.
#[derive(Debug, Clone)]
pub struct Life {
    pub first: Definition,
    /// Of the same type.
    pub second: Definition,
    /// Of the second definition.
    pub configuration: Configuration,
}

/// The life of the flag `key`. It may depend on flags `p` and `q`, and on segments `s` and `t`.
pub fn life(key: &str) -> impl Strategy<Value = Life> + use<> {
    let key: key::Flag = key.parse().unwrap();
    select(&TYPES[..]).prop_flat_map(move |value_type| {
        let second = definition(key.clone(), value_type).prop_flat_map(|second| {
            let variants = second.variants.iter().map(|variant| variant.key.clone()).collect();
            (Just(second), configuration(variants))
        });
        (definition(key.clone(), value_type), second).prop_map(|(first, (second, configuration))| Life {
            first,
            second,
            configuration,
        })
    })
}

fn definition(key: key::Flag, value_type: ValueType) -> impl Strategy<Value = Definition> {
    let keys = subsequence(vec!["a", "b", "c.d", "e-1"], 1..=4).prop_shuffle();
    let variants = keys.prop_flat_map(move |keys| {
        let variants: Vec<_> = keys.into_iter().map(|key| variant(key, value_type)).collect();
        let named = option::of(0..variants.len());
        (variants, named.clone(), named)
    });
    (variants, any::<bool>()).prop_map(move |((variants, off, default), client_visible)| {
        let named = |n: Option<usize>| n.map(|n| variants[n].key.clone());
        Definition {
            key: key.clone(),
            value_type,
            off_variant: named(off),
            default_variant: named(default),
            variants,
            client_visible,
        }
    })
}

fn variant(key: &'static str, value_type: ValueType) -> impl Strategy<Value = Variant> {
    (value(value_type), line()).prop_map(move |(value, description)| Variant {
        key: key.parse().unwrap(),
        value,
        description,
    })
}

fn value(value_type: ValueType) -> BoxedStrategy<Value> {
    match value_type {
        ValueType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        ValueType::String => text().prop_map(Value::String).boxed(),
        ValueType::Integer => integer().prop_map(Value::Integer).boxed(),
        ValueType::Double => number().prop_map(Value::Double).boxed(),
        ValueType::Object => {
            let leaf = prop_oneof![
                Just(Json::Null),
                any::<bool>().prop_map(Json::from),
                integer().prop_map(Json::from),
                any::<u64>().prop_map(Json::from),
                number().prop_map(Json::from),
                text().prop_map(Json::from),
            ];
            let nested = leaf.prop_recursive(6, 24, 4, |inner| {
                let list = vec(inner.clone(), 0..4).prop_map(Json::from);
                prop_oneof![list, object(inner).prop_map(Json::from)]
            });
            object(nested).prop_map(Value::Object).boxed()
        }
    }
}

fn object(values: impl Strategy<Value = Json>) -> impl Strategy<Value = Map<String, Json>> {
    vec((text(), values), 0..4).prop_map(|fields| fields.into_iter().collect())
}

fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![select(&INTEGERS[..]), any::<i64>()]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        select(&NUMBERS[..]),
        any::<f64>().prop_filter("finite", |number| number.is_finite())
    ]
}

/// Any text but for NUL, which is refused.
fn text() -> impl Strategy<Value = String> {
    vec(any::<char>().prop_filter("not NUL", |&c| c != '\0'), 0..8).prop_map(String::from_iter)
}

/// A text without control characters.
fn line() -> impl Strategy<Value = String> {
    "\\PC{0,8}"
}

fn configuration(variants: Vec<key::Variant>) -> impl Strategy<Value = Configuration> {
    let serve = serve(variants).boxed();
    let rules = vec(rule(serve.clone()), 0..3).prop_map(|mut rules| {
        for (n, rule) in rules.iter_mut().enumerate() {
            rule.key = format!("r{n}").parse().unwrap();
        }
        rules
    });
    let parts = (
        any::<bool>(),
        prerequisites(),
        rules,
        option::of(serve),
        option::of(attribute()),
    );
    parts.prop_map(|(enabled, prerequisites, rules, default, salt)| Configuration {
        enabled,
        prerequisites,
        rules,
        default,
        salt,
    })
}

/// Of the flags `p` and `q`, which are bool.
fn prerequisites() -> impl Strategy<Value = Vec<Prerequisite>> {
    let flags = subsequence(vec!["p", "q"], 0..=2).prop_shuffle();
    flags.prop_flat_map(|flags| {
        let prerequisite = |flag: &'static str| {
            let variants = subsequence(vec!["on", "off"], 1..=2).prop_shuffle();
            variants.prop_map(move |variants| Prerequisite {
                flag: flag.parse().unwrap(),
                variants: variants.into_iter().map(|variant| variant.parse().unwrap()).collect(),
            })
        };
        flags.into_iter().map(prerequisite).collect::<Vec<_>>()
    })
}

fn rule(serve: impl Strategy<Value = Serve>) -> impl Strategy<Value = Rule> {
    (line(), vec(condition(), 1..3), serve).prop_map(|(description, conditions, serve)| Rule {
        key: "r".parse().unwrap(),
        description,
        conditions,
        serve,
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    let operand = prop_oneof![
        any::<bool>().prop_map(Operand::Bool),
        number().prop_map(Operand::Number),
        text().prop_map(Operand::String),
    ];
    let one_of = vec(operand, 1..4).prop_map(|values| (Operator::OneOf, values));
    let less = number().prop_map(|number| (Operator::NumberLess, vec![Operand::Number(number)]));
    let compared = (attribute(), prop_oneof![one_of, less]);
    let in_segment = subsequence(vec!["s", "t"], 1..=2).prop_shuffle().prop_map(|segments| {
        let values = segments.into_iter().map(|key| Operand::String(key.into())).collect();
        (String::new(), (Operator::InSegment, values))
    });
    let asked = prop_oneof![2 => compared, 1 => in_segment];
    (asked, any::<bool>()).prop_map(|((attribute, (operator, values)), negated)| Condition {
        attribute,
        operator,
        values,
        negated,
    })
}

fn serve(variants: Vec<key::Variant>) -> impl Strategy<Value = Serve> {
    let count = variants.len();
    let shares = subsequence(variants.clone(), 1..=count).prop_shuffle();
    let split = (shares, 1..1_000_u32, option::of(attribute())).prop_map(|(variants, weight, attribute)| {
        let share = |variant| Weighted { variant, weight };
        Serve::Split(Split {
            variants: variants.into_iter().map(share).collect(),
            attribute,
        })
    });
    prop_oneof![select(variants).prop_map(Serve::Variant), split]
}

/// A name, or a salt.
fn attribute() -> impl Strategy<Value = String> {
    "\\PC{1,8}"
}
