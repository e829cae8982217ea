//! How a list of targeting keys is cut into chunks: pure, and the same for the same list however it came about.
//!
//! A key is in the chunk that the first bits of its hash name, so the chunks of a list of half the number are those of the whole
//! joined in pairs. That lets one pass over the keys tell the sizes for every number of chunks.

use std::collections::HashMap;

use bytes::Bytes;
use tokio_postgres::Row;

use crate::domain::segment::KeyList;
use crate::domain::{form, limits};
use crate::evaluate::key_chunk;
use crate::store::error::{Error, Flaw};
use crate::store::rows;

/// The most chunks that there can be.
const MOST: u32 = 1 << 16;
/// A list that is cut anew leaves this much of every chunk free, so that adding keys does not soon cut it anew again.
const ROOMY: usize = limits::SEGMENT_CHUNK_BYTES / 4 * 3;
/// Chunks that hold less than this on average are mostly empty.
const SPARSE: usize = limits::SEGMENT_CHUNK_BYTES / 8;

/// A list cut into chunks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// `None`: there are no keys.
    pub list: Option<KeyList>,
    /// The forms of the chunks that have keys.
    pub forms: HashMap<u32, Bytes>,
}

/// So many keys are in one chunk, however finely the list is cut, that they do not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crowded;

/// Cuts a list of sorted keys without repetition. The number of chunks is kept while they fit and are not mostly empty.
pub(super) fn cut(keys: &[&str], kept: Option<u32>) -> Result<Cut, Crowded> {
    if keys.is_empty() {
        return Ok(Cut {
            list: None,
            forms: HashMap::new(),
        });
    }
    let fine: Vec<u32> = keys.iter().map(|key| key_chunk(key, MOST)).collect();
    let chunks = choose(&sizes(keys, &fine), kept).ok_or(Crowded)?;
    let mut parts: HashMap<u32, Vec<&str>> = HashMap::new();
    for (key, fine) in keys.iter().zip(&fine) {
        parts.entry(fine / (MOST / chunks)).or_default().push(key);
    }
    let forms = parts
        .into_iter()
        .map(|(chunk, keys)| (chunk, form::write_keys(&keys).into()));
    Ok(Cut {
        list: Some(KeyList {
            chunks,
            keys: keys.len() as u64,
        }),
        forms: forms.collect(),
    })
}

/// What the keys of every finest chunk take in a form.
fn sizes(keys: &[&str], fine: &[u32]) -> Vec<usize> {
    let mut sizes = vec![0; MOST as usize];
    for (key, &chunk) in keys.iter().zip(fine) {
        if let Some(size) = sizes.get_mut(chunk as usize) {
            // The comma after it.
            *size += form::key_bytes(key) + 1;
        }
    }
    sizes
}

/// The number of chunks to cut into. `None`: none is enough.
fn choose(sizes: &[usize], kept: Option<u32>) -> Option<u32> {
    let frame = form::write_keys(&[]).len();
    let largest = |chunks: u32| {
        let joined = sizes
            .chunks((MOST / chunks) as usize)
            .map(|sizes| sizes.iter().sum::<usize>());
        frame + joined.max().unwrap_or_default()
    };
    let total: usize = sizes.iter().sum();
    let kept = kept.filter(|chunks| chunks.is_power_of_two() && *chunks <= MOST);
    if let Some(chunks) = kept
        && largest(chunks) <= limits::SEGMENT_CHUNK_BYTES
        && (chunks == 1 || total / chunks as usize >= SPARSE)
    {
        return Some(chunks);
    }
    let powers = || (0..=MOST.ilog2()).map(|power| 1_u32 << power);
    let roomy = powers().find(|&chunks| largest(chunks) <= ROOMY);
    roomy.or_else(|| powers().find(|&chunks| largest(chunks) <= limits::SEGMENT_CHUNK_BYTES))
}

/// A chunk as it is stored.
pub(super) struct StoredChunk<'a> {
    pub number: u32,
    pub version: u64,
    pub form: &'a [u8],
}

