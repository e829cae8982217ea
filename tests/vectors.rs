//! Runs the vectors of `tests/vectors`, which any other evaluator can run as well.

use std::collections::HashSet;

use halyard::domain::context::{Attribute, Context, Object};
use halyard::domain::form::{ItemId, Kind};
use halyard::evaluate::{self, Answer, Error, Reason, Snapshot};
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
    context: WrittenContext,
    expected: Option<Expected>,
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
}

impl From<Answer<'_>> for Expected {
    fn from(answer: Answer<'_>) -> Self {
        let (reason, error) = match answer.reason {
            Reason::Disabled => ("DISABLED", None),
            Reason::PrerequisiteFailed => ("PREREQUISITE_FAILED", None),
            Reason::TargetingMatch => ("TARGETING_MATCH", None),
            Reason::Split => ("SPLIT", None),
            Reason::Default => ("DEFAULT", None),
            Reason::Static => ("STATIC", None),
            Reason::Error(Error::TargetingKeyMissing) => ("ERROR", Some("TARGETING_KEY_MISSING")),
            Reason::Error(Error::FlagMalformed) => ("ERROR", Some("FLAG_MALFORMED")),
        };
        Self {
            variant: answer.variant.map(|variant| variant.key.as_str().to_owned()),
            reason: reason.to_owned(),
            rule: answer.rule.map(str::to_owned),
            error: error.map(str::to_owned),
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

/// An environment with the one flag of the case, its configuration taken before or after its definition.
fn snapshot(case: &MatchingCase, order: [Kind; 2]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for kind in order {
        let form = match kind {
            Kind::FlagDefinition => &case.definition,
            Kind::FlagConfiguration => &case.configuration,
            Kind::SegmentConfiguration | Kind::SegmentKeys => continue,
        };
        let key = case.flag.as_str().into();
        if !form.is_null() {
            snapshot.put(&ItemId { kind, key }, form.to_string().as_bytes());
        }
    }
    snapshot
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
    let cases: Vec<MatchingCase> = serde_json::from_str(include_str!("vectors/matching.json")).unwrap();
    assert!(cases.len() >= 120, "{} cases", cases.len());
    assert_names_are_unique(cases.iter().map(|case| case.name.as_str()));
    for case in cases {
        let WrittenContext {
            targeting_key,
            attributes,
        } = &case.context;
        let context = Context::new(targeting_key.clone(), object(attributes.clone()));
        let (definition, configuration) = (Kind::FlagDefinition, Kind::FlagConfiguration);
        for order in [[definition, configuration], [configuration, definition]] {
            let snapshot = snapshot(&case, order);
            let answer = snapshot
                .get(&case.flag)
                .map(|flag| flag.evaluate(&context, &snapshot).into());
            assert_eq!(answer, case.expected, "{}, {} first", case.name, order[0].name());
        }
    }
}
