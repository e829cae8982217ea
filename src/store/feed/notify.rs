//! The notifier: tells the other replicas what this one has committed.
//!
//! NOTIFY is never part of the writing transaction, where it would take a lock across the whole cluster until the commit. What is
//! lost here costs the other replicas a poll interval, so failures are counted and forgotten.

use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::Shared;
use super::counters::add;
use super::error::{Error, chain};
use super::hint::CHANNEL;
use super::lease::with_client;

/// Passes hints on until it is cancelled.
pub(super) async fn run(shared: Shared) {
    tokio::select! {
        biased;
        () = shared.cancel.cancelled() => {}
        () = keep_notifying(&shared) => {}
    }
}

async fn keep_notifying(shared: &Shared) {
    let (outbox, counters) = (shared.hints.outbox(), &shared.counters);
    loop {
        outbox.arrived().await;
        // Writes that follow closely share one round trip.
        sleep(shared.options.coalesce).await;
        let payloads = outbox.take().payloads();
        if payloads.is_empty() {
            continue;
        }
        let count = payloads.len();
        match send(shared, payloads).await {
            Ok(()) => add(&counters.hints_sent, count),
            Err(error) => {
                add(&counters.hints_unsent, count);
                tracing::warn!(
                    count,
                    error = chain(&error),
                    "could not notify other replicas of changes"
                );
            }
        }
    }
}

/// Sends notifications on a connection of the pool.
pub(super) async fn send(shared: &Shared, payloads: Vec<String>) -> Result<(), Error> {
    with_client(&shared.pool, shared.options.query_timeout, |client| {
        Box::pin(async move {
            let sql = "select pg_notify($1, payload) from unnest($2) payload";
            client
                .query_typed(sql, &[(&CHANNEL, Type::TEXT), (&payloads, Type::TEXT_ARRAY)])
                .await?;
            Ok(())
        })
    })
    .await
}
