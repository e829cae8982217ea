//! A connection of the pool, for a limited time.

use std::time::Duration;

use deadpool_postgres::Object;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Client;

use super::error::Error;
use crate::store::pool::Pool;

/// Runs `work` on a connection of the pool, waiting for a connection included in the limit. A connection that did not answer in
/// time is thrown away: whoever got it next would wait behind the same question.
pub(super) async fn with_client<T, W>(pool: &Pool, limit: Duration, work: W) -> Result<T, Error>
where
    W: for<'a> FnOnce(&'a mut Client) -> BoxFuture<'a, Result<T, Error>> + Send,
{
    let deadline = Instant::now() + limit;
    let mut object = timeout_at(deadline, pool.get()).await.map_err(|_| Error::TimedOut)??;
    let answer = timeout_at(deadline, work(&mut object)).await;
    let answer = answer.unwrap_or(Err(Error::TimedOut));
    if matches!(answer, Err(Error::TimedOut)) {
        drop(Object::take(object));
    }
    answer
}
