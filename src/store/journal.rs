//! The journal of a mutation: a change per touched environment, the audit entries, and the heads of both. One statement.

use bytes::Bytes;
use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::audit::{self, Record};
use super::error::{Cause, Error};
use super::lock::{Locked, LockedEnvironment};
use super::mutation::{EnvironmentRevision, Mutation, Written};
use super::{pipeline, rows};
use crate::domain::change::{self, Digest, ItemChange};
use crate::domain::form::ItemId;

const WRITE: &str = "
    with change as (
        insert into changes (environment_id, revision, previous_digest, digest, committed_at, actor)
        select c.environment_id, c.revision, c.previous_digest, c.digest, $5::timestamptz, $6::text
        from unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[])
            as c (environment_id, revision, previous_digest, digest)
    ), head as (
        insert into environment_heads (environment_id, revision, digest, committed_at)
        select c.environment_id, c.revision, c.digest, $5::timestamptz
        from unnest($1::bigint[], $2::bigint[], $4::bytea[]) as c (environment_id, revision, digest)
        on conflict (environment_id) do update
        set revision = excluded.revision, digest = excluded.digest, committed_at = excluded.committed_at,
            mod_xid = pg_current_xact_id()
    ), item as (
        insert into change_items (environment_id, revision, kind, key, version, form)
        select * from unnest($7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::bigint[], $12::bytea[])
    ), entry as (
        insert into audit_entries (
            chain, sequence, id, at, actor, actor_name, credential, action, entity, entity_key, project, environment,
            before, after, request_id, peer, reason, previous_hash, hash)
        select $13::text, e.sequence, e.id, $5::timestamptz, $6::text, $14::text, $15::text, e.action, e.entity, e.entity_key,
            e.project, e.environment, e.before, e.after, $16::text, $17::text, $18::text, e.previous_hash, e.hash
        from unnest($19::bigint[], $20::uuid[], $21::text[], $22::text[], $23::text[], $24::text[], $25::text[], $26::text[],
                $27::text[], $28::bytea[], $29::bytea[])
            as e (sequence, id, action, entity, entity_key, project, environment, before, after, previous_hash, hash)
    ), chain as (
        insert into audit_heads (chain, sequence, hash) values ($13::text, $30, $31)
        on conflict (chain) do update set sequence = excluded.sequence, hash = excluded.hash
    ), access as (
        update access_head set revision = revision + 1 where $32 returning revision
    )
    select (select revision from access) as access_revision, exists (
        select from hand_edits h
        where (h.environment_id is null or h.environment_id = any($1::bigint[]))
            and h.project_id = any(select e.project_id from environments e where e.id = any($1::bigint[]))
            and (h.kind is null or (h.kind, h.key) in (select * from unnest($9::text[], $10::text[])))
    ) as edited";

/// One item of a change.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Which.
    pub id: ItemId,
    /// Its version after the change; of a deleted item the last it had.
    pub version: u64,
    /// `None`: it is deleted.
    pub form: Option<Bytes>,
}

struct Change {
    touched: EnvironmentRevision,
    previous: Digest,
    digest: Digest,
    items: Vec<Item>,
}

/// What a mutation leaves in the change log and the audit log.
pub(super) struct Journal<'a> {
    mutation: &'a Mutation,
    now: jiff::Timestamp,
    audit: audit::Head,
    changes: Vec<Change>,
    records: Vec<Record>,
    access: bool,
}

impl<'a> Journal<'a> {
    /// The journal of a mutation of a project.
    pub(super) fn new(mutation: &'a Mutation, locked: &Locked) -> Self {
        Self::of_chain(mutation, locked.audit.clone(), locked.now)
    }

    /// The journal of a mutation in a chain whose head is locked, or new.
    pub(super) fn of_chain(mutation: &'a Mutation, audit: audit::Head, now: jiff::Timestamp) -> Self {
        Self {
            mutation,
            now,
            audit,
            changes: Vec::new(),
            records: Vec::new(),
            access: false,
        }
    }

    /// Makes the next revision of an environment; at most one per mutation. No items: no revision.
    pub(super) fn change(&mut self, locked: &LockedEnvironment, items: Vec<Item>) {
        if !items.is_empty() {
            self.revision(locked, items);
        }
    }

