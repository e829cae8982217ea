//! Who belongs to a segment in one environment: the sparse configuration. Without one a segment contains nobody.
//!
//! The list of uploaded keys is part of it by its size only; what writes the rest keeps the list as it is.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, ToSql};

use crate::domain::check::{self, Checked, SegmentSurroundings};
use crate::domain::form::{self, ItemId, Kind};
use crate::domain::graph::Graph;
use crate::domain::invalid::Violations;
use crate::domain::rule::Condition;
use crate::domain::segment::{self, Configuration, KeyList};
use crate::domain::{draft, key};
use crate::store::audit::{self, Record};
use crate::store::environments::{Address, Environment};
use crate::store::error::{Entity, Error};
use crate::store::journal::{Item, Journal};
use crate::store::lock::{self, LockedEnvironment, Scope};
use crate::store::mutation::{Mutation, Outcome, Versioned, Written, set};
use crate::store::page::{check_etag, etag};
use crate::store::{Store, pipeline, rows};

/// A segment by its key, with its configuration in an environment.
pub(super) const FIND: &str = "
    select s.id, c.form as configuration_form, c.version as configuration_version,
        c.updated_at as configuration_updated_at
    from projects p
    join segments s on s.project_id = p.id
    left join environments e on e.project_id = p.id and e.key = $2
    left join segment_configurations c on c.environment_id = e.id and c.segment_id = s.id
    where p.key = $1 and s.key = $3";
const SEGMENTS: &str = "select s.key from segments s join projects p on p.id = s.project_id where p.key = $1";
const PARTS: &str = "
    select s.key as segment, part.key as part
    from projects p
    join environments e on e.project_id = p.id
    join segment_parts u on u.environment_id = e.id
    join segments s on s.id = u.segment_id
    join segments part on part.id = u.part_id
    where p.key = $1 and e.key = $2";
pub(super) const UPSERT: &str = "
    insert into segment_configurations (
        project_id, environment_id, segment_id, form, included, excluded, conditions, key_list_chunks, key_list_keys, version,
        updated_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    on conflict (environment_id, segment_id) do update
    set form = excluded.form, included = excluded.included, excluded = excluded.excluded, conditions = excluded.conditions,
        key_list_chunks = excluded.key_list_chunks, key_list_keys = excluded.key_list_keys, version = excluded.version,
        updated_at = excluded.updated_at";
pub(in crate::store) const FORGET_PARTS: &str =
    "delete from segment_parts where environment_id = $1 and segment_id = $2";
pub(in crate::store) const INSERT_PARTS: &str = "
    insert into segment_parts (project_id, environment_id, segment_id, part_id)
    select $1, $2, $3, part.id from segments part where part.project_id = $1 and part.key = any($4::text[])";

/// What stands for the version in the etag of a configuration that was never written; versions begin at 1.
const UNWRITTEN: i64 = 0;

/// Who belongs to a segment in one environment. What serialises is what audit entries keep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentConfiguration {
    /// Its project.
    #[serde(skip)]
    pub project: key::Project,
    /// The environment.
    #[serde(skip)]
    pub environment: key::Environment,
    /// The segment.
    pub segment: key::Segment,
    /// Who belongs to it; nobody if it was never written.
    #[serde(flatten)]
    pub configuration: Configuration,
    /// When it was last changed. `None`: it was never written.
    #[serde(skip)]
    pub updated_at: Option<Timestamp>,
    /// Changes with every change; one that was never written has one too. Empty: nothing was written, only validated.
    #[serde(skip)]
    pub etag: String,
}

/// What to change of a configuration, unchecked. `None`: leave it.
#[derive(Debug, Clone, Default)]
pub struct SegmentConfigurationPatch {
    /// Targeting keys that belong to it.
    pub included: Option<Vec<String>>,
    /// Targeting keys that do not.
    pub excluded: Option<Vec<String>>,
    /// The keys of segments that it is made of.
    pub segments: Option<Vec<String>>,
    /// Whoever satisfies them all belongs to it.
    pub conditions: Option<Vec<draft::Condition>>,
    /// Whether what is odd about it is refused as if it were wrong.
    pub strict: bool,
}

/// A configuration as it is stored, or as it would be.
#[derive(Clone)]
pub(super) struct ConfigurationRow {
    pub segment_id: i64,
    /// Of a configuration that was written.
    pub version: Option<u64>,
    pub configuration: SegmentConfiguration,
}

impl Versioned for SegmentConfiguration {
    fn forget_etag(&mut self) {
        self.etag.clear();
    }
}

