//! Key lists: a million targeting keys, asked in constant time.
//!
//! A list is cut into chunks by the hash of each key, so that asking looks into one chunk and a change rewrites one. Within a chunk
//! the keys lie packed in one block of memory, in buckets by other bits of the same hash: asking compares with the one or two keys
//! of a bucket, and a key costs about five bytes more than its text.

use super::bucket::bucket;
use super::murmur3::Murmur3;

/// Ends each key in a block. It occurs in no UTF-8 text.
const END: u8 = 0xff;

/// The chunk of a list of so many chunks that a targeting key belongs to: `murmur3_x86_32(seed 0, key) * chunks >> 32`.
pub fn key_chunk(key: &str, chunks: u32) -> u32 {
    bucket(hash(key), chunks)
}

fn hash(key: &str) -> u32 {
    let mut hash = Murmur3::default();
    hash.update(key.as_bytes());
    hash.finish()
}

/// A targeting key with its hash, to be asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'k> {
    text: &'k str,
    hash: u32,
}

impl<'k> Key<'k> {
    pub(super) fn new(text: &'k str) -> Self {
        Self { text, hash: hash(text) }
    }

    /// As [`key_chunk`].
    pub(super) fn chunk(self, chunks: u32) -> u32 {
        bucket(self.hash, chunks)
    }
}

/// The keys of one chunk.
#[derive(Debug)]
pub(super) struct Keys {
    /// The keys, bucket by bucket.
    block: Box<[u8]>,
    /// Where each bucket begins, and at last where the block ends. One more than a power of two.
    starts: Box<[u32]>,
}

impl Keys {
    /// Packs keys, in any order. `None`: more than 4 GiB.
    pub(super) fn new(keys: &[String]) -> Option<Self> {
        let buckets = keys.len().div_ceil(2).next_power_of_two();
        let mut sorted: Vec<_> = keys.iter().map(|key| (place(hash(key), buckets), key)).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut block = Vec::with_capacity(keys.iter().map(|key| key.len() + 1).sum());
        let mut starts = Vec::with_capacity(buckets + 1);
        for (bucket, key) in sorted {
            while starts.len() <= bucket {
                starts.push(u32::try_from(block.len()).ok()?);
            }
            block.extend_from_slice(key.as_bytes());
            block.push(END);
        }
        starts.resize(buckets + 1, u32::try_from(block.len()).ok()?);
        Some(Self {
            block: block.into(),
            starts: starts.into(),
        })
    }

    /// Whether the key is among them.
    pub(super) fn contain(&self, key: Key<'_>) -> bool {
        let bucket = place(key.hash, self.starts.len() - 1);
        let (start, end) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
        let mut rest = &self.block[start..end];
        let text = key.text.as_bytes();
        while !rest.is_empty() {
            if rest.strip_prefix(text).is_some_and(|after| after.first() == Some(&END)) {
                return true;
            }
            let next = rest
                .iter()
                .position(|byte| *byte == END)
                .map_or(rest.len(), |end| end + 1);
            rest = &rest[next..];
        }
        false
    }
}

/// The bucket of a hash, of a power of two of them. By its lower bits: the upper ones have chosen the chunk.
fn place(hash: u32, buckets: usize) -> usize {
    hash as usize & (buckets - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("user-{n}{}", "x".repeat(n % 7))).collect()
    }

    #[test]
    fn every_key_is_found_and_no_other() {
        for count in [0, 1, 2, 3, 100, 1_000] {
            let listed = keys(count);
            let packed = Keys::new(&listed).unwrap();
            for key in &listed {
                assert!(packed.contain(Key::new(key)), "{key} of {count}");
                let (longer, shorter) = (format!("{key}y"), &key[..key.len() - 1]);
                assert!(!packed.contain(Key::new(&longer)), "{longer} of {count}");
                assert_eq!(
                    packed.contain(Key::new(shorter)),
                    listed.iter().any(|key| key == shorter),
                    "{shorter}"
                );
            }
            assert!(!packed.contain(Key::new("")) && !packed.contain(Key::new("nobody")));
        }
    }

    #[test]
    fn a_key_that_is_there_twice_is_there_once() {
        let packed = Keys::new(&["a".to_owned(), "a".to_owned()]).unwrap();
        assert_eq!(&*packed.block, b"a\xff");
        assert!(packed.contain(Key::new("a")));
    }

    #[test]
    fn the_chunk_of_a_key_is_the_documented_one() {
        assert_eq!(key_chunk("user-1", 1), 0);
        // The published hash of "test" is 0xba6bd213.
        assert_eq!(key_chunk("test", 16), 0xb);
        assert_eq!(key_chunk("test", 256), 0xba);
        assert_eq!(Key::new("test").chunk(4096), 0xba6);
    }

    #[test]
    fn a_key_costs_little_more_than_its_text() {
        let listed = keys(490);
        let text: usize = listed.iter().map(String::len).sum();
        let packed = Keys::new(&listed).unwrap();
        let bytes = packed.block.len() + 4 * packed.starts.len();
        assert!(bytes <= text + 6 * listed.len(), "{bytes} bytes for {text} of text");
    }
}
