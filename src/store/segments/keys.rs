//! Reading the list of a segment.

use super::chunks;
use super::configurations::{self, found};
use crate::domain::segment::KeyList;
use crate::domain::{form, key};
use crate::store::environments::Address;
use crate::store::error::Error;
use crate::store::{Store, pipeline, rows};

/// Chunks of a page: a megabyte at most.
const PAGE_CHUNKS: i64 = 32;
const CHUNKS: &str = "
    select chunk, version, form from segment_key_chunks
    where environment_id = $1 and segment_id = $2 and chunk >= $3
    order by chunk limit $4";

/// A place in a list: before a chunk, of so many.
///
/// Keys are in the order of the first bits of their hashes, so the place is the same share of the way when the list is cut into
/// another number of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListPlace {
    /// The chunk.
    pub chunk: u32,
    /// How many there are.
    pub chunks: u32,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKeys {
    /// Sorted by chunk, then byte by byte.
    pub keys: Vec<String>,
    /// Where the next page begins. `None`: this is the last.
    pub next: Option<ListPlace>,
}

impl Store {
    /// Lists a page of the uploaded keys of a segment, from a place on. `None`: from the beginning.
    pub async fn list_segment_keys(
        &self,
        at: Address<'_>,
        segment: &key::Segment,
        from: Option<ListPlace>,
    ) -> Result<ListedKeys, Error> {
        let environment = self.get_environment(at).await?;
        let client = self.reader().await?;
        let find: pipeline::Query<'_> = (
            configurations::FIND,
            &[&at.project.as_str(), &at.environment.as_str(), &segment.as_str()],
        );
        let row = found(&pipeline::one(&*client, find).await?, &environment, segment)?;
        let mut keys = Vec::new();
        let Some(KeyList { chunks, keys: _ }) = row.configuration.configuration.key_list else {
            return Ok(ListedKeys { keys, next: None });
        };
        let start = from.map_or(0, |place| place.chunk_of(chunks));
        let start = i32::try_from(start).unwrap_or(i32::MAX);
        let query: pipeline::Query<'_> = (CHUNKS, &[&environment.id.0, &row.segment_id, &start, &PAGE_CHUNKS]);
        let rows = pipeline::one(&*client, query).await?;
        let mut next = None;
        for row in &rows {
            let chunk = chunks::stored(row)?;
            keys.extend(form::read_keys(chunk.form).map_err(|error| rows::corrupt("form", error))?);
            next = chunk.number.checked_add(1);
        }
        let full = rows.len() as u64 == PAGE_CHUNKS.unsigned_abs();
        let next = next.filter(|&chunk| full && chunk < chunks);
        let next = next.map(|chunk| ListPlace { chunk, chunks });
        Ok(ListedKeys { keys, next })
    }
}

impl ListPlace {
    /// The chunk at this place in a list of so many; where that is cut less finely, the chunk that the place is in.
    fn chunk_of(self, chunks: u32) -> u32 {
        let Self { chunk, chunks: of } = self;
        let share = u64::from(chunk) * u64::from(chunks) / u64::from(of.max(1));
        u32::try_from(share).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_same_share_of_the_way_however_the_list_is_cut() {
        let check = |chunk, chunks, now, expected| {
            assert_eq!(ListPlace { chunk, chunks }.chunk_of(now), expected);
        };
        check(32, 64, 64, 32);
        check(32, 64, 128, 64);
        check(33, 64, 16, 8);
    }
}
