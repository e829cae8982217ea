//! Writing configurations: the form, the columns beside it, and the links to what they depend on.

use bytes::Bytes;
use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::{ConfigurationRow, FlagConfiguration, item};
use crate::domain::flag::Configuration;
use crate::domain::form;
use crate::store::audit::{self, Record};
use crate::store::error::{Entity, Error};
use crate::store::journal::Journal;
use crate::store::lock::{Locked, LockedEnvironment};
use crate::store::mutation::{Mutation, Written};
use crate::store::{columns, pipeline, rows};

pub(in crate::store) const UPSERT: &str = "
    insert into flag_configurations (
        project_id, environment_id, flag_id, form, enabled, rules, default_serve, salt, prerequisites, version, updated_at)
    select $1::bigint, $2::bigint, n.flag_id, n.form, n.enabled, n.rules, n.default_serve, n.salt, n.prerequisites, $3::bigint,
        $4::timestamptz
    from unnest($5::bigint[], $6::bytea[], $7::boolean[], $8::json[], $9::json[], $10::text[], $11::json[])
        as n (flag_id, form, enabled, rules, default_serve, salt, prerequisites)
    on conflict (environment_id, flag_id) do update
    set form = excluded.form, enabled = excluded.enabled, rules = excluded.rules, default_serve = excluded.default_serve,
        salt = excluded.salt, prerequisites = excluded.prerequisites, version = excluded.version,
        updated_at = excluded.updated_at";
/// The links of flags whose dependencies changed go, and come anew: statements of their own, since joined ones would not see
/// what the other did.
pub(in crate::store) const UNLINK_PREREQUISITES: &str = "
    delete from flag_prerequisites where environment_id = $1 and flag_id = any($2::bigint[])";
pub(in crate::store) const UNLINK_SEGMENTS: &str = "
    delete from flag_segments where environment_id = $1 and flag_id = any($2::bigint[])";
pub(in crate::store) const LINK_PREREQUISITES: &str = "
    insert into flag_prerequisites (project_id, environment_id, flag_id, prerequisite_id)
    select $1::bigint, $2::bigint, n.flag_id, f.id
    from unnest($3::bigint[], $4::text[]) as n (flag_id, key)
    join flags f on f.project_id = $1 and f.key = n.key";
pub(in crate::store) const LINK_SEGMENTS: &str = "
    insert into flag_segments (project_id, environment_id, flag_id, segment_id)
    select $1::bigint, $2::bigint, n.flag_id, s.id
    from unnest($3::bigint[], $4::text[]) as n (flag_id, key)
    join segments s on s.project_id = $1 and s.key = n.key";

/// Which rules experiments stand before that are not stopped.
const STAND_BEFORE: &str = "
    select e.key, e.before_rule from experiments e
    where e.environment_id = $1 and e.flag_id = $2 and e.state <> 'stopped' and e.before_rule = any($3::text[])
    order by e.key";

/// A configuration before and after.
pub(super) struct Edit {
    pub before: ConfigurationRow,
    pub after: Configuration,
}

/// A configuration after the edit; if it differs, with what it was and its new form.
struct Edited {
    row: ConfigurationRow,
    written: Option<(Configuration, Bytes)>,
}

/// Writes what differs, as one revision. A configuration that was never written and says nothing stays unwritten.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    locked: &Locked,
    environment: &LockedEnvironment,
    action: &'static str,
    edits: Vec<Edit>,
) -> Result<Written<Vec<FlagConfiguration>>, Error> {
    let (revision, now) = (environment.next_revision(), locked.now);
    let mut journal = Journal::new(mutation, locked);
    let mut items = Vec::new();
    // Every configuration in the order of the edits.
    let mut edited = Vec::with_capacity(edits.len());
    for Edit { before, after } in edits {
        if before.configuration.configuration == after {
            edited.push(Edited {
                row: before,
                written: None,
            });
            continue;
        }
        refuse_lost_places(transaction, environment, &before, &after).await?;
        let form = Bytes::from(form::write_configuration(&after));
        let row = before.written(after, environment, now);
        journal.record(record(action, &before, &row.configuration)?);
        items.push(item(&row.configuration.flag, revision, Some(form.clone())));
        edited.push(Edited {
            row,
            written: Some((before.configuration.configuration, form)),
        });
    }
    let (mut columns, mut links) = (columns::Configurations::default(), columns::Links::default());
    for Edited { row, written } in &edited {
        if let Some((before, form)) = written {
            let configuration = &row.configuration.configuration;
            columns.push(row.flag_id, configuration, form);
            links.push(row.flag_id, before, configuration);
        }
    }
    let written = if items.is_empty() {
        Written::unchanged(())
    } else {
        journal.change(environment, items);
        let (project, environment) = (locked.project.id, environment.environment.id.0);
        let upsert: pipeline::Query<'_> = (
            UPSERT,
            &[
                &project,
                &environment,
                &rows::to_sql(revision),
                &now,
                &columns.flag_ids,
                &columns.forms,
                &columns.enabled,
                &columns.rules,
                &columns.default_serves,
                &columns.salts,
                &columns.prerequisites,
            ],
        );
        let unlink: &[&(dyn ToSql + Sync)] = &[&environment, &links.changed];
        let (prerequisites, segments) = (&links.prerequisites, &links.segments);
        let link: [pipeline::Query<'_>; 4] = [
            (UNLINK_PREREQUISITES, unlink),
            (UNLINK_SEGMENTS, unlink),
            (
                LINK_PREREQUISITES,
                &[&project, &environment, &prerequisites.0, &prerequisites.1],
            ),
            (LINK_SEGMENTS, &[&project, &environment, &segments.0, &segments.1]),
        ];
        let link = if links.changed.is_empty() { &[][..] } else { &link };
        journal.write(transaction, &[&[upsert], link].concat(), ()).await?
    };
    written.try_map(|()| Ok(edited.into_iter().map(|edited| edited.row.configuration).collect()))
}

/// Refuses a configuration that lacks a rule which an experiment stands before: it would be asked elsewhere.
async fn refuse_lost_places(
    transaction: &Transaction<'_>,
    environment: &LockedEnvironment,
    before: &ConfigurationRow,
    after: &Configuration,
) -> Result<(), Error> {
    let rules = before.configuration.configuration.rules.iter();
    let lost = rules.filter(|rule| after.rules.iter().all(|kept| kept.key != rule.key));
    let lost: Vec<_> = lost.map(|rule| rule.key.as_str()).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let query: pipeline::Query<'_> = (STAND_BEFORE, &[&environment.environment.id.0, &before.flag_id, &lost]);
    let mut named = Vec::new();
    for row in &pipeline::one(transaction, query).await? {
        let (experiment, rule): (&str, &str) = (rows::get(row, "key")?, rows::get(row, "before_rule")?);
        named.push(format!("{experiment} before {rule}"));
    }
    if named.is_empty() {
        return Ok(());
    }
    let description = format!("loses rules that experiments stand before: {}", named.join(", "));
    Err(Error::blocked(
        Entity::FlagConfiguration,
        &before.configuration.flag,
        description,
    ))
}

/// What a write of a configuration leaves in the audit log.
pub(in crate::store) fn record(
    action: &'static str,
    before: &ConfigurationRow,
    after: &FlagConfiguration,
) -> Result<Record, Error> {
    Ok(Record {
        action,
        entity: Entity::FlagConfiguration,
        key: after.flag.to_string(),
        project: after.project.to_string(),
        environment: after.environment.to_string(),
        before: before.version.map(|_| audit::json(&before.configuration)).transpose()?,
        after: Some(audit::json(after)?),
    })
}
