//! How a state is laid out on disk.
//!
//! All numbers are big-endian, every field of variable length is preceded by its length (8 bytes): `HALYARD STATE\n`, the format
//! (4), the length of the body (8), the body, SHA-256 of everything before (32). The body: the endpoint, the key's id, the resume
//! token, the time of the commit (seconds, 8, and nanoseconds, 4), how many items (8), and of each its kind, key, version (8) and
//! form. Behind all that, overwritten in place: when the state was last known to be the newest, by this machine's clock
//! (milliseconds, 8; the least number: never), and the first 8 bytes of the SHA-256 of the sum and that.

use bytes::{Buf as _, BufMut as _, Bytes};
use imbl::OrdMap;
use sha2::{Digest as _, Sha256};

use super::file::Origin;
use super::held::{Entry, Held, Name};
use crate::watch::Shown;
use crate::watch::Token;

const MAGIC: &[u8] = b"HALYARD STATE\n";
/// The format that this version writes and reads.
const FORMAT: u32 = 1;
const SUM_BYTES: usize = 32;
const NOTE_SUM_BYTES: usize = 8;
const NEVER: i64 = i64::MIN;

/// A file's content, understood.
#[derive(Debug)]
pub struct Content {
    /// Of whom it is.
    pub origin: Origin,
    /// The state.
    pub held: Held,
    /// When it was last known to be the newest.
    pub confirmed_at: Option<jiff::Timestamp>,
}

/// Why a file cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is cut off, changed, or never was a state.
    #[error("the state file is damaged")]
    Damaged,
    /// Another version wrote it.
    #[error("the state file has format {0}, this version reads {FORMAT}")]
    Format(u32),
    /// Its tokens are of another version.
    #[error("the state file is of a version with other tokens")]
    Token,
}

/// A whole file but for the note at its end.
pub fn write(origin: &Origin, held: &Held) -> Vec<u8> {
    let forms: usize = held.items.values().map(|entry| entry.form.len()).sum();
    let mut body = Vec::with_capacity(forms + 128 * (held.items.len() + 4));
    field(&mut body, origin.endpoint.as_bytes());
    field(&mut body, origin.key_id.as_bytes());
    field(&mut body, &held.position.write());
    body.put_i64(held.committed_at.as_second());
    body.put_i32(held.committed_at.subsec_nanosecond());
    body.put_u64(held.items.len() as u64);
    for (name, entry) in &held.items {
        field(&mut body, name.kind().as_bytes());
        field(&mut body, name.key().as_bytes());
        body.put_u64(entry.version);
        field(&mut body, &entry.form);
    }
    let mut file = Vec::with_capacity(body.len() + 128);
    file.put_slice(MAGIC);
    file.put_u32(FORMAT);
    field(&mut file, &body);
    let sum: [u8; SUM_BYTES] = Sha256::digest(&file).into();
    file.put_slice(&sum);
    file
}

/// The note at the end of a file that is otherwise this.
pub fn note(file: &[u8], confirmed_at: Option<jiff::Timestamp>) -> Vec<u8> {
    let sum = file.last_chunk::<SUM_BYTES>().copied().unwrap_or_default();
    note_of(&sum, confirmed_at)
}

/// The same for a file with this sum.
pub fn note_of(sum: &[u8; SUM_BYTES], confirmed_at: Option<jiff::Timestamp>) -> Vec<u8> {
    let at = confirmed_at
        .map_or(NEVER, jiff::Timestamp::as_millisecond)
        .to_be_bytes();
    let mut note = at.to_vec();
    note.extend_from_slice(&note_sum(sum, at));
    note
}

/// Reads a file.
pub fn read(file: &Bytes) -> Result<Content, Unusable> {
    let mut rest = file.clone();
    if take(&mut rest, MAGIC.len()).is_none_or(|magic| magic != MAGIC) {
        return Err(Unusable::Damaged);
    }
    let format = rest.try_get_u32().map_err(|_| Unusable::Damaged)?;
    if format != FORMAT {
        return Err(Unusable::Format(format));
    }
    let body = read_field(&mut rest).ok_or(Unusable::Damaged)?;
    let covered = file.len() - rest.len();
    let sum = take(&mut rest, SUM_BYTES).ok_or(Unusable::Damaged)?;
    let computed: [u8; SUM_BYTES] = Sha256::digest(&file[..covered]).into();
    if sum != computed.as_slice() {
        return Err(Unusable::Damaged);
    }
    let confirmed_at = read_note(rest, &computed);
    let (origin, token, held) = read_body(body).ok_or(Unusable::Damaged)?;
    let Shown::Token(position) = Shown::read(&token) else {
        return Err(Unusable::Token);
    };
    let held = held(position);
    Ok(Content {
        origin,
        held,
        confirmed_at,
    })
}

