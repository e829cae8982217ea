//! Making rows say what the log says after an adoption: the form, its version, the columns beside it, and the links to what it
//! depends on. Of a form that cannot be read the columns and links stay as they are.

use std::collections::BTreeSet;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::types::{Json, ToSql};

use super::Part;
use super::decide::Decision;
use super::found::Found;
use crate::domain::flag::Configuration;
use crate::domain::form::{self, Kind};
use crate::domain::key;
use crate::domain::segment::KeyList;
use crate::store::columns::{Configurations, Links, Variants};
use crate::store::configurations::{LINK_PREREQUISITES, LINK_SEGMENTS, UNLINK_PREREQUISITES, UNLINK_SEGMENTS};
use crate::store::error::Error;
use crate::store::flags::INSERT_VARIANTS;
use crate::store::projects::ProjectRow;
use crate::store::segments::configurations::{FORGET_PARTS, INSERT_PARTS};
use crate::store::{pipeline, rows};

const COUNT: &str = "update projects set definition_changes = definition_changes + 1 where id = $1";
/// The etag of the flag changes with it, unless only the spelling does.
const DEFINITION: &str = "
    update flags set form = $2, form_version = $3, version = version + $4, updated_at = coalesce($5, updated_at) where id = $1";
const DEFINITION_COLUMNS: &str = "
    update flags set value_type = $2, off_variant = $3, default_variant = $4, client_visible = $5 where id = $1";
const FORGET_VARIANTS: &str = "delete from flag_variants where flag_id = $1";
const CONFIGURATION: &str = "
    update flag_configurations set form = $3, version = $4, updated_at = coalesce($5, updated_at)
    where environment_id = $1 and flag_id = $2";
const CONFIGURATION_COLUMNS: &str = "
    update flag_configurations c set enabled = n.enabled, rules = n.rules, default_serve = n.default_serve, salt = n.salt,
        prerequisites = n.prerequisites
    from unnest($2::bigint[], $3::boolean[], $4::json[], $5::json[], $6::text[], $7::json[])
        as n (flag_id, enabled, rules, default_serve, salt, prerequisites)
    where c.environment_id = $1 and c.flag_id = n.flag_id";
const SEGMENT: &str = "
    update segment_configurations set form = $3, version = $4, updated_at = coalesce($5, updated_at)
    where environment_id = $1 and segment_id = $2";
const SEGMENT_COLUMNS: &str = "
    update segment_configurations set included = $3, excluded = $4, conditions = $5, key_list_chunks = $6, key_list_keys = $7
    where environment_id = $1 and segment_id = $2";
/// The etag of the experiment changes with it, unless only the spelling does.
const EXPERIMENT: &str = "
    update experiments set form = $2, form_version = $3, version = version + $4, updated_at = coalesce($5, updated_at) where id = $1";
/// No unit outside of it is looked up: it must not be smaller than what units were assigned within.
const LARGEST_ALLOCATION: &str = "
    update experiments set largest_allocation = greatest(largest_allocation, $2) where id = $1";
const CHUNK: &str = "
    update segment_key_chunks set form = $3, version = $4
    where environment_id = $1 and segment_id = $2 and chunk::text = split_part($5, '/', 2)";

/// Mends every row that was decided about.
pub(super) async fn mend(
    transaction: &Transaction<'_>,
    project: &ProjectRow,
    now: Timestamp,
    parts: &[Part<'_>],
) -> Result<(), Error> {
    // A definition is one row, whatever environments have it: where one of them changes it, the others do not set it back.
    let mut defined = BTreeSet::new();
    let mut counted = false;
    for is_change in [true, false] {
        for part in parts {
            for (found, decision) in &part.items {
                if decision.is_change() != is_change {
                    continue;
                }
                let is_definition = found.id.kind == Kind::FlagDefinition;
                counted |= is_definition && is_change;
                let Some(row) = Mended::of(part, project, now, found, decision) else {
                    continue;
                };
                if !is_definition || defined.insert(row.entity) {
                    row.write(transaction, project.id, part.environment.environment.id.0, found)
                        .await?;
                }
            }
        }
    }
    if counted {
        pipeline::one(transaction, (COUNT, &[&project.id])).await?;
    }
    Ok(())
}

/// What a row is to say.
struct Mended<'a> {
    entity: i64,
    form: &'a [u8],
    version: i64,
    /// `None`: it is only set back.
    changed_at: Option<Timestamp>,
}

impl<'a> Mended<'a> {
    fn of(
        part: &Part<'_>,
        project: &ProjectRow,
        now: Timestamp,
        found: &Found,
        decision: &'a Decision,
    ) -> Option<Self> {
        let entity = found.entity?;
        match decision {
            Decision::Nothing | Decision::Delete => None,
            Decision::Restore(logged) => Some(Self {
                entity,
                form: &logged.form,
                version: rows::to_sql(logged.version),
                changed_at: None,
            }),
            Decision::Put(form) => Some(Self {
                entity,
                form,
                version: rows::to_sql(part.version(project, &found.id)),
                changed_at: Some(now),
            }),
        }
    }

    async fn write(
        &self,
        transaction: &Transaction<'_>,
        project: i64,
        environment: i64,
        found: &Found,
    ) -> Result<(), Error> {
        match found.id.kind {
            Kind::Experiment => self.experiment(transaction).await,
            Kind::FlagDefinition => self.definition(transaction).await,
            Kind::FlagConfiguration => self.configuration(transaction, project, environment).await,
            Kind::SegmentConfiguration => self.segment(transaction, project, environment).await,
            Kind::SegmentKeys => self.chunk(transaction, environment, &found.id.key).await,
        }
    }

