//! Segments: named audiences, defined once per project and configured once per environment.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::change::Digest;
use super::key;
use super::rule::Condition;

/// Who belongs to a segment in one environment. A segment without one contains nobody.
///
/// A context is in it unless its targeting key is among `excluded`, and if one of these holds: its targeting key is among
/// `included` or in the key list; it is in any of `segments`; there are `conditions`, and they all hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Configuration {
    /// Targeting keys that belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included: Vec<String>,
    /// Targeting keys that do not, whatever else says that they do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<String>,
    /// Other segments whose members belong to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<key::Segment>,
    /// Whoever satisfies them all belongs to it. None: they say nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Targeting keys that belong to it, too many for one item. `None`: there is no such list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_list: Option<KeyList>,
}

/// A list of targeting keys that is kept apart, in chunks: every key is in the chunk that its hash names, so that asking for one
/// looks into one chunk, and adding a few rewrites a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    /// How many chunks there are, numbered from 0; a power of two. A chunk without keys has no item.
    pub chunks: u32,
    /// How many keys there are in all.
    pub keys: u64,
}

/// What people know of a segment; nothing here alters an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// A name.
    pub name: String,
    /// Empty: none.
    pub description: String,
}

impl Configuration {
    /// The keys of the segments that it depends on, some perhaps more than once.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        let conditions = self.conditions.iter().flat_map(Condition::segments);
        self.segments.iter().map(key::Segment::as_str).chain(conditions)
    }
}

/// The key of the item that holds a chunk: `<segment>/<chunk>`.
pub fn chunk_item(segment: &str, chunk: u32) -> Arc<str> {
    format!("{segment}/{chunk}").into()
}

/// The segment and the number of a chunk's item. `None`: it is not the key of one.
pub fn parse_chunk_item(item: &str) -> Option<(&str, u32)> {
    let (segment, chunk) = item.split_once('/')?;
    let number = chunk.parse().ok()?;
    // One spelling: two items for one chunk would contradict each other.
    (chunk_item(segment, number).as_ref() == item).then_some((segment, number))
}

/// The hash of a list of sorted keys, as `sha256sum` has it of one key a line.
pub fn keys_hash(keys: &[&str]) -> Digest {
    let mut hash = Sha256::new();
    for key in keys {
        hash.update(key);
        hash.update("\n");
    }
    Digest(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lists_hash_is_that_of_its_lines() {
        // printf 'a\nb\n' | sha256sum
        let expected = "911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2";
        assert_eq!(hex::encode(keys_hash(&["a", "b"]).0), expected);
    }

    #[test]
    fn a_chunks_item_has_one_spelling() {
        assert_eq!(parse_chunk_item(&chunk_item("beta", 17)), Some(("beta", 17)));
        for other in ["beta", "beta/", "beta/01", "beta/+1", "beta/1/2", "beta/4294967296"] {
            assert_eq!(parse_chunk_item(other), None, "{other}");
        }
    }
}
