//! The stored form: how an item of an environment's state is written, once, and kept verbatim as bytes.
//!
//! The form is JSON with a format number. Nothing re-encodes it: what was hashed when it was written is what is stored, streamed
//! and loaded. A change of what these types serialise to is a new format number.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::flag::{Configuration, Definition};
use super::{experiment, segment};

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// Kinds of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A running experiment.
    Experiment,
    /// A flag's configuration in the environment.
    FlagConfiguration,
    /// A flag's definition.
    FlagDefinition,
    /// A segment's configuration in the environment.
    SegmentConfiguration,
    /// A chunk of a segment's key list.
    SegmentKeys,
}

impl Kind {
    /// Every kind, sorted by name.
    pub const ALL: [Self; 5] = [
        Self::Experiment,
        Self::FlagConfiguration,
        Self::FlagDefinition,
        Self::SegmentConfiguration,
        Self::SegmentKeys,
    ];

    /// The name, as it is stored and hashed. Kinds sort by name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Experiment => "experiment",
            Self::FlagConfiguration => "flag_configuration",
            Self::FlagDefinition => "flag_definition",
            Self::SegmentConfiguration => "segment_configuration",
            Self::SegmentKeys => "segment_keys",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What an item is called within its environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId {
    /// The kind.
    pub kind: Kind,
    /// The key within the kind: a flag's, a segment's, or that of a [`segment::chunk_item`] or an [`experiment::item`].
    pub key: Arc<str>,
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.key)
    }
}

/// A form that cannot be read: a row edited by hand, or written by a newer version.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not the JSON of this item.
    #[error("the stored form is malformed")]
    Malformed(#[from] serde_json::Error),
    /// It is of another format.
    #[error("the stored form has format {0}, this version reads {FORMAT}")]
    Format(u32),
}

#[derive(Serialize)]
struct Versioned<T> {
    format: u32,
    #[serde(flatten)]
    item: T,
}

/// Writes a definition.
pub fn write_definition(definition: &Definition) -> Vec<u8> {
    write(definition)
}

/// Reads a definition.
pub fn read_definition(form: &[u8]) -> Result<Definition, Unreadable> {
    read(form)
}

/// Writes a configuration.
pub fn write_configuration(configuration: &Configuration) -> Vec<u8> {
    write(configuration)
}

/// Reads a configuration.
pub fn read_configuration(form: &[u8]) -> Result<Configuration, Unreadable> {
    read(form)
}

/// Writes a segment's configuration.
pub fn write_segment(configuration: &segment::Configuration) -> Vec<u8> {
    write(configuration)
}

/// Reads a segment's configuration.
pub fn read_segment(form: &[u8]) -> Result<segment::Configuration, Unreadable> {
    read(form)
}

/// Writes a running experiment.
pub fn write_experiment(experiment: &experiment::Running) -> Vec<u8> {
    write(experiment)
}

/// Reads a running experiment.
pub fn read_experiment(form: &[u8]) -> Result<experiment::Running, Unreadable> {
    read(form)
}

/// Writes a chunk of a segment's key list.
pub fn write_keys(keys: &[&str]) -> Vec<u8> {
    write(&Keys { keys })
}

/// How many bytes a key takes in the form of a chunk, without the comma that parts it from the next.
pub fn key_bytes(key: &str) -> usize {
    // As `serde_json` writes strings.
    let escaped = key.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    });
    escaped.sum::<usize>() + 2
}

/// Reads a chunk of a segment's key list.
pub fn read_keys(form: &[u8]) -> Result<Vec<String>, Unreadable> {
    let Keys { keys } = read(form)?;
    Ok(keys)
}

#[derive(Serialize, Deserialize)]
struct Keys<T> {
    keys: T,
}

#[expect(
    clippy::expect_used,
    reason = "these types hold neither maps with keys other than strings nor anything that fails to serialise"
)]
fn write<T: Serialize>(item: &T) -> Vec<u8> {
    serde_json::to_vec(&Versioned { format: FORMAT, item }).expect("plain data serialises")
}

fn read<T: for<'de> Deserialize<'de>>(form: &[u8]) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(form)?;
    if format != FORMAT {
        return Err(Unreadable::Format(format));
    }
    // Not through `Versioned`: `flatten` buffers the whole item first, and the item passes over the number by itself.
    Ok(serde_json::from_slice(form)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key;
    use crate::domain::rule::Serve;

    fn variant(key: &str) -> key::Variant {
        key::Variant::new(key).unwrap()
    }

    #[test]
    fn a_configuration_is_written_as_it_always_was() {
        let configuration = Configuration {
            enabled: true,
            default: Some(Serve::Variant(variant("on"))),
            ..Configuration::default()
        };
        let form = write_configuration(&configuration);
        assert_eq!(
            String::from_utf8(form.clone()).unwrap(),
            r#"{"format":1,"enabled":true,"default":{"variant":"on"}}"#
        );
        assert_eq!(read_configuration(&form).unwrap(), configuration);
    }

    #[test]
    fn the_bytes_of_a_key_are_those_of_its_form() {
        let empty = write_keys(&[]).len();
        for key in ["a", "ü€𝄞", "\u{0}\u{8}\u{b}\u{c}\u{1f}\u{7f}", "\"\\/\n\r\t"] {
            assert_eq!(write_keys(&[key]).len() - empty, key_bytes(key), "{key:?}");
        }
    }

    #[test]
    fn other_formats_are_told_apart_from_damage() {
        let newer = read_configuration(br#"{"format":2,"enabled":1}"#);
        assert!(matches!(newer, Err(Unreadable::Format(2))));
        let damaged = read_configuration(br#"{"format":1,"enabled":1}"#);
        assert!(matches!(damaged, Err(Unreadable::Malformed(_))));
    }

    #[test]
    fn kinds_sort_by_name() {
        assert!(Kind::ALL.is_sorted());
        assert!(Kind::ALL.map(Kind::name).is_sorted());
    }
}
