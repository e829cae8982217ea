//! Refresh tokens: `halyard_refresh_<session>_<family>_<secret>_<checksum>`.
//!
//! The session names the login, in 32 hexadecimal digits. The family is 128 random bits that all tokens of a session share, and the
//! secret 256 that only this token has; the checksum is the CRC-32 of everything before the last underscore.
//!
//! A token is used once, and gives the next of its family. The family is what tells an old token from a guess: who shows the
//! right family with a secret that is not the current one holds a token that was used already, which means that it was copied.
//! Who only knows the session's id, which is no secret, can show no family and so cannot end the session.
//!
//! What is stored are hashes of the family and of the whole text. No slow hash, as for keys: there is nothing to guess.

use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Error;
use crate::domain::change::Digest;

const PREFIX: &str = "halyard_refresh_";
const SESSION_CHARS: usize = 32;
const FAMILY_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
const CHECKSUM_CHARS: usize = 8;
const TEXT_CHARS: usize =
    PREFIX.len() + SESSION_CHARS + 1 + 2 * FAMILY_BYTES + 1 + 2 * SECRET_BYTES + 1 + CHECKSUM_CHARS;

/// A token just made. This is the only time at which it is known.
#[derive(Debug)]
pub struct Generated {
    /// What the caller keeps, to show it once.
    pub token: SecretString,
    /// What is stored of it.
    pub hashes: Hashes,
}

/// What is stored of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashes {
    /// Of what all tokens of the session share.
    pub family: Digest,
    /// Of this token.
    pub token: Digest,
}

/// What a caller shows, well formed but not yet verified.
pub struct Presented {
    /// The session that it claims to be of.
    pub session: Uuid,
    /// What is stored if the claim is true.
    pub hashes: Hashes,
    family: Zeroizing<String>,
}

/// Makes the first token of a session.
pub fn begin(session: Uuid) -> Result<Generated, Error> {
    generate(session, &random::<FAMILY_BYTES>()?)
}

/// Reads what a caller shows. `None`: it is not a refresh token, whatever is stored.
pub fn parse(text: &str) -> Option<Presented> {
    if text.len() != TEXT_CHARS {
        return None;
    }
    let mut parts = text.strip_prefix(PREFIX)?.split('_');
    let (session, family, secret, checksum) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lengths = [session.len(), family.len(), secret.len()] == [SESSION_CHARS, 2 * FAMILY_BYTES, 2 * SECRET_BYTES];
    let digits = |part: &str| part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let covered = text.get(..TEXT_CHARS - CHECKSUM_CHARS - 1)?;
    if parts.next().is_some()
        || !lengths
        || ![session, family, secret, checksum].into_iter().all(digits)
        || u32::from_str_radix(checksum, 16).ok()? != crc32fast::hash(covered.as_bytes())
    {
        return None;
    }
    let session = Uuid::try_parse(session).ok()?;
    Some(Presented {
        session,
        hashes: hashes(session, family, text),
        family: Zeroizing::new(family.to_owned()),
    })
}

impl Presented {
    /// Makes the token that follows.
    pub fn next(&self) -> Result<Generated, Error> {
        generate(self.session, &self.family)
    }
}

fn generate(session: Uuid, family: &str) -> Result<Generated, Error> {
    let secret = random::<SECRET_BYTES>()?;
    let covered = Zeroizing::new(format!("{PREFIX}{}_{family}_{}", session.simple(), secret.as_str()));
    let checksum = crc32fast::hash(covered.as_bytes());
    let token = format!("{}_{checksum:08x}", covered.as_str());
    Ok(Generated {
        hashes: hashes(session, family, &token),
        token: token.into(),
    })
}

fn hashes(session: Uuid, family: &str, token: &str) -> Hashes {
    let mut of_family = Sha256::new();
    of_family.update(b"halyard refresh token family\0");
    of_family.update(session.as_bytes());
    of_family.update(family);
    Hashes {
        family: Digest(of_family.finalize().into()),
        token: Digest(Sha256::digest(token).into()),
    }
}

/// Random bytes in hexadecimal digits.
fn random<const BYTES: usize>() -> Result<Zeroizing<String>, Error> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(Zeroizing::new(hex::encode(bytes.as_slice())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    const SESSION: Uuid = Uuid::from_u128(0x5e55);

    #[test]
    fn what_is_generated_is_read_back() {
        let first = begin(SESSION).unwrap();
        let presented = parse(first.token.expose_secret()).unwrap();
        assert_eq!((presented.session, presented.hashes), (SESSION, first.hashes));
    }

    #[test]
    fn a_token_is_followed_by_another_of_its_family() {
        let first = begin(SESSION).unwrap();
        let next = parse(first.token.expose_secret()).unwrap().next().unwrap();
        assert_eq!(next.hashes.family, first.hashes.family);
        assert_ne!(next.hashes.token, first.hashes.token);
        let other = begin(SESSION).unwrap();
        assert_ne!(other.hashes.family, first.hashes.family);
    }

    #[test]
    fn every_altered_character_is_refused() {
        let token = begin(SESSION).unwrap().token.expose_secret().to_owned();
        for at in 0..token.len() {
            let replacement = if token.as_bytes()[at] == b'0' { "1" } else { "0" };
            let mut altered = token.clone();
            altered.replace_range(at..=at, replacement);
            assert!(parse(&altered).is_none(), "{altered}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let generated = begin(SESSION).unwrap();
        assert!(!format!("{generated:?}").contains(generated.token.expose_secret()));
    }

    proptest! {
        #[test]
        fn no_text_is_a_token(text in "(halyard_refresh_)?[0-9a-f_]{0,160}") {
            prop_assert!(parse(&text).is_none());
        }
    }
}
