//! How the segments of two states differ.

use std::collections::{BTreeMap, BTreeSet};

use super::{Form, Items};
use crate::domain::form::Kind;
use crate::domain::segment::parse_chunk_item;
use crate::pb::evaluation::v1::SegmentConfiguration;

/// How a segment differs from before.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli::watch) struct SegmentChange {
    pub key: String,
    /// `None`: not configured.
    pub before: Option<SegmentConfiguration>,
    /// `None`: not configured any more.
    pub after: Option<SegmentConfiguration>,
    /// Whether its list has other keys.
    pub relisted: bool,
}

/// The segments that differ, of those that are touched.
pub(super) fn differences(before: &Items, after: &Items, touched: &BTreeSet<(String, String)>) -> Vec<SegmentChange> {
    let mut relisted: BTreeMap<&str, bool> = BTreeMap::new();
    for id in touched {
        let (kind, key) = (Kind::from_name(&id.0), id.1.as_str());
        if kind == Some(Kind::SegmentConfiguration) {
            relisted.entry(key).or_default();
        } else if kind == Some(Kind::SegmentKeys)
            && let Some((segment, _)) = parse_chunk_item(key)
        {
            let hash = |items: &Items| items.get(id).map(|held| held.form_hash);
            *relisted.entry(segment).or_default() |= hash(before) != hash(after);
        }
    }
    let changes = relisted.into_iter().map(|(key, relisted)| SegmentChange {
        key: key.to_owned(),
        before: segment(before, key),
        after: segment(after, key),
        relisted,
    });
    let differs = |change: &SegmentChange| change.relisted || change.before != change.after;
    changes.filter(differs).collect()
}

fn segment(items: &Items, key: &str) -> Option<SegmentConfiguration> {
    let id = (Kind::SegmentConfiguration.name().to_owned(), key.to_owned());
    match items.get(&id)?.form.clone() {
        Some(Form::SegmentConfiguration(configuration)) => Some(configuration),
        Some(Form::FlagDefinition(_) | Form::FlagConfiguration(_) | Form::SegmentKeys(_) | Form::Experiment(_))
        | None => None,
    }
}
