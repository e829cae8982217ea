//! What changes of segments look like.

use serde_json::{Value, json};

use super::named;
use crate::cli::watch::mirror::SegmentChange;
use crate::pb::evaluation::v1::SegmentConfiguration;

/// Such as `segment beta: conditions changed, 1000000 keys listed (+3)`.
pub(super) fn sentence(change: &SegmentChange) -> String {
    let SegmentChange {
        key,
        before,
        after,
        relisted,
    } = change;
    let said = match (before, after) {
        (_, None) => vec!["gone".to_owned()],
        (None, Some(after)) => [Some("configured".to_owned()), listing(0, listed(after), false)]
            .into_iter()
            .flatten()
            .collect(),
        (Some(before), Some(after)) => {
            let parts = parts(before, after);
            let changed = (!parts.is_empty()).then(|| format!("{} changed", parts.join(", ")));
            let listing = listing(listed(before), listed(after), *relisted);
            changed.into_iter().chain(listing).collect()
        }
    };
    format!("segment {key}: {}", said.join(", "))
}

/// The same for programs.
pub(super) fn object(change: &SegmentChange, generation: u64, revision: u64) -> Value {
    let SegmentChange {
        key,
        before,
        after,
        relisted,
    } = change;
    let state = |segment: &Option<SegmentConfiguration>| segment.as_ref().map(|it| json!({"listed_keys": listed(it)}));
    let mut changed = match (before, after) {
        (Some(before), Some(after)) => parts(before, after),
        (None, _) | (_, None) => Vec::new(),
    };
    if *relisted && before.is_some() && after.is_some() {
        changed.push("keys");
    }
    json!({
        "event": "segment", "segment": key, "before": state(before), "after": state(after), "changed": changed,
        "generation": generation, "revision": revision,
    })
}

fn listed(segment: &SegmentConfiguration) -> u64 {
    segment.key_list.as_ref().map_or(0, |list| list.keys)
}

/// What there is to say of the list. `None`: nothing.
fn listing(before: u64, after: u64, relisted: bool) -> Option<String> {
    let change = match after.checked_sub(before) {
        Some(0) if relisted => "other keys".to_owned(),
        Some(0) => return None,
        Some(more) => format!("+{more}"),
        None => format!("-{}", before.saturating_sub(after)),
    };
    Some(format!("{after} keys listed ({change})"))
}

fn parts(before: &SegmentConfiguration, after: &SegmentConfiguration) -> Vec<&'static str> {
    let SegmentConfiguration {
        segment: _,
        included,
        excluded,
        segments,
        conditions,
        key_list: _,
    } = before;
    named([
        ("included", *included != after.included),
        ("excluded", *excluded != after.excluded),
        ("segments", *segments != after.segments),
        ("conditions", *conditions != after.conditions),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::evaluation::v1::{Condition, KeyList};

    fn segment(conditions: usize, keys: u64) -> SegmentConfiguration {
        SegmentConfiguration {
            conditions: vec![Condition::default(); conditions],
            key_list: (keys > 0).then_some(KeyList { chunks: 8, keys }),
            ..SegmentConfiguration::default()
        }
    }

    fn change(
        before: Option<SegmentConfiguration>,
        after: Option<SegmentConfiguration>,
        relisted: bool,
    ) -> SegmentChange {
        SegmentChange {
            key: "beta".to_owned(),
            before,
            after,
            relisted,
        }
    }

    fn check(change: &SegmentChange, expected: &str) {
        assert_eq!(sentence(change), format!("segment beta: {expected}"));
    }

    #[test]
    fn changes_read_like_sentences() {
        check(&change(None, Some(segment(1, 0)), false), "configured");
        check(
            &change(None, Some(segment(0, 1_000_000)), true),
            "configured, 1000000 keys listed (+1000000)",
        );
        check(&change(Some(segment(1, 5)), None, true), "gone");
        check(
            &change(Some(segment(1, 5)), Some(segment(2, 8)), true),
            "conditions changed, 8 keys listed (+3)",
        );
        check(
            &change(Some(segment(1, 5)), Some(segment(1, 1)), true),
            "1 keys listed (-4)",
        );
        check(
            &change(Some(segment(1, 5)), Some(segment(1, 5)), true),
            "5 keys listed (other keys)",
        );
    }

    #[test]
    fn programs_see_what_changed() {
        let object = object(&change(Some(segment(1, 5)), Some(segment(2, 8)), true), 1, 7);
        let expected = json!({
            "event": "segment", "segment": "beta", "before": {"listed_keys": 5}, "after": {"listed_keys": 8},
            "changed": ["conditions", "keys"], "generation": 1, "revision": 7,
        });
        assert_eq!(object, expected);
    }
}
