//! How a split chooses.

use halyard::domain::context::{Attribute, Context};
use halyard::domain::rule::Split;

use super::find;

/// The variant that somebody is served. `None`: there is nothing to bucket by.
pub fn share(split: &Split, salt: &str, context: &Context) -> Option<String> {
    let value = match find(split.attribute.as_deref().unwrap_or("targeting_key"), context)? {
        Attribute::String(text) => text.clone(),
        Attribute::Bool(value) => value.to_string(),
        // Between 1e-6 and 1e21 Rust writes numbers as RFC 8785 does, but for the sign of zero.
        Attribute::Number(number) => (number + 0.0).to_string(),
        Attribute::List(_) | Attribute::Object(_) => return None,
    };
    let total: u64 = split.variants.iter().map(|share| u64::from(share.weight)).sum();
    let bucket = (u64::from(padded_hash(&format!("{salt}:{value}"))) * total) >> 32;
    let mut below = 0;
    let share = split.variants.iter().find(|share| {
        below += u64::from(share.weight);
        bucket < below
    });
    share.map(|share| share.variant.to_string())
}

fn padded_hash(text: &str) -> u32 {
    let text = format!("{text:100}");
    let (head, length) = match u16::try_from(text.len()) {
        Ok(length) if length < 256 => (0x78, length.to_be_bytes()[1..].to_vec()),
        Ok(length) => (0x79, length.to_be_bytes().to_vec()),
        Err(error) => panic!("the texts of these tests are short: {error}"),
    };
    hash([vec![head], length, text.into_bytes()].concat())
}

/// murmur3_x86_32 with seed 0.
pub fn hash(mut input: Vec<u8>) -> u32 {
    let length = u32::try_from(input.len()).unwrap_or_default();
    let whole_blocks = input.len() / 4;
    input.resize(input.len().next_multiple_of(4), 0);
    let mut hash = 0_u32;
    for (n, block) in input.chunks(4).enumerate() {
        let number = block
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u32::from(*byte));
        hash ^= number
            .wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593);
        if n < whole_blocks {
            hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
        }
    }
    hash ^= length;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// The chunk of a key list that a key belongs to.
pub fn chunk(key: &str, chunks: u32) -> u64 {
    (u64::from(hash(key.as_bytes().to_vec())) * u64::from(chunks)) >> 32
}
