//! What is odd and what is not.

use super::*;
use crate::domain::context::TARGETING_KEY;
use crate::domain::draft::Split;
use crate::domain::limits;

/// `field: description` of everything that is odd about a rule of these conditions, with paths below its conditions.
fn odd(conditions: &[Condition]) -> Vec<String> {
    let warnings = told(&[conditions.to_vec()]);
    let told = warnings.iter();
    told.map(|told| told.replace("rules[0].conditions", "")).collect()
}

fn told(rules: &[Vec<Condition>]) -> Vec<String> {
    let rules = rules.iter().enumerate();
    let rules = rules.map(|(n, conditions)| rule(&format!("r{n}"), conditions.clone()));
    warnings_of(rules.collect())
}

fn warnings_of(rules: Vec<Rule>) -> Vec<String> {
    let checked = World::new().check(&with_rules(rules)).unwrap();
    checked
        .warnings
        .iter()
        .map(|warning| format!("{}: {}", warning.field, warning.description))
        .collect()
}

fn not(condition: Condition) -> Condition {
    Condition {
        negated: true,
        ..condition
    }
}

fn one_of<const N: usize>(attribute: &str, values: [&str; N]) -> Condition {
    asking(attribute, Operator::OneOf, values.map(text))
}

fn number(operator: Operator, number: f64) -> Condition {
    asking("n", operator, [Some(Operand::Number(number))])
}

fn bool_is(value: bool) -> Condition {
    asking("b", Operator::Equals, [Some(Operand::Bool(value))])
}

fn of(operator: Operator, value: &str) -> Condition {
    asking("x", operator, [text(value)])
}

fn exists(attribute: &str) -> Condition {
    asking(attribute, Operator::Exists, [])
}

fn in_segments<const N: usize>(segments: [&str; N]) -> Condition {
    asking("", Operator::InSegment, segments.map(text))
}

const NEVER: &[&str] = &["[1]: never holds together with [0]"];
const LIST: &[&str] = &["[1]: holds together with [0] only if the attribute is a list"];
const FINE: &[&str] = &[];

/// Checks two conditions, in both orders.
fn check(one: &Condition, two: &Condition, expected: &[&str]) {
    assert_eq!(odd(&[one.clone(), two.clone()]), expected, "{one:?} and {two:?}");
    assert_eq!(odd(&[two.clone(), one.clone()]), expected, "{two:?} and {one:?}");
}

#[test]
fn absence_goes_with_nothing_else() {
    check(&not(exists("x")), &one_of("x", ["a"]), NEVER);
    check(&not(exists("x")), &not(one_of("x", ["a"])), NEVER);
    check(&not(exists("x")), &exists("x"), NEVER);
    check(&exists("x"), &one_of("x", ["a"]), FINE);
    check(&not(exists("x")), &one_of("y", ["a"]), FINE);
}

#[test]
fn nobody_is_in_a_segment_and_not() {
    check(&in_segments(["beta"]), &not(in_segments(["beta", "staff"])), NEVER);
    check(&in_segments(["beta", "staff"]), &not(in_segments(["beta"])), FINE);
    check(&in_segments(["beta"]), &in_segments(["staff"]), FINE);
}

