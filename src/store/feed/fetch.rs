//! Reading an environment: the revisions that are missing where they prove themselves, the whole state otherwise.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{IsolationLevel, Row, RowStream, Transaction};

use super::chain::{self, Cursor, Seen, Verdict};
use super::error::Error;
use super::lease::with_client;
use super::options::Options;
use super::rows;
use crate::domain::change::EnvironmentId;
use crate::domain::form::Kind;
use crate::store::pool::Pool;
use crate::watch::source::{Head, StoredDelta, StoredItem};

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// Which environment.
    pub(super) environment: EnvironmentId,
    /// Where the last read left it. `None`: it was not read yet, or counts as such.
    pub(super) applied: Option<Cursor>,
    /// Whether revisions up to the head may be kept for clients to resume from.
    pub(super) recent: bool,
    /// Whether it may be read together with others: no more is known of than a few revisions that follow, and its last read did not
    /// fail.
    pub(super) together: bool,
}

/// What was read.
#[derive(Debug)]
pub(super) enum Fetched {
    /// The next revisions, proven to follow; at least one.
    Advance {
        /// Oldest first.
        deltas: Vec<StoredDelta>,
        /// There may be more after these, or what comes next does not follow.
        more: bool,
        /// What comes next does not follow.
        broken: bool,
    },
    /// The whole state, where revisions could not be followed.
    Whole {
        /// Where it stands.
        head: Head,
        /// Every item.
        items: Vec<StoredItem>,
        /// The newest revisions.
        recent: Vec<StoredDelta>,
        /// It was behind, but the log did not lead from there to the head.
        broken: bool,
    },
    /// There is nothing newer.
    Current,
    /// There is something newer now, which there was not a moment ago.
    Again,
    /// What was read together does not have it: what follows is large, or is not there.
    Alone,
    /// The environment does not exist.
    Gone,
    /// What was read before is not in the primary's history.
    Diverged,
}

/// Reads what is missing.
pub(super) async fn fetch(pool: &Pool, options: Arc<Options>, wish: Wish) -> Result<Fetched, Error> {
    match wish.applied {
        Some(applied) => {
            let next = next(pool, &options, wish, applied).await?;
            next.or_whole(pool, options, wish).await
        }
        None => whole(pool, options, wish, false).await,
    }
}

/// The revisions that follow what was applied.
pub(super) struct Next {
    deltas: Vec<StoredDelta>,
    more: bool,
    broken: bool,
}

/// The revisions that follow, of so many bytes.
const SEVERAL: &str = "
        with next as (
            select * from changes
            where environment_id = $1 and revision > $2
            order by revision
            limit $3
        ), sized as (
            select next.*, max(next.revision) over () as newest,
                   coalesce(sum(size.bytes) over (
                       order by next.revision rows between unbounded preceding and 1 preceding
                   ), 0) as bytes_before
            from next
            cross join lateral (
                select coalesce(sum(octet_length(item.form)), 0)::bigint as bytes
                from change_items item
                where item.environment_id = next.environment_id and item.revision = next.revision
            ) size
        )
        select sized.revision, sized.previous_digest, sized.digest, sized.committed_at, sized.newest,
               item.kind, item.key, item.version, item.form
        from sized
        left join change_items item on item.environment_id = $1 and item.revision = sized.revision
        where sized.bytes_before < $4
        order by sized.revision, item.kind, item.key";

/// Bounded in revisions and in bytes, so that it is answered quickly or something is wrong.
async fn next(pool: &Pool, options: &Options, wish: Wish, applied: Cursor) -> Result<Next, Error> {
    let environment = wish.environment;
    let after = signed(applied.revision)?;
    let (limit, bytes) = (
        i64::from(options.batch_revisions.max(1)),
        signed(options.batch_bytes.max(1))?,
    );
    let quick = options.query_timeout;
    let rows = with_client(pool, options.load_timeout, move |client| {
        Box::pin(async move {
            let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
                (&environment.0, Type::INT8),
                (&after, Type::INT8),
                (&limit, Type::INT8),
                (&bytes, Type::INT8),
            ];
            quickly_begun(quick, client.query_typed_raw(SEVERAL, parameters)).await
        })
    })
    .await?;
    Next::understand(&rows, applied, options)
}