/// What a body says; the state is complete once the token was understood.
fn read_body(mut body: Bytes) -> Option<(Origin, Bytes, impl FnOnce(Token) -> Held)> {
    let origin = Origin {
        endpoint: read_text(&mut body)?,
        key_id: read_text(&mut body)?,
    };
    let token = read_field(&mut body)?;
    let committed_at = jiff::Timestamp::new(body.try_get_i64().ok()?, body.try_get_i32().ok()?).ok()?;
    let mut items = OrdMap::new();
    for _ in 0..body.try_get_u64().ok()? {
        let (kind, key) = (read_text(&mut body)?, read_text(&mut body)?);
        let version = body.try_get_u64().ok()?;
        let form = read_field(&mut body)?;
        items.insert(Name::new(&kind, &key), Entry::new(version, form));
    }
    let complete = move |position| Held {
        position,
        committed_at,
        state_hash: Held::hash_of(&items),
        items,
    };
    body.is_empty().then_some((origin, token, complete))
}

/// A note that makes no sense is none: the state is of unknown age.
fn read_note(mut rest: Bytes, sum: &[u8; SUM_BYTES]) -> Option<jiff::Timestamp> {
    let at = rest.try_get_i64().ok()?;
    let right = rest == note_sum(sum, at.to_be_bytes()).as_slice();
    (right && at != NEVER).then(|| jiff::Timestamp::from_millisecond(at).ok())?
}

fn note_sum(sum: &[u8; SUM_BYTES], at: [u8; 8]) -> [u8; NOTE_SUM_BYTES] {
    let whole: [u8; 32] = Sha256::new().chain_update(sum).chain_update(at).finalize().into();
    let mut short = [0; NOTE_SUM_BYTES];
    short.copy_from_slice(&whole[..NOTE_SUM_BYTES]);
    short
}

fn field(to: &mut Vec<u8>, bytes: &[u8]) {
    to.put_u64(bytes.len() as u64);
    to.put_slice(bytes);
}

fn take(from: &mut Bytes, length: usize) -> Option<Bytes> {
    (from.len() >= length).then(|| from.split_to(length))
}

fn read_field(from: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(from.try_get_u64().ok()?).ok()?;
    take(from, length)
}

fn read_text(from: &mut Bytes) -> Option<String> {
    String::from_utf8(read_field(from)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::upstream::step::tests::state;

    fn origin() -> Origin {
        Origin {
            endpoint: "http://127.0.0.1:1/".to_owned(),
            key_id: "a5".to_owned(),
        }
    }

    fn whole(confirmed_at: Option<jiff::Timestamp>) -> Vec<u8> {
        let mut file = write(&origin(), &state(3));
        let note = note(&file, confirmed_at);
        file.extend(note);
        file
    }

    #[test]
    fn what_was_written_is_read() {
        let at = jiff::Timestamp::from_millisecond(1_234_567).unwrap();
        let content = read(&whole(Some(at)).into()).unwrap();
        let held = state(3);
        assert_eq!(content.origin, origin());
        assert_eq!(content.confirmed_at, Some(at));
        assert_eq!(content.held.position, held.position);
        assert_eq!(content.held.items, held.items);
        assert_eq!(content.held.state_hash, held.state_hash);
        assert_eq!(content.held.committed_at, held.committed_at);
        assert_eq!(read(&whole(None).into()).unwrap().confirmed_at, None);
    }

    #[test]
    fn another_format_is_told_apart_from_damage() {
        let mut file = whole(None);
        file[MAGIC.len() + 3] = 2;
        assert_eq!(read(&file.into()).unwrap_err(), Unusable::Format(2));
    }

    #[test]
    fn a_note_that_makes_no_sense_leaves_a_state_of_unknown_age() {
        let mut file = whole(Some(jiff::Timestamp::UNIX_EPOCH));
        *file.last_mut().unwrap() ^= 1;
        assert_eq!(read(&file.into()).unwrap().confirmed_at, None);
    }

    proptest! {
        #[test]
        fn no_damage_goes_unnoticed(at: prop::sample::Index, flip in 1..=255_u8) {
            let mut file = write(&origin(), &state(3));
            let at = at.index(file.len());
            file[at] ^= flip;
            prop_assert!(read(&file.into()).is_err());
        }

        #[test]
        fn a_file_that_was_cut_off_is_damaged(at: prop::sample::Index) {
            let file = write(&origin(), &state(3));
            let cut = at.index(file.len());
            prop_assert_eq!(read(&Bytes::copy_from_slice(&file[..cut])).unwrap_err(), Unusable::Damaged);
        }

        #[test]
        fn noise_is_damaged(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&bytes.into()).is_err());
        }
    }
}