#[test]
fn what_implies_another_excludes_its_negation() {
    check(&one_of("x", ["a"]), &not(one_of("x", ["a", "b"])), NEVER);
    check(
        &of(Operator::StartsWith, "ab"),
        &not(of(Operator::StartsWith, "a")),
        NEVER,
    );
    check(&of(Operator::EndsWith, "ab"), &not(of(Operator::Contains, "b")), NEVER);
    check(&of(Operator::Matches, "^a"), &not(of(Operator::Matches, "^a")), NEVER);
    check(
        &of(Operator::Equals, "10.1.2.3"),
        &not(of(Operator::IpInRange, "10.0.0.0/8")),
        NEVER,
    );
    check(
        &of(Operator::IpInRange, "10.1.0.0/16"),
        &not(of(Operator::IpInRange, "10.0.0.0/8")),
        NEVER,
    );
    check(
        &of(Operator::VersionTilde, "1.2.3"),
        &not(of(Operator::VersionLess, "1.3.0")),
        NEVER,
    );
    check(
        &number(Operator::NumberGreater, 5.0),
        &not(number(Operator::NumberGreaterOrEqual, 5.0)),
        NEVER,
    );
    check(&one_of("x", ["a", "b"]), &not(one_of("x", ["a"])), FINE);
    check(&of(Operator::Matches, "^a"), &not(of(Operator::Matches, "^b")), FINE);
    check(
        &of(Operator::IpInRange, "10.0.0.0/8"),
        &not(of(Operator::IpInRange, "10.1.0.0/16")),
        FINE,
    );
}

#[test]
fn negations_that_leave_nothing_exclude_each_other() {
    check(
        &not(number(Operator::NumberLess, 5.0)),
        &not(number(Operator::NumberGreaterOrEqual, 5.0)),
        NEVER,
    );
    check(&not(bool_is(true)), &not(bool_is(false)), NEVER);
    check(
        &not(number(Operator::NumberLess, 5.0)),
        &not(number(Operator::NumberGreater, 5.0)),
        FINE,
    );
}

#[test]
fn values_that_exclude_each_other_go_together_in_a_list() {
    check(&one_of("x", ["a", "b"]), &one_of("x", ["c"]), LIST);
    check(&bool_is(true), &bool_is(false), LIST);
    check(&of(Operator::StartsWith, "a"), &of(Operator::StartsWith, "b"), LIST);
    check(&of(Operator::StartsWith, "a"), &of(Operator::StartsWith, "ab"), FINE);
    check(&of(Operator::StartsWith, "a"), &of(Operator::EndsWith, "b"), FINE);
    check(
        &number(Operator::NumberLess, 5.0),
        &number(Operator::NumberGreater, 5.0),
        LIST,
    );
    check(
        &number(Operator::NumberLess, 5.0),
        &number(Operator::NumberNotEqual, 5.0),
        FINE,
    );
    check(
        &number(Operator::NumberEqual, 0.0),
        &number(Operator::NumberEqual, -0.0),
        FINE,
    );
    check(
        &of(Operator::VersionCaret, "1.2.3"),
        &of(Operator::VersionGreaterOrEqual, "2.0.0"),
        LIST,
    );
    check(
        &of(Operator::VersionCaret, "1.2.3"),
        &of(Operator::VersionTilde, "1.9.0"),
        FINE,
    );
    check(
        &of(Operator::VersionEqual, "1.2.3+a"),
        &of(Operator::VersionEqual, "1.2.3+b"),
        FINE,
    );
    check(
        &of(Operator::Before, "2026-01-01T00:00:00Z"),
        &of(Operator::After, "2026-01-01T01:00:00+01:00"),
        LIST,
    );
    check(
        &of(Operator::Before, "2026-01-01T00:00:00Z"),
        &of(Operator::After, "2025-12-31T23:59:59.999Z"),
        FINE,
    );
    check(
        &of(Operator::IpInRange, "10.0.0.0/8"),
        &of(Operator::IpInRange, "::/0"),
        LIST,
    );
    check(
        &of(Operator::IpInRange, "10.0.0.0/8"),
        &of(Operator::IpInRange, "10.1.0.0/16"),
        FINE,
    );
}