    /// Makes the next revision of an environment, of whatever items.
    pub(super) fn revision(&mut self, locked: &LockedEnvironment, items: Vec<Item>) {
        let revision = locked.next_revision();
        let hashed: Vec<_> = items.iter().map(Item::hashed).collect();
        let digest = change::digest(locked.digest, revision, &hashed);
        self.changes.push(Change {
            touched: EnvironmentRevision {
                environment: locked.environment.key.clone(),
                id: locked.environment.id,
                revision,
            },
            previous: locked.digest,
            digest,
            items,
        });
    }

    /// Whether there is nothing to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.records.is_empty() && !self.access
    }

    /// Adds an audit entry.
    pub(super) fn record(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Notes that access depends on what was written.
    pub(super) fn touch_access(&mut self) {
        self.access = true;
    }

    /// Writes it, after `writes`, the statements that write the entity itself: one round trip for all.
    pub(super) async fn write<T>(
        self,
        transaction: &Transaction<'_>,
        writes: &[pipeline::Query<'_>],
        entity: T,
    ) -> Result<Written<T>, Error> {
        let Self {
            mutation,
            now,
            audit,
            changes,
            records,
            access,
        } = self;
        let caller = &mutation.caller;
        let actor = caller.actor.to_string();
        let request_id = mutation
            .request
            .as_ref()
            .map(|request| request.id.to_string())
            .unwrap_or_default();
        let links = audit::chain(mutation, &audit, now, &records);
        let (sequence, hash) = links
            .last()
            .map_or((audit.sequence, audit.hash), |link| (link.sequence, link.hash));

        let items = || {
            changes
                .iter()
                .flat_map(|change| change.items.iter().map(move |item| (change, item)))
        };
        let parameters: [&(dyn ToSql + Sync); 32] = [
            &column(&changes, |change| change.touched.id.0),
            &column(&changes, |change| rows::to_sql(change.touched.revision)),
            &column(&changes, |change| change.previous.0.as_slice()),
            &column(&changes, |change| change.digest.0.as_slice()),
            &now,
            &actor,
            &column(items(), |(change, _)| change.touched.id.0),
            &column(items(), |(change, _)| rows::to_sql(change.touched.revision)),
            &column(items(), |(_, item)| item.id.kind.name()),
            &column(items(), |(_, item)| &*item.id.key),
            &column(items(), |(_, item)| rows::to_sql(item.version)),
            &column(items(), |(_, item)| item.form.as_deref()),
            &audit.chain,
            &caller.name,
            &caller.credential,
            &request_id,
            &caller.peer,
            &caller.reason,
            &column(&links, |link| rows::to_sql(link.sequence)),
            &column(&links, |link| link.id),
            &column(&records, |record| record.action),
            &column(&records, |record| record.entity.name()),
            &column(&records, |record| record.key.as_str()),
            &column(&records, |record| record.project.as_str()),
            &column(&records, |record| record.environment.as_str()),
            &column(&records, |record| record.before.as_deref()),
            &column(&records, |record| record.after.as_deref()),
            &column(&links, |link| link.previous.0.as_slice()),
            &column(&links, |link| link.hash.0.as_slice()),
            &rows::to_sql(sequence),
            &hash.0.as_slice(),
            &access,
        ];
        let mut queries = writes.to_vec();
        queries.push((WRITE, &parameters));
        let answers = pipeline::run(transaction, &queries).await?;
        let answer = answers.last().and_then(|rows| rows.first());
        let answer = answer.ok_or(Error::Bug(Cause::NoRow))?;
        // Somebody edited by hand what has just been written over, and committed since it was read: that would be lost.
        if rows::get(answer, "edited")? {
            return Err(Error::HandEdited);
        }
        let access_revision = access.then(|| rows::number(answer, "access_revision")).transpose()?;
        Ok(Written {
            warnings: Vec::new(),
            entity,
            revisions: changes.into_iter().map(|change| change.touched).collect(),
            access_revision,
            changed: true,
        })
    }
}

impl Item {
    fn hashed(&self) -> ItemChange<'_> {
        ItemChange {
            id: &self.id,
            version: self.version,
            form: self.form.as_deref(),
        }
    }
}

fn column<T, U>(rows: impl IntoIterator<Item = T>, value: impl FnMut(T) -> U) -> Vec<U> {
    rows.into_iter().map(value).collect()
}
