//! What the audit log keeps of an adoption.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::Decision;
use super::{Part, clipped, found};
use crate::domain::form::{ItemId, Kind};
use crate::domain::segment::parse_chunk_item;
use crate::store::audit::{self, Record};
use crate::store::error::{Cause, Entity, Error};
use crate::store::projects::ProjectRow;

/// How much of a form that cannot be read an entry keeps.
const UNREADABLE_CHARS: usize = 4096;

/// An entry for each definition, whatever environments have it, and for each configuration; chunks are told with their segment,
/// without a key of theirs.
pub(super) fn records(project: &ProjectRow, parts: &[Part<'_>]) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    let mut definitions = BTreeSet::new();
    for part in parts {
        let mut chunks: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (found, decision) in &part.items {
            let after = match decision {
                Decision::Nothing | Decision::Restore(_) => continue,
                Decision::Put(form) => Some(form.as_ref()),
                Decision::Delete => None,
            };
            let (action, entity, environment) = match found.id.kind {
                Kind::Experiment => ("experiment.hand_edit", Entity::Experiment, part.key()),
                Kind::FlagDefinition if !definitions.insert(&found.id.key) => continue,
                Kind::FlagDefinition => ("flag.hand_edit", Entity::Flag, ""),
                Kind::FlagConfiguration => ("flag_configuration.hand_edit", Entity::FlagConfiguration, part.key()),
                Kind::SegmentConfiguration => (
                    "segment_configuration.hand_edit",
                    Entity::SegmentConfiguration,
                    part.key(),
                ),
                Kind::SegmentKeys => {
                    if let Some((segment, chunk)) = parse_chunk_item(&found.id.key) {
                        chunks.entry(segment.to_owned()).or_default().push(chunk);
                    }
                    continue;
                }
            };
            // Of an experiment, its own key: it stands behind its flag's.
            let key = match found.id.kind {
                Kind::Experiment => found
                    .id
                    .key
                    .split_once('/')
                    .map_or(&*found.id.key, |(_, experiment)| experiment),
                Kind::FlagDefinition | Kind::FlagConfiguration | Kind::SegmentConfiguration | Kind::SegmentKeys => {
                    &found.id.key
                }
            };
            let before = found.logged.as_ref().map(|logged| audited(&found.id, &logged.form));
            records.push(Record {
                action,
                entity,
                key: key.to_owned(),
                project: project.project.key.to_string(),
                environment: environment.to_owned(),
                before: before.transpose()?,
                after: after.map(|form| audited(&found.id, form)).transpose()?,
            });
        }
        for (segment, chunks) in chunks {
            let after = serde_json::json!({ "segment": segment, "edited_chunks": chunks });
            records.push(Record {
                action: "segment_configuration.hand_edit",
                entity: Entity::SegmentConfiguration,
                key: segment,
                project: project.project.key.to_string(),
                environment: part.key().to_owned(),
                before: None,
                after: Some(audit::json(&after)?),
            });
        }
    }
    Ok(records)
}

/// A form as entries keep what it is of.
fn audited(id: &ItemId, form: &[u8]) -> Result<String, Error> {
    let mut kept = serde_json::Map::new();
    let fields = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(form);
    if let Some(mut fields) = fields.ok().filter(|_| found::reads(id.kind, form)) {
        fields.shift_remove("format");
        let named = match id.kind {
            Kind::FlagConfiguration => Some("flag"),
            Kind::SegmentConfiguration => Some("segment"),
            // A definition names itself, an experiment is named by its entry, and a chunk is told with its segment.
            Kind::Experiment | Kind::FlagDefinition | Kind::SegmentKeys => None,
        };
        if let Some(name) = named {
            kept.insert(name.to_owned(), (*id.key).into());
        }
        kept.extend(fields);
    } else {
        let text = clipped(&String::from_utf8_lossy(form), UNREADABLE_CHARS);
        kept.insert("unreadable_form".to_owned(), text.into());
    }
    serde_json::to_string(&kept).map_err(|error| Error::Bug(Cause::Unserialisable(error)))
}
