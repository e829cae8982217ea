//! How the secrets that Halyard makes are written: `<prefix><id>_<secret>_<checksum>`.
//!
//! The id is 64 random bits and the secret 256, both in lower-case hexadecimal digits; the checksum is the CRC-32 of everything
//! before the last underscore. So the prefix tells people and secret scanners what they have found, the id tells which one is
//! meant, and a typo or a random string is refused without looking anything up: a CRC-32 catches every single wrong character.
//!
//! What is stored is SHA-256 of the whole text. No slow hash: there is nothing to guess in 256 random bits, and a slow hash per
//! request would be a lever for denial of service.

use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::Error;
use crate::domain::change::Digest;

pub(super) const ID_BYTES: usize = 8;
pub(super) const SECRET_BYTES: usize = 32;
const CHECKSUM_CHARS: usize = 8;
/// Everything behind the prefix.
const TAIL_CHARS: usize = 2 * ID_BYTES + 1 + 2 * SECRET_BYTES + 1 + CHECKSUM_CHARS;

/// A secret just made. This is the only time at which it is known.
#[derive(Debug)]
pub struct Generated {
    /// Names what it belongs to; not secret.
    pub id: String,
    /// What callers show.
    pub secret: SecretString,
    /// What is stored of the secret.
    pub hash: Digest,
}

/// Makes a secret with an id of its own.
pub(super) fn generate(prefix: &str) -> Result<Generated, Error> {
    let mut id = [0; ID_BYTES];
    getrandom::fill(&mut id)?;
    renew(prefix, &hex::encode(id))
}

/// Makes another secret of an id.
pub(super) fn renew(prefix: &str, id: &str) -> Result<Generated, Error> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    getrandom::fill(secret.as_mut_slice())?;
    Ok(assemble(prefix, id, &secret))
}

/// The id in a text, and what is stored if the text is right. `None`: it is not one of ours, whatever is stored.
///
/// Takes one SHA-256 at most, no allocation, and no longer for a longer text.
pub(super) fn read<'a>(prefix: &str, text: &'a str) -> Option<(&'a str, Digest)> {
    if text.len() != prefix.len() + TAIL_CHARS {
        return None;
    }
    let (id, rest) = text.strip_prefix(prefix)?.split_at_checked(2 * ID_BYTES)?;
    let (secret, checksum) = rest.strip_prefix('_')?.split_at_checked(2 * SECRET_BYTES)?;
    let checksum = checksum.strip_prefix('_')?;
    let all_digits = [id, secret, checksum].into_iter().all(is_lower_hex);
    let (covered, _) = text.split_at_checked(text.len() - CHECKSUM_CHARS - 1)?;
    if !all_digits || u32::from_str_radix(checksum, 16).ok()? != crc32fast::hash(covered.as_bytes()) {
        return None;
    }
    Some((id, hash(text)))
}

/// Whether the secret that was shown is the stored one, in a time that does not tell how much of it is.
pub fn verify(presented: &Digest, stored: &Digest) -> bool {
    presented.0.ct_eq(&stored.0).into()
}

pub(super) fn assemble(prefix: &str, id: &str, secret: &[u8; SECRET_BYTES]) -> Generated {
    let secret = Zeroizing::new(hex::encode(secret));
    let covered = Zeroizing::new(format!("{prefix}{id}_{}", secret.as_str()));
    let checksum = crc32fast::hash(covered.as_bytes());
    let text = format!("{}_{checksum:08x}", covered.as_str());
    Generated {
        id: id.to_owned(),
        hash: hash(&text),
        secret: text.into(),
    }
}

fn hash(text: &str) -> Digest {
    Digest(Sha256::digest(text).into())
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}
