//! A segment's configuration.

use std::collections::HashMap;

use super::SegmentSurroundings;
use super::condition::Conditions;
use super::dependencies::Proposal;
use super::part::{self, NUL, has_nul};
use crate::domain::invalid::Violations;
use crate::domain::rule::{Operand, Operator};
use crate::domain::segment::Configuration;
use crate::domain::{draft, form, key, limits};

pub(super) fn configuration(
    draft: &draft::Segment,
    around: &SegmentSurroundings<'_>,
) -> Result<Configuration, Violations> {
    let draft::Segment {
        included,
        excluded,
        segments,
        conditions,
    } = draft;
    let mut violations = Violations::new();
    let included = targeting_keys(&mut violations, "included", included);
    let excluded = targeting_keys(&mut violations, "excluded", excluded);
    let known = |key: &key::Segment| around.segments.contains(key.as_str());
    let segments = part::list(&mut violations, "segments", segments, limits::SEGMENT_PARTS, |text| {
        part::known(text, known, "a segment of the project")
    });
    let mut checker = Conditions::new(around.segments);
    let conditions = checker.check(&mut violations, conditions);
    checker.too_many_patterns(&mut violations, "conditions");
    parts(&mut violations, draft, around);
    let configuration = Configuration {
        included,
        excluded,
        segments,
        conditions,
        key_list: None,
    };
    if form::write_segment(&configuration).len() > limits::FORM_BYTES - KEY_LIST_BYTES {
        let limit = limits::FORM_BYTES;
        violations.add(
            "",
            format!("is larger than {limit} bytes in all; upload a list of targeting keys instead"),
        );
    }
    violations.or(configuration)
}

/// What the form has to leave for what it says of a key list.
const KEY_LIST_BYTES: usize = 128;

/// Checks targeting keys, and sorts them.
fn targeting_keys(violations: &mut Violations, field: &str, keys: &[String]) -> Vec<String> {
    let check = |key: &String| targeting_key(key).map(|()| key.clone());
    let mut keys = part::list(violations, field, keys, limits::SEGMENT_NAMED_KEYS, check);
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Checks a targeting key that belongs to a segment or does not; the violation's field is empty.
pub(super) fn targeting_key(key: &str) -> Result<(), Violations> {
    let wrong = if key.is_empty() {
        "is empty; who has no targeting key cannot be named".to_owned()
    } else if key.len() > limits::TARGETING_KEY_BYTES {
        format!("is longer than {} bytes", limits::TARGETING_KEY_BYTES)
    } else if has_nul(key) {
        NUL.to_owned()
    } else {
        return Ok(());
    };
    Err(Violations::one("", wrong))
}

/// Checks what the segment is made of, through its parts and its conditions.
fn parts(violations: &mut Violations, draft: &draft::Segment, around: &SegmentSurroundings<'_>) {
    let mut first: HashMap<&str, String> = HashMap::new();
    let mut to = Vec::new();
    for (field, segment) in named(draft) {
        if segment == around.key {
            violations.add(&field, "names the segment itself");
        } else if let Some(first) = first.get(segment) {
            // Asked twice it would cost twice, and the graph counts it once.
            violations.add(&field, format!("names {segment} again; {first} does already"));
        } else if around.segments.contains(segment) {
            first.insert(segment, field.clone());
            to.push((field, segment));
        }
    }
    let proposal = Proposal {
        from: around.key,
        to,
        field: "segments",
        what: "segments",
        limit: limits::SEGMENT_EVALUATIONS,
    };
    proposal.check(violations, around.parts);
}

/// Every segment that is named, with the path of its place.
fn named(draft: &draft::Segment) -> impl Iterator<Item = (String, &str)> {
    let parts = draft.segments.iter().take(limits::SEGMENT_PARTS).enumerate();
    let parts = parts.map(|(n, segment)| (format!("segments[{n}]"), segment.as_str()));
    let conditions = draft.conditions.iter().take(limits::CONDITIONS).enumerate();
    let conditions = conditions.flat_map(|(n, condition)| {
        let segments = asked(condition).enumerate();
        segments.filter_map(move |(m, segment)| Some((format!("conditions[{n}].values[{m}]"), segment?)))
    });
    parts.chain(conditions)
}

/// The values of a condition that asks about segments; `None` for those that are no keys.
fn asked(condition: &draft::Condition) -> impl Iterator<Item = Option<&str>> {
    let asks = condition.operator == Some(Operator::InSegment);
    let values = if asks { condition.values.as_slice() } else { &[] };
    values.iter().take(limits::CONDITION_VALUES).map(|value| match value {
        Some(Operand::String(segment)) => Some(segment.as_str()),
        Some(Operand::Bool(_) | Operand::Number(_)) | None => None,
    })
}
