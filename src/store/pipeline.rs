//! Several statements in one round trip.

use deadpool_postgres::GenericClient;
use futures_util::future::join_all;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::error::{Cause, Error};
use super::named;

/// A statement and its parameters.
pub(super) type Query<'a> = (&'static str, &'a [&'a (dyn ToSql + Sync)]);

/// Goes before a statement that may take minutes, such as deleting what has years of history. Holds to the transaction's end.
pub(super) const LONG: Query<'static> = ("set local statement_timeout = '5min'", &[]);

/// Sends statements together; PostgreSQL executes them in order. Each sees everything that those before it waited for: a
/// statement that reads after one that locks reads what the lock's former holder committed, which one joined statement would not.
///
/// All are prepared before any is sent, since a statement that still had to be prepared would be overtaken by those behind it.
pub(super) async fn run(client: &impl GenericClient, queries: &[Query<'_>]) -> Result<Vec<Vec<Row>>, Error> {
    let mut statements = Vec::with_capacity(queries.len());
    for (sql, _) in queries {
        statements.push(client.prepare_cached(sql).await?);
    }
    // Polled in order for the first time, which is when each is sent.
    let sent = statements.iter().zip(queries);
    let sent = sent.map(|(statement, (sql, parameters))| named::statement(sql, client.query(statement, parameters)));
    let answers = join_all(sent).await;
    // Of a failed transaction only the first error means something.
    answers.into_iter().map(|rows| rows.map_err(Error::from)).collect()
}

/// The same, for a number of statements known beforehand.
pub(super) async fn all<const N: usize>(
    client: &impl GenericClient,
    queries: [Query<'_>; N],
) -> Result<[Vec<Row>; N], Error> {
    let answers = run(client, &queries).await?;
    answers.try_into().map_err(|_| Error::Bug(Cause::NoRow))
}

/// One statement.
pub(super) async fn one(client: &impl GenericClient, query: Query<'_>) -> Result<Vec<Row>, Error> {
    let [rows] = all(client, [query]).await?;
    Ok(rows)
}

/// One statement that answers with a row.
pub(super) async fn row(client: &impl GenericClient, query: Query<'_>) -> Result<Row, Error> {
    one(client, query)
        .await?
        .into_iter()
        .next()
        .ok_or(Error::Bug(Cause::NoRow))
}
