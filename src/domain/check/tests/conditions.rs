//! Conditions: which values go with which operators.

use super::*;
use crate::domain::limits;

fn check(condition: &Condition, expected: &[&str]) {
    let told = told(World::new().check(&with_rules(vec![rule("a", vec![condition.clone()])])));
    let told: Vec<_> = told
        .iter()
        .map(|told| told.strip_prefix("rules[0].conditions[0].").unwrap())
        .collect();
    assert_eq!(told, expected, "{condition:?}");
}

fn of(operator: Operator, values: &[Operand]) -> Condition {
    Condition {
        values: values.iter().cloned().map(Some).collect(),
        ..asking(if operator == Operator::InSegment { "" } else { "x" }, operator, [])
    }
}

fn string(text: &str) -> Operand {
    Operand::String(text.to_owned())
}

/// One value that each operator can compare with.
fn sensible(operator: Operator) -> Vec<Operand> {
    let value = match operator {
        Operator::Exists => return vec![],
        Operator::Equals | Operator::OneOf => Operand::Bool(true),
        Operator::Contains | Operator::StartsWith | Operator::EndsWith => string(""),
        Operator::Matches => string("^a+$"),
        Operator::NumberEqual
        | Operator::NumberNotEqual
        | Operator::NumberLess
        | Operator::NumberLessOrEqual
        | Operator::NumberGreater
        | Operator::NumberGreaterOrEqual => Operand::Number(-0.5),
        Operator::VersionEqual
        | Operator::VersionNotEqual
        | Operator::VersionLess
        | Operator::VersionLessOrEqual
        | Operator::VersionGreater
        | Operator::VersionGreaterOrEqual
        | Operator::VersionTilde
        | Operator::VersionCaret => string("1.2.3-rc.1"),
        Operator::Before | Operator::After => string("2026-01-31T09:30:00+01:00"),
        Operator::IpInRange => string("10.0.0.0/8"),
        Operator::InSegment => string("beta"),
    };
    vec![value]
}

fn takes_many(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::OneOf
            | Operator::Contains
            | Operator::StartsWith
            | Operator::EndsWith
            | Operator::Matches
            | Operator::IpInRange
            | Operator::InSegment
    )
}

#[test]
fn every_operator_has_values_that_it_takes() {
    for operator in Operator::ALL {
        check(&of(operator, &sensible(operator)), &[]);
    }
}

#[test]
fn values_must_be_there_unless_nothing_is_compared() {
    for operator in Operator::ALL {
        if operator == Operator::Exists {
            check(
                &of(operator, &[string("x")]),
                &["values: is not empty; this operator compares with nothing"],
            );
        } else {
            check(
                &of(operator, &[]),
                &["values: is empty; there is nothing to compare with"],
            );
        }
    }
}

#[test]
fn only_some_operators_take_many_values() {
    for operator in Operator::ALL {
        let value = sensible(operator);
        let expected: &[&str] = if takes_many(operator) || value.is_empty() {
            &[]
        } else {
            &["values: has more than the one value that this operator compares with"]
        };
        check(&of(operator, &[value.clone(), value].concat()), expected);
    }
}

#[test]
fn values_of_another_type_are_refused() {
    let wrong = |operator: Operator, value: Operand, expected: &str| {
        let mut values = sensible(operator);
        values.insert(0, value);
        if !takes_many(operator) {
            values.truncate(1);
        }
        check(&of(operator, &values), &[expected]);
    };
    for operator in [Operator::Contains, Operator::StartsWith, Operator::EndsWith] {
        wrong(
            operator,
            Operand::Number(1.0),
            "values[0]: is a number; this operator compares with a string",
        );
    }
    wrong(
        Operator::Matches,
        Operand::Bool(true),
        "values[0]: is a bool; this operator compares with a regular expression, a string",
    );
    wrong(
        Operator::NumberLess,
        string("5"),
        "values[0]: is a string; this operator compares with a number",
    );
    wrong(
        Operator::VersionTilde,
        Operand::Number(1.2),
        "values[0]: is a number; this operator compares with a semantic version, a string",
    );
    wrong(
        Operator::Before,
        Operand::Number(0.0),
        "values[0]: is a number; this operator compares with a date and time, a string",
    );
    wrong(
        Operator::IpInRange,
        Operand::Bool(false),
        "values[0]: is a bool; this operator compares with a network or an address, a string",
    );
    wrong(
        Operator::InSegment,
        Operand::Number(1.0),
        "values[0]: is a number; this operator compares with the key of a segment, a string",
    );
}

