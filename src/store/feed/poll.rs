//! The poll: which heads have moved since the last one, and whether the database is still the one it was.
//!
//! It is the backstop for everything that a notification can miss, and the proof that nothing newer exists.

use std::time::{Duration, Instant};

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::chain::Cursor;
use super::error::Error;
use super::lease::with_client;
use super::rows;
use crate::domain::change::EnvironmentId;
use crate::store::pool::Pool;
use crate::watch::source::Identity;

/// Which running server answered. Another origin may hold another history: every head must be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// The installation.
    pub(super) store: Uuid,
    /// The timeline, which every promotion and every recovery to a point in time changes.
    pub(super) timeline: String,
    /// When the server was started: a copy of older files can be put in place only while it is down.
    pub(super) started_at: jiff::Timestamp,
}

/// What a poll found.
#[derive(Debug)]
pub(super) struct Heads {
    /// Taken before the question was sent: what is found was true then or later.
    pub(super) asked_at: Instant,
    /// Who answered.
    pub(super) origin: Origin,
    /// Which history it holds.
    pub(super) identity: Identity,
    /// The access head.
    pub(super) access: u64,
    /// From where to ask the next time.
    pub(super) xmin: u64,
    /// Whether these are all heads.
    pub(super) scanned: bool,
    /// The heads that may have changed; `None` where a head cannot be understood.
    pub(super) changed: Vec<(EnvironmentId, Option<Cursor>)>,
}

/// The columns of [`origin`]. A standby cannot say where it writes, hence the case.
const ORIGIN: &str = "identity.store_id, pg_is_in_recovery() as standby, pg_postmaster_start_time() as started_at,
    case when pg_is_in_recovery() then '' else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end as timeline";

/// Asks for the heads written by transactions from `since` on; without it for all.
pub(super) async fn poll(pool: &Pool, limit: Duration, since: Option<u64>) -> Result<Heads, Error> {
    let asked_at = Instant::now();
    let sql = format!(
        "select {ORIGIN}, identity.generation, access.revision as access,
                pg_snapshot_xmin(pg_current_snapshot())::text as xmin,
                heads.environment_id, heads.revision, heads.digest
         from store_identity identity
         cross join access_head access
         left join environment_heads heads on heads.mod_xid >= $1::xid8"
    );
    let from = since.unwrap_or_default().to_string();
    let rows = with_client(pool, limit, |client| {
        Box::pin(async move { Ok(client.query_typed(&sql, &[(&from, Type::TEXT)]).await?) })
    })
    .await?;
    let first = rows.first().ok_or(Error::Malformed("the store has no identity"))?;
    let changed = rows.iter().filter_map(|row| head(row).transpose());
    let changed = changed.collect::<Result<_, _>>()?;
    Ok(Heads {
        asked_at,
        origin: origin(first)?,
        identity: Identity {
            store: first.try_get("store_id")?,
            generation: rows::number(first, "generation")?,
        },
        access: rows::number(first, "access")?,
        xmin: first
            .try_get::<_, &str>("xmin")?
            .parse()
            .map_err(|_| Error::Malformed("a transaction id is not a number"))?,
        scanned: since.is_none(),
        changed,
    })
}

/// Asks a connection who is at its other end.
pub(super) async fn ask_origin(client: &Client) -> Result<Origin, Error> {
    let sql = format!("select {ORIGIN} from store_identity identity");
    let row = client.query_typed_opt(&sql, &[]).await?;
    origin(&row.ok_or(Error::Malformed("the store has no identity"))?)
}

/// Only a primary knows what is the newest.
fn origin(row: &Row) -> Result<Origin, Error> {
    if row.try_get("standby")? {
        return Err(Error::Standby);
    }
    Ok(Origin {
        store: row.try_get("store_id")?,
        timeline: row.try_get("timeline")?,
        started_at: row.try_get("started_at")?,
    })
}

/// The head of a row, if there is one in it.
fn head(row: &Row) -> Result<Option<(EnvironmentId, Option<Cursor>)>, Error> {
    let Some(id) = row.try_get("environment_id")? else {
        return Ok(None);
    };
    let cursor = rows::cursor(row).ok();
    Ok(Some((EnvironmentId(id), cursor)))
}
