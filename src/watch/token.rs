//! The resume token: where a client stands, in a form that only servers read.
//!
//! Any replica of the installation reads any other's tokens, so they are signed by nothing and trusted in nothing: a token only
//! says what its bearer claims to hold, and the digest decides whether that was ever true. A forged one harms its forger.
//!
//! Layout, all numbers big-endian: layout (1 byte), format of the items (4), filter (1), store (16), generation (8),
//! environment (8), revision (8), digest (32), of answers the fingerprint of the question (16), then the first 8 bytes of the SHA-256
//! of all that. Layouts to come keep the first byte and the checksum, so that a token of theirs is told apart from noise.
//!
//! A digest is a hash of the digest before it and of the change. Who holds both, as a client that has all the items may, can try out
//! what a change might have been. So the tokens of answers, which client keys get, have the digest sealed: hashed once more.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::source::Identity;
use crate::domain::change::{Digest, EnvironmentId};
use crate::domain::form::FORMAT;

const LAYOUT: u8 = 1;
/// The client holds every item of the environment.
const FILTER_EVERYTHING: u8 = 0;
/// The client holds the answers to a question.
const FILTER_ANSWERS: u8 = 1;
const CHECKSUM_BYTES: usize = 8;
const DIGEST_BYTES: usize = 32;
const BODY_BYTES: usize = 1 + 4 + 1 + 16 + 8 + 8 + 8 + DIGEST_BYTES;

/// Where a client stands, or claims to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Which history.
    pub identity: Identity,
    /// Which environment.
    pub environment: EnvironmentId,
    /// The revision that the client holds.
    pub revision: u64,
    /// That revision's digest: the number alone proves nothing, since another history may have used it too.
    pub digest: Digest,
    /// The digest is not the revision's own, but sealed.
    pub sealed: bool,
}

/// What a client holds of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Every item.
    Everything,
    /// The answers to the question with this fingerprint.
    Answers(Fingerprint),
}

/// Tells questions apart: the same context, flags and kind of key have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 16]);

/// What a client showed when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Nothing, or nothing readable: the client holds nothing.
    Nothing,
    /// A token of another layout, filter or format of items: what the client holds is of no use to it.
    OtherFormat,
    /// A token of the answers to another question: what they were is of no use, but how new they were counts.
    OtherQuestion(Token),
    /// A token.
    Token(Token),
}

impl Holding {
    fn filter(self) -> u8 {
        match self {
            Self::Everything => FILTER_EVERYTHING,
            Self::Answers(_) => FILTER_ANSWERS,
        }
    }
}

impl Token {
    /// The token's bytes, for a client that holds everything.
    pub fn write(&self) -> Bytes {
        self.write_for(Holding::Everything)
    }

    /// The token's bytes.
    pub fn write_for(&self, holding: Holding) -> Bytes {
        let mut bytes = BytesMut::with_capacity(BODY_BYTES + CHECKSUM_BYTES);
        bytes.put_u8(LAYOUT);
        bytes.put_u32(FORMAT);
        bytes.put_u8(holding.filter());
        bytes.put_slice(self.identity.store.as_bytes());
        bytes.put_u64(self.identity.generation);
        bytes.put_i64(self.environment.0);
        bytes.put_u64(self.revision);
        bytes.put_slice(&match holding {
            Holding::Everything => self.digest.0,
            Holding::Answers(_) => seal(&self.digest).0,
        });
        if let Holding::Answers(Fingerprint(question)) = holding {
            bytes.put_slice(&question);
        }
        let checksum = checksum(&bytes);
        bytes.put_slice(&checksum);
        bytes.freeze()
    }

    /// Whether its bearer holds the revision with this digest.
    pub fn proves(&self, digest: &Digest) -> bool {
        if self.sealed {
            seal(digest) == self.digest
        } else {
            *digest == self.digest
        }
    }

    /// Generation and revision: what never goes back for a client.
    pub fn order(&self) -> (u64, u64) {
        (self.identity.generation, self.revision)
    }
}

impl Shown {
    /// Reads what a client showed that asks for everything.
    pub fn read(bytes: &[u8]) -> Self {
        Self::read_for(Holding::Everything, bytes)
    }

