//! Raising the generation, when the history at the primary is another than the one that was sent.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::error::Error;
use super::lease::with_client;
use super::rows;
use crate::store::pool::Pool;
use crate::watch::source::Identity;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Raised {
    /// Which history it is now.
    pub(super) identity: Identity,
    /// Whether it was this replica that raised it; another may have been faster.
    pub(super) by_us: bool,
}

/// Raises the generation above `known`, unless that has been done. Replicas that find the same divergence at the same time agree
/// on one new generation; one that was itself lost with the old history is passed over.
pub(super) async fn raise(pool: &Pool, limit: Duration, known: Identity) -> Result<Raised, Error> {
    let known_generation =
        i64::try_from(known.generation).map_err(|_| Error::Malformed("the generation is too large"))?;
    with_client(pool, limit, move |client| {
        Box::pin(async move {
            let update = "
                update store_identity set generation = $2 + 1
                where store_id = $1 and generation <= $2";
            let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
                [(&known.store, Type::UUID), (&known_generation, Type::INT8)];
            let updated = client.execute_typed(update, &parameters).await?;
            let row = client
                .query_typed("select store_id, generation from store_identity", &[])
                .await?;
            let row = row.first().ok_or(Error::Malformed("the store has no identity"))?;
            let identity = Identity {
                store: row.try_get("store_id")?,
                generation: rows::number(row, "generation")?,
            };
            Ok(Raised {
                identity,
                by_us: updated > 0,
            })
        })
    })
    .await
}
