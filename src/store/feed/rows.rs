//! From rows to the words of `watch::source`, fallibly: a row that cannot be is an error of its environment alone.

use bytes::Bytes;
use tokio_postgres::Row;

use super::chain::Cursor;
use super::error::Error;
use crate::domain::change::Digest;
use crate::domain::form::{ItemId, Kind};
use crate::watch::source::{Head, StoredChange, StoredDelta, StoredItem};

/// A count, which SQL can only hold as a signed number.
pub(super) fn number(row: &Row, column: &str) -> Result<u64, Error> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(|_| Error::Malformed("a number is negative"))
}

/// A digest.
pub(super) fn digest(row: &Row, column: &str) -> Result<Digest, Error> {
    Digest::from_slice(row.try_get(column)?).ok_or(Error::Malformed("a digest is not of 32 bytes"))
}

/// Columns `revision` and `digest`.
pub(super) fn cursor(row: &Row) -> Result<Cursor, Error> {
    Ok(Cursor {
        revision: number(row, "revision")?,
        digest: digest(row, "digest")?,
    })
}

/// Columns `revision`, `digest` and `committed_at`.
pub(super) fn head(row: &Row) -> Result<Head, Error> {
    let Cursor { revision, digest } = cursor(row)?;
    Ok(Head {
        revision,
        digest,
        committed_at: row.try_get("committed_at")?,
    })
}

/// Columns `key`, `version` and `form`, of one kind.
pub(super) fn item(kind: Kind, row: &Row) -> Result<StoredItem, Error> {
    Ok(StoredItem {
        id: ItemId {
            kind,
            key: row.try_get::<_, &str>("key")?.into(),
        },
        version: number(row, "version")?,
        form: Bytes::copy_from_slice(row.try_get("form")?),
    })
}

/// The same, with column `kind`.
pub(super) fn item_of_any_kind(row: &Row) -> Result<StoredItem, Error> {
    item(kind(row.try_get("kind")?)?, row)
}

fn kind(name: &str) -> Result<Kind, Error> {
    Kind::from_name(name).ok_or(Error::Malformed("an item is of an unknown kind"))
}

/// Revisions from rows sorted by revision, one row an item: columns of [`head`], `previous_digest`, and `kind`, `key`, `version`
/// and `form`, all absent for a revision without items. Ends before the first revision that cannot be understood, which may have
/// been written by a newer version; the second value says whether there was one.
pub(super) fn deltas(rows: &[Row]) -> Result<(Vec<StoredDelta>, bool), Error> {
    let mut deltas = Vec::new();
    let same_revision =
        |a: &Row, b: &Row| matches!((number(a, "revision"), number(b, "revision")), (Ok(a), Ok(b)) if a == b);
    for rows in rows.chunk_by(same_revision) {
        match delta(rows) {
            Ok(delta) => deltas.extend(delta),
            Err(Error::Malformed(_)) => return Ok((deltas, true)),
            Err(error) => return Err(error),
        }
    }
    Ok((deltas, false))
}

fn delta(rows: &[Row]) -> Result<Option<StoredDelta>, Error> {
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let changes = rows.iter().filter_map(|row| change(row).transpose());
    let head = head(first)?;
    Ok(Some(StoredDelta {
        head,
        previous_revision: head.revision.saturating_sub(1),
        previous_digest: digest(first, "previous_digest")?,
        changes: changes.collect::<Result<_, _>>()?,
    }))
}

fn change(row: &Row) -> Result<Option<StoredChange>, Error> {
    let Some(name) = row.try_get::<_, Option<&str>>("kind")? else {
        return Ok(None);
    };
    let kind = kind(name)?;
    if row.try_get::<_, Option<&[u8]>>("form")?.is_some() {
        return Ok(Some(StoredChange::Put(item(kind, row)?)));
    }
    Ok(Some(StoredChange::Delete {
        id: ItemId {
            kind,
            key: row.try_get::<_, &str>("key")?.into(),
        },
        version: number(row, "version")?,
    }))
}
