//! Reading the revision that follows of several environments with one statement. Where many are written to, one for each would take
//! PostgreSQL most of what the writes leave of its time.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::Pool;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::error::Error;
use super::fetch::{self, Fetched, Next, Wish, quickly_begun, signed};
use super::lease::with_client;
use super::options::Options;
use crate::domain::change::EnvironmentId;

/// How many environments are read together at most.
pub(super) const MOST: usize = 16;

/// What was read of each environment. The error is of all of them: they are to be read one by one.
pub(super) type Read = Result<Vec<(EnvironmentId, Result<Fetched, Error>)>, Error>;

const FOLLOWING: &str = "
        select want.environment, next.*
        from unnest($1::bigint[], $2::bigint[]) as want (environment, after)
        cross join lateral next_revision(want.environment, want.after) next";

/// Reads what follows in each.
pub(super) async fn fetch(pool: &Pool, options: Arc<Options>, wishes: Vec<Wish>) -> Read {
    let environments: Vec<_> = wishes.iter().map(|wish| wish.environment.0).collect();
    let after = wishes
        .iter()
        .map(|wish| signed(wish.applied.map_or(0, |applied| applied.revision)));
    let after: Vec<_> = after.collect::<Result<_, _>>()?;
    let quick = options.query_timeout;
    let rows = with_client(pool, options.load_timeout, move |client| {
        Box::pin(async move {
            let parameters: [(&(dyn ToSql + Sync), Type); 2] =
                [(&environments, Type::INT8_ARRAY), (&after, Type::INT8_ARRAY)];
            quickly_begun(quick, client.query_typed_raw(FOLLOWING, parameters)).await
        })
    })
    .await?;
    let mut found: HashMap<i64, Vec<Row>> = HashMap::new();
    for row in rows {
        found.entry(row.try_get("environment")?).or_default().push(row);
    }
    let mut fetched = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let rows = found.remove(&wish.environment.0).unwrap_or_default();
        let read = match wish.applied.map(|applied| Next::understand(&rows, applied, &options)) {
            Some(Ok(next)) => next.or_whole(pool, Arc::clone(&options), wish).await,
            Some(Err(error)) => Err(error),
            None => fetch::fetch(pool, Arc::clone(&options), wish).await,
        };
        fetched.push((wish.environment, read));
    }
    Ok(fetched)
}
