//! What a list will be once an upload is activated, made without any lock: read, sorted and cut on a thread that may take its
//! time.

use std::collections::HashMap;

use bytes::Bytes;
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;

use super::activation::{Activation, UploadMode};
use super::chunks::{self, Crowded, Cut};
use super::uploads::check_total;
use crate::domain::change::Digest;
use crate::domain::invalid::Violations;
use crate::domain::segment::{self, KeyList};
use crate::domain::{form, key};
use crate::store::error::Error;
use crate::store::{pipeline, rows};

const FIND: &str = "
    select u.environment_id, u.segment_id, u.version, s.key as segment, e.key as environment, c.form as configuration_form,
        c.version as configuration_version
    from segment_uploads u
    join projects p on p.id = u.project_id
    join environments e on e.id = u.environment_id
    join segments s on s.id = u.segment_id
    left join segment_configurations c on c.environment_id = u.environment_id and c.segment_id = u.segment_id
    where p.key = $1 and u.id = $2";
const PIECES: &str = "select keys from segment_upload_pieces where upload_id = $1";
const CHUNKS: &str = "
    select chunk, version, form from segment_key_chunks where environment_id = $1 and segment_id = $2";

/// An upload that is ready to be activated, unless something changes before.
pub(super) struct Prepared {
    pub environment: key::Environment,
    pub segment: key::Segment,
    /// The versions of the upload and of the configuration that it was made of. What was read after them may be newer, but then
    /// they will be, too.
    pub made_of: (u64, Option<u64>),
    /// How many pieces there are.
    pub pieces: usize,
    /// What will be written, or why it cannot be. For who may know.
    pub content: Result<Content, Violations>,
}

/// What becomes of a list.
pub(super) struct Content {
    /// `None`: no list.
    pub list: Option<KeyList>,
    /// The chunks that are new or differ.
    pub put: Vec<(u32, Bytes)>,
    /// The chunks that are no longer there, with their last versions.
    pub gone: Vec<(u32, u64)>,
    /// Of the whole list.
    pub hash: Digest,
}

/// Prepares an upload. `None`: there is no such upload.
pub(super) async fn prepare(
    client: &impl GenericClient,
    project: &key::Project,
    activation: Activation<'_>,
) -> Result<Option<Prepared>, Error> {
    let upload = activation.upload;
    let found = pipeline::one(client, (FIND, &[&project.as_str(), &upload])).await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    let (environment_id, segment_id): (i64, i64) = (rows::get(row, "environment_id")?, rows::get(row, "segment_id")?);
    let queries: [pipeline::Query<'_>; 2] = [(PIECES, &[&upload]), (CHUNKS, &[&environment_id, &segment_id])];
    let [pieces, chunks] = pipeline::all(client, queries).await?;
    let count = pieces.len();
    let (kept, version) = configuration(row)?;
    let mode = activation.mode;
    let combined = tokio::task::spawn_blocking(move || combine(&pieces, &chunks, kept, mode)).await;
    let content = combined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    Ok(Some(Prepared {
        environment: rows::parsed(row, "environment", key::Environment::new)?,
        segment: rows::parsed(row, "segment", key::Segment::new)?,
        made_of: (rows::number(row, "version")?, version),
        pieces: count,
        content,
    }))
}

/// How many chunks the list has, and the version of the configuration that says so.
fn configuration(row: &Row) -> Result<(Option<u32>, Option<u64>), Error> {
    let Some(form) = rows::get::<Option<&[u8]>>(row, "configuration_form")? else {
        return Ok((None, None));
    };
    let configuration = form::read_segment(form).map_err(|error| rows::corrupt("configuration_form", error))?;
    let chunks = configuration.key_list.map(|list| list.chunks);
    Ok((chunks, Some(rows::number(row, "configuration_version")?)))
}

/// Works out the list. What is wrong with the upload is the inner error.
fn combine(
    pieces: &[Row],
    chunks: &[Row],
    kept: Option<u32>,
    mode: UploadMode,
) -> Result<Result<Content, Violations>, Error> {
    let mut uploaded: Vec<&str> = Vec::new();
    for piece in pieces {
        uploaded.extend(rows::get::<Vec<&str>>(piece, "keys")?);
    }
    uploaded.sort_unstable();
    uploaded.dedup();
    let mut stored = HashMap::with_capacity(chunks.len());
    for row in chunks {
        let chunk = chunks::stored(row)?;
        stored.insert(chunk.number, (chunk.version, chunk.form));
    }
    let listed = match mode {
        UploadMode::Replace => Vec::new(),
        UploadMode::Add | UploadMode::Remove => listed(&stored)?,
    };
    let mut keys: Vec<&str> = listed.iter().map(String::as_str).collect();
    match mode {
        UploadMode::Replace | UploadMode::Add => keys.append(&mut uploaded),
        UploadMode::Remove => keys.retain(|key| uploaded.binary_search(key).is_err()),
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(cut(&keys, kept).map(|cut| compare(cut, &stored, segment::keys_hash(&keys))))
}

fn listed(stored: &HashMap<u32, (u64, &[u8])>) -> Result<Vec<String>, Error> {
    let mut listed = Vec::new();
    for (_, form) in stored.values() {
        listed.extend(form::read_keys(form).map_err(|error| rows::corrupt("form", error))?);
    }
    Ok(listed)
}

fn cut(keys: &[&str], kept: Option<u32>) -> Result<Cut, Violations> {
    let bytes: usize = keys.iter().map(|key| key.len()).sum();
    check_total(keys.len() as u64, bytes as u64)?;
    chunks::cut(keys, kept).map_err(|Crowded| {
        Violations::one(
            "keys",
            "have hashes that are so much alike that the list cannot be kept in chunks",
        )
    })
}

fn compare(cut: Cut, stored: &HashMap<u32, (u64, &[u8])>, hash: Digest) -> Content {
    let Cut { list, forms } = cut;
    let vanished = stored.iter().filter(|(chunk, _)| !forms.contains_key(chunk));
    let gone = vanished.map(|(&chunk, &(version, _))| (chunk, version)).collect();
    let differs = |&(chunk, ref form): &(u32, Bytes)| stored.get(&chunk).is_none_or(|(_, stored)| stored != form);
    let put = forms.into_iter().filter(differs).collect();
    Content { list, put, gone, hash }
}