#[test]
fn values_that_cannot_be_parsed_say_why() {
    let version = "values[0]: is not a semantic version 2.0.0; write one with all three numbers and no v, such as 1.4.0 or \
                   2.0.0-rc.1";
    let moment =
        "values[0]: is not a date and time of RFC 3339; write one with its offset, such as 2026-01-31T09:30:00Z";
    let network =
        "values[0]: is neither a network nor an address; write one such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1";
    check(&of(Operator::VersionLess, &[string("v1.2")]), &[version]);
    check(&of(Operator::VersionCaret, &[string("^1.2.3")]), &[version]);
    check(&of(Operator::After, &[string("2026-01-31")]), &[moment]);
    check(&of(Operator::IpInRange, &[string("10.0.0.0/64")]), &[network]);
    check(
        &of(Operator::Matches, &[string("(")]),
        &["values[0]: is not a regular expression: unclosed group"],
    );
    check(
        &of(Operator::InSegment, &[string("gamma"), string("Beta")]),
        &[
            "values[0]: names gamma, which is not a segment of the project",
            "values[1]: must begin with one of the lower-case letters a to z or a digit, and hold only those, dots, \
             underscores and hyphens",
        ],
    );
}

#[test]
fn what_no_operator_compares_with_is_refused() {
    check(
        &asking(
            "x",
            Operator::OneOf,
            [None, text("a\0"), Some(Operand::Number(f64::NAN)), text("\n")],
        ),
        &[
            "values[0]: is neither a string nor a number nor a bool",
            "values[1]: holds a NUL character; leave it out",
            "values[2]: is not a finite number",
        ],
    );
}

#[test]
fn attributes_have_names_except_where_segments_are_asked() {
    check(
        &asking("beta", Operator::InSegment, [text("beta")]),
        &["attribute: is not empty; whether someone is in a segment is asked of no attribute"],
    );
    let long = "a".repeat(limits::ATTRIBUTE_CHARS + 1);
    check(
        &asking(&long, Operator::Exists, []),
        &["attribute: is longer than 256 characters"],
    );
    check(
        &asking("a\0b", Operator::Exists, []),
        &["attribute: holds a control character"],
    );
    check(
        &asking("", Operator::Exists, [None]),
        &[
            "attribute: is empty; name an attribute of the context",
            "values: is not empty; this operator compares with nothing",
        ],
    );
}

#[test]
fn an_operator_must_be_named() {
    let condition = Condition {
        operator: None,
        ..Condition::default()
    };
    check(
        &condition,
        &[
            "attribute: is empty; name an attribute of the context",
            "operator: is not an operator that this version knows",
        ],
    );
}

#[test]
fn values_have_their_limits() {
    let many = vec![Some(Operand::Number(1.0)); limits::CONDITION_VALUES + 1];
    let condition = Condition {
        values: many,
        ..asking("x", Operator::OneOf, [])
    };
    check(&condition, &["values: has more entries than the limit of 10000"]);
}

#[test]
fn patterns_have_their_limit_in_all_rules_together() {
    let matching = |count: usize| Condition {
        values: vec![text("a"); count],
        ..asking("x", Operator::Matches, [])
    };
    let rules = |last: usize| {
        let rules = vec![
            rule("a", vec![matching(1); 49]),
            rule("b", vec![matching(50), matching(last)]),
        ];
        told(World::new().check(&with_rules(rules)))
    };
    assert_eq!(rules(1), Vec::<String>::new());
    assert_eq!(
        rules(2),
        ["rules: have more than 100 regular expressions in all; join some with |"]
    );
}
