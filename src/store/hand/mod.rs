//! Rows changed by hand: what somebody did to them with psql becomes an ordinary revision, made by the actor `database`.
//!
//! Triggers note which items were edited, and by whom (`migrations/V8__add_hand_edits_and_history_floor.sql`). Whoever locks the project next, be
//! it the task that looks for notes or a mutation, compares those items with the change log, writes what differs as the next
//! revision of every environment that it concerns, and takes the notes away. Notes only say where to look: one too many costs a
//! comparison, and rows that say what the log says make no revision.
//!
//! | file | what |
//! |---|---|
//! | `found` | an item as its row has it, and as the change log does |
//! | `decide` | what becomes of it, pure |
//! | `mend` | making rows say what the log says after it |
//!
//! `docs/decisions/hand-edits.md` says why, and what counts.

mod decide;
mod found;
mod mend;

use std::collections::{BTreeMap, BTreeSet};

use deadpool_postgres::Transaction;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio_postgres::Row;

use self::decide::{Decision, decide};
use self::found::Found;
use super::audit::{self, Record};
use super::environments;
use super::error::{Cause, Entity, Error};
use super::journal::{Item, Journal};
use super::lock::{self, LockedEnvironment};
use super::mutation::{Actor, Caller, Mutation, Outcome, Written};
use super::projects::{self, ProjectRow};
use super::{Store, pipeline, rows};
use crate::domain::change::EnvironmentId;
use crate::domain::form::{ItemId, Kind};
use crate::domain::segment::parse_chunk_item;
use crate::domain::{key, limits};

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

/// How much of a form that cannot be read an audit entry keeps.
const UNREADABLE_CHARS: usize = 4096;

impl Store {
    /// Adopts what was edited by hand in any project, and returns how many environments have a new revision for it. For a task
    /// that calls it now and then; however many replicas do, an edit makes one revision.
    pub async fn adopt_hand_edits(&self) -> Result<usize, Error> {
        let pending = pipeline::one(&self.reader().await?, (PENDING, &[])).await?;
        let mut adopted = 0;
        for row in &pending {
            let Some(project) = rows::get::<Option<&str>>(row, "project")? else {
                pipeline::one(&self.reader().await?, (FORGET_GONE, &[])).await?;
                continue;
            };
            let project = key::Project::new(project).map_err(|violations| rows::corrupt("key", violations))?;
            let mutation = mutation(Caller::database());
            let outcome = self
                .mutate(
                    &mutation,
                    |_| Vec::new(),
                    async |transaction| adopt(transaction, &project).await,
                )
                .await?;
            if let Outcome::Done(written) = outcome {
                adopted += written.revisions.len();
            }
        }
        Ok(adopted)
    }
}

/// What was edited of one project, and by whom.
struct Notes {
    ids: Vec<i64>,
    /// Items to compare in every environment; `None`: all.
    everywhere: Wanted,
    /// The same of single environments.
    within: BTreeMap<EnvironmentId, Wanted>,
    caller: Caller,
}

