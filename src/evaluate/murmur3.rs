//! MurmurHash3, the x86 variant of 32 bits, with seed 0: Austin Appleby's public-domain hash, fed piece by piece so that what is
//! hashed need not be put together in memory first.

/// A hash in the making.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Murmur3 {
    hash: u32,
    /// Bytes that do not fill a block yet, the first in the lowest place.
    pending: u64,
    /// How many bytes are pending: 0 to 3.
    pending_bytes: u32,
    length: usize,
}

impl Murmur3 {
    /// Takes the next bytes. How they are cut into pieces makes no difference.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.length = self.length.wrapping_add(bytes.len());
        let (blocks, rest) = bytes.as_chunks::<4>();
        for block in blocks {
            self.pending |= u64::from(u32::from_le_bytes(*block)) << (8 * self.pending_bytes);
            self.mix_block();
        }
        for &byte in rest {
            self.pending |= u64::from(byte) << (8 * self.pending_bytes);
            self.pending_bytes += 1;
            if self.pending_bytes == 4 {
                self.pending_bytes = 0;
                self.mix_block();
            }
        }
    }

    /// The hash of everything taken.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the hash counts its bytes modulo 2^32, and fewer than four are pending"
    )]
    pub(super) fn finish(self) -> u32 {
        let mut hash = self.hash ^ scramble(self.pending as u32) ^ (self.length as u32);
        hash ^= hash >> 16;
        hash = hash.wrapping_mul(0x85eb_ca6b);
        hash ^= hash >> 13;
        hash = hash.wrapping_mul(0xc2b2_ae35);
        hash ^ (hash >> 16)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a block is the lower half")]
    fn mix_block(&mut self) {
        self.hash ^= scramble(self.pending as u32);
        self.hash = self.hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
        self.pending >>= 32;
    }
}

fn scramble(block: u32) -> u32 {
    block
        .wrapping_mul(0xcc9e_2d51)
        .rotate_left(15)
        .wrapping_mul(0x1b87_3593)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(pieces: &[&[u8]]) -> u32 {
        let mut hash = Murmur3::default();
        for piece in pieces {
            hash.update(piece);
        }
        hash.finish()
    }

    /// The vectors with seed 0 that are commonly published for this hash.
    #[test]
    fn published_vectors_hold() {
        let check = |input: &[u8], expected: u32| assert_eq!(hash(&[input]), expected, "{input:?}");
        check(b"", 0);
        check(&[0xff, 0xff, 0xff, 0xff], 0x7629_3b50);
        check(&[0x21, 0x43, 0x65, 0x87], 0xf55b_516b);
        check(&[0x21, 0x43, 0x65], 0x7e4a_8634);
        check(&[0x21, 0x43], 0xa0f7_b07a);
        check(&[0x21], 0x7266_1cf4);
        check(&[0, 0, 0, 0], 0x2362_f9de);
        check(&[0, 0, 0], 0x85f0_b427);
        check(&[0, 0], 0x30f4_c306);
        check(&[0], 0x514e_28b7);
        check(b"test", 0xba6b_d213);
        check(b"Hello, world!", 0xc036_3e43);
        check(b"The quick brown fox jumps over the lazy dog", 0x2e4f_f723);
    }

    #[test]
    fn cutting_the_input_into_pieces_makes_no_difference() {
        let input: Vec<u8> = (0..64).collect();
        let whole = hash(&[&input]);
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let pieces = [&input[..first], &input[first..second], &input[second..]];
                assert_eq!(hash(&pieces), whole, "cut at {first} and {second}");
            }
        }
    }
}
