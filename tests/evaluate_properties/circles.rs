//! What the service never writes but a hand at the database may: flags and segments that depend on each other in circles. Evaluation
//! ends all the same, soon, and says what is wrong.

use halyard::domain::context::{Context, Object};
use halyard::domain::form::Kind;
use halyard::domain::limits;
use halyard::evaluate::explanation::SegmentOutcome;
use halyard::evaluate::{Error, Reason, Snapshot};
use serde_json::{Value, json};

use super::item;

fn put(snapshot: &mut Snapshot, kind: Kind, key: &str, form: &Value) {
    snapshot.put(&item(kind, key), form.to_string().as_bytes());
}

/// Serves `on` if its prerequisites do, `off` otherwise.
fn flag(snapshot: &mut Snapshot, key: &str, prerequisites: &[String]) {
    let variants = [("on", true), ("off", false)].map(|(key, value)| json!({ "key": key, "value": { "bool": value } }));
    let definition = json!({
        "format": 1, "key": key, "type": "bool", "variants": variants, "off_variant": "off", "default_variant": "on",
        "client_visible": false,
    });
    put(snapshot, Kind::FlagDefinition, key, &definition);
    let prerequisites: Vec<_> = prerequisites
        .iter()
        .map(|flag| json!({ "flag": flag, "variants": ["on"] }))
        .collect();
    let configuration = json!({ "format": 1, "enabled": true, "prerequisites": prerequisites });
    put(snapshot, Kind::FlagConfiguration, key, &configuration);
}

fn nobody() -> Context {
    Context::new(String::new(), Object::default())
}

fn reason(snapshot: &Snapshot, key: &str) -> Reason {
    let context = nobody();
    let flag = snapshot.get(key).unwrap();
    let answer = flag.evaluate(&context, snapshot);
    let (explained, explanation) = flag.explain(&context, snapshot);
    assert_eq!((explained, explanation.reason), (answer, answer.reason));
    let is_on = answer.reason == Reason::Static;
    assert_eq!(
        answer.variant.map(|variant| variant.key.as_str()),
        Some(if is_on { "on" } else { "off" })
    );
    answer.reason
}

#[test]
fn flags_in_a_circle_are_malformed_and_so_are_those_that_depend_on_it() {
    let names = |names: &str| names.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut snapshot = Snapshot::default();
    for (key, prerequisites) in [
        ("self", "self"),
        ("a", "b"),
        ("b", "c"),
        ("c", "a"),
        ("above", "fine a"),
        ("fine", ""),
    ] {
        flag(&mut snapshot, key, &names(prerequisites));
    }
    for key in ["self", "a", "b", "c", "above"] {
        assert_eq!(reason(&snapshot, key), Reason::Error(Error::FlagMalformed), "{key}");
    }
    assert_eq!(reason(&snapshot, "fine"), Reason::Static);
}

/// 20 flags that each name all 20 would ask 20^20.
#[test]
fn everyone_depending_on_everyone_ends() {
    let keys: Vec<_> = (0..limits::PREREQUISITES).map(|n| format!("f{n}")).collect();
    let mut snapshot = Snapshot::default();
    for key in &keys {
        flag(&mut snapshot, key, &keys);
    }
    for key in &keys {
        assert_eq!(reason(&snapshot, key), Reason::Error(Error::FlagMalformed), "{key}");
    }
}

#[test]
fn as_many_prerequisites_as_are_allowed_are_asked() {
    let check = |flags: usize, expected: Reason| {
        let mut snapshot = Snapshot::default();
        for n in 0..=flags {
            let next: Vec<_> = (n < flags).then(|| format!("f{}", n + 1)).into_iter().collect();
            flag(&mut snapshot, &format!("f{n}"), &next);
        }
        assert_eq!(reason(&snapshot, "f0"), expected, "{flags}");
    };
    check(0, Reason::Static);
    check(limits::PREREQUISITE_EVALUATIONS, Reason::Static);
    check(
        limits::PREREQUISITE_EVALUATIONS + 1,
        Reason::Error(Error::FlagMalformed),
    );
}

/// Why nobody is in a segment, or is.
fn membership(snapshot: &mut Snapshot, segment: &str) -> SegmentOutcome {
    let definition = json!({
        "format": 1, "key": "asking", "type": "bool", "variants": [{ "key": "on", "value": { "bool": true } }],
        "client_visible": false,
    });
    put(snapshot, Kind::FlagDefinition, "asking", &definition);
    let condition = json!({ "operator": "in_segment", "values": [segment] });
    let configuration = json!({
        "format": 1, "enabled": true, "rules": [{ "key": "r", "conditions": [condition], "serve": { "variant": "on" } }],
    });
    put(snapshot, Kind::FlagConfiguration, "asking", &configuration);
    let (answer, explanation) = snapshot.get("asking").unwrap().explain(&nobody(), snapshot);
    let outcome = explanation.rules[0].conditions[0].segments[0].outcome;
    assert_eq!(outcome.is_member(), answer.rule.is_some());
    outcome
}

fn segment(snapshot: &mut Snapshot, key: &str, parts: &[String], conditions: &Value) {
    let form = json!({ "format": 1, "segments": parts, "conditions": conditions });
    put(snapshot, Kind::SegmentConfiguration, key, &form);
}

#[test]
fn segments_in_a_circle_contain_nobody() {
    let keys: Vec<_> = (0..limits::SEGMENT_PARTS).map(|n| format!("s{n}")).collect();
    let mut snapshot = Snapshot::default();
    for key in &keys {
        segment(&mut snapshot, key, &keys, &json!([]));
    }
    assert_eq!(membership(&mut snapshot, "s0"), SegmentOutcome::Malformed);
    segment(
        &mut snapshot,
        "not-me",
        &[],
        &json!([{ "operator": "in_segment", "values": ["not-me"], "negated": true }]),
    );
    assert_eq!(membership(&mut snapshot, "not-me"), SegmentOutcome::Malformed);
}

#[test]
fn as_many_segments_as_are_allowed_are_asked() {
    let check = |segments: usize, expected: SegmentOutcome| {
        let mut snapshot = Snapshot::default();
        for n in 0..segments {
            segment(&mut snapshot, &format!("s{n}"), &[format!("s{}", n + 1)], &json!([]));
        }
        let everyone = json!([{ "attribute": "x", "operator": "exists", "negated": true }]);
        segment(&mut snapshot, &format!("s{segments}"), &[], &everyone);
        assert_eq!(membership(&mut snapshot, "s0"), expected, "{segments}");
    };
    check(0, SegmentOutcome::Conditions);
    check(1, SegmentOutcome::Part);
    check(limits::SEGMENT_EVALUATIONS, SegmentOutcome::Part);
    check(limits::SEGMENT_EVALUATIONS + 1, SegmentOutcome::Malformed);
}
