//! An environment, as the generators make it and as both evaluators take it.

use std::collections::BTreeMap;
use std::sync::Arc;

use halyard::domain::flag::{Configuration, Definition};
use halyard::domain::form::{self, ItemId, Kind};
use halyard::domain::segment::{self, chunk_item};
use halyard::evaluate::{Snapshot, key_chunk};

/// The flags and segments of an environment, by their keys.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub flags: BTreeMap<String, Flag>,
    pub segments: BTreeMap<String, Segment>,
}

#[derive(Debug, Clone)]
pub struct Flag {
    pub definition: Definition,
    pub configuration: Option<Configuration>,
}

#[derive(Debug, Clone)]
pub struct Segment {
    pub configuration: segment::Configuration,
    /// The keys of its list, if the configuration has one.
    pub keys: Vec<String>,
}

/// What an item is called.
pub fn item(kind: Kind, key: &str) -> ItemId {
    ItemId {
        kind,
        key: Arc::from(key),
    }
}

impl World {
    /// The stored forms of everything, sorted.
    pub fn items(&self) -> BTreeMap<ItemId, Vec<u8>> {
        let mut items = BTreeMap::new();
        for (key, flag) in &self.flags {
            let form = form::write_definition(&flag.definition);
            items.insert(item(Kind::FlagDefinition, key), form);
            if let Some(configuration) = &flag.configuration {
                let form = form::write_configuration(configuration);
                items.insert(item(Kind::FlagConfiguration, key), form);
            }
        }
        for (key, segment) in &self.segments {
            let form = form::write_segment(&segment.configuration);
            items.insert(item(Kind::SegmentConfiguration, key), form);
            items.extend(segment.chunks(key));
        }
        items
    }

    /// The environment, compiled.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (id, form) in self.items() {
            snapshot.put(&id, &form);
        }
        snapshot
    }
}

impl Segment {
    fn chunks(&self, key: &str) -> BTreeMap<ItemId, Vec<u8>> {
        let Some(list) = self.configuration.key_list else {
            return BTreeMap::new();
        };
        let mut chunks: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for key in &self.keys {
            chunks.entry(key_chunk(key, list.chunks)).or_default().push(key);
        }
        let items = chunks.into_iter().map(|(chunk, mut keys)| {
            keys.sort_unstable();
            (
                item(Kind::SegmentKeys, &chunk_item(key, chunk)),
                form::write_keys(&keys),
            )
        });
        items.collect()
    }
}