impl Store {
    /// Changes who belongs to a segment. The uploaded list stays as it is.
    pub async fn update_segment_configuration(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        segment: &key::Segment,
        patch: SegmentConfigurationPatch,
        etag: &str,
        respond: impl FnOnce(&Written<SegmentConfiguration>) -> Vec<u8>,
    ) -> Result<Outcome<SegmentConfiguration>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            update(transaction, mutation, at, segment, patch, etag).await
        })
        .await
    }

    /// Reads a segment's configuration; empty, with an etag that holds until it is first written, if it was never written.
    pub async fn get_segment_configuration(
        &self,
        at: Address<'_>,
        segment: &key::Segment,
    ) -> Result<SegmentConfiguration, Error> {
        let environment = self.get_environment(at).await?;
        let client = self.reader().await?;
        let query: pipeline::Query<'_> = (
            FIND,
            &[&at.project.as_str(), &at.environment.as_str(), &segment.as_str()],
        );
        Ok(found(&pipeline::one(&*client, query).await?, &environment, segment)?.configuration)
    }
}

/// The configuration in the rows of [`FIND`].
pub(super) fn found(
    found: &[Row],
    environment: &Environment,
    segment: &key::Segment,
) -> Result<ConfigurationRow, Error> {
    let row = found
        .first()
        .ok_or_else(|| Error::not_found(Entity::Segment, segment))?;
    from_row(row, environment, rows::get(row, "id")?, segment)
}

/// The configuration in a row.
pub(super) fn from_row(
    row: &Row,
    environment: &Environment,
    segment_id: i64,
    segment: &key::Segment,
) -> Result<ConfigurationRow, Error> {
    let mut found = ConfigurationRow {
        segment_id,
        version: None,
        configuration: SegmentConfiguration {
            project: environment.project.clone(),
            environment: environment.key.clone(),
            segment: segment.clone(),
            configuration: Configuration::default(),
            updated_at: None,
            etag: etag([environment.id.0, segment_id, UNWRITTEN]),
        },
    };
    if let Some(form) = rows::get::<Option<&[u8]>>(row, "configuration_form")? {
        let configuration = form::read_segment(form);
        found.configuration.configuration =
            configuration.map_err(|error| rows::corrupt("configuration_form", error))?;
        let version = rows::number(row, "configuration_version")?;
        found.write(environment, version, rows::get(row, "configuration_updated_at")?);
    }
    Ok(found)
}

impl ConfigurationRow {
    /// The same with another content, as this revision of the environment writes it.
    pub(super) fn written(&self, configuration: Configuration, environment: &LockedEnvironment, at: Timestamp) -> Self {
        let mut after = self.clone();
        after.configuration.configuration = configuration;
        after.write(&environment.environment, environment.next_revision(), at);
        after
    }

    fn write(&mut self, environment: &Environment, version: u64, at: Timestamp) {
        self.version = Some(version);
        self.configuration.updated_at = Some(at);
        self.configuration.etag = etag([environment.id.0, self.segment_id, rows::to_sql(version)]);
    }

    /// What the configuration was, as audit entries keep it. `None`: it was never written.
    pub(super) fn audited(&self) -> Option<&SegmentConfiguration> {
        self.version.map(|_| &self.configuration)
    }
}

/// The item of a configuration. `None`: it is deleted.
pub(super) fn configuration_item(segment: &key::Segment, version: u64, form: Option<Bytes>) -> Item {
    let id = ItemId {
        kind: Kind::SegmentConfiguration,
        key: segment.as_str().into(),
    };
    Item { id, version, form }
}

/// The item of a chunk of its list. `None`: it is deleted.
pub(super) fn chunk_item(segment: &key::Segment, chunk: u32, version: u64, form: Option<Bytes>) -> Item {
    let id = ItemId {
        kind: Kind::SegmentKeys,
        key: segment::chunk_item(segment.as_str(), chunk),
    };
    Item { id, version, form }
}

