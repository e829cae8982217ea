//! What makes no sense among what was just applied, for the log: once with the change, not with every evaluation.

use std::collections::BTreeMap;

use crate::domain::change::EnvironmentId;
use crate::domain::experiment::parse_item;
use crate::domain::form::{ItemId, Kind};
use crate::domain::segment::parse_chunk_item;
use crate::evaluate::{Malformed, Snapshot};

/// Logs which flags and segments of changed items cannot be compiled.
pub(super) fn report<'i>(environment: EnvironmentId, snapshot: &Snapshot, changed: impl Iterator<Item = &'i ItemId>) {
    for (Owner { kind, key }, malformed) in find(snapshot, changed) {
        tracing::warn!(
            environment = environment.0,
            kind,
            key,
            error = malformed as &dyn std::error::Error,
            "what is stored makes no sense: a malformed flag is off, a malformed segment contains nobody, a malformed experiment is not asked"
        );
    }
}

/// What items belong to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner<'i> {
    kind: &'static str,
    key: &'i str,
}

fn find<'i, 's>(
    snapshot: &'s Snapshot,
    changed: impl Iterator<Item = &'i ItemId>,
) -> BTreeMap<Owner<'i>, &'s Malformed> {
    let malformed = changed.filter_map(|id| Some((owner(id), snapshot.malformed(id)?)));
    malformed.collect()
}

fn owner(id: &ItemId) -> Owner<'_> {
    match id.kind {
        Kind::Experiment => Owner {
            kind: "experiment",
            key: parse_item(&id.key).map_or(&*id.key, |(_, experiment)| experiment),
        },
        Kind::FlagDefinition | Kind::FlagConfiguration => Owner {
            kind: "flag",
            key: &id.key,
        },
        Kind::SegmentConfiguration => Owner {
            kind: "segment",
            key: &id.key,
        },
        Kind::SegmentKeys => Owner {
            kind: "segment",
            key: parse_chunk_item(&id.key).map_or(&*id.key, |(segment, _)| segment),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_malformed_thing_is_found_once() {
        let mut snapshot = Snapshot::default();
        let mut ids = Vec::new();
        let mut put = |kind: Kind, key: &str, form: &str| {
            let id = ItemId { kind, key: key.into() };
            snapshot.put(&id, form.as_bytes());
            ids.push(id);
        };
        put(Kind::FlagDefinition, "broken", "{");
        put(Kind::FlagConfiguration, "broken", "{");
        put(Kind::FlagConfiguration, "undefined", "{");
        put(
            Kind::SegmentConfiguration,
            "beta",
            r#"{"format":1,"key_list":{"chunks":2,"keys":9}}"#,
        );
        put(Kind::SegmentKeys, "beta/0", "{");
        put(Kind::SegmentKeys, "beta/1", "{");
        put(Kind::SegmentKeys, "beta/00", "{");
        put(Kind::SegmentConfiguration, "fine", r#"{"format":1}"#);
        let found = find(&snapshot, ids.iter());
        let names: Vec<_> = found.keys().map(|owner| (owner.kind, owner.key)).collect();
        assert_eq!(names, [("flag", "broken"), ("segment", "beta")]);
    }
}
