//! Answering what the hub asks: where a head stands at the primary, read after the question came.
//!
//! Callers may live on another runtime, so they only pass a question on and wait for its answer. Everything asked while a read is
//! on its way shares the next one, so that the load on PostgreSQL does not depend on the number of callers.

use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::Shared;
use super::counters::add;
use super::error::{Error, chain};
use super::hint::{Hint, Hints};
use super::lease::with_client;
use super::rows;
use crate::domain::change::EnvironmentId;
use crate::watch::source::Head;

/// Questions that wait to be read together, at most; more wait in their callers.
pub(super) const QUESTIONS: usize = 1024;

/// A question. Dropping its sender says that the origin cannot be asked.
#[derive(Debug)]
pub(super) enum Question {
    /// Where does the environment stand?
    Head(EnvironmentId, oneshot::Sender<Option<Head>>),
    /// Where does the access head stand?
    Access(oneshot::Sender<u64>),
}

/// Answers questions until it is cancelled.
pub(super) async fn run(shared: Shared, questions: mpsc::Receiver<Question>) {
    tokio::select! {
        biased;
        () = shared.cancel.cancelled() => {}
        () = keep_answering(&shared, questions) => {}
    }
}

async fn keep_answering(shared: &Shared, mut questions: mpsc::Receiver<Question>) {
    let mut batch = Vec::new();
    while questions.recv_many(&mut batch, QUESTIONS).await > 0 {
        add(&shared.counters.confirmations, 1);
        match read(shared, &batch).await {
            Ok(answers) => answer(&shared.hints, &answers, batch.drain(..)),
            Err(error) => {
                // The callers are told, and the poll has said so in the log.
                tracing::debug!(error = chain(&error), "could not confirm a head at the primary");
                batch.clear();
            }
        }
        sleep(shared.options.confirm_spacing).await;
    }
}

struct Answers {
    access: u64,
    /// `None`: it cannot be understood.
    heads: HashMap<EnvironmentId, Option<Head>>,
}

async fn read(shared: &Shared, questions: &[Question]) -> Result<Answers, Error> {
    let environments = questions.iter().filter_map(|question| match question {
        Question::Head(environment, _) => Some(environment.0),
        Question::Access(_) => None,
    });
    let environments: Vec<i64> = environments.collect();
    with_client(&shared.pool, shared.options.query_timeout, |client| {
        Box::pin(async move {
            let sql = "
                select pg_is_in_recovery() as standby, access.revision as access,
                       head.environment_id, head.revision, head.digest, head.committed_at
                from access_head access
                left join environment_heads head on head.environment_id = any ($1)";
            answers(&client.query_typed(sql, &[(&environments, Type::INT8_ARRAY)]).await?)
        })
    })
    .await
}

fn answers(rows: &[tokio_postgres::Row]) -> Result<Answers, Error> {
    let first = rows.first().ok_or(Error::Malformed("there is no access head"))?;
    if first.try_get("standby")? {
        return Err(Error::Standby);
    }
    let mut heads = HashMap::new();
    for row in rows {
        if let Some(environment) = row.try_get("environment_id")? {
            heads.insert(EnvironmentId(environment), rows::head(row).ok());
        }
    }
    Ok(Answers {
        access: rows::number(first, "access")?,
        heads,
    })
}

/// Hands the answers out, and lets the feed look where it is behind. A caller that no longer waits is no concern.
fn answer(hints: &Hints, answers: &Answers, questions: impl Iterator<Item = Question>) {
    for (&id, head) in &answers.heads {
        let revision = head.map_or(u64::MAX, |head| head.revision);
        hints.receive(Hint::Environment { id, revision });
    }
    let revision = answers.access;
    hints.receive(Hint::Access { revision });
    for question in questions {
        match question {
            Question::Head(environment, reply) => match answers.heads.get(&environment) {
                None => drop(reply.send(None)),
                Some(Some(head)) => drop(reply.send(Some(*head))),
                Some(None) => drop(reply),
            },
            Question::Access(reply) => drop(reply.send(answers.access)),
        }
    }
}