async fn update(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    segment: &key::Segment,
    patch: SegmentConfigurationPatch,
    etag: &str,
) -> Result<Written<SegmentConfiguration>, Error> {
    let (project, key) = (at.project.as_str(), at.environment.as_str());
    let reads: [pipeline::Query<'_>; 3] = [
        (FIND, &[&project, &key, &segment.as_str()]),
        (SEGMENTS, &[&project]),
        (PARTS, &[&project, &key]),
    ];
    let (locked, [found, segments, parts]) =
        lock::acquire(transaction, &mutation.caller, Scope::Environment(at), reads).await?;
    locked.require_change()?;
    let environment = locked.environment(at.environment)?;
    let before = self::found(&found, &environment.environment, segment)?;
    check_etag(
        etag,
        &before.configuration.etag,
        Entity::SegmentConfiguration,
        segment.as_str(),
    )?;
    let around = Surroundings::read(&segments, &parts)?;
    let was = &before.configuration.configuration;
    let checked = patched(was, patch, &around.of(segment));
    let checked = checked.map_err(|violations| violations.below("configuration"))?;
    let Checked { value, warnings } = checked.below("configuration");
    let after = Configuration {
        key_list: was.key_list,
        ..value
    };
    if after == *was {
        return Ok(Written::unchanged(before.configuration).with_warnings(warnings));
    }

    let form = Bytes::from(form::write_segment(&after));
    let after = before.written(after, environment, locked.now);
    let mut journal = Journal::new(mutation, &locked);
    let item = configuration_item(segment, environment.next_revision(), Some(form.clone()));
    journal.change(environment, vec![item]);
    let (was, is) = (before.audited().map(audit::json), audit::json(&after.configuration)?);
    journal.record(record("segment_configuration.update", &after, was.transpose()?, is));
    let (project, row) = (locked.project.id, Columns::of(&after, &form));
    let id = environment.environment.id.0;
    let parts: Vec<_> = after.configuration.configuration.segments().collect();
    let writes: [pipeline::Query<'_>; 3] = [
        (UPSERT, &row.parameters(&project, &id)),
        (FORGET_PARTS, &[&id, &after.segment_id]),
        (INSERT_PARTS, &[&project, &id, &after.segment_id, &parts]),
    ];
    let written = journal.write(transaction, &writes, after.configuration.clone()).await?;
    Ok(written.with_warnings(warnings))
}

/// The configuration as the patch makes it, or everything that is wrong with that.
fn patched(
    before: &Configuration,
    patch: SegmentConfigurationPatch,
    around: &SegmentSurroundings<'_>,
) -> Result<Checked<Configuration>, Violations> {
    let SegmentConfigurationPatch {
        included,
        excluded,
        segments,
        conditions,
        strict,
    } = patch;
    let mut draft = draft::Segment::from(before);
    set(&mut draft.included, included);
    set(&mut draft.excluded, excluded);
    set(&mut draft.segments, segments);
    set(&mut draft.conditions, conditions);
    let checked = check::segment(&draft, around)?;
    if strict { checked.strictly() } else { Ok(checked) }
}

/// What a configuration depends on.
struct Surroundings {
    segments: HashSet<String>,
    parts: Graph,
}

impl Surroundings {
    fn read(segments: &[Row], parts: &[Row]) -> Result<Self, Error> {
        let mut edges: HashMap<&str, Vec<String>> = HashMap::new();
        for row in parts {
            let part = rows::get(row, "part")?;
            edges.entry(rows::get(row, "segment")?).or_default().push(part);
        }
        let mut parts = Graph::new();
        for (segment, of) in edges {
            parts.set(segment, of);
        }
        let segments = segments.iter().map(|row| rows::get(row, "key"));
        Ok(Self {
            segments: segments.collect::<Result<_, _>>()?,
            parts,
        })
    }

    fn of<'a>(&'a self, segment: &'a key::Segment) -> SegmentSurroundings<'a> {
        SegmentSurroundings {
            key: segment.as_str(),
            segments: &self.segments,
            parts: &self.parts,
        }
    }
}

/// The columns of a configuration.
pub(super) struct Columns<'a> {
    row: &'a ConfigurationRow,
    form: &'a [u8],
    conditions: Json<&'a [Condition]>,
    chunks: Option<i32>,
    keys: Option<i64>,
    version: i64,
}

impl<'a> Columns<'a> {
    pub(super) fn of(row: &'a ConfigurationRow, form: &'a [u8]) -> Self {
        let configuration = &row.configuration.configuration;
        let list = configuration.key_list;
        Self {
            row,
            form,
            conditions: Json(&configuration.conditions),
            chunks: list.map(|KeyList { chunks, .. }| i32::try_from(chunks).unwrap_or(i32::MAX)),
            keys: list.map(|KeyList { keys, .. }| rows::to_sql(keys)),
            version: row.version.map_or(UNWRITTEN, rows::to_sql),
        }
    }

    /// As [`UPSERT`] takes them.
    pub(super) fn parameters(&'a self, project: &'a i64, environment: &'a i64) -> [&'a (dyn ToSql + Sync); 11] {
        let configuration = &self.row.configuration.configuration;
        [
            project,
            environment,
            &self.row.segment_id,
            &self.form,
            &configuration.included,
            &configuration.excluded,
            &self.conditions,
            &self.chunks,
            &self.keys,
            &self.version,
            &self.row.configuration.updated_at,
        ]
    }
}

/// What a write of a configuration leaves in the audit log.
pub(super) fn record(
    action: &'static str,
    written: &ConfigurationRow,
    before: Option<String>,
    after: String,
) -> Record {
    let configuration = &written.configuration;
    Record {
        action,
        entity: Entity::SegmentConfiguration,
        key: configuration.segment.to_string(),
        project: configuration.project.to_string(),
        environment: configuration.environment.to_string(),
        before,
        after: Some(after),
    }
}