    async fn experiment(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        let raised = i64::from(self.changed_at.is_some());
        let write: pipeline::Query<'_> = (
            EXPERIMENT,
            &[&self.entity, &self.form, &self.version, &raised, &self.changed_at],
        );
        pipeline::one(transaction, write).await?;
        let Ok(running) = form::read_experiment(self.form) else {
            return Ok(());
        };
        let largest = running.largest_allocation.max(running.allocation);
        let largest = i32::try_from(largest).unwrap_or(i32::MAX);
        attempt(transaction, &[(LARGEST_ALLOCATION, &[&self.entity, &largest])]).await
    }

    async fn chunk(&self, transaction: &Transaction<'_>, environment: i64, key: &str) -> Result<(), Error> {
        let write: pipeline::Query<'_> = (CHUNK, &[&environment, &self.entity, &self.form, &self.version, &key]);
        pipeline::one(transaction, write).await?;
        Ok(())
    }

    async fn definition(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        let raised = i64::from(self.changed_at.is_some());
        let write: pipeline::Query<'_> = (
            DEFINITION,
            &[&self.entity, &self.form, &self.version, &raised, &self.changed_at],
        );
        pipeline::one(transaction, write).await?;
        let Ok(definition) = form::read_definition(self.form) else {
            return Ok(());
        };
        let variants = Variants::of(&definition);
        let columns: [pipeline::Query<'_>; 3] = [
            (
                DEFINITION_COLUMNS,
                &[
                    &self.entity,
                    &definition.value_type.name(),
                    &definition.off_variant.as_ref().map(key::Variant::as_str),
                    &definition.default_variant.as_ref().map(key::Variant::as_str),
                    &definition.client_visible,
                ],
            ),
            (FORGET_VARIANTS, &[&self.entity]),
            (
                INSERT_VARIANTS,
                &[&self.entity, &variants.keys, &variants.values, &variants.descriptions],
            ),
        ];
        attempt(transaction, &columns).await
    }

    async fn configuration(&self, transaction: &Transaction<'_>, project: i64, environment: i64) -> Result<(), Error> {
        let write: pipeline::Query<'_> = (
            CONFIGURATION,
            &[&environment, &self.entity, &self.form, &self.version, &self.changed_at],
        );
        pipeline::one(transaction, write).await?;
        let Ok(configuration) = form::read_configuration(self.form) else {
            return Ok(());
        };
        let mut columns = Configurations::default();
        columns.push(self.entity, &configuration, self.form);
        let write: pipeline::Query<'_> = (
            CONFIGURATION_COLUMNS,
            &[
                &environment,
                &columns.flag_ids,
                &columns.enabled,
                &columns.rules,
                &columns.default_serves,
                &columns.salts,
                &columns.prerequisites,
            ],
        );
        // What it depended on before is not known for certain: the links are made anew.
        let nothing = Configuration::default();
        let mut depending = Links::default();
        depending.push(self.entity, &nothing, &configuration);
        depending.changed = vec![self.entity];
        let unlink: &[&(dyn ToSql + Sync)] = &[&environment, &depending.changed];
        let (prerequisites, segments) = (&depending.prerequisites, &depending.segments);
        let link: [pipeline::Query<'_>; 5] = [
            write,
            (UNLINK_PREREQUISITES, unlink),
            (UNLINK_SEGMENTS, unlink),
            (
                LINK_PREREQUISITES,
                &[&project, &environment, &prerequisites.0, &prerequisites.1],
            ),
            (LINK_SEGMENTS, &[&project, &environment, &segments.0, &segments.1]),
        ];
        attempt(transaction, &link).await
    }

    async fn segment(&self, transaction: &Transaction<'_>, project: i64, environment: i64) -> Result<(), Error> {
        let write: pipeline::Query<'_> = (
            SEGMENT,
            &[&environment, &self.entity, &self.form, &self.version, &self.changed_at],
        );
        pipeline::one(transaction, write).await?;
        let Ok(configuration) = form::read_segment(self.form) else {
            return Ok(());
        };
        let list = configuration.key_list;
        let chunks = list.map(|KeyList { chunks, .. }| i32::try_from(chunks).unwrap_or(i32::MAX));
        let keys = list.map(|KeyList { keys, .. }| rows::to_sql(keys));
        let parts: Vec<_> = configuration.segments().collect();
        let columns: [pipeline::Query<'_>; 3] = [
            (
                SEGMENT_COLUMNS,
                &[
                    &environment,
                    &self.entity,
                    &configuration.included,
                    &configuration.excluded,
                    &Json(&configuration.conditions),
                    &chunks,
                    &keys,
                ],
            ),
            (FORGET_PARTS, &[&environment, &self.entity]),
            (INSERT_PARTS, &[&project, &environment, &self.entity, &parts]),
        ];
        attempt(transaction, &columns).await
    }
}

/// Writes columns, unless they cannot hold what the form says, such as two variants of one key: then they stay as they are. The
/// form counts, and nobody's writes may wait for what is only for people to read.
async fn attempt(transaction: &Transaction<'_>, writes: &[pipeline::Query<'_>]) -> Result<(), Error> {
    transaction.batch_execute("savepoint columns").await?;
    let end = match pipeline::run(transaction, writes).await {
        Ok(_) => "release savepoint columns",
        Err(_) => "rollback to savepoint columns",
    };
    Ok(transaction.batch_execute(end).await?)
}
