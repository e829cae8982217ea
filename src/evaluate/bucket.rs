//! Bucketing: which share of a split a value falls into, the same in every implementation and for ever.
//!
//! `hash` is murmur3_x86_32 (seed 0) of the deterministic CBOR text string (RFC 8949 §4.2) of `salt ":" value`, right-padded with
//! spaces to 100 Unicode scalar values; what is longer is not cut. `bucket = hash * total_weight >> 32`, and the share is the
//! first, in written order, whose cumulative weight is above the bucket. A string is hashed as it is, a number or a bool as
//! RFC 8785 writes it. `tests/vectors/bucketing.json` holds examples.

use std::sync::Arc;

use super::murmur3::Murmur3;
use super::path::Path;
use crate::domain::context::{Attribute, Context};
use crate::domain::flag::Variant;

/// What is hashed is padded to this many Unicode scalar values.
const PADDED_CHARS: usize = 100;
const PADDING: [u8; PADDED_CHARS] = [b' '; PADDED_CHARS];

/// The hash of a value. `None`: lists and objects are not bucketed.
pub fn hash(salt: &str, value: &Attribute) -> Option<u32> {
    Salt::new(salt.into()).hash(value)
}

/// The bucket of a hash: evenly spread from 0 to below `total_weight`.
pub fn bucket(hash: u32, total_weight: u32) -> u32 {
    ((u64::from(hash) * u64::from(total_weight)) >> 32) as u32
}

/// The index of the weight, in written order, that a bucket falls into. `None`: it is not below the sum of the weights.
pub fn choose(bucket: u32, weights: impl IntoIterator<Item = u32>) -> Option<usize> {
    let cumulative = weights.into_iter().scan(0_u64, |sum, weight| {
        *sum += u64::from(weight);
        Some(*sum)
    });
    cumulative.into_iter().position(|below| u64::from(bucket) < below)
}

/// What the values of a split are hashed with, prepared.
#[derive(Debug, Clone)]
pub(super) struct Salt {
    text: Arc<str>,
    chars: usize,
    /// The hash up to the value, if what is hashed has 100 bytes in all: nearly always, since text is padded to as much.
    usual_start: Murmur3,
}

impl Salt {
    /// Prepares a salt.
    pub(super) fn new(text: Arc<str>) -> Self {
        Self {
            chars: text.chars().count(),
            usual_start: start(&text, PADDED_CHARS),
            text,
        }
    }

    /// The hash of a value. `None`: lists and objects are not bucketed.
    pub(super) fn hash(&self, value: &Attribute) -> Option<u32> {
        match value {
            Attribute::String(text) => Some(self.hash_text(text)),
            Attribute::Number(number) => Some(self.hash_text(ryu_js::Buffer::new().format(*number))),
            Attribute::Bool(true) => Some(self.hash_text("true")),
            Attribute::Bool(false) => Some(self.hash_text("false")),
            Attribute::List(_) | Attribute::Object(_) => None,
        }
    }

    fn hash_text(&self, value: &str) -> u32 {
        let chars = self.chars + 1 + value.chars().count();
        let padding = &PADDING[chars.min(PADDED_CHARS)..];
        let bytes = self.text.len() + 1 + value.len() + padding.len();
        let mut hash = if bytes == PADDED_CHARS {
            self.usual_start
        } else {
            start(&self.text, bytes)
        };
        hash.update(value.as_bytes());
        hash.update(padding);
        hash.finish()
    }
}

/// Hashes what comes before the value in a text of so many bytes in all.
fn start(salt: &str, bytes: usize) -> Murmur3 {
    let mut hash = Murmur3::default();
    text_header(&mut hash, bytes);
    hash.update(salt.as_bytes());
    hash.update(b":");
    hash
}

/// The head of a CBOR text string: major type 3 and the shortest form of its length in bytes. The forms for less than 24 bytes
/// are not needed, since what is hashed is padded.
fn text_header(hash: &mut Murmur3, bytes: usize) {
    const TEXT: u8 = 3 << 5;
    if let Ok(bytes) = u8::try_from(bytes) {
        hash.update(&[TEXT + 24, bytes]);
    } else if let Ok(bytes) = u16::try_from(bytes) {
        hash.update(&[TEXT + 25]);
        hash.update(&bytes.to_be_bytes());
    } else if let Ok(bytes) = u32::try_from(bytes) {
        hash.update(&[TEXT + 26]);
        hash.update(&bytes.to_be_bytes());
    } else {
        hash.update(&[TEXT + 27]);
        hash.update(&bytes.to_be_bytes());
    }
}

