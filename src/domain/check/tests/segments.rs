//! Segments' configurations.

use super::*;
use crate::domain::limits;

/// The segments `own`, `beta` and `staff`, of which `own` is configured.
fn check_in(
    parts: &Graph,
    draft: &draft::Segment,
) -> Result<Checked<crate::domain::segment::Configuration>, Violations> {
    let segments: HashSet<_> = ["own", "beta", "staff"].map(str::to_owned).into();
    segment(
        draft,
        &SegmentSurroundings {
            key: "own",
            segments: &segments,
            parts,
        },
    )
}

fn check(draft: &draft::Segment) -> Result<Checked<crate::domain::segment::Configuration>, Violations> {
    check_in(&Graph::new(), draft)
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}

#[test]
fn targeting_keys_come_back_sorted_and_once() {
    let draft = draft::Segment {
        included: strings(["b", "a", "b", "Ä"]),
        excluded: strings(["z", "y"]),
        segments: strings(["staff"]),
        conditions: vec![asking("", Operator::InSegment, [text("beta")])],
    };
    let checked = check(&draft).unwrap().value;
    assert_eq!(checked.included, ["a", "b", "Ä"]);
    assert_eq!(checked.excluded, ["y", "z"]);
    assert_eq!(checked.segments().collect::<Vec<_>>(), ["staff", "beta"]);
    assert_eq!(checked.key_list, None);
}

#[test]
fn a_segment_may_say_nothing() {
    let nobody = crate::domain::segment::Configuration::default();
    assert_eq!(check(&draft::Segment::default()).unwrap().value, nobody);
}

#[test]
fn every_violation_of_a_segment_is_told() {
    let draft = draft::Segment {
        included: vec![
            String::new(),
            "k".repeat(limits::TARGETING_KEY_BYTES + 1),
            "a\0".to_owned(),
        ],
        excluded: vec![String::new()],
        segments: strings(["gamma", "own", "Beta", "staff", "staff"]),
        conditions: vec![
            asking("", Operator::Exists, []),
            asking("", Operator::InSegment, [text("staff"), text("own")]),
        ],
    };
    assert_eq!(
        told(check(&draft)),
        [
            "included[0]: is empty; who has no targeting key cannot be named",
            "included[1]: is longer than 1000 bytes",
            "included[2]: holds a NUL character; leave it out",
            "excluded[0]: is empty; who has no targeting key cannot be named",
            "segments[0]: names gamma, which is not a segment of the project",
            "segments[2]: must begin with one of the lower-case letters a to z or a digit, and hold only those, dots, \
             underscores and hyphens",
            "conditions[0].attribute: is empty; name an attribute of the context",
            "segments[1]: names the segment itself",
            "segments[4]: names staff again; segments[3] does already",
            "conditions[1].values[0]: names staff again; segments[3] does already",
            "conditions[1].values[1]: names the segment itself",
        ]
    );
}

#[test]
fn cycles_are_found_through_parts_and_conditions() {
    let mut parts = Graph::new();
    parts.set("beta", strings(["own"]));
    parts.set("staff", strings(["beta"]));
    let draft = draft::Segment {
        segments: strings(["staff"]),
        conditions: vec![asking("", Operator::InSegment, [text("beta")])],
        ..draft::Segment::default()
    };
    assert_eq!(
        told(check_in(&parts, &draft)),
        [
            "segments[0]: closes a cycle: own → staff → beta → own",
            "conditions[0].values[0]: closes a cycle: own → beta → own",
        ]
    );
}

#[test]
fn no_segment_may_ask_more_than_an_evaluation_may() {
    let mut parts = Graph::new();
    parts.set("beta", (0..200).map(|n| format!("p{n}")));
    parts.set("staff", (0..60).map(|n| format!("p{n}")));
    let both = draft::Segment {
        segments: strings(["beta", "staff"]),
        ..draft::Segment::default()
    };
    assert_eq!(
        told(check_in(&parts, &both)),
        ["segments: ask more than 256 segments, theirs included; name fewer"]
    );
}

#[test]
fn counts_have_their_limits() {
    let keys = |count: usize| (0..count).map(|n| format!("key-{n}")).collect::<Vec<_>>();
    let draft = draft::Segment {
        included: keys(limits::SEGMENT_NAMED_KEYS + 1),
        excluded: keys(limits::SEGMENT_NAMED_KEYS + 1),
        segments: vec!["beta".to_owned(); limits::SEGMENT_PARTS + 1],
        conditions: vec![asking("x", Operator::Exists, []); limits::CONDITIONS + 1],
    };
    let told = told(check(&draft));
    assert_eq!(
        told[..4],
        [
            "included: has more entries than the limit of 1000",
            "excluded: has more entries than the limit of 1000",
            "segments: has more entries than the limit of 50",
            "conditions: has more entries than the limit of 50",
        ]
    );
}

#[test]
fn the_whole_has_its_limit() {
    let keys = (0..300).map(|n| format!("{n:0>999}")).collect();
    let draft = draft::Segment {
        included: keys,
        ..draft::Segment::default()
    };
    assert_eq!(
        told(check(&draft)),
        [": is larger than 262144 bytes in all; upload a list of targeting keys instead"]
    );
}
