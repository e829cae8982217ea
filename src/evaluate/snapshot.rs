//! The flags of one environment at one revision, compiled. Copies share whatever they have in common, so that a change costs what
//! it changes, and readers of an older copy keep it unharmed.

use std::sync::Arc;

use foldhash::fast::RandomState;
use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{GenericHashMap, OrdMap};

use super::compile::Definition;
use super::flag::Flag;
use crate::domain::form::{ItemId, Kind};

/// The flags of one environment. Cloning costs the same however many there are.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// For finding one flag. Seeded by the process, so that nobody can choose keys that collide.
    flags: GenericHashMap<Arc<str>, Arc<Flag>, RandomState, DefaultSharedPtr>,
    /// For going through them in order, and for compiling them anew when a part changes.
    entries: OrdMap<Arc<str>, Entry>,
}

/// What is known of one flag. The parts come one by one and in any order.
#[derive(Debug, Clone, Default)]
struct Entry {
    definition: Option<Arc<Definition>>,
    /// The stored form: it is compiled against the definition, and again when that changes.
    configuration: Option<Arc<[u8]>>,
    /// `None`: without a definition there is no flag.
    flag: Option<Arc<Flag>>,
}

impl Snapshot {
    /// Takes an item that is new or has changed. A form that cannot be read or compiled makes its flag malformed, and no other.
    pub fn put(&mut self, id: &ItemId, form: &[u8]) {
        let mut entry = self.entries.get(&id.key).cloned().unwrap_or_default();
        match id.kind {
            Kind::FlagDefinition => {
                entry.definition = Some(Arc::new(Definition::compile(id.key.clone(), form)));
            }
            Kind::FlagConfiguration => entry.configuration = Some(form.into()),
            Kind::SegmentConfiguration | Kind::SegmentKeys => return,
        }
        self.set(&id.key, entry);
    }

    /// Forgets an item. One that is not known changes nothing.
    pub fn delete(&mut self, id: &ItemId) {
        let Some(mut entry) = self.entries.get(&id.key).cloned() else {
            return;
        };
        match id.kind {
            Kind::FlagDefinition => entry.definition = None,
            Kind::FlagConfiguration => entry.configuration = None,
            Kind::SegmentConfiguration | Kind::SegmentKeys => return,
        }
        self.set(&id.key, entry);
    }

    /// The flag of a key. `None`: unknown. A configuration without a definition makes no flag.
    pub fn get(&self, flag: &str) -> Option<&Flag> {
        self.flags.get(flag).map(|flag| &**flag)
    }

    /// Every flag, sorted by key.
    pub fn flags(&self) -> impl Iterator<Item = &Flag> {
        self.entries.values().filter_map(|entry| entry.flag.as_deref())
    }

    /// How many flags there are.
    pub fn len(&self) -> usize {
        self.flags.len()
    }

    /// Whether there are no flags.
    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    fn set(&mut self, key: &Arc<str>, mut entry: Entry) {
        let configuration = entry.configuration.as_deref();
        let compiled = entry
            .definition
            .as_ref()
            .map(|definition| definition.configured(configuration));
        entry.flag = compiled.map(Arc::new);
        match &entry.flag {
            Some(flag) => self.flags.insert(key.clone(), flag.clone()),
            None => self.flags.remove(key),
        };
        if entry.definition.is_none() && entry.configuration.is_none() {
            self.entries.remove(key);
        } else {
            self.entries.insert(key.clone(), entry);
        }
    }
}
