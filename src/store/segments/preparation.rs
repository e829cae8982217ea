//! What a list will be once an upload is activated, made without any lock: read, sorted and cut on a thread that may take its
//! time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_postgres::Row;

use super::activation::{Activation, UploadMode};
use super::chunks::{self, Crowded, Cut};
use super::uploads::check_total;
use crate::domain::change::Digest;
use crate::domain::invalid::Violations;
use crate::domain::segment::{self, KeyList};
use crate::domain::{form, key};
use crate::store::error::Error;
use crate::store::{Store, pipeline, rows};

/// How many uploads are prepared at a time: each may take hundreds of megabytes, and a core for seconds.
const TURNS: usize = 2;
/// How long an activation waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
const FIND: &str = "
    select u.environment_id, u.segment_id, u.version, s.key as segment, e.key as environment, c.form as configuration_form,
        c.version as configuration_version,
        (select count(*) from segment_upload_pieces piece where piece.upload_id = u.id) as pieces
    from segment_uploads u
    join projects p on p.id = u.project_id
    join environments e on e.id = u.environment_id
    join segments s on s.id = u.segment_id
    left join segment_configurations c on c.environment_id = u.environment_id and c.segment_id = u.segment_id
    where p.key = $1 and u.id = $2";
const PIECES: &str = "select keys from segment_upload_pieces where upload_id = $1";
const CHUNKS: &str = "
    select chunk, version, form from segment_key_chunks where environment_id = $1 and segment_id = $2";

/// Bounds how many uploads are prepared at a time. Cheap to clone; clones share the turns.
#[derive(Clone)]
pub(in crate::store) struct Turns(Arc<Semaphore>);

/// The right to prepare an upload, until it is dropped.
#[derive(Debug)]
struct Turn {
    _permit: OwnedSemaphorePermit,
}

/// An upload that is ready to be activated, unless something changes before.
pub(super) struct Prepared {
    pub environment: key::Environment,
    pub segment: key::Segment,
    /// The versions of the upload and of the configuration that it was made of. What was read after them may be newer, but then
    /// they will be, too.
    pub made_of: (u64, Option<u64>),
    /// What will be written, or why it cannot be. For who may know.
    pub content: Result<Content, Violations>,
    /// What was prepared is megabytes: it counts until it is written.
    _turn: Turn,
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

impl Turns {
    pub(in crate::store) fn new() -> Self {
        Self(Arc::new(Semaphore::new(TURNS)))
    }

    async fn take(&self) -> Result<Turn, Error> {
        match timeout(PATIENCE, self.0.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn { _permit: permit }),
            // Nobody closes it.
            Ok(Err(_)) | Err(_) => Err(Error::Busy),
        }
    }
}

/// Prepares an upload, when it is its turn. `None`: there is no such upload.
pub(super) async fn prepare(
    store: &Store,
    project: &key::Project,
    activation: Activation<'_>,
) -> Result<Option<Prepared>, Error> {
    // Before there is a connection: those who wait must not keep one from others.
    let turn = store.preparations.take().await?;
    let client = store.reader().await?;
    let upload = activation.upload;
    let found = pipeline::one(&*client, (FIND, &[&project.as_str(), &upload])).await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    let (kept, version) = configuration(row)?;
    let counted = check_pieces(activation.pieces, rows::number(row, "pieces")?);
    let (content, turn) = if let Err(violations) = counted {
        (Err(violations), turn)
    } else {
        let (environment, segment): (i64, i64) = (rows::get(row, "environment_id")?, rows::get(row, "segment_id")?);
        let queries: [pipeline::Query<'_>; 2] = [(PIECES, &[&upload]), (CHUNKS, &[&environment, &segment])];
        let [pieces, chunks] = pipeline::all(&*client, queries).await?;
        drop(client);
        let mode = activation.mode;
        apart(turn, move || combine(&pieces, &chunks, kept, mode)).await?
    };
    Ok(Some(Prepared {
        environment: rows::parsed(row, "environment", key::Environment::new)?,
        segment: rows::parsed(row, "segment", key::Segment::new)?,
        made_of: (rows::number(row, "version")?, version),
        content,
        _turn: turn,
    }))
}

fn check_pieces(expected: Option<u32>, found: u64) -> Result<(), Violations> {
    match expected {
        Some(expected) if u64::from(expected) != found => Err(Violations::one(
            "pieces",
            format!("is {expected}; the upload has {found}"),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Works on a thread that may take its time. The turn goes there too: the work goes on when nobody waits for it any more.
async fn apart<T: Send + 'static>(
    turn: Turn,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<(T, Turn), Error> {
    let work = tokio::task::spawn_blocking(move || work().map(|done| (done, turn)));
    work.await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(cancelled) => Err(Error::Unavailable(cancelled.into())),
    })
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_for_a_turn_is_told_to_come_again() {
        let turns = Turns::new();
        let (first, _second) = (turns.take().await.unwrap(), turns.take().await.unwrap());
        assert!(matches!(turns.take().await, Err(Error::Busy)));
        let (waiting, ()) = tokio::join!(turns.take(), async { drop(first) });
        assert!(waiting.is_ok());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_keeps_its_turn_until_it_is_done() {
        let turns = Turns::new();
        let (started, begun) = oneshot::channel();
        let (finish, finished) = oneshot::channel::<()>();
        let turn = turns.take().await.unwrap();
        let work = tokio::spawn(apart(turn, move || {
            let _ = started.send(());
            let _ = finished.blocking_recv();
            Ok(())
        }));
        begun.await.unwrap();
        work.abort();
        assert!(work.await.unwrap_err().is_cancelled());
        assert_eq!(turns.0.available_permits(), TURNS - 1);
        finish.send(()).unwrap();
        let all = u32::try_from(TURNS).unwrap();
        let _all = turns.0.acquire_many(all).await.unwrap();
    }
}
