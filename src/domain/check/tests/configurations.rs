//! Rules, what they serve, and the rest of a configuration.

use super::*;
use crate::domain::draft::{Prerequisite, Split};
use crate::domain::limits;

fn exists(attribute: &str) -> Vec<Condition> {
    vec![asking(attribute, Operator::Exists, [])]
}

fn split(shares: &[(&str, u32)]) -> Serve {
    Serve::Split(Split {
        variants: shares.iter().map(|&(key, weight)| (key.to_owned(), weight)).collect(),
        attribute: None,
    })
}

fn default_of(serve: Serve) -> draft::Configuration {
    draft::Configuration {
        default: Some(serve),
        ..draft::Configuration::default()
    }
}

#[test]
fn a_sensible_configuration_comes_back_as_it_was() {
    let draft = draft::Configuration {
        enabled: true,
        prerequisites: vec![Prerequisite {
            flag: "g".to_owned(),
            variants: vec!["on".to_owned()],
        }],
        rules: vec![rule("a", exists("x")), rule("b", exists("y"))],
        default: Some(split(&[("on", 1), ("off", 99_999)])),
        salt: Some("pepper".to_owned()),
    };
    let Checked { value, warnings } = World::new().check(&draft).unwrap();
    assert_eq!(draft::Configuration::from(&value), draft);
    assert_eq!(warnings, []);
}

#[test]
fn every_violation_of_a_configuration_is_told() {
    let mut strange = rule("a", vec![]);
    strange.description = "\0".to_owned();
    strange.serve = Serve::Variant("maybe".to_owned());
    let mut silent = rule("No", exists(""));
    silent.serve = Serve::Nothing;
    let draft = draft::Configuration {
        rules: vec![rule("a", exists("x")), strange, silent],
        default: Some(split(&[("on", 0), ("On", 0)])),
        salt: Some("s".repeat(limits::SALT_CHARS + 1)),
        ..draft::Configuration::default()
    };
    assert_eq!(
        told(World::new().check(&draft)),
        [
            "rules[1].key: is that of rules[0]; keys of rules are unique in a configuration",
            "rules[1].description: holds a control character",
            "rules[1].conditions: is empty; what is for everyone belongs into the default",
            "rules[1].serve.variant: names maybe, which is not a variant of f",
            "rules[2].key: must begin with one of the lower-case letters a to z or a digit, and hold only those, dots, \
             underscores and hyphens",
            "rules[2].conditions[0].attribute: is empty; name an attribute of the context",
            "rules[2].serve: says neither a variant nor a split; one is needed",
            "default_serve.split.variants[1].variant: must begin with one of the lower-case letters a to z or a digit, and \
             hold only those, dots, underscores and hyphens",
            "default_serve.split.variants: have weights that sum to zero; at least one must be positive",
            "salt: is longer than 100 characters",
        ]
    );
}

#[test]
fn weights_must_sum_to_something_that_can_be_bucketed() {
    let check = |shares: &[(&str, u32)], expected: &[&str]| {
        assert_eq!(
            fields(World::new().check(&default_of(split(shares)))),
            expected,
            "{shares:?}"
        );
    };
    let sum = &["default_serve.split.variants"];
    check(&[], sum);
    check(&[("on", 0), ("off", 0)], sum);
    check(&[("on", u32::MAX)], sum);
    check(&[("on", (1 << 31) - 1)], &[]);
    check(&[("on", (1 << 31) - 1), ("off", 1)], sum);
    check(&[("on", 1), ("on", 1)], &["default_serve.split.variants[1].variant"]);
    check(&[("maybe", 1)], &["default_serve.split.variants[0].variant"]);
}

#[test]
fn a_split_may_bucket_by_any_attribute_with_a_name() {
    let check = |attribute: &str, expected: &[&str]| {
        let serve = Serve::Split(Split {
            variants: vec![("on".to_owned(), 1)],
            attribute: Some(attribute.to_owned()),
        });
        assert_eq!(fields(World::new().check(&default_of(serve))), expected, "{attribute}");
    };
    check("company.id", &[]);
    check("", &["default_serve.split.attribute"]);
    check("a\0", &["default_serve.split.attribute"]);
    check(
        &"a".repeat(limits::ATTRIBUTE_CHARS + 1),
        &["default_serve.split.attribute"],
    );
}

#[test]
fn counts_have_their_limits() {
    let rules = (0..=limits::RULES)
        .map(|n| rule(&format!("r{n}"), exists("x")))
        .collect();
    assert_eq!(
        told(World::new().check(&with_rules(rules))),
        ["rules: has more entries than the limit of 200"]
    );
    let conditions = vec![asking("x", Operator::Exists, []); limits::CONDITIONS + 1];
    assert_eq!(
        fields(World::new().check(&with_rules(vec![rule("a", conditions)]))),
        ["rules[0].conditions"]
    );
    let shares = vec![("on", 1); limits::VARIANTS + 1];
    assert_eq!(
        fields(World::new().check(&default_of(split(&shares))))
            .first()
            .map(String::as_str),
        Some("default_serve.split.variants")
    );
}

#[test]
fn the_whole_has_its_limit() {
    let values = vec![text(&"v".repeat(1_000)); 300];
    let mut condition = asking("x", Operator::OneOf, []);
    condition.values = values;
    assert_eq!(
        told(World::new().check(&with_rules(vec![rule("a", vec![condition])]))),
        ["rules: are larger than 262144 bytes in all; put long lists into segments"]
    );
}

#[test]
fn an_empty_salt_is_refused() {
    let draft = draft::Configuration {
        salt: Some(String::new()),
        ..draft::Configuration::default()
    };
    assert_eq!(fields(World::new().check(&draft)), ["salt"]);
}

#[test]
fn no_more_violations_are_told_than_fit() {
    let rules = (0..limits::RULES).map(|_| rule("A", vec![])).collect();
    let told = told(World::new().check(&with_rules(rules)));
    assert_eq!(told.len(), limits::VIOLATIONS + 1);
}

#[test]
fn what_is_odd_is_refused_if_it_is_asked_for() {
    let checked = Checked {
        value: (),
        warnings: vec![Warning {
            field: "rules[1]".to_owned(),
            description: "is odd".to_owned(),
        }],
    };
    assert_eq!(
        checked.clone().below("configuration").warnings[0].field,
        "configuration.rules[1]"
    );
    assert_eq!(told(checked.strictly()), ["rules[1]: is odd"]);
}
