//! The notifier: tells the other replicas what this one has committed.
//!
//! NOTIFY is never part of the writing transaction, where it would take a lock across the whole cluster until the commit. What is
//! lost here costs the other replicas a poll interval, so failures are counted and forgotten.
//!
//! A transaction that only notifies writes nothing, so PostgreSQL does not flush its commit to disk: `synchronous_commit` makes no
//! difference to it.

use tokio_postgres::types::Type;

use super::Shared;
use super::counters::add;
use super::error::{Error, chain};
use super::hint::CHANNEL;
use super::lease::with_client;
use super::pace::Pace;

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
    let mut pace = Pace::new(shared.options.coalesce);
    loop {
        outbox.arrived().await;
        // The first of several writes is told at once; those that follow closely share the next round trip.
        if !pace.is_due() {
            pace.due().await;
        }
        let pending = outbox.take();
        pace.began(pending.changes);
        let payloads = pending.payloads();
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
