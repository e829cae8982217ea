//! The secrets of environment keys: `halyard_server_<id>_<secret>_<checksum>`, with `client` in place of `server` for client keys;
//! see [`secret`].

use super::Error;
use super::secret;
pub use super::secret::{Generated, verify};
use crate::domain::access::{EnvironmentKey, KeyKind, Term};
use crate::domain::change::Digest;

const SERVER_PREFIX: &str = "halyard_server_";
const CLIENT_PREFIX: &str = "halyard_client_";

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
    secret::generate(prefix(kind))
}

/// Makes another secret of a key.
pub fn renew(kind: KeyKind, id: &str) -> Result<Generated, Error> {
    secret::renew(prefix(kind), id)
}

/// Reads what a caller shows. `None`: it is not a key, whatever is stored.
///
/// Takes one SHA-256 at most, no allocation, and no longer for a longer text.
pub fn parse(text: &str) -> Option<Presented<'_>> {
    let kind = if text.starts_with(SERVER_PREFIX) {
        KeyKind::Server
    } else {
        KeyKind::Client
    };
    let (id, hash) = secret::read(prefix(kind), text)?;
    Some(Presented { kind, id, hash })
}

/// How long a secret of this hash opens what the key does: as long as the key lives, or as the overlap of its rotation lasts.
/// `None`: it is no secret of the key's.
pub fn term(key: &EnvironmentKey, presented: &Digest) -> Option<Term> {
    let life = Term::from(key.expires_at);
    if verify(presented, &key.secret_hash) {
        return Some(life);
    }
    let previous = key
        .previous
        .filter(|previous| verify(presented, &previous.secret_hash))?;
    Some(life.min(Term::Until(previous.expires_at)))
}

fn prefix(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Server => SERVER_PREFIX,
        KeyKind::Client => CLIENT_PREFIX,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::auth::secret::{ID_BYTES, SECRET_BYTES, assemble};
    use crate::domain::access::PreviousSecret;
    use crate::domain::change::EnvironmentId;

    fn sample() -> Generated {
        assemble(SERVER_PREFIX, "a5a5a5a5a5a5a5a5", &[0x3c; SECRET_BYTES])
    }

    #[test]
    fn a_replaced_secret_works_for_as_long_as_it_was_given() {
        let (now, later) = (jiff::Timestamp::UNIX_EPOCH, jiff::Timestamp::MAX);
        let check = |expires_at: Option<jiff::Timestamp>, hash: u8, expected: Option<Term>| {
            let key = EnvironmentKey {
                environment: EnvironmentId(1),
                kind: KeyKind::Server,
                secret_hash: Digest([1; 32]),
                expires_at,
                previous: Some(PreviousSecret {
                    secret_hash: Digest([2; 32]),
                    expires_at: later,
                }),
            };
            assert_eq!(term(&key, &Digest([hash; 32])), expected);
        };
        check(None, 1, Some(Term::Endless));
        check(None, 2, Some(Term::Until(later)));
        check(Some(now), 1, Some(Term::Until(now)));
        check(Some(now), 2, Some(Term::Until(now)));
        check(None, 3, None);
    }

    #[test]
    fn a_renewed_key_keeps_its_id_alone() {
        let one = generate(KeyKind::Client).unwrap();
        let other = renew(KeyKind::Client, &one.id).unwrap();
        let presented = parse(other.secret.expose_secret()).unwrap();
        assert_eq!((presented.kind, presented.id), (KeyKind::Client, one.id.as_str()));
        assert!(verify(&presented.hash, &other.hash) && !verify(&presented.hash, &one.hash));
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
            assert_eq!(text.len(), sample().secret.expose_secret().len());
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
            let key = assemble(CLIENT_PREFIX, &hex::encode(id), &secret);
            let presented = parse(key.secret.expose_secret()).unwrap();
            prop_assert_eq!(presented.id, key.id.as_str());
            prop_assert_eq!(presented.hash, key.hash);
        }
    }
}