/// A split, compiled.
#[derive(Debug)]
pub(super) struct Split {
    attribute: Path,
    salt: Salt,
    total_weight: u32,
    /// All shares with a weight but the last: the first bucket above each, ascending, and what it serves.
    shares: Box<[(u32, Arc<Variant>)]>,
    /// The share that has the rest of the buckets.
    last: Arc<Variant>,
}

impl Split {
    /// Prepares a split of shares in their written order. `Err`: their sum, if it is zero or above `u32::MAX`.
    pub(super) fn new(attribute: Path, salt: Salt, shares: Vec<(u32, Arc<Variant>)>) -> Result<Self, u64> {
        let sum: u64 = shares.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let total_weight = u32::try_from(sum).map_err(|_| sum)?;
        let mut below = 0;
        let mut cumulative: Vec<_> = shares
            .into_iter()
            .filter(|(weight, _)| *weight > 0)
            .map(|(weight, variant)| {
                below += weight;
                (below, variant)
            })
            .collect();
        let (_, last) = cumulative.pop().ok_or(sum)?;
        Ok(Self {
            attribute,
            salt,
            total_weight,
            shares: cumulative.into(),
            last,
        })
    }

    /// What the context is served. `None`: it lacks the attribute that buckets, or has a list or an object there.
    pub(super) fn serve(&self, context: &Context) -> Option<&Variant> {
        self.serve_value(self.attribute.find(context)?)
    }

    /// What a value is served. `None`: lists and objects are served nothing.
    pub(super) fn serve_value(&self, value: &Attribute) -> Option<&Variant> {
        let bucket = self.bucket(value)?;
        let share = self.shares.iter().find(|(below, _)| bucket < *below);
        Some(share.map_or(&self.last, |(_, variant)| variant))
    }

    /// The bucket of a value. `None`: lists and objects have none.
    pub(super) fn bucket(&self, value: &Attribute) -> Option<u32> {
        let hash = self.salt.hash(value)?;
        Some(bucket(hash, self.total_weight))
    }

    /// What buckets.
    pub(super) fn attribute(&self) -> &Path {
        &self.attribute
    }

    /// What it is salted with.
    pub(super) fn salt(&self) -> &Arc<str> {
        &self.salt.text
    }

    /// The sum of the weights.
    pub(super) fn total_weight(&self) -> u32 {
        self.total_weight
    }

    /// The shares with a weight, in their written order, each with the first bucket above it.
    pub(super) fn shares(&self) -> impl Iterator<Item = (u32, &Variant)> {
        let but_last = self.shares.iter().map(|(below, variant)| (*below, &**variant));
        but_last.chain(std::iter::once((self.total_weight, &*self.last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_hash_are_the_ends_of_the_buckets() {
        let check = |hash, total_weight, expected| {
            assert_eq!(bucket(hash, total_weight), expected, "{hash} of {total_weight}");
        };
        check(0, 100, 0);
        check(u32::MAX, 100, 99);
        check(u32::MAX, 1, 0);
        check(1 << 31, 2, 1);
        check((1 << 31) - 1, 2, 0);
        check(u32::MAX, (1 << 31) - 1, (1 << 31) - 2);
    }

    #[test]
    fn a_weight_of_zero_is_never_chosen() {
        let check = |bucket, weights: &[u32], expected| {
            assert_eq!(
                choose(bucket, weights.iter().copied()),
                expected,
                "{bucket} in {weights:?}"
            );
        };
        check(0, &[0, 5, 0, 5, 0], Some(1));
        check(4, &[0, 5, 0, 5, 0], Some(1));
        check(5, &[0, 5, 0, 5, 0], Some(3));
        check(9, &[0, 5, 0, 5, 0], Some(3));
        check(10, &[0, 5, 0, 5, 0], None);
        check(0, &[], None);
        check(u32::MAX, &[u32::MAX, 1], Some(1));
    }

    #[test]
    fn lists_and_objects_are_not_bucketed() {
        assert_eq!(hash("s", &Attribute::List(vec![Attribute::Bool(true)])), None);
        assert_eq!(hash("s", &Attribute::Object([].into_iter().collect())), None);
    }

    #[test]
    fn what_reads_the_same_is_bucketed_the_same() {
        let text = |text: &str| hash("s", &Attribute::String(text.into()));
        assert_eq!(hash("s", &Attribute::Number(1.0)), text("1"));
        assert_eq!(hash("s", &Attribute::Number(-0.0)), text("0"));
        assert_eq!(hash("s", &Attribute::Bool(true)), text("true"));
    }
}