/// Which items to compare.
#[derive(Debug, Clone, Default)]
struct Wanted {
    items: BTreeSet<ItemId>,
    all: bool,
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
    for record in records(&project, &parts)? {
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

impl Wanted {
    fn is_empty(&self) -> bool {
        self.items.is_empty() && !self.all
    }

    fn add(&mut self, item: Option<ItemId>) {
        match item {
            Some(item) => drop(self.items.insert(item)),
            None => self.all = true,
        }
    }
}

impl Notes {
    fn read(found: &[Row]) -> Result<Self, Error> {
        let mut notes = Self {
            ids: Vec::with_capacity(found.len()),
            everywhere: Wanted::default(),
            within: BTreeMap::new(),
            caller: Caller::database(),
        };
        let (mut names, mut peers, mut edits) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for row in found {
            notes.ids.push(rows::get(row, "id")?);
            let environment: Option<i64> = rows::get(row, "environment_id")?;
            let wanted = match environment {
                Some(id) => notes.within.entry(EnvironmentId(id)).or_default(),
                None => &mut notes.everywhere,
            };
            let kind = rows::get::<Option<&str>>(row, "kind")?.and_then(Kind::from_name);
            let key = rows::get::<Option<&str>>(row, "key")?;
            // A kind of a newer version: everything is looked at.
            wanted.add(kind.zip(key).map(|(kind, key)| ItemId { kind, key: key.into() }));
            let (by, application): (&str, &str) = (rows::get(row, "edited_by")?, rows::get(row, "application")?);
            names.insert(by);
            peers.insert(rows::get::<&str>(row, "address")?);
            edits.insert((rows::get::<Timestamp>(row, "edited_at")?, by, application));
        }
        peers.remove("");
        notes.caller.name = joined(names);
        notes.caller.peer = joined(peers);
        let edits = edits.into_iter().map(|(at, by, application)| match application {
            "" => format!("by {by} at {at}"),
            application => format!("by {by} ({application}) at {at}"),
        });
        let reason = format!("edited in the database {}", joined(edits));
        notes.caller.reason = clipped(&reason, limits::REASON_CHARS);
        Ok(notes)
    }

    fn of(&self, environment: EnvironmentId) -> Wanted {
        let mut wanted = self.everywhere.clone();
        if let Some(within) = self.within.get(&environment) {
            wanted.items.extend(within.items.iter().cloned());
            wanted.all |= within.all;
        }
        wanted
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
            Kind::FlagConfiguration | Kind::SegmentConfiguration | Kind::SegmentKeys => {
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

/// An entry for each definition, whatever environments have it, and for each configuration; chunks are told with their segment,
/// without a key of theirs.
fn records(project: &ProjectRow, parts: &[Part<'_>]) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    let mut definitions = BTreeSet::new();
    for part in parts {
        let mut chunks: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (found, decision) in &part.items {
            let after = match decision {
                Decision::Nothing | Decision::Restore(_) => continue,
                Decision::Put(form) => Some(form.as_ref()),
                Decision::Delete => None,
            };
            let (action, entity, environment) = match found.id.kind {
                Kind::FlagDefinition if !definitions.insert(&found.id.key) => continue,
                Kind::FlagDefinition => ("flag.hand_edit", Entity::Flag, ""),
                Kind::FlagConfiguration => ("flag_configuration.hand_edit", Entity::FlagConfiguration, part.key()),
                Kind::SegmentConfiguration => (
                    "segment_configuration.hand_edit",
                    Entity::SegmentConfiguration,
                    part.key(),
                ),
                Kind::SegmentKeys => {
                    if let Some((segment, chunk)) = parse_chunk_item(&found.id.key) {
                        chunks.entry(segment.to_owned()).or_default().push(chunk);
                    }
                    continue;
                }
            };
            let before = found
                .logged
                .as_ref()
                .map(|logged| audited(entity, &found.id, &logged.form));
            records.push(Record {
                action,
                entity,
                key: found.id.key.to_string(),
                project: project.project.key.to_string(),
                environment: environment.to_owned(),
                before: before.transpose()?,
                after: after.map(|form| audited(entity, &found.id, form)).transpose()?,
            });
        }
        for (segment, chunks) in chunks {
            let after = serde_json::json!({ "segment": segment, "edited_chunks": chunks });
            records.push(Record {
                action: "segment_configuration.hand_edit",
                entity: Entity::SegmentConfiguration,
                key: segment,
                project: project.project.key.to_string(),
                environment: part.key().to_owned(),
                before: None,
                after: Some(audit::json(&after)?),
            });
        }
    }
    Ok(records)
}

impl Part<'_> {
    fn key(&self) -> &str {
        self.environment.environment.key.as_str()
    }
}

/// A form as entries keep what it is of.
fn audited(entity: Entity, id: &ItemId, form: &[u8]) -> Result<String, Error> {
    let mut kept = serde_json::Map::new();
    match (found::reads(id.kind, form), serde_json::from_slice(form)) {
        (true, Ok(serde_json::Value::Object(mut fields))) => {
            fields.shift_remove("format");
            let named = match entity {
                Entity::FlagConfiguration => Some("flag"),
                Entity::SegmentConfiguration => Some("segment"),
                // A definition names itself.
                _ => None,
            };
            if let Some(name) = named {
                kept.insert(name.to_owned(), (*id.key).into());
            }
            kept.extend(fields);
        }
        _ => {
            let text = clipped(&String::from_utf8_lossy(form), UNREADABLE_CHARS);
            kept.insert("unreadable_form".to_owned(), text.into());
        }
    }
    serde_json::to_string(&kept).map_err(|error| Error::Bug(Cause::Unserialisable(error)))
}

fn joined(words: impl IntoIterator<Item = impl Into<String>>) -> String {
    words.into_iter().map(Into::into).collect::<Vec<_>>().join(", ")
}

fn clipped(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars.saturating_sub(1)) {
        Some((end, _)) if text.chars().count() > chars => format!("{}…", text.get(..end).unwrap_or_default()),
        Some(_) | None => text.to_owned(),
    }
}