#[test]
fn values_of_different_kinds_go_together_in_a_list() {
    let equals = asking("n", Operator::Equals, [text("a")]);
    check(&equals, &number(Operator::NumberLess, 5.0), LIST);
    check(&equals, &not(number(Operator::NumberLess, 5.0)), LIST);
    check(&not(equals), &not(number(Operator::NumberLess, 5.0)), LIST);
    check(
        &of(Operator::Before, "2026-01-01T00:00:00Z"),
        &of(Operator::VersionLess, "2.0.0"),
        LIST,
    );
    check(
        &of(Operator::Equals, "v2"),
        &not(of(Operator::VersionLess, "2.0.0")),
        LIST,
    );
    check(
        &of(Operator::Equals, "2.0.0"),
        &not(of(Operator::VersionLess, "2.0.0")),
        FINE,
    );
}

#[test]
fn the_targeting_key_is_no_list() {
    check(&one_of(TARGETING_KEY, ["a", "b"]), &one_of(TARGETING_KEY, ["c"]), NEVER);
    check(
        &one_of(TARGETING_KEY, ["a", "b"]),
        &not(one_of(TARGETING_KEY, ["c"])),
        FINE,
    );
}

#[test]
fn conditions_that_never_hold_are_told() {
    let never = &["[0]: never holds"];
    let check = |condition: Condition, expected: &[&str]| {
        assert_eq!(odd(std::slice::from_ref(&condition)), expected, "{condition:?}");
    };
    let both = [true, false].map(|value| Some(Operand::Bool(value)));
    check(not(asking("x", Operator::OneOf, both.clone())), never);
    check(asking("x", Operator::OneOf, both), FINE);
    check(not(of(Operator::Contains, "")), never);
    check(of(Operator::Contains, ""), FINE);
    check(
        asking(TARGETING_KEY, Operator::NumberLess, [Some(Operand::Number(1.0))]),
        never,
    );
    check(
        not(asking(TARGETING_KEY, Operator::Equals, [Some(Operand::Bool(true))])),
        never,
    );
    check(one_of(TARGETING_KEY, [""]), never);
    check(not(one_of(TARGETING_KEY, [""])), FINE);
    check(one_of(TARGETING_KEY, ["", "a"]), FINE);
    check(not(exists(TARGETING_KEY)), FINE);
    // One that never holds by itself is not told with each of the others.
    assert_eq!(
        odd(&[not(of(Operator::Contains, "")), of(Operator::Equals, "a")]),
        ["[0]: never holds"]
    );
}

#[test]
fn rules_behind_a_wider_one_are_never_reached() {
    let check = |earlier: &[&Condition], later: &[&Condition], reached: bool| {
        let expected: &[&str] = if reached {
            &[]
        } else {
            &["rules[1]: is never reached: whoever satisfies it satisfies rules[0], which is asked before"]
        };
        let rules = [earlier, later].map(|rule| rule.iter().copied().cloned().collect());
        assert_eq!(told(&rules), expected, "{earlier:?} then {later:?}");
    };
    let germans = &one_of("country", ["de"]);
    let europeans = &one_of("country", ["de", "fr"]);
    let no_germans = &not(germans.clone());
    let no_europeans = &not(europeans.clone());
    let adults = &number(Operator::NumberGreaterOrEqual, 18.0);
    let old = &number(Operator::NumberGreater, 64.0);
    check(&[europeans], &[germans], false);
    check(&[germans], &[europeans], true);
    check(&[germans], &[germans], false);
    check(&[germans], &[adults, germans], false);
    check(&[adults, europeans], &[germans, old], false);
    check(&[adults, germans], &[germans], true);
    check(&[no_germans], &[no_europeans], false);
    check(&[no_europeans], &[no_germans], true);
    check(&[adults], &[&not(number(Operator::NumberLess, 20.0))], false);
    check(&[&of(Operator::Contains, "")], &[&of(Operator::Matches, "^a")], false);
    let stranger = &not(exists("country"));
    check(&[&exists("country")], &[no_germans], false);
    check(&[stranger], &[stranger], false);
    check(&[no_germans], &[stranger], true);
    let [both, staff] = &[in_segments(["beta", "staff"]), in_segments(["staff"])];
    check(&[both], &[staff], false);
    check(&[&not(staff.clone())], &[&not(both.clone())], false);
    check(&[both], &[&not(staff.clone())], true);
    // What is of another type can be asked the one and not the other.
    let [one, a] = &[Operand::Number(1.0), Operand::String("a".to_owned())];
    let [one, a] = &[one, a].map(|value| not(asking("n", Operator::Equals, [Some(value.clone())])));
    check(&[one], &[a], true);
    // Of a list, one element that passes says nothing of the others.
    check(&[no_germans], &[&one_of("country", ["fr"])], true);
    let [ab, cd] = &[one_of(TARGETING_KEY, ["a", "b"]), one_of(TARGETING_KEY, ["c", "d"])];
    check(&[&not(ab.clone())], &[cd], false);
}