    /// Reads what a client showed. There is no error: what cannot be read is nothing.
    pub fn read_for(holding: Holding, bytes: &[u8]) -> Self {
        let Some((body, sum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Self::Nothing;
        };
        if body.is_empty() || checksum(body) != *sum {
            return Self::Nothing;
        }
        read_body(holding, body).unwrap_or(Self::Nothing)
    }
}

/// `None`: too short, or too long.
fn read_body(holding: Holding, mut body: &[u8]) -> Option<Shown> {
    if body.try_get_u8().ok()? != LAYOUT {
        return Some(Shown::OtherFormat);
    }
    let format = body.try_get_u32().ok()?;
    let filter = body.try_get_u8().ok()?;
    if format != FORMAT || filter != holding.filter() {
        return Some(Shown::OtherFormat);
    }
    let store = Uuid::from_u128(body.try_get_u128().ok()?);
    let generation = body.try_get_u64().ok()?;
    let environment = EnvironmentId(body.try_get_i64().ok()?);
    let revision = body.try_get_u64().ok()?;
    let (digest, question) = body.split_at_checked(DIGEST_BYTES)?;
    let digest = Digest::from_slice(digest)?;
    let token = Token {
        identity: Identity { store, generation },
        environment,
        revision,
        digest,
        sealed: matches!(holding, Holding::Answers(_)),
    };
    match holding {
        Holding::Everything => question.is_empty().then_some(Shown::Token(token)),
        Holding::Answers(Fingerprint(asked)) if *question == asked => Some(Shown::Token(token)),
        Holding::Answers(Fingerprint(asked)) => (question.len() == asked.len()).then_some(Shown::OtherQuestion(token)),
    }
}

fn seal(digest: &Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"the digest in a token of answers");
    hash.update(digest.0);
    Digest(hash.finalize().into())
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let whole: [u8; 32] = Sha256::digest(body).into();
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&whole[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn token()(
            store: u128, generation: u64, environment: i64, revision: u64, digest: [u8; 32],
        ) -> Token {
            Token {
                identity: Identity { store: Uuid::from_u128(store), generation },
                environment: EnvironmentId(environment),
                revision,
                digest: Digest(digest),
                sealed: false,
            }
        }
    }

    /// The body with a right checksum.
    fn summed(body: &[u8]) -> Vec<u8> {
        [body, &checksum(body)].concat()
    }

    fn example() -> Token {
        Token {
            identity: Identity {
                store: Uuid::from_u128(7),
                generation: 3,
            },
            environment: EnvironmentId(5),
            revision: 9,
            digest: Digest([1; 32]),
            sealed: false,
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(token in token()) {
            prop_assert_eq!(Shown::read(&token.write()), Shown::Token(token));
        }

        #[test]
        fn a_token_of_answers_is_read_by_its_own_question_only(token in token(), question: [u8; 16], other: [u8; 16]) {
            let own = Holding::Answers(Fingerprint(question));
            let written = token.write_for(own);
            let sealed = Token { digest: seal(&token.digest), sealed: true, ..token };
            prop_assert_eq!(Shown::read_for(own, &written), Shown::Token(sealed));
            prop_assert!(sealed.proves(&token.digest) && !sealed.proves(&sealed.digest));
            prop_assert!(!written.windows(DIGEST_BYTES).any(|bytes| bytes == token.digest.0));
            prop_assert_eq!(Shown::read(&written), Shown::OtherFormat);
            prop_assert_eq!(Shown::read_for(own, &token.write()), Shown::OtherFormat);
            let read = Shown::read_for(Holding::Answers(Fingerprint(other)), &written);
            prop_assert_eq!(read == Shown::OtherQuestion(sealed), other != question);
        }

        #[test]
        fn noise_is_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Shown::read(&bytes), Shown::Nothing);
        }

        #[test]
        fn noise_with_a_right_checksum_is_never_an_error(body in proptest::collection::vec(any::<u8>(), 0..200), layout: bool) {
            let mut body = body;
            if layout && !body.is_empty() {
                body[0] = LAYOUT;
            }
            let shown = Shown::read(&summed(&body));
            prop_assert!(body.len() == BODY_BYTES || !matches!(shown, Shown::Token(_)));
        }

        #[test]
        fn a_damaged_token_is_nothing(token in token(), at in 0..BODY_BYTES + CHECKSUM_BYTES, flip in 1..=255_u8) {
            let mut bytes = token.write().to_vec();
            bytes[at] ^= flip;
            prop_assert_eq!(Shown::read(&bytes), Shown::Nothing);
        }

        #[test]
        fn a_cut_token_is_nothing(token in token(), length in 0..BODY_BYTES + CHECKSUM_BYTES) {
            prop_assert_eq!(Shown::read(&token.write()[..length]), Shown::Nothing);
        }
    }

    fn check_altered(at: usize, expected: Shown) {
        let mut body = example().write()[..BODY_BYTES].to_vec();
        body[at] ^= 0x80;
        assert_eq!(Shown::read(&summed(&body)), expected);
    }

    #[test]
    fn another_layout_is_another_format() {
        check_altered(0, Shown::OtherFormat);
    }

    #[test]
    fn another_format_of_items_is_another_format() {
        check_altered(4, Shown::OtherFormat);
    }

    #[test]
    fn another_filter_is_another_format() {
        check_altered(5, Shown::OtherFormat);
    }

    #[test]
    fn tokens_sort_by_generation_before_revision() {
        let older = Token {
            revision: 100,
            ..example()
        };
        let mut newer = example();
        newer.identity.generation += 1;
        assert!(older.order() < newer.order());
    }
}
