//! From the stored forms of segments to what evaluation walks.

use std::sync::Arc;

use super::conditions;
use super::keys::Keys;
use super::malformed::Malformed;
use super::segment::Audience;
use super::values::Strings;
use crate::domain::form;
use crate::domain::segment::{Configuration, KeyList};

impl Audience {
    /// Compiles a segment's configuration.
    pub(super) fn compile(form: &[u8]) -> Result<Self, Malformed> {
        let Configuration {
            included,
            excluded,
            segments,
            conditions,
            key_list,
        } = form::read_segment(form)?;
        Ok(Self {
            included: Strings::new(included),
            excluded: Strings::new(excluded),
            parts: segments.into_iter().map(Into::into).collect(),
            conditions: conditions::compile(conditions)?,
            chunks: key_list.map(chunks).transpose()?,
        })
    }
}

fn chunks(list: KeyList) -> Result<u32, Malformed> {
    let KeyList { chunks, keys: _ } = list;
    if chunks.is_power_of_two() {
        Ok(chunks)
    } else {
        Err(Malformed::Chunks(chunks))
    }
}

impl Keys {
    /// Compiles a chunk of a segment's key list.
    pub(super) fn compile(chunk: u32, form: &[u8]) -> Result<Self, Malformed> {
        let keys = form::read_keys(form).map_err(|error| Malformed::Chunk {
            chunk,
            error: Arc::new(error),
        })?;
        Self::new(&keys).ok_or(Malformed::ChunkSize(chunk))
    }
}
