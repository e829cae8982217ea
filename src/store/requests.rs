//! Requests that carried an id: the response is kept for 24 hours, so that trying again does not act again.

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::Row;

use super::error::Error;
use super::mutation::{Mutation, RequestId};
use super::{pipeline, rows};

/// One who holds it is the only one to carry out this request. Freed at the transaction's end.
const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2::text, 0))";
const FIND: &str = "
    select method, request_hash, response from request_records
    where principal = $1 and request_id = $2 and created_at > now() - interval '24 hours'";
const REMEMBER: &str = "
    insert into request_records (principal, request_id, method, request_hash, response, created_at)
    values ($1, $2, $3, $4, $5, clock_timestamp())
    on conflict (principal, request_id) do update
    set method = excluded.method, request_hash = excluded.request_hash, response = excluded.response,
        created_at = excluded.created_at";
const PURGE: &str = "delete from request_records where created_at <= now() - interval '24 hours'";

/// The response to the same request, if it was answered before; otherwise it is the caller's to carry out, and nobody else's
/// until the transaction ends.
pub(super) async fn claim(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    request: &RequestId,
) -> Result<Option<Vec<u8>>, Error> {
    let principal = mutation.caller.actor.to_string();
    let id = request.id.to_string();
    let queries: [pipeline::Query<'_>; 2] = [(LOCK, &[&principal, &id]), (FIND, &[&principal, &request.id])];
    let [_, found] = pipeline::all(transaction, queries).await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    if is_same(row, mutation, request)? {
        rows::get(row, "response").map(Some)
    } else {
        Err(Error::RequestIdReused)
    }
}

/// The response to the same request, if it was answered before; for who may no longer make it.
pub(super) async fn find(
    client: &impl GenericClient,
    mutation: &Mutation,
    request: &RequestId,
) -> Result<Option<Vec<u8>>, Error> {
    let principal = mutation.caller.actor.to_string();
    let found = pipeline::one(client, (FIND, &[&principal, &request.id])).await?;
    match found.first() {
        Some(row) if is_same(row, mutation, request)? => rows::get(row, "response").map(Some),
        Some(_) | None => Ok(None),
    }
}

fn is_same(row: &Row, mutation: &Mutation, request: &RequestId) -> Result<bool, Error> {
    Ok(rows::get::<&str>(row, "method")? == mutation.method && rows::digest(row, "request_hash")? == request.hash)
}

/// Keeps the response.
pub(super) async fn remember(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    request: &RequestId,
    response: &[u8],
) -> Result<(), Error> {
    let principal = mutation.caller.actor.to_string();
    let hash = request.hash.0.as_slice();
    let query: pipeline::Query<'_> = (REMEMBER, &[&principal, &request.id, &mutation.method, &hash, &response]);
    pipeline::one(transaction, query).await?;
    Ok(())
}

/// Deletes what can no longer be replayed.
pub(super) async fn purge(client: &impl GenericClient) -> Result<u64, Error> {
    let statement = client.prepare_cached(PURGE).await?;
    Ok(client.execute(&statement, &[]).await?)
}
