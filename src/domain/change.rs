//! Changes: how an environment goes from one revision to the next, and the hashes that prove it.
//!
//! Every field that goes into a hash is preceded by its length, a big-endian 64-bit number, so that no two inputs run together.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::form::ItemId;

/// Names an environment in the store; never shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvironmentId(pub i64);

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Reads a digest of exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads a digest of exactly 64 hexadecimal digits.
    pub fn from_hex(digits: &str) -> Option<Self> {
        Self::from_slice(&hex::decode(digits).ok()?)
    }
}

impl fmt::Display for Digest {
    /// In hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One item of a change, as far as the digest is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemChange<'a> {
    /// Which item.
    pub id: &'a ItemId,
    /// Its version after the change; of a deleted item the last it had.
    pub version: u64,
    /// Its form. `None`: it is deleted.
    pub form: Option<&'a [u8]>,
}

/// SHA-256 of a form.
pub fn form_hash(form: &[u8]) -> Digest {
    Digest(Sha256::digest(form).into())
}

/// `SHA-256(previous ‖ revision ‖ items sorted by kind and key)`, an item being kind, key, version and, unless it is deleted, its
/// form hash (a deleted item's is empty).
pub fn digest(previous: Digest, revision: u64, items: &[ItemChange<'_>]) -> Digest {
    let mut sorted: Vec<_> = items.iter().collect();
    sorted.sort_by_key(|item| item.id);
    let mut hash = Fields::new();
    hash.field(&previous.0);
    hash.field(&revision.to_be_bytes());
    for item in sorted {
        hash.field(item.id.kind.name().as_bytes());
        hash.field(item.id.key.as_bytes());
        hash.field(&item.version.to_be_bytes());
        match item.form {
            Some(form) => hash.field(&form_hash(form).0),
            None => hash.field(&[]),
        }
    }
    hash.finish()
}

/// The XOR over all items of `SHA-256(kind ‖ key ‖ form_hash)`: what a client checks that it holds what the server holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateHash(Digest);

impl StateHash {
    /// The hash of a state without items.
    pub const EMPTY: Self = Self(Digest([0; 32]));

    /// Adds an item that was not there, or takes away one that was: XOR is its own inverse.
    ///
    /// The kind goes by its name, so that a client counts kinds that it does not know.
    pub fn toggle(&mut self, kind: &str, key: &str, form_hash: &Digest) {
        let mut item = Fields::new();
        item.field(kind.as_bytes());
        item.field(key.as_bytes());
        item.field(&form_hash.0);
        let item = item.finish();
        for (byte, other) in self.0.0.iter_mut().zip(item.0) {
            *byte ^= other;
        }
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0.0
    }
}

/// A hash over fields, each preceded by its length.
pub(crate) struct Fields(Sha256);

impl Fields {
    pub(crate) fn new() -> Self {
        Self(Sha256::new())
    }

    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::form::Kind;

    fn id(kind: Kind, key: &str) -> ItemId {
        ItemId { kind, key: key.into() }
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_items() {
        let (a, b) = (id(Kind::FlagDefinition, "a"), id(Kind::FlagConfiguration, "b"));
        let put = ItemChange {
            id: &a,
            version: 1,
            form: Some(b"{}"),
        };
        let delete = ItemChange {
            id: &b,
            version: 2,
            form: None,
        };
        let previous = Digest([7; 32]);
        let forth = digest(previous, 5, &[put.clone(), delete.clone()]);
        assert_eq!(forth, digest(previous, 5, &[delete.clone(), put.clone()]));
        assert_ne!(forth, digest(previous, 6, &[put.clone(), delete.clone()]));
        assert_ne!(forth, digest(Digest::default(), 5, &[put.clone(), delete]));
        assert_ne!(forth, digest(previous, 5, &[put]));
    }

    #[test]
    fn a_form_is_not_taken_for_a_deletion() {
        let a = id(Kind::FlagDefinition, "a");
        let empty = ItemChange {
            id: &a,
            version: 1,
            form: Some(b""),
        };
        let gone = ItemChange {
            id: &a,
            version: 1,
            form: None,
        };
        assert_ne!(
            digest(Digest::default(), 1, &[empty]),
            digest(Digest::default(), 1, &[gone])
        );
    }

    #[test]
    fn removing_an_item_restores_the_state_hash() {
        let (a, b) = (id(Kind::FlagDefinition, "a"), id(Kind::FlagConfiguration, "a"));
        let mut state = StateHash::EMPTY;
        state.toggle(a.kind.name(), &a.key, &form_hash(b"1"));
        let before = state;
        state.toggle(b.kind.name(), &b.key, &form_hash(b"1"));
        assert_ne!(state, before);
        state.toggle(b.kind.name(), &b.key, &form_hash(b"1"));
        assert_eq!(state, before);
    }
}
