//! Random environments and contexts from few names and values, so that conditions hold about as often as not. Most flags and segments
//! make sense; some do not.

use std::collections::BTreeMap;

use halyard::domain::context::{Attribute, Context, Object};
use halyard::domain::flag::{Configuration, Definition, Prerequisite, Variant};
use halyard::domain::key;
use halyard::domain::rule::{Condition, Operand, Operator, Rule, Serve, Split, Weighted};
use halyard::domain::segment::{self, KeyList};
use halyard::domain::value::{Value, ValueType};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::world::{Flag, Segment, World};

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
const TARGETING_KEYS: [&str; 5] = ["", "a", "ab", "user-1", "user-2"];
/// The last two are none.
const VERSIONS: [&str; 16] = [
    "1.2.3",
    "1.2.4",
    "1.3.0",
    "2.0.0",
    "0.2.3",
    "0.2.9",
    "0.0.3",
    "0.0.0",
    "1.2.3-rc.1",
    "1.2.3-rc.2",
    "1.2.3-rc.10.x",
    "1.2.3-alpha",
    "1.2.4-rc.1",
    "1.2.3+build.7",
    "1.2",
    "v1.2.3",
];
/// The last three are none.
const MOMENTS: [&str; 9] = [
    "2026-01-31T09:30:00Z",
    "2026-01-31T10:30:00+01:00",
    "2026-01-31t09:30:00.5z",
    "2026-01-31T09:30:00.25Z",
    "2025-12-31T23:59:59-00:30",
    "2026-01-31T09:29:60Z",
    "2026-01-31",
    "2026-01-31 09:30:00Z",
    "2026-02-30T00:00:00Z",
];
/// The last two are none.
const ADDRESSES: [&str; 8] = [
    "10.0.0.1",
    "10.255.0.1",
    "192.168.1.7",
    "::ffff:10.0.0.1",
    "2001:db8::1",
    "::1",
    "10.0.0.256",
    "10.0.0.0/8",
];
/// The last one is none.
const NETWORKS: [&str; 9] = [
    "10.0.0.0/8",
    "10.0.0.1",
    "192.168.1.1/16",
    "::ffff:10.0.0.0/104",
    "2001:db8::/32",
    "::/0",
    "0.0.0.0/0",
    "::2/127",
    "10.0.0.0/33",
];
/// The last one is none.
const PATTERNS: [&str; 7] = ["^a", "b$", "[0-9]+", ".", "^$", "(?i)A", "("];
const FLAGS: [&str; 4] = ["f", "g", "h", "i"];
/// The last one is never there.
const SEGMENTS: [&str; 5] = ["s", "t", "u", "w", "unknown"];

/// An environment with the flag `f` and perhaps others.
pub fn world() -> impl Strategy<Value = World> {
    let flag = |key: &'static str| {
        let others = FLAGS
            .iter()
            .copied()
            .skip_while(move |other| *other != key)
            .skip(1)
            .collect();
        let flag = (
            definition(key).boxed(),
            option::weighted(0.95, configuration(others).boxed()),
        );
        flag.prop_map(|(definition, configuration)| Flag {
            definition,
            configuration,
        })
        .boxed()
    };
    let flags = (flag("f"), flag("g"), flag("h"), flag("i"), 1..=FLAGS.len());
    let segments = vec(segment().boxed(), SEGMENTS.len() - 1);
    (flags, segments, 0..SEGMENTS.len()).prop_map(|((f, g, h, i, flags), segments, count)| {
        let flags = FLAGS.into_iter().zip([f, g, h, i]).take(flags);
        let segments = SEGMENTS.into_iter().zip(segments).take(count);
        World {
            flags: flags.map(|(key, flag)| (key.to_owned(), flag)).collect(),
            segments: segments
                .map(|(key, segment)| (key.to_owned(), segment))
                .collect::<BTreeMap<_, _>>(),
        }
    })
}

/// A flag that has a rule for whoever is in a segment.
pub fn asking_about(segment: &str) -> Flag {
    let definition = Definition {
        key: parse("g"),
        value_type: ValueType::Bool,
        variants: vec![Variant {
            key: parse("a"),
            value: Value::Bool(true),
            description: String::new(),
        }],
        off_variant: None,
        default_variant: None,
        client_visible: false,
    };
    let rule = Rule {
        key: numbered_rule(0),
        description: String::new(),
        conditions: vec![Condition {
            attribute: String::new(),
            operator: Operator::InSegment,
            values: vec![Operand::String(segment.to_owned())],
            negated: false,
        }],
        serve: Serve::Variant(parse("a")),
    };
    Flag {
        definition,
        configuration: Some(Configuration {
            enabled: true,
            rules: vec![rule],
            ..Configuration::default()
        }),
    }
}

