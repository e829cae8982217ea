//! Items as streams share them: one allocation per item and version, and one encoding.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::source::{StoredChange, StoredItem};
use crate::domain::change::{self, Digest};
use crate::domain::form::ItemId;

/// What an item weighs beside its key and form, in bytes: about what its hash, version and framing take on the wire.
const OVERHEAD_BYTES: usize = 64;

/// The message that carries a value, encoded once at its first send and shared by every stream.
///
/// What it is encoded to is the edge's matter; nothing here reads it.
#[derive(Debug, Default)]
pub struct Encoded(OnceLock<Bytes>);

impl Encoded {
    /// The encoding, made by `encode` if this is the first time that it is asked for.
    pub fn get_or_encode(&self, encode: impl FnOnce() -> Bytes) -> &Bytes {
        self.0.get_or_init(encode)
    }
}

/// A step that many streams make, encoded once for all of them.
#[derive(Debug, Default)]
pub struct EncodedStep {
    /// Its beginning up to the name of the stream, the only part that differs.
    pub begin: Encoded,
    /// All that follows, if it is handed over at once.
    pub rest: Encoded,
    /// The same for who asked for stored forms.
    pub rest_as_forms: Encoded,
}

/// One version of an item.
#[derive(Debug)]
pub struct Item {
    /// Which item.
    pub id: ItemId,
    /// Rises with every change of the item.
    pub version: u64,
    /// The stored form, verbatim.
    pub form: Bytes,
    /// SHA-256 of the form.
    pub form_hash: Digest,
    /// The message that puts it.
    pub encoded: Encoded,
    /// The same for who asked for stored forms.
    pub encoded_form: Encoded,
}

impl Item {
    /// The item, as it was stored.
    pub(super) fn new(stored: StoredItem) -> Arc<Self> {
        let StoredItem { id, version, form } = stored;
        let form_hash = change::form_hash(&form);
        Arc::new(Self {
            id,
            version,
            form,
            form_hash,
            encoded: Encoded::default(),
            encoded_form: Encoded::default(),
        })
    }

    /// Whether it is what was stored.
    pub(super) fn is(&self, stored: &StoredItem) -> bool {
        self.version == stored.version && self.id == stored.id && self.form == stored.form
    }

    /// About what it takes to send, in bytes.
    pub(super) fn weight(&self) -> usize {
        OVERHEAD_BYTES + self.id.key.len() + self.form.len()
    }
}

/// An item that is gone.
#[derive(Debug)]
pub struct Deletion {
    /// Which item.
    pub id: ItemId,
    /// The last version it had.
    pub version: u64,
    /// The message that deletes it.
    pub encoded: Encoded,
}

/// What a step does to one item.
#[derive(Debug, Clone)]
pub enum Change {
    /// The item is new or has changed.
    Put(Arc<Item>),
    /// The item is gone.
    Delete(Arc<Deletion>),
}

impl Change {
    /// The change, as it was stored.
    pub(super) fn new(stored: StoredChange) -> Self {
        match stored {
            StoredChange::Put(item) => Self::Put(Item::new(item)),
            StoredChange::Delete { id, version } => Self::Delete(Arc::new(Deletion {
                id,
                version,
                encoded: Encoded::default(),
            })),
        }
    }

    /// Which item.
    pub fn id(&self) -> &ItemId {
        match self {
            Self::Put(item) => &item.id,
            Self::Delete(deletion) => &deletion.id,
        }
    }

    /// About what it takes to send, in bytes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Put(item) => item.weight(),
            Self::Delete(deletion) => OVERHEAD_BYTES + deletion.id.key.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_made_once() {
        let encoded = Encoded::default();
        assert_eq!(encoded.get_or_encode(|| Bytes::from_static(b"first")), "first");
        assert_eq!(encoded.get_or_encode(|| Bytes::from_static(b"second")), "first");
    }
}
