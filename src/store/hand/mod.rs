//! Rows changed by hand: what somebody did to them with psql becomes an ordinary revision, made by the actor `database`.
//!
//! Triggers note which items were edited, and by whom (`migrations/V8__add_hand_edits_and_history_floor.sql`). Whoever locks the project next, be
//! it the task that looks for notes or a mutation, compares those items with the change log, writes what differs as the next
//! revision of every environment that it concerns, and takes the notes away. Notes only say where to look: one too many costs a
//! comparison, and rows that say what the log says make no revision.
//!
//! | file | what |
//! |---|---|
//! | `notes` | what was edited, and by whom |
//! | `found` | an item as its row has it, and as the change log does |
//! | `decide` | what becomes of it, pure |
//! | `mend` | making rows say what the log says after it |
//! | `record` | what the audit log keeps of it |
//!
//! `docs/decisions/hand-edits.md` says why, and what counts.

mod decide;
mod found;
mod mend;
mod notes;
mod record;

use deadpool_postgres::Transaction;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use self::decide::{Decision, decide};
use self::found::Found;
use self::notes::{Notes, Wanted};
use super::audit;
use super::environments;
use super::error::Error;
use super::journal::{Item, Journal};
use super::lock::{self, LockedEnvironment};
use super::mutation::{Actor, Caller, Mutation, Outcome, Written};
use super::projects::{self, ProjectRow};
use super::{Store, pipeline, rows};
use crate::domain::form::{ItemId, Kind};
use crate::domain::key;

/// Which projects there are notes of; null: one that is gone.
const PENDING: &str = "
    select distinct p.key as project from hand_edits h left join projects p on p.id = h.project_id order by p.key";
const FORGET_GONE: &str = "
    delete from hand_edits h where not exists (select from projects p where p.id = h.project_id)";
const NOTES: &str = "
    select h.id, h.environment_id, h.kind, h.key, h.edited_by, h.application, h.address, h.edited_at
    from hand_edits h join projects p on p.id = h.project_id
    where p.key = $1
    order by h.id";
const FORGET: &str = "delete from hand_edits where id = any($1::bigint[])";

impl Store {
    /// Adopts what was edited by hand in any project, and returns how many environments have a new revision for it. For a task
    /// that calls it now and then; however many replicas do, an edit makes one revision.
    pub async fn adopt_hand_edits(&self) -> Result<usize, Error> {
        let pending = pipeline::one(&*self.reader().await?, (PENDING, &[])).await?;
        let (mut adopted, mut failed) = (0, None);
        for row in &pending {
            // One project's trouble is not the others'.
            match self.adopt_pending(rows::get(row, "project")?).await {
                Ok(revisions) => adopted += revisions,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(adopted), Err)
    }

    async fn adopt_pending(&self, project: Option<&str>) -> Result<usize, Error> {
        let Some(project) = project else {
            pipeline::one(&*self.reader().await?, (FORGET_GONE, &[])).await?;
            return Ok(0);
        };
        let project = key::Project::new(project).map_err(|violations| rows::corrupt("key", violations))?;
        let mutation = mutation(Caller::database());
        let adopt = async |transaction: &Transaction<'_>| adopt(transaction, &project).await;
        match self.mutate(&mutation, |_| Vec::new(), adopt).await? {
            Outcome::Done(written) => Ok(written.revisions.len()),
            // Without a request id there is nothing to be replayed.
            Outcome::Replayed(_) => Ok(0),
        }
    }
}

/// One environment's part.
struct Part<'a> {
    environment: &'a LockedEnvironment,
    /// What differs from the log, or has to be mended.
    items: Vec<(Found, Decision)>,
}

/// Adopts what was edited by hand in a project, in the caller's transaction: everything of the project is locked afterwards.
pub(super) fn adopt<'a>(
    transaction: &'a Transaction<'_>,
    project: &'a key::Project,
) -> BoxFuture<'a, Result<Written<()>, Error>> {
    // Boxed: it is rare, and would make every mutation's future larger.
    Box::pin(adopt_now(transaction, project))
}

