//! Runs the vectors of `tests/vectors`, which any other evaluator can run as well.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, HashSet};

use halyard::domain::context::{Attribute, Context, Object};
use halyard::domain::form::{self, ItemId, Kind};
use halyard::domain::segment::chunk_item;
use halyard::domain::{experiment, key};
use halyard::evaluate::{
    self, Answer, Assigned, Assignment, Error, Experiment, Freshness, Participation, Reason, Snapshot,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BucketingCase {
    name: String,
    salt: String,
    value: Value,
    hash: u32,
    weights: Vec<u32>,
    total_weight: u32,
    bucket: u32,
    variant: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchingCase {
    name: String,
    flag: String,
    definition: Value,
    configuration: Value,
    /// The project's other flags.
    #[serde(default)]
    flags: BTreeMap<String, WrittenFlag>,
    /// The stored forms of segments' configurations; null: not configured.
    #[serde(default)]
    segments: BTreeMap<String, Value>,
    /// The keys of segments' lists.
    #[serde(default)]
    key_lists: BTreeMap<String, Vec<String>>,
    /// The stored forms of running experiments, by their keys.
    #[serde(default)]
    experiments: BTreeMap<String, Value>,
    /// What is stored of experiments' units.
    #[serde(default)]
    assignments: BTreeMap<String, BTreeMap<String, WrittenAssignment>>,
    /// Whether only a row edited by hand can be like this; here it makes no difference.
    #[serde(default, rename = "stored_only")]
    _stored_only: bool,
    context: WrittenContext,
    expected: Option<Expected>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFlag {
    definition: Value,
    configuration: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAssignment {
    arm: key::Variant,
    iteration: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenContext {
    #[serde(default)]
    targeting_key: String,
    #[serde(default)]
    attributes: serde_json::Map<String, Value>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    variant: Option<String>,
    reason: String,
    rule: Option<String>,
    error: Option<String>,
    experiment: Option<ExpectedPart>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedPart {
    experiment: String,
    iteration: u32,
    stored: bool,
}

impl From<Participation<'_>> for ExpectedPart {
    fn from(part: Participation<'_>) -> Self {
        Self {
            experiment: part.experiment.key().to_owned(),
            iteration: part.iteration,
            stored: part.assignment == Assignment::Stored,
        }
    }
}

impl From<Answer<'_>> for Expected {
    fn from(answer: Answer<'_>) -> Self {
        let (reason, error) = match answer.reason {
            Reason::Disabled => ("DISABLED", None),
            Reason::TargetingMatch => ("TARGETING_MATCH", None),
            Reason::Split => ("SPLIT", None),
            Reason::Experiment => ("EXPERIMENT", None),
            Reason::Default => ("DEFAULT", None),
            Reason::Static => ("STATIC", None),
            Reason::PrerequisiteFailed => ("PREREQUISITE_FAILED", None),
            Reason::Stale => ("STALE", None),
            Reason::Error(Error::TargetingKeyMissing) => ("ERROR", Some("TARGETING_KEY_MISSING")),
            Reason::Error(Error::FlagMalformed) => ("ERROR", Some("FLAG_MALFORMED")),
        };
        Self {
            variant: answer.variant.map(|variant| variant.key.as_str().to_owned()),
            reason: reason.to_owned(),
            rule: answer.rule.map(str::to_owned),
            error: error.map(str::to_owned),
            experiment: answer.experiment.map(ExpectedPart::from),
        }
    }
}

fn object(fields: serde_json::Map<String, Value>) -> Object {
    let present = |(name, value)| attribute(value).map(|attribute| (name, attribute));
    fields.into_iter().filter_map(present).collect()
}

/// `None`: null, an absent attribute.
fn attribute(value: Value) -> Option<Attribute> {
    match value {
        Value::Null => None,
        Value::Bool(value) => Some(Attribute::Bool(value)),
        Value::Number(number) => number.as_f64().map(Attribute::Number),
        Value::String(text) => Some(Attribute::String(text)),
        Value::Array(elements) => Some(Attribute::List(elements.into_iter().filter_map(attribute).collect())),
        Value::Object(fields) => Some(Attribute::Object(object(fields))),
    }
}

/// An item and its stored form.
type Stored = (ItemId, Vec<u8>);

/// `None`: there is no such item.
fn stored(kind: Kind, key: &str, form: &Value) -> Option<Stored> {
    let id = ItemId { kind, key: key.into() };
    (!form.is_null()).then(|| (id, form.to_string().into_bytes()))
}

/// Everything that the case's environment holds.
fn items(case: &MatchingCase) -> Vec<Stored> {
    let others = case
        .flags
        .iter()
        .map(|(key, flag)| (key, &flag.definition, &flag.configuration));
    let flags = others.chain([(&case.flag, &case.definition, &case.configuration)]);
    let flags = flags.flat_map(|(key, definition, configuration)| {
        let definition = stored(Kind::FlagDefinition, key, definition);
        [definition, stored(Kind::FlagConfiguration, key, configuration)]
    });
    let segments = case.segments.iter();
    let segments = segments.map(|(key, form)| stored(Kind::SegmentConfiguration, key, form));
    let lists = case.key_lists.iter();
    let chunks = lists.flat_map(|(key, keys)| chunks(key, chunk_count(&case.segments[key]), keys));
    let experiments = case.experiments.iter().map(|(key, form)| {
        let key = experiment::item(form["flag"].as_str().unwrap(), key);
        let kind = Kind::Experiment;
        (ItemId { kind, key }, form.to_string().into_bytes())
    });
    let items = flags.chain(segments).flatten().chain(chunks);
    items.chain(experiments).collect()
}

fn chunk_count(segment: &Value) -> u32 {
    segment["key_list"]["chunks"].as_u64().unwrap().try_into().unwrap()
}

/// The chunks of a list that are not empty.
fn chunks(segment: &str, count: u32, keys: &[String]) -> Vec<Stored> {
    let mut chunks = BTreeMap::<u32, Vec<&str>>::new();
    for key in keys {
        chunks.entry(evaluate::key_chunk(key, count)).or_default().push(key);
    }
    let chunks = chunks.into_iter().map(|(chunk, mut keys)| {
        keys.sort_unstable();
        let key = chunk_item(segment, chunk);
        let kind = Kind::SegmentKeys;
        (ItemId { kind, key }, form::write_keys(&keys))
    });
    chunks.collect()
}

fn snapshot<'a>(items: impl Iterator<Item = &'a Stored>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (id, form) in items {
        snapshot.put(id, form);
    }
    snapshot
}

/// The answer as it is given and as it is explained, which must be the same.
fn answer(snapshot: &Snapshot, case: &MatchingCase) -> Option<Expected> {
    let WrittenContext {
        targeting_key,
        attributes,
    } = &case.context;
    let context = Context::new(targeting_key.clone(), object(attributes.clone()));
    let flag = snapshot.get(&case.flag)?;
    let known = |experiment: &Experiment, unit: &str| {
        let stored = case.assignments.get(experiment.key()).and_then(|units| units.get(unit));
        stored.map_or(Assigned::Nothing, |WrittenAssignment { arm, iteration }| {
            Assigned::Arm {
                arm: arm.clone(),
                iteration: *iteration,
            }
        })
    };
    let answer = flag
        .evaluate_knowing(&context, snapshot, Freshness::ANY, &known)
        .unwrap();
    let (explained, _) = flag
        .explain_knowing(&context, snapshot, Freshness::ANY, &known)
        .unwrap();
    assert_eq!(answer, explained, "{}, explained", case.name);
    if case.assignments.is_empty() {
        assert_eq!(
            answer.variant,
            flag.evaluate(&context, snapshot).variant,
            "{}, by hash",
            case.name
        );
    }
    Some(answer.into())
}

/// The least number of cases of a file, and its text.
const FILES: [(usize, &str); 6] = [
    (371, include_str!("vectors/matching.json")),
    (1_500, include_str!("vectors/operators.json")),
    (60, include_str!("vectors/prerequisites.json")),
    (190, include_str!("vectors/segments.json")),
    (120, include_str!("vectors/splits.json")),
    (150, include_str!("vectors/experiments.json")),
];

fn cases() -> Vec<MatchingCase> {
    let files = FILES.into_iter().map(|(least, text)| {
        let cases: Vec<MatchingCase> = serde_json::from_str(text).unwrap();
        assert!(cases.len() >= least, "{} cases", cases.len());
        cases
    });
    files.flatten().collect()
}

fn assert_names_are_unique<'a>(names: impl Iterator<Item = &'a str>) {
    let mut seen = HashSet::new();
    for name in names {
        assert!(seen.insert(name), "two cases are called {name:?}");
    }
}

#[test]
fn buckets_are_those_of_the_vectors() {
    let cases: Vec<BucketingCase> = serde_json::from_str(include_str!("vectors/bucketing.json")).unwrap();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    assert_names_are_unique(cases.iter().map(|case| case.name.as_str()));
    for case in cases {
        let BucketingCase {
            name, salt, weights, ..
        } = case;
        let hash = evaluate::hash(&salt, &attribute(case.value).unwrap());
        assert_eq!(hash, Some(case.hash), "hash: {name}");
        assert_eq!(weights.iter().sum::<u32>(), case.total_weight, "total weight: {name}");
        assert_eq!(
            evaluate::bucket(case.hash, case.total_weight),
            case.bucket,
            "bucket: {name}"
        );
        assert_eq!(
            evaluate::choose(case.bucket, weights),
            Some(case.variant),
            "variant: {name}"
        );
    }
}

#[test]
fn answers_are_those_of_the_vectors() {
    let cases = cases();
    assert_names_are_unique(cases.iter().map(|case| case.name.as_str()));
    let mut wrong = Vec::new();
    for case in &cases {
        let items = items(case);
        for (order, snapshot) in [
            ("as written", snapshot(items.iter())),
            ("the other way round", snapshot(items.iter().rev())),
        ] {
            let answer = answer(&snapshot, case);
            if answer != case.expected {
                let MatchingCase { name, expected, .. } = case;
                wrong.push(format!("{name}, {order}: expected {expected:?}, answered {answer:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