/// The rows of an answer that begins as quickly as any other; only the rest of a large revision may take its time.
pub(super) async fn quickly_begun(
    quick: Duration,
    answer: impl Future<Output = Result<RowStream, tokio_postgres::Error>>,
) -> Result<Vec<Row>, Error> {
    let begun = async {
        let mut rows = Box::pin(answer.await?);
        let first = rows.try_next().await?;
        Ok::<_, Error>((first, rows))
    };
    let (first, rest) = timeout(quick, begun).await.map_err(|_| Error::TimedOut)??;
    // A stream that has ended must not be asked again.
    let Some(first) = first else {
        return Ok(Vec::new());
    };
    let mut rows = vec![first];
    rows.extend(rest.try_collect::<Vec<_>>().await?);
    Ok(rows)
}

impl Next {
    /// Takes of the rows of an environment what follows.
    pub(super) fn understand(rows: &[Row], applied: Cursor, options: &Options) -> Result<Self, Error> {
        let newest = match rows.first() {
            Some(row) => rows::number(row, "newest")?,
            None => applied.revision,
        };
        let (mut deltas, unreadable) = rows::deltas(rows)?;
        let (read, full) = (deltas.len(), deltas.len() >= options.batch_revisions as usize);
        deltas.truncate(chain::following(applied, &deltas));
        let broken = unreadable || deltas.len() < read;
        let cut = deltas.last().is_some_and(|last| last.head.revision < newest);
        Ok(Self {
            more: broken || full || cut,
            broken,
            deltas,
        })
    }

    /// The revisions, or everything where none of them follows.
    pub(super) async fn or_whole(self, pool: &Pool, options: Arc<Options>, wish: Wish) -> Result<Fetched, Error> {
        let Self { deltas, more, broken } = self;
        if deltas.is_empty() {
            return whole(pool, options, wish, broken).await;
        }
        Ok(Fetched::Advance { deltas, more, broken })
    }

    /// The same where nothing else may be read now.
    pub(super) fn or_alone(self) -> Fetched {
        let Self { deltas, more, broken } = self;
        if deltas.is_empty() {
            return Fetched::Alone;
        }
        Fetched::Advance { deltas, more, broken }
    }
}

/// Everything of one moment, unless that moment says that nothing needs to be read.
async fn whole(pool: &Pool, options: Arc<Options>, wish: Wish, broken: bool) -> Result<Fetched, Error> {
    with_client(pool, options.load_timeout, move |client| {
        Box::pin(async move {
            // The first answers must come as quickly as any others; only a large state may take its time.
            let first = async {
                let transaction = client
                    .build_transaction()
                    .isolation_level(IsolationLevel::RepeatableRead)
                    .read_only(true)
                    .start()
                    .await?;
                let seen = look(&transaction, wish).await?;
                Ok::<_, Error>((transaction, seen))
            };
            let first = timeout(options.query_timeout, first).await;
            let (transaction, seen) = first.map_err(|_| Error::TimedOut)??;
            let fetched = match seen {
                Some(found) => read_whole(&transaction, &options, wish, found, broken).await?,
                None => Fetched::Gone,
            };
            transaction.commit().await?;
            Ok(fetched)
        })
    })
    .await
}

async fn read_whole(
    transaction: &Transaction<'_>,
    options: &Options,
    wish: Wish,
    found: Looked,
    broken: bool,
) -> Result<Fetched, Error> {
    let Looked {
        head,
        seen,
        hand_edited,
    } = found;
    let verdict = wish.applied.map(|applied| chain::judge(applied, seen, broken));
    match verdict {
        Some(Verdict::Current) => return Ok(Fetched::Current),
        Some(Verdict::Continue) => return Ok(Fetched::Again),
        Some(Verdict::Diverged) => return Ok(Fetched::Diverged),
        Some(Verdict::Reload) | None => {}
    }
    let items = if hand_edited {
        logged(transaction, wish.environment, head.revision).await?
    } else {
        rows(transaction, wish.environment).await?
    };
    let recent = if wish.recent {
        recent(transaction, options, wish.environment, seen.head).await?
    } else {
        Vec::new()
    };
    Ok(Fetched::Whole {
        head,
        items,
        recent,
        broken: verdict.is_some(),
    })
}