/// An environment whose flag `f` has a rule for whoever is in a list.
pub fn listing(keys: Vec<String>, chunks: u32) -> World {
    let mut flag = asking_about("s");
    flag.definition.key = parse("f");
    let configuration = segment::Configuration {
        key_list: Some(KeyList {
            chunks,
            keys: keys.len() as u64,
        }),
        ..segment::Configuration::default()
    };
    World {
        flags: [("f".to_owned(), flag)].into(),
        segments: [("s".to_owned(), Segment { configuration, keys })].into(),
    }
}

/// The configuration of a segment with the keys of its list.
pub fn segment() -> impl Strategy<Value = Segment> {
    let keys = || subsequence(&TARGETING_KEYS[1..], 0..=2).prop_map(texts);
    let parts = subsequence(&SEGMENTS[..], 0..=2).prop_map(|keys| keys.into_iter().map(parse).collect());
    let parts = prop_oneof![2 => Just(vec![]), 1 => parts];
    let chunks = prop_oneof![20 => select(&[1_u32, 2, 4][..]), 1 => select(&[0_u32, 3][..])];
    let listed = subsequence(&TARGETING_KEYS[1..], 0..=3).prop_map(texts);
    let list = (option::of(chunks), listed);
    (keys(), keys(), parts, vec(condition().boxed(), 0..3), list).prop_map(
        |(included, excluded, segments, conditions, (chunks, keys))| Segment {
            configuration: segment::Configuration {
                included,
                excluded,
                segments,
                conditions,
                key_list: chunks.map(|chunks| KeyList {
                    chunks,
                    keys: keys.len() as u64,
                }),
            },
            keys,
        },
    )
}

fn texts(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}

fn parse<K: std::str::FromStr<Err = halyard::domain::invalid::Violations>>(text: &str) -> K {
    text.parse().unwrap_or_else(|violations| panic!("{violations}"))
}

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

/// A configuration of a flag that [`definition`] made. Its prerequisites are mostly among `others`, and then in no circle.
pub fn configuration(others: Vec<&'static str>) -> impl Strategy<Value = Configuration> {
    let salt = option::of(select(&TEXTS[..]).prop_map(str::to_owned));
    let enabled = prop::bool::weighted(0.9);
    let parts = (
        enabled,
        prerequisites(others).boxed(),
        vec(rule().boxed(), 0..4),
        option::of(serve().boxed()),
        salt,
    );
    parts.prop_map(|(enabled, prerequisites, mut rules, default, salt)| {
        for (n, rule) in rules.iter_mut().enumerate().skip(1) {
            // Only the first two rules can have one key.
            if n > 1 || rule.description.is_empty() {
                rule.key = numbered_rule(n);
            }
        }
        Configuration {
            enabled,
            prerequisites,
            rules,
            default,
            salt,
        }
    })
}

fn prerequisites(others: Vec<&'static str>) -> impl Strategy<Value = Vec<Prerequisite>> {
    let most = others.len().min(2);
    let later = subsequence(others, 0..=most).prop_map(|flags| flags.into_iter().collect::<Vec<_>>());
    let any = subsequence(&["f", "g", "h", "i", "unknown"][..], 1..=2);
    prop_oneof![8 => Just(vec![]), 10 => later, 2 => any].prop_flat_map(|flags| {
        let prerequisites = flags.into_iter().map(|flag| {
            let variants = prop_oneof![
                40 => subsequence(&["a", "b", "c"][..], 1..=3),
                1 => Just(vec![]),
                1 => Just(vec!["unknown"]),
            ];
            variants.prop_map(move |variants| Prerequisite {
                flag: parse(flag),
                variants: variants.into_iter().map(parse).collect(),
            })
        });
        prerequisites.collect::<Vec<_>>()
    })
}