#[test]
fn a_split_covers_only_those_whom_it_can_bucket() {
    let check = |attribute: Option<&str>, later: Condition, reached: bool| {
        let condition = one_of(&later.attribute, ["a", "b"]);
        let mut split = rule("split", vec![condition]);
        split.serve = Serve::Split(Split {
            variants: vec![("on".to_owned(), 1)],
            attribute: attribute.map(str::to_owned),
        });
        let told = warnings_of(vec![split, rule("later", vec![later.clone()])]);
        assert_eq!(told.is_empty(), reached, "{attribute:?} {later:?}: {told:?}");
    };
    check(None, one_of("x", ["a"]), true);
    check(None, one_of(TARGETING_KEY, ["a"]), false);
    check(Some(TARGETING_KEY), one_of(TARGETING_KEY, ["a"]), false);
    check(Some("x"), one_of("x", ["a"]), true);
}

#[test]
fn rules_that_never_hold_are_told_once() {
    let impossible = vec![exists("x"), not(exists("x"))];
    assert_eq!(
        told(&[vec![exists("x")], impossible]),
        ["rules[1].conditions[1]: never holds together with rules[1].conditions[0]"]
    );
}

#[test]
fn a_split_that_serves_one_variant_is_nothing_odd() {
    let mut all = rule("all", vec![exists("x")]);
    all.serve = Serve::Split(Split {
        variants: vec![("on".to_owned(), 0), ("off".to_owned(), 7)],
        attribute: None,
    });
    assert_eq!(warnings_of(vec![all]), Vec::<String>::new());
}

#[test]
fn networks_with_bits_to_spare_are_told() {
    let condition = asking(
        "ip",
        Operator::IpInRange,
        ["10.0.0.0/8", "10.1.2.3/8", "10.1.2.3"].map(text),
    );
    assert_eq!(
        odd(&[condition]),
        ["[0].values[1]: has bits beyond its prefix, which do not count; it is the network 10.0.0.0/8"]
    );
}

#[test]
fn no_more_is_told_than_fits() {
    let rules: Vec<_> = (0..100).map(|_| vec![exists("x")]).collect();
    assert_eq!(told(&rules).len(), limits::VIOLATIONS);
}

#[test]
fn segments_have_oddities_of_their_own() {
    let draft = draft::Segment {
        included: ["a", "b", "c"].map(str::to_owned).into(),
        excluded: ["c", "b"].map(str::to_owned).into(),
        conditions: vec![one_of(TARGETING_KEY, ["a"]), not(one_of(TARGETING_KEY, ["a"]))],
        ..draft::Segment::default()
    };
    let around = SegmentSurroundings {
        key: "own",
        segments: &HashSet::new(),
        parts: &Graph::new(),
    };
    let warnings = segment(&draft, &around).unwrap().warnings;
    let told: Vec<_> = warnings
        .iter()
        .map(|it| format!("{}: {}", it.field, it.description))
        .collect();
    assert_eq!(
        told,
        [
            "included: has 2 targeting keys that are excluded as well and so are out, b first",
            "conditions[1]: never holds together with conditions[0]",
        ]
    );
}
