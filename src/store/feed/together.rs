//! Reading the few revisions that follow of one or several environments with one statement. Nearly every change is read so: planned
//! once for each session, and shared where many are written to, it takes PostgreSQL a fraction of what one for each would.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::error::Error;
use super::fetch::{Fetched, Next, Wish, quickly_begun, signed};
use super::lease::with_client;
use super::options::Options;
use crate::domain::change::EnvironmentId;
use crate::store::pool::Pool;

/// How many environments are read together at most.
pub(super) const MOST: usize = 16;

/// How many revisions of each.
pub(super) const REVISIONS: u32 = 8;

/// What was read of each environment. The error is of all of them: they are to be read one by one.
pub(super) type Read = Result<Vec<(EnvironmentId, Result<Fetched, Error>)>, Error>;

const FOLLOWING: &str = "
        select want.environment, next.*
        from unnest($1::bigint[], $2::bigint[]) as want (environment, after)
        cross join lateral next_revisions(want.environment, want.after, $3, $4) next";

/// Reads what follows in each: all that fits into the bytes which may be read at once. Nobody waits for what is large or does not
/// follow: it is to be read alone.
pub(super) async fn fetch(pool: &Pool, options: Arc<Options>, wishes: Vec<Wish>) -> Read {
    let environments: Vec<_> = wishes.iter().map(|wish| wish.environment.0).collect();
    let after = wishes
        .iter()
        .map(|wish| signed(wish.applied.map_or(0, |applied| applied.revision)));
    let after: Vec<_> = after.collect::<Result<_, _>>()?;
    let most = i32::try_from(options.batch_revisions.clamp(1, REVISIONS)).unwrap_or(1);
    let bytes = signed(options.batch_bytes)? / i64::try_from(wishes.len().max(1)).unwrap_or(i64::MAX);
    let quick = options.query_timeout;
    let rows = with_client(pool, options.load_timeout, move |client| {
        Box::pin(async move {
            let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
                (&environments, Type::INT8_ARRAY),
                (&after, Type::INT8_ARRAY),
                (&most, Type::INT4),
                (&bytes, Type::INT8),
            ];
            quickly_begun(quick, client.query_typed_raw(FOLLOWING, parameters)).await
        })
    })
    .await?;
    let mut found: HashMap<i64, Vec<Row>> = HashMap::new();
    for row in rows {
        found.entry(row.try_get("environment")?).or_default().push(row);
    }
    let read = wishes.into_iter().map(|wish| {
        let rows = found.remove(&wish.environment.0).unwrap_or_default();
        let next = wish.applied.map(|applied| Next::understand(&rows, applied, &options));
        let fetched = match next {
            Some(next) => next.map(Next::or_alone),
            None => Ok(Fetched::Alone),
        };
        (wish.environment, fetched)
    });
    Ok(read.collect())
}