/// What is found before anything is read.
struct Looked {
    head: Head,
    seen: Seen,
    /// Rows were edited by hand and are not in the log yet, so that they are not what the head says.
    hand_edited: bool,
}

/// Where the environment stands, and what the log says of where it was left. `None`: it does not exist.
async fn look(transaction: &Transaction<'_>, wish: Wish) -> Result<Option<Looked>, Error> {
    let sql = "
        select head.revision, head.digest, head.committed_at, pg_is_in_recovery() as standby,
               past.digest as past_digest,
               exists (select from changes where environment_id = $1 and revision = $2 + 1) as has_next,
               exists (
                   select from hand_edits edit
                   join environments environment on environment.project_id = edit.project_id
                   where environment.id = $1 and coalesce(edit.environment_id, $1) = $1
               ) as hand_edited
        from environment_heads head
        left join changes past on past.environment_id = $1 and past.revision = $2
        where head.environment_id = $1";
    let applied = signed(wish.applied.map_or(0, |applied| applied.revision))?;
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&wish.environment.0, Type::INT8), (&applied, Type::INT8)];
    let Some(row) = transaction.query_typed_opt(sql, &parameters).await? else {
        return Ok(None);
    };
    // A standby is behind by nature; only the primary may convict us of another history.
    if row.try_get("standby")? {
        return Err(Error::Standby);
    }
    let head = rows::head(&row)?;
    let past = match row.try_get::<_, Option<&[u8]>>("past_digest")? {
        Some(_) => Some(rows::digest(&row, "past_digest")?),
        None => None,
    };
    let seen = Seen {
        head: Cursor::from(&head),
        past,
        has_next: row.try_get("has_next")?,
    };
    Ok(Some(Looked {
        head,
        seen,
        hand_edited: row.try_get("hand_edited")?,
    }))
}

/// Every item as its row has it.
async fn rows(transaction: &Transaction<'_>, environment: EnvironmentId) -> Result<Vec<StoredItem>, Error> {
    let mut items = definitions(transaction, environment).await?;
    items.extend(configurations(transaction, environment).await?);
    items.extend(segments(transaction, environment).await?);
    items.extend(lists(transaction, environment).await?);
    items.extend(experiments(transaction, environment).await?);
    Ok(items)
}

/// Every item as the log has it at a revision. It is the same, but takes longer where the history is long.
async fn logged(
    transaction: &Transaction<'_>,
    environment: EnvironmentId,
    revision: u64,
) -> Result<Vec<StoredItem>, Error> {
    let sql = "
        select item.kind, item.key, item.version, item.form
        from (
            select distinct on (kind, key) * from change_items
            where environment_id = $1 and revision <= $2
            order by kind, key, revision desc
        ) item
        where item.form is not null and item.kind = any($3)";
    let (revision, kinds) = (signed(revision)?, Kind::ALL.map(Kind::name));
    let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
        (&environment.0, Type::INT8),
        (&revision, Type::INT8),
        (&kinds.as_slice(), Type::TEXT_ARRAY),
    ];
    let rows = transaction.query_typed_raw(sql, parameters).await?;
    rows.map_err(Error::from)
        .and_then(|row| ready(rows::item_of_any_kind(&row)))
        .try_collect()
        .await
}

async fn definitions(transaction: &Transaction<'_>, environment: EnvironmentId) -> Result<Vec<StoredItem>, Error> {
    let sql = "
        select flag.key, flag.form_version as version, flag.form
        from environments environment
        join flags flag on flag.project_id = environment.project_id
        where environment.id = $1 and flag.archived_at is null
        order by flag.key";
    items(transaction, Kind::FlagDefinition, sql, environment).await
}