async fn adopt_now(transaction: &Transaction<'_>, project: &key::Project) -> Result<Written<()>, Error> {
    let key = project.as_str();
    let every: Option<&str> = None;
    let ground: [pipeline::Query<'_>; 7] = [
        pipeline::LONG,
        (lock::PROJECT, &[&key]),
        (lock::HEADS, &[&key, &every]),
        (lock::AUDIT_HEAD, &[&key]),
        (lock::BEGIN, &[]),
        (environments::IN_PROJECT, &[&key, &every]),
        (NOTES, &[&key]),
    ];
    let [_, projects, _, heads, times, environments, notes] = pipeline::all(transaction, ground).await?;
    let (Some(row), Some(head), Some(time)) = (projects.first(), heads.first(), times.first()) else {
        // It was deleted a moment ago, and the notes are swept away with the next look.
        return Ok(Written::unchanged(()));
    };
    if notes.is_empty() {
        // Another replica was faster.
        return Ok(Written::unchanged(()));
    }
    let project = projects::from_row(row)?;
    let now: Timestamp = rows::get(time, "now")?;
    let notes = Notes::read(&notes)?;
    let environments: Vec<_> = environments
        .iter()
        .map(lock::locked_environment)
        .collect::<Result<_, _>>()?;

    let mut parts = Vec::new();
    for environment in &environments {
        let wanted = notes.of(environment.environment.id);
        if wanted.is_empty() {
            continue;
        }
        let found = found::find(transaction, project.id, environment.environment.id, &wanted).await?;
        let decided = found.into_iter().map(|found| {
            let decision = decide(&found);
            (found, decision)
        });
        let items = decided.filter(|(_, decision)| *decision != Decision::Nothing).collect();
        parts.push(Part { environment, items });
    }
    mend::mend(transaction, &project, now, &parts).await?;

    let mutation = mutation(notes.caller);
    let mut journal = Journal::of_chain(&mutation, audit::head_from_row(head)?, now);
    for part in &parts {
        journal.change(part.environment, part.changes(&project));
    }
    for record in record::records(&project, &parts)? {
        journal.record(record);
    }
    let forget: pipeline::Query<'_> = (FORGET, &[&notes.ids]);
    if journal.is_empty() {
        pipeline::one(transaction, forget).await?;
        return Ok(Written::unchanged(()));
    }
    let written = journal.write(transaction, &[forget], ()).await?;
    for part in &parts {
        part.tell(&project, &mutation.caller);
    }
    Ok(written)
}

fn mutation(caller: Caller) -> Mutation {
    Mutation {
        caller,
        method: "",
        request: None,
        validate_only: false,
    }
}

impl Caller {
    /// Somebody with a connection to the database.
    fn database() -> Self {
        Self {
            actor: Actor::Database,
            name: String::new(),
            credential: String::new(),
            peer: String::new(),
            reason: String::new(),
        }
    }
}

impl Part<'_> {
    /// The items of its next revision.
    fn changes(&self, project: &ProjectRow) -> Vec<Item> {
        let changed = self.items.iter().filter_map(|(found, decision)| {
            let id = found.id.clone();
            match decision {
                Decision::Nothing | Decision::Restore(_) => None,
                Decision::Put(form) => Some(Item {
                    version: self.version(project, &id),
                    form: Some(form.clone()),
                    id,
                }),
                Decision::Delete => Some(Item {
                    version: found.logged_version,
                    form: None,
                    id,
                }),
            }
        });
        changed.collect()
    }

    /// The version that an item of this adoption gets.
    fn version(&self, project: &ProjectRow, id: &ItemId) -> u64 {
        match id.kind {
            Kind::FlagDefinition => project.definition_changes + 1,
            Kind::Experiment | Kind::FlagConfiguration | Kind::SegmentConfiguration | Kind::SegmentKeys => {
                self.environment.next_revision()
            }
        }
    }

    fn tell(&self, project: &ProjectRow, caller: &Caller) {
        let environment = &self.environment.environment.key;
        let changes = self.items.iter().filter(|(_, decision)| decision.is_change()).count();
        if changes > 0 {
            tracing::info!(
                project = %project.project.key,
                %environment,
                revision = self.environment.next_revision(),
                items = changes,
                by = caller.name,
                "rows that were edited by hand became a revision"
            );
        }
        for (found, decision) in &self.items {
            if decision.is_change() && found.is_unreadable(decision) {
                tracing::error!(
                    project = %project.project.key,
                    %environment,
                    item = %found.id,
                    "a row that was edited by hand cannot be read: what it is of is in error until it is mended"
                );
            }
        }
    }
}

impl Part<'_> {
    fn key(&self) -> &str {
        self.environment.environment.key.as_str()
    }
}

fn clipped(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars.saturating_sub(1)) {
        Some((end, _)) if text.chars().count() > chars => format!("{}…", text.get(..end).unwrap_or_default()),
        Some(_) | None => text.to_owned(),
    }
}