/// Reads a chunk's row.
pub(super) fn stored(row: &Row) -> Result<StoredChunk<'_>, Error> {
    Ok(StoredChunk {
        number: chunk_number(row)?,
        version: rows::number(row, "version")?,
        form: rows::get(row, "form")?,
    })
}

/// Which chunk a row is of.
pub(super) fn chunk_number(row: &Row) -> Result<u32, Error> {
    let number: i32 = rows::get(row, "chunk")?;
    u32::try_from(number).map_err(|_| rows::corrupt("chunk", Flaw::Range))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_of(keys: &[String], kept: Option<u32>) -> Cut {
        let mut keys: Vec<_> = keys.iter().map(String::as_str).collect();
        keys.sort_unstable();
        cut(&keys, kept).unwrap()
    }

    fn users(from: usize, to: usize) -> Vec<String> {
        (from..to).map(|n| format!("user-{n:07}")).collect()
    }

    fn chunks(cut: &Cut) -> u32 {
        cut.list.unwrap().chunks
    }

    #[test]
    fn every_key_is_in_the_chunk_of_its_hash_and_no_chunk_is_too_large() {
        let keys = users(0, 30_000);
        let cut = cut_of(&keys, None);
        let number = chunks(&cut);
        assert!(number.is_power_of_two() && number > 8, "{number}");
        let mut held = Vec::new();
        for (&chunk, form) in &cut.forms {
            assert!(form.len() <= limits::SEGMENT_CHUNK_BYTES);
            let keys = form::read_keys(form).unwrap();
            assert!(keys.is_sorted());
            assert!(keys.iter().all(|key| key_chunk(key, number) == chunk));
            held.extend(keys);
        }
        held.sort();
        assert_eq!(held, keys);
        assert_eq!(cut.list.unwrap().keys, 30_000);
    }

    #[test]
    fn a_few_more_keys_alter_a_few_chunks() {
        let before = cut_of(&users(0, 30_000), None);
        let after = cut_of(&users(0, 30_003), Some(chunks(&before)));
        assert_eq!(chunks(&after), chunks(&before));
        let altered = after
            .forms
            .iter()
            .filter(|&(chunk, form)| before.forms.get(chunk) != Some(form));
        assert!((1..=3).contains(&altered.count()));
    }

    #[test]
    fn the_number_of_chunks_is_kept_until_they_are_full_or_mostly_empty() {
        let first = chunks(&cut_of(&users(0, 30_000), None));
        let check = |keys: usize, expected: std::cmp::Ordering| {
            let number = chunks(&cut_of(&users(0, keys), Some(first)));
            assert_eq!(number.cmp(&first), expected, "{keys}: {first} to {number}");
        };
        check(20_000, std::cmp::Ordering::Equal);
        check(36_000, std::cmp::Ordering::Equal);
        check(100_000, std::cmp::Ordering::Greater);
        check(2_000, std::cmp::Ordering::Less);
    }

    #[test]
    fn an_empty_list_is_no_list() {
        let Cut { list, forms } = cut(&[], Some(8)).unwrap();
        assert_eq!((list, forms.len()), (None, 0));
    }

    #[test]
    fn sizes_count_what_is_escaped() {
        // Six bytes for each character.
        let keys: Vec<_> = (0..40).map(|n| format!("{}{n}", "\u{1}".repeat(900))).collect();
        let cut = cut_of(&keys, None);
        assert!(cut.forms.values().all(|form| form.len() <= limits::SEGMENT_CHUNK_BYTES));
    }

    #[test]
    fn keys_that_all_have_one_hash_are_refused_when_they_do_not_fit() {
        let mut sizes = vec![0; MOST as usize];
        sizes[7] = limits::SEGMENT_CHUNK_BYTES;
        assert_eq!(choose(&sizes, None), None);
        sizes[7] = ROOMY + 1;
        assert_eq!(choose(&sizes, None), Some(1));
    }
}