async fn configurations(transaction: &Transaction<'_>, environment: EnvironmentId) -> Result<Vec<StoredItem>, Error> {
    let sql = "
        select flag.key, configuration.version, configuration.form
        from flag_configurations configuration
        join flags flag on flag.id = configuration.flag_id
        where configuration.environment_id = $1 and flag.archived_at is null
        order by flag.key";
    items(transaction, Kind::FlagConfiguration, sql, environment).await
}

async fn segments(transaction: &Transaction<'_>, environment: EnvironmentId) -> Result<Vec<StoredItem>, Error> {
    let sql = "
        select segment.key, configuration.version, configuration.form
        from segment_configurations configuration
        join segments segment on segment.id = configuration.segment_id
        where configuration.environment_id = $1
        order by segment.key";
    items(transaction, Kind::SegmentConfiguration, sql, environment).await
}

async fn experiments(transaction: &Transaction<'_>, environment: EnvironmentId) -> Result<Vec<StoredItem>, Error> {
    let sql = "
        select flag.key || '/' || experiment.key as key, experiment.form_version as version, experiment.form
        from experiments experiment
        join flags flag on flag.id = experiment.flag_id
        where experiment.environment_id = $1 and experiment.form is not null";
    items(transaction, Kind::Experiment, sql, environment).await
}

/// The chunks of all lists. Each row is let go of as soon as its item is made: there may be many megabytes of them.
async fn lists(transaction: &Transaction<'_>, environment: EnvironmentId) -> Result<Vec<StoredItem>, Error> {
    let sql = "
        select segment.key || '/' || chunk.chunk as key, chunk.version, chunk.form
        from segment_key_chunks chunk
        join segments segment on segment.id = chunk.segment_id
        where chunk.environment_id = $1";
    let rows = transaction.query_typed_raw(sql, [(environment.0, Type::INT8)]).await?;
    let items = rows
        .map_err(Error::from)
        .and_then(|row| ready(rows::item(Kind::SegmentKeys, &row)));
    items.try_collect().await
}

async fn items(
    transaction: &Transaction<'_>,
    kind: Kind,
    sql: &str,
    environment: EnvironmentId,
) -> Result<Vec<StoredItem>, Error> {
    let rows = transaction.query_typed(sql, &[(&environment.0, Type::INT8)]).await?;
    rows.iter().map(|row| rows::item(kind, row)).collect()
}

/// The newest revisions that lead to the head, above the horizon and within the bounds.
async fn recent(
    transaction: &Transaction<'_>,
    options: &Options,
    environment: EnvironmentId,
    head: Cursor,
) -> Result<Vec<StoredDelta>, Error> {
    let sql = "
        with sized as (
            select change.revision, change.previous_digest, change.digest, change.committed_at,
                   sum(size.bytes) over (order by change.revision desc) as bytes
            from environment_heads head
            join changes change on change.environment_id = head.environment_id
                and change.revision > head.compacted_revision
                and change.revision > head.revision - $2
                and change.revision <= head.revision
            cross join lateral (
                select coalesce(sum(octet_length(item.form)), 0)::bigint as bytes
                from change_items item
                where item.environment_id = change.environment_id and item.revision = change.revision
            ) size
            where head.environment_id = $1
        )
        select sized.revision, sized.previous_digest, sized.digest, sized.committed_at,
               item.kind, item.key, item.version, item.form
        from sized
        left join change_items item on item.environment_id = $1 and item.revision = sized.revision
        where sized.bytes <= $3
        order by sized.revision desc, item.kind, item.key";
    let (count, bytes) = (i64::from(options.recent_revisions), signed(options.recent_bytes)?);
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&environment.0, Type::INT8), (&count, Type::INT8), (&bytes, Type::INT8)];
    let rows = transaction.query_typed(sql, &parameters).await?;
    // Newest first, so that one which cannot be understood cuts off only what is older.
    let (mut deltas, _) = rows::deltas(&rows)?;
    deltas.reverse();
    let unconnected = deltas.len() - chain::leading(head, &deltas);
    deltas.drain(..unconnected);
    Ok(deltas)
}

/// A number as SQL holds it.
pub(super) fn signed(number: u64) -> Result<i64, Error> {
    i64::try_from(number).map_err(|_| Error::Malformed("a number is too large"))
}
