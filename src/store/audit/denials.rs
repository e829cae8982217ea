//! Entries about what was not done, because the caller may not.

use deadpool_postgres::Transaction;
use jiff::Timestamp;

use super::{Head, LOCK_INSTANCE, Record, head_from_row};
use crate::domain::key;
use crate::store::error::{Entity, Error};
use crate::store::journal::Journal;
use crate::store::mutation::{Caller, Mutation, Written};
use crate::store::{Store, pipeline, rows};

const LOCK_PROJECT: &str = "
    select chain, sequence, hash from audit_heads
    where chain = (select id::text from projects where key = $1)
    for update";
const NOW: &str = "select clock_timestamp() as now";

/// That a caller was denied a method, once or more often.
#[derive(Debug, Clone)]
pub struct Denial {
    /// Who was, and with what, the first time that is counted.
    pub caller: Caller,
    /// The method's path: `/package.Service/Method`.
    pub method: &'static str,
    /// The project in whose chain to tell it. `None`: in the installation's.
    pub project: Option<key::Project>,
    /// The project that the request named, whether there is such a project or not. `None`: none.
    pub named: Option<key::Project>,
    /// How often.
    pub count: u64,
    /// When for the first time.
    pub first: Timestamp,
    /// When for the last time.
    pub last: Timestamp,
}

impl Denial {
    /// Counts another of the same in.
    pub fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

impl Store {
    /// Adds an entry about a denial.
    pub async fn record_denial(&self, denial: &Denial) -> Result<(), Error> {
        let mutation = Mutation {
            caller: denial.caller.clone(),
            method: denial.method,
            request: None,
            validate_only: false,
        };
        let recorded = self.mutate(
            &mutation,
            |_| Vec::new(),
            async |transaction| record(transaction, &mutation, denial).await,
        );
        recorded.await.map(drop)
    }
}

async fn record(transaction: &Transaction<'_>, mutation: &Mutation, denial: &Denial) -> Result<Written<()>, Error> {
    let Denial {
        caller: _,
        method,
        project,
        named,
        count,
        first,
        last,
    } = denial;
    let (project, head) = lock(transaction, project.as_ref()).await?;
    let now = rows::get(&pipeline::row(transaction, (NOW, &[])).await?, "now")?;
    let details = serde_json::json!({ "count": count, "first": first, "last": last, "project": named });
    let mut journal = Journal::of_chain(mutation, head, now);
    journal.record(Record {
        action: "method.denied",
        entity: Entity::Method,
        key: method.trim_start_matches('/').to_owned(),
        project: project.map(key::Project::to_string).unwrap_or_default(),
        environment: String::new(),
        before: None,
        after: Some(details.to_string()),
    });
    journal.write(transaction, &[], ()).await
}

/// The chain in which it is told, locked: the project's, unless that is gone by now.
async fn lock<'a>(
    transaction: &Transaction<'_>,
    project: Option<&'a key::Project>,
) -> Result<(Option<&'a key::Project>, Head), Error> {
    if let Some(project) = project {
        let found = pipeline::one(transaction, (LOCK_PROJECT, &[&project.as_str()])).await?;
        if let Some(row) = found.first() {
            return Ok((Some(project), head_from_row(row)?));
        }
    }
    let row = pipeline::row(transaction, (LOCK_INSTANCE, &[])).await?;
    Ok((None, head_from_row(&row)?))
}
