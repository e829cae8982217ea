//! The secrets of environment keys: `halyard_server_<id>_<secret>_<checksum>`, with `client` in place of `server` for client keys.
//!
//! The id is 64 random bits and the secret 256, both in lower-case hexadecimal digits; the checksum is the CRC-32 of everything
//! before the last underscore. So the prefix tells people and secret scanners what they have found, the id tells which key is
//! meant, and a typo or a random string is refused without looking anything up: a CRC-32 catches every single wrong character.
//!
//! What is stored is SHA-256 of the whole text. No slow hash: there is nothing to guess in 256 random bits, and a slow hash per
//! request would be a lever for denial of service.

use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::Error;
use crate::domain::access::KeyKind;
use crate::domain::change::Digest;

const SERVER_PREFIX: &str = "halyard_server_";
const CLIENT_PREFIX: &str = "halyard_client_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
/// Both prefixes have one length, and so do all keys.
const TEXT_CHARS: usize = SERVER_PREFIX.len() + 2 * ID_BYTES + 1 + 2 * SECRET_BYTES + 1 + CHECKSUM_CHARS;
const CHECKSUM_CHARS: usize = 8;

/// A key just made. This is the only time at which its secret is known.
#[derive(Debug)]
pub struct Generated {
    /// Names the key; not secret.
    pub id: String,
    /// What applications send.
    pub secret: SecretString,
    /// What is stored of the secret.
    pub hash: Digest,
}

/// What a caller shows, well formed but not yet verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented<'a> {
    /// What the text says the key may do. What it may do is what is stored; the hash covers this.
    pub kind: KeyKind,
    /// Which key it claims to be.
    pub id: &'a str,
    /// What is stored of the secret if the claim is true.
    pub hash: Digest,
}

/// Makes a key.
pub fn generate(kind: KeyKind) -> Result<Generated, Error> {
    let mut id = [0; ID_BYTES];
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    getrandom::fill(&mut id)?;
    getrandom::fill(secret.as_mut_slice())?;
    Ok(assemble(kind, id, &secret))
}

/// Reads what a caller shows. `None`: it is not a key, whatever is stored.
///
/// Takes one SHA-256 at most, no allocation, and no longer for a longer text.
pub fn parse(text: &str) -> Option<Presented<'_>> {
    if text.len() != TEXT_CHARS {
        return None;
    }
    let (kind, rest) = match text.strip_prefix(SERVER_PREFIX) {
        Some(rest) => (KeyKind::Server, rest),
        None => (KeyKind::Client, text.strip_prefix(CLIENT_PREFIX)?),
    };
    let (id, rest) = rest.split_at_checked(2 * ID_BYTES)?;
    let (secret, checksum) = rest.strip_prefix('_')?.split_at_checked(2 * SECRET_BYTES)?;
    let checksum = checksum.strip_prefix('_')?;
    let all_digits = [id, secret, checksum].into_iter().all(is_lower_hex);
    let (covered, _) = text.split_at_checked(TEXT_CHARS - CHECKSUM_CHARS - 1)?;
    if !all_digits || u32::from_str_radix(checksum, 16).ok()? != crc32fast::hash(covered.as_bytes()) {
        return None;
    }
    Some(Presented {
        kind,
        id,
        hash: hash(text),
    })
}

/// Whether the secret that was shown is the stored one, in a time that does not tell how much of it is.
pub fn verify(presented: &Digest, stored: &Digest) -> bool {
    presented.0.ct_eq(&stored.0).into()
}

fn assemble(kind: KeyKind, id: [u8; ID_BYTES], secret: &[u8; SECRET_BYTES]) -> Generated {
    let prefix = match kind {
        KeyKind::Server => SERVER_PREFIX,
        KeyKind::Client => CLIENT_PREFIX,
    };
    let id = hex::encode(id);
    let secret = Zeroizing::new(hex::encode(secret));
    let covered = Zeroizing::new(format!("{prefix}{id}_{}", secret.as_str()));
    let checksum = crc32fast::hash(covered.as_bytes());
    let text = format!("{}_{checksum:08x}", covered.as_str());
    Generated {
        id,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn sample() -> Generated {
        assemble(KeyKind::Server, [0xa5; ID_BYTES], &[0x3c; SECRET_BYTES])
    }

    #[test]
    fn a_key_is_written_as_it_always_was() {
        assert_eq!(
            sample().secret.expose_secret(),
            "halyard_server_a5a5a5a5a5a5a5a5_\
             3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c_103440c4"
        );
    }

    #[test]
    fn what_is_generated_is_read_back() {
        for kind in [KeyKind::Server, KeyKind::Client] {
            let key = generate(kind).unwrap();
            let presented = parse(key.secret.expose_secret()).unwrap();
            assert_eq!((presented.kind, presented.id), (kind, key.id.as_str()));
            assert!(verify(&presented.hash, &key.hash));
        }
    }

    #[test]
    fn no_two_keys_are_alike() {
        let (one, other) = (generate(KeyKind::Server).unwrap(), generate(KeyKind::Server).unwrap());
        assert_ne!(one.id, other.id);
        assert!(!verify(&one.hash, &other.hash));
    }

    #[test]
    fn every_changed_character_is_refused() {
        let key = sample();
        let text = key.secret.expose_secret();
        for at in 0..text.len() {
            for with in ["0", "1", "f", "F", "_", "-", " ", "\0", "z"] {
                if text.get(at..=at) != Some(with) {
                    let mut changed = text.to_owned();
                    changed.replace_range(at..=at, with);
                    assert_eq!(parse(&changed), None, "{changed}");
                }
            }
        }
    }

    #[test]
    fn a_kind_cannot_be_swapped() {
        let key = sample();
        let swapped = key.secret.expose_secret().replace("server", "client");
        assert_eq!(parse(&swapped), None);
    }

    #[test]
    fn other_lengths_are_refused() {
        let key = sample();
        let text = key.secret.expose_secret();
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end]), None, "{end}");
        }
        assert_eq!(parse(&format!("{text}0")), None);
        assert_eq!(parse(&format!(" {text}")), None);
        assert_eq!(parse(&"halyard_server_".repeat(70_000)), None);
    }

    #[test]
    fn letters_of_more_than_one_byte_are_refused() {
        for text in [
            format!("halyard_server_{}", "é".repeat(45)),
            format!("halyard_server_0{}0", "é".repeat(44)),
            format!("h{}", "é".repeat(52)),
        ] {
            assert_eq!(text.len(), TEXT_CHARS);
            assert_eq!(parse(&text), None);
        }
    }

    #[test]
    fn a_wrong_secret_is_not_verified() {
        let stored = sample().hash;
        for at in 0..32 {
            let mut other = stored;
            other.0[at] ^= 1;
            assert!(!verify(&other, &stored), "{at}");
        }
    }

    #[test]
    fn the_secret_is_not_printed() {
        let key = sample();
        assert!(!format!("{key:?}").contains("3c3c"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,130}") {
            prop_assert_eq!(parse(&text), None);
        }

        #[test]
        fn every_key_is_read_back(id: [u8; ID_BYTES], secret: [u8; SECRET_BYTES]) {
            let key = assemble(KeyKind::Client, id, &secret);
            let presented = parse(key.secret.expose_secret()).unwrap();
            prop_assert_eq!(presented.id, key.id.as_str());
            prop_assert_eq!(presented.hash, key.hash);
        }
    }
}
