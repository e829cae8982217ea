//! What is held of the upstream's environment: a value, replaced by the next.
//!
//! Kinds of items that this version does not know are held too, and counted; nothing is evaluated by them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use crate::domain::change::{self, Digest, StateHash};
use crate::domain::form::{ItemId, Kind};
use crate::watch::Token;
use crate::watch::source::{Head, StoredChange, StoredItem};

/// A state of the upstream's environment.
#[derive(Debug, Clone)]
pub struct Held {
    /// Where it stands.
    pub position: Token,
    /// When its revision was committed, by the database's clock.
    pub committed_at: jiff::Timestamp,
    /// The hash over all items.
    pub state_hash: StateHash,
    /// Every item.
    pub items: OrdMap<Name, Entry>,
}

/// What an item is called: of a kind that this version may not know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    kind: AnyKind,
    key: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum AnyKind {
    Known(Kind),
    Other(Arc<str>),
}

/// An item as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Rises with every change of the item.
    pub version: u64,
    /// The stored form, verbatim.
    pub form: Bytes,
    /// SHA-256 of the form.
    pub form_hash: Digest,
}

impl Name {
    /// A name.
    pub fn new(kind: &str, key: &str) -> Self {
        let kind = Kind::from_name(kind).map_or_else(|| AnyKind::Other(kind.into()), AnyKind::Known);
        Self { kind, key: key.into() }
    }

    /// The kind's name.
    pub fn kind(&self) -> &str {
        match &self.kind {
            AnyKind::Known(kind) => kind.name(),
            AnyKind::Other(name) => name,
        }
    }

    /// The key within the kind.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The item, if it is of a kind that this version knows.
    fn id(&self) -> Option<ItemId> {
        match self.kind {
            AnyKind::Known(kind) => Some(ItemId {
                kind,
                key: self.key.clone(),
            }),
            AnyKind::Other(_) => None,
        }
    }
}

impl Entry {
    /// An item as it is stored.
    pub fn new(version: u64, form: Bytes) -> Self {
        let form_hash = change::form_hash(&form);
        Self {
            version,
            form,
            form_hash,
        }
    }

    fn stored(&self, id: ItemId) -> StoredItem {
        StoredItem {
            id,
            version: self.version,
            form: self.form.clone(),
        }
    }
}

impl Held {
    /// Where the environment stands.
    pub fn head(&self) -> Head {
        Head {
            revision: self.position.revision,
            digest: self.position.digest,
            committed_at: self.committed_at,
        }
    }

    /// Every item of a kind that this version knows.
    pub fn stored(&self) -> Vec<StoredItem> {
        let items = self.items.iter();
        items
            .filter_map(|(name, entry)| Some(entry.stored(name.id()?)))
            .collect()
    }

    /// The hash over these items.
    pub fn hash_of(items: &OrdMap<Name, Entry>) -> StateHash {
        let mut hash = StateHash::EMPTY;
        for (name, entry) in items {
            hash.toggle(name.kind(), name.key(), &entry.form_hash);
        }
        hash
    }

    /// Makes changes, and gives those that concern kinds which this version knows.
    pub(super) fn apply(&mut self, changes: BTreeMap<Name, Option<Entry>>) -> Vec<StoredChange> {
        let mut stored = Vec::with_capacity(changes.len());
        for (name, entry) in changes {
            let id = name.id();
            let replaced = if let Some(entry) = entry {
                self.state_hash.toggle(name.kind(), name.key(), &entry.form_hash);
                stored.extend(id.map(|id| StoredChange::Put(entry.stored(id))));
                self.items.insert(name.clone(), entry)
            } else {
                // Steps are merged: what came and went between two of them is deleted without ever having been there.
                let gone = self.items.remove(&name);
                let deleted = gone.as_ref().zip(id).map(|(gone, id)| StoredChange::Delete {
                    id,
                    version: gone.version,
                });
                stored.extend(deleted);
                gone
            };
            if let Some(replaced) = replaced {
                self.state_hash.toggle(name.kind(), name.key(), &replaced.form_hash);
            }
        }
        stored
    }
}
