//! What is told of rules when they are written is true of every answer.

use std::collections::{HashMap, HashSet};

use halyard::domain::check::{self, Surroundings, Warning};
use halyard::domain::context::{Attribute, Context};
use halyard::domain::draft;
use halyard::domain::flag::Configuration;
use halyard::domain::graph::Graph;
use halyard::domain::rule::{Condition, Operator, Rule, Serve, Split, Weighted};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::generate;
use super::world::{Segment, World};

/// Versions, addresses and moments.
const SPECIAL: [&str; 14] = [
    "1.2.3",
    "1.2.4",
    "2.0.0",
    "0.2.9",
    "0.0.3",
    "1.2.3-rc.2",
    "1.2.4-rc.1",
    "10.0.0.1",
    "192.168.1.7",
    "::1",
    "2001:db8::1",
    "2026-01-31T09:30:00Z",
    "2026-01-31T09:30:00.3Z",
    "2026-01-01T00:00:00Z",
];

/// What was said of rules, and how often.
#[derive(Debug, Default)]
struct Said {
    never_reached: usize,
    never_holds: usize,
    only_lists: usize,
}

/// Conditions on few attributes, so that many are on the same.
fn condition() -> impl Strategy<Value = Condition> {
    let attributes = select(&["x", "x", "x", "targeting_key"][..]);
    (generate::condition(), attributes).prop_map(|(mut condition, attribute)| {
        if condition.operator != Operator::InSegment {
            condition.attribute = attribute.to_owned();
        }
        condition
    })
}

/// Rules of which some repeat conditions of others.
fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let conditions = vec(condition().boxed(), 3);
    let picked = vec((vec(0..3_usize, 1..3), any::<bool>(), prop::bool::weighted(0.2)), 1..4);
    (conditions, picked).prop_map(|(conditions, rules)| {
        let rules = rules.into_iter().enumerate();
        rules
            .map(|(n, (picked, split, negated))| Rule {
                key: format!("r{n}").parse().unwrap(),
                description: String::new(),
                conditions: picked
                    .into_iter()
                    .map(|picked| {
                        let mut condition = conditions[picked].clone();
                        condition.negated ^= negated;
                        condition
                    })
                    .collect(),
                serve: serve(split),
            })
            .collect()
    })
}

fn serve(split: bool) -> Serve {
    let variant = "a".parse().unwrap();
    if split {
        let variants = vec![Weighted { variant, weight: 1 }];
        Serve::Split(Split {
            variants,
            attribute: None,
        })
    } else {
        Serve::Variant(variant)
    }
}

fn context() -> impl Strategy<Value = Context> {
    let text = select(SPECIAL.to_vec()).prop_map(|text| Attribute::String(text.to_owned()));
    let one = prop_oneof![3 => generate::attribute(), 3 => text].boxed();
    let several = vec(one.clone(), 0..4).prop_map(Attribute::List);
    let attribute = prop::option::weighted(0.9, prop_oneof![3 => one, 2 => several]);
    let key = prop_oneof![select(vec!["", "a", "b", "ab", "user-1"]), select(SPECIAL.to_vec())];
    (key, attribute).prop_map(|(key, attribute)| {
        let attributes = attribute.into_iter().map(|attribute| ("x".to_owned(), attribute));
        Context::new(key.to_owned(), attributes.collect())
    })
}

/// What is odd about rules. `None`: they are wrong.
fn warnings(rules: &[Rule]) -> Option<Vec<Warning>> {
    let flag = generate::asking_about("s").definition;
    let segments: HashSet<_> = ["s", "t", "u", "w", "unknown"].map(str::to_owned).into();
    let around = Surroundings {
        flag: &flag,
        flags: &HashMap::new(),
        prerequisites: &Graph::new(),
        segments: &segments,
    };
    let draft = draft::Configuration {
        rules: rules.iter().map(Into::into).collect(),
        ..draft::Configuration::default()
    };
    check::configuration(&draft, &around)
        .ok()
        .map(|checked| checked.warnings)
}

/// The keys of the rules that serve any of these.
fn serving(rules: &[Rule], segments: &[(String, Segment)], contexts: &[Context]) -> HashSet<String> {
    let mut flag = generate::asking_about("s");
    flag.configuration = Some(Configuration {
        enabled: true,
        rules: rules.to_vec(),
        ..Configuration::default()
    });
    let world = World {
        flags: [(flag.definition.key.to_string(), flag)].into(),
        segments: segments.iter().cloned().collect(),
    };
    let snapshot = world.snapshot();
    let flag = snapshot.flags().next().unwrap();
    assert!(flag.malformed().is_none(), "{:?}", flag.malformed());
    let answers = contexts.iter().map(|context| flag.evaluate(context, &snapshot));
    answers.filter_map(|answer| answer.rule.map(str::to_owned)).collect()
}

fn is_no_list(context: &&Context) -> bool {
    !matches!(context.attributes().get("x"), Some(Attribute::List(_)))
}

/// Holds what is said against what is answered.
fn hold(said: &mut Said, rules: &[Rule], segments: &[(String, Segment)], contexts: &[Context]) {
    for Warning { field, description } in warnings(rules).unwrap_or_default() {
        let place: usize = field[6..7].parse().unwrap();
        let rule = &rules[place];
        let alone = |contexts: &[Context]| serving(std::slice::from_ref(rule), segments, contexts);
        let served = if description.starts_with("is never reached") {
            said.never_reached += 1;
            let mut served = serving(rules, segments, contexts);
            served.retain(|key| key == rule.key.as_str());
            served
        } else if description.starts_with("never holds") {
            said.never_holds += 1;
            alone(contexts)
        } else if description.ends_with("only if the attribute is a list") {
            said.only_lists += 1;
            let values: Vec<_> = contexts.iter().filter(is_no_list).cloned().collect();
            alone(&values)
        } else {
            assert!(description.starts_with("has bits beyond"), "{description}");
            continue;
        };
        let one = contexts
            .iter()
            .find(|context| !serving(rules, segments, &[(*context).clone()]).is_empty());
        assert!(
            served.is_empty(),
            "{field} {description}: {rules:?}, such as for {one:?}"
        );
    }
}

#[test]
fn nothing_is_told_of_rules_that_an_answer_contradicts() {
    let mut runner = TestRunner::default();
    let segments = vec(
        (
            select(&["s", "t", "u", "w"][..]).prop_map(str::to_owned),
            generate::segment(),
        ),
        0..4,
    );
    let strategy = (rules(), segments, vec(context(), 30));
    let mut said = Said::default();
    for _ in 0..600 {
        let (rules, segments, contexts) = strategy.new_tree(&mut runner).unwrap().current();
        hold(&mut said, &rules, &segments, &contexts);
    }
    // Else little was tried.
    let Said {
        never_reached,
        never_holds,
        only_lists,
    } = said;
    assert!(never_reached > 30 && never_holds > 40 && only_lists > 15, "{said:?}");
}