/// Who asks.
pub fn context() -> impl Strategy<Value = Context> {
    (select(&TARGETING_KEYS[..]), object()).prop_map(|(key, attributes)| Context::new(key.to_owned(), attributes))
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
    let conditions = prop_oneof![40 => vec(condition().boxed(), 1..4), 1 => Just(vec![])];
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

/// A condition of any operator.
pub fn condition() -> impl Strategy<Value = Condition> {
    let operator = prop_oneof![8 => select(&Operator::ALL[..]), 2 => Just(Operator::InSegment)];
    operator.prop_flat_map(|operator| {
        let (usual, values) = values(operator);
        let attribute = if operator == Operator::InSegment {
            prop_oneof![60 => Just(String::new()), 1 => Just("x".to_owned())].boxed()
        } else {
            prop_oneof![3 => Just(usual.to_owned()), 2 => attribute_name()].boxed()
        };
        let values = prop_oneof![60 => values, 1 => vec(operand(), 0..3)];
        (Just(operator), attribute, values, any::<bool>()).prop_map(|(operator, attribute, values, negated)| {
            Condition {
                attribute,
                operator,
                values,
                negated,
            }
        })
    })
}

/// The attribute that an operator mostly asks about, and values for it.
fn values(operator: Operator) -> (&'static str, BoxedStrategy<Vec<Operand>>) {
    let some = |of: &'static [&str]| vec(select(of).prop_map(|text| Operand::String(text.to_owned())), 1..3).boxed();
    let one = |of: &'static [&str]| vec(select(of).prop_map(|text| Operand::String(text.to_owned())), 1).boxed();
    match operator {
        Operator::Equals => ("x", vec(operand(), 1).boxed()),
        Operator::OneOf => ("x", vec(operand(), 1..12).boxed()),
        Operator::Contains | Operator::StartsWith | Operator::EndsWith => ("x", some(&TEXTS)),
        Operator::Matches => (
            "x",
            prop_oneof![30 => some(&PATTERNS[..6]), 1 => some(&PATTERNS)].boxed(),
        ),
        Operator::NumberEqual
        | Operator::NumberNotEqual
        | Operator::NumberLess
        | Operator::NumberLessOrEqual
        | Operator::NumberGreater
        | Operator::NumberGreaterOrEqual => ("y", vec(select(&NUMBERS[..]).prop_map(Operand::Number), 1).boxed()),
        Operator::VersionEqual
        | Operator::VersionNotEqual
        | Operator::VersionLess
        | Operator::VersionLessOrEqual
        | Operator::VersionGreater
        | Operator::VersionGreaterOrEqual
        | Operator::VersionTilde
        | Operator::VersionCaret => {
            let versions = prop_oneof![30 => one(&VERSIONS[..14]), 1 => one(&VERSIONS)];
            ("version", versions.boxed())
        }
        Operator::Before | Operator::After => {
            let moments = prop_oneof![30 => one(&MOMENTS[..6]), 1 => one(&MOMENTS)];
            ("moment", moments.boxed())
        }
        Operator::IpInRange => {
            let networks = prop_oneof![30 => some(&NETWORKS[..8]), 1 => some(&NETWORKS)];
            ("address", networks.boxed())
        }
        Operator::Exists => ("x", Just(vec![]).boxed()),
        Operator::InSegment => ("", prop_oneof![40 => some(&SEGMENTS), 1 => some(&["No key"])].boxed()),
    }
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
        subsequence(shares, 1..=3)
    });
    let split = (shares, option::of(attribute_name())).prop_map(|(variants, attribute)| Split { variants, attribute });
    prop_oneof![variant_key().prop_map(Serve::Variant), split.prop_map(Serve::Split)]
}

fn object() -> impl Strategy<Value = Object> {
    let names = select(&["x", "y", "o", "o.x", "targeting_key"][..]).prop_map(str::to_owned);
    let text = |of: &'static [&str]| select(of).prop_map(|text| Attribute::String(text.to_owned()));
    let special = |name: &'static str, of: &'static [&str]| {
        let attribute = prop_oneof![4 => text(of), 1 => vec(text(of), 0..3).prop_map(Attribute::List)];
        option::weighted(0.7, attribute).prop_map(move |attribute| attribute.map(|it| (name.to_owned(), it)))
    };
    let y =
        option::of(select(&NUMBERS[..])).prop_map(|number| number.map(|it| ("y".to_owned(), Attribute::Number(it))));
    let special = (
        special("version", &VERSIONS),
        special("moment", &MOMENTS),
        special("address", &ADDRESSES),
        y,
    );
    (vec((names, attribute()), 0..5), special).prop_map(|(fields, (version, moment, address, y))| {
        let special = [version, moment, address, y];
        fields.into_iter().chain(special.into_iter().flatten()).collect()
    })
}

/// A value of any type.
pub fn attribute() -> impl Strategy<Value = Attribute> {
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
