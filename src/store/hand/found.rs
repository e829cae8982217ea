//! Items as their rows have them, and as the change log does at the head.

use bytes::Bytes;
use deadpool_postgres::Transaction;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::Wanted;
use crate::domain::change::EnvironmentId;
use crate::domain::flag::{Configuration, Definition, Variant};
use crate::domain::form::{self, ItemId, Kind};
use crate::domain::invalid::Violations;
use crate::domain::key;
use crate::domain::segment::{self, KeyList};
use crate::domain::value::{Value, ValueType};
use crate::store::error::Error;
use crate::store::{pipeline, rows};

/// The keys to look at: `$3` those that were named, and all that there are or were if `$4`.
const DEFINITIONS: &str = "
    with wanted as (
        select k as key from unnest($3::text[]) as k
        union select f.key from flags f where $4 and f.project_id = $2
        union select i.key from change_items i where $4 and i.environment_id = $1 and i.kind = 'flag_definition'
    )
    select w.key, w.key = any($3::text[]) as named, f.id as entity, f.form, f.form_version as version,
        f.value_type, f.off_variant, f.default_variant, f.client_visible,
        array(select v.key from flag_variants v where v.flag_id = f.id order by v.position) as variant_keys,
        array(select v.value::text from flag_variants v where v.flag_id = f.id order by v.position) as variant_values,
        array(select v.description from flag_variants v where v.flag_id = f.id order by v.position) as variant_descriptions,
        log.form as logged_form, log.version as logged_version
    from wanted w
    left join flags f on f.project_id = $2 and f.key = w.key and f.archived_at is null
    left join lateral (
        select i.form, i.version from change_items i
        where i.environment_id = $1 and i.kind = 'flag_definition' and i.key = w.key
        order by i.revision desc limit 1
    ) log on true
    order by w.key";
const CONFIGURATIONS: &str = "
    with wanted as (
        select k as key from unnest($3::text[]) as k
        union select f.key from flags f where $4 and f.project_id = $2
        union select i.key from change_items i where $4 and i.environment_id = $1 and i.kind = 'flag_configuration'
    )
    select w.key, w.key = any($3::text[]) as named, f.id as entity, c.form, c.version,
        c.enabled, c.rules::text, c.default_serve::text, c.salt, c.prerequisites::text,
        log.form as logged_form, log.version as logged_version
    from wanted w
    left join flags f on f.project_id = $2 and f.key = w.key and f.archived_at is null
    left join flag_configurations c on c.environment_id = $1 and c.flag_id = f.id
    left join lateral (
        select i.form, i.version from change_items i
        where i.environment_id = $1 and i.kind = 'flag_configuration' and i.key = w.key
        order by i.revision desc limit 1
    ) log on true
    order by w.key";
const SEGMENTS: &str = "
    with wanted as (
        select k as key from unnest($3::text[]) as k
        union select s.key from segments s where $4 and s.project_id = $2
        union select i.key from change_items i where $4 and i.environment_id = $1 and i.kind = 'segment_configuration'
    )
    select w.key, w.key = any($3::text[]) as named, s.id as entity, c.form, c.version,
        c.included, c.excluded, c.conditions::text, c.key_list_chunks, c.key_list_keys,
        log.form as logged_form, log.version as logged_version
    from wanted w
    left join segments s on s.project_id = $2 and s.key = w.key
    left join segment_configurations c on c.environment_id = $1 and c.segment_id = s.id
    left join lateral (
        select i.form, i.version from change_items i
        where i.environment_id = $1 and i.kind = 'segment_configuration' and i.key = w.key
        order by i.revision desc limit 1
    ) log on true
    order by w.key";
const CHUNKS: &str = "
    with wanted as (
        select k as key from unnest($3::text[]) as k
        union
        select s.key || '/' || c.chunk from segment_key_chunks c join segments s on s.id = c.segment_id
        where $4 and c.environment_id = $1
        union select i.key from change_items i where $4 and i.environment_id = $1 and i.kind = 'segment_keys'
    )
    select w.key, w.key = any($3::text[]) as named, s.id as entity, c.form, c.version,
        log.form as logged_form, log.version as logged_version
    from wanted w
    left join segments s on s.project_id = $2 and s.key = split_part(w.key, '/', 1)
    left join segment_key_chunks c on c.environment_id = $1 and c.segment_id = s.id
        and c.chunk::text = split_part(w.key, '/', 2)
    left join lateral (
        select i.form, i.version from change_items i
        where i.environment_id = $1 and i.kind = 'segment_keys' and i.key = w.key
        order by i.revision desc limit 1
    ) log on true
    order by w.key";

/// Of an experiment its form is edited, and nothing beside it: what it says of weights and states is its history too.
const EXPERIMENTS: &str = "
    with wanted as (
        select k as key from unnest($3::text[]) as k
        union
        select f.key || '/' || e.key from experiments e join flags f on f.id = e.flag_id where $4 and e.environment_id = $1
        union select i.key from change_items i where $4 and i.environment_id = $1 and i.kind = 'experiment'
    )
    select w.key, w.key = any($3::text[]) as named, e.id as entity, e.form, e.form_version as version,
        log.form as logged_form, log.version as logged_version
    from wanted w
    left join flags f on f.project_id = $2 and f.key = split_part(w.key, '/', 1) and f.archived_at is null
    left join experiments e on e.environment_id = $1 and e.flag_id = f.id and e.key = split_part(w.key, '/', 2)
    left join lateral (
        select i.form, i.version from change_items i
        where i.environment_id = $1 and i.kind = 'experiment' and i.key = w.key
        order by i.revision desc limit 1
    ) log on true
    order by w.key";

/// An item, wherever there is something of it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) id: ItemId,
    /// The id of its flag, segment or experiment. `None`: that is gone, or archived.
    pub(super) entity: Option<i64>,
    /// `None`: it has no row.
    pub(super) row: Option<Kept>,
    /// `None`: it was never written, or deleted last.
    pub(super) logged: Option<Logged>,
    /// The last version that the log has; 0 if none.
    pub(super) logged_version: u64,
}

/// A row.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) form: Bytes,
    pub(super) version: u64,
    /// The form of what the columns say. `None`: there are none, or nobody touched them, or they cannot be read.
    pub(super) told: Option<Bytes>,
}

/// What the change log has at the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) form: Bytes,
    pub(super) version: u64,
}

impl Found {
    /// Whether what was decided leaves a form that cannot be read.
    pub(super) fn is_unreadable(&self, decision: &super::Decision) -> bool {
        matches!(decision, super::Decision::Put(form) if !reads(self.id.kind, form))
    }
}

/// Finds what is wanted of one environment.
pub(super) async fn find(
    transaction: &Transaction<'_>,
    project: i64,
    environment: EnvironmentId,
    wanted: &Wanted,
) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for kind in Kind::ALL {
        let sql = match kind {
            Kind::Experiment => EXPERIMENTS,
            Kind::FlagConfiguration => CONFIGURATIONS,
            Kind::FlagDefinition => DEFINITIONS,
            Kind::SegmentConfiguration => SEGMENTS,
            Kind::SegmentKeys => CHUNKS,
        };
        let of_kind = wanted.items.iter().filter(|id| id.kind == kind);
        let keys: Vec<&str> = of_kind.map(|id| &*id.key).collect();
        if keys.is_empty() && !wanted.all {
            continue;
        }
        let parameters: [&(dyn ToSql + Sync); 4] = [&environment.0, &project, &keys, &wanted.all];
        for row in pipeline::one(transaction, (sql, &parameters)).await? {
            found.push(read(kind, &row)?);
        }
    }
    Ok(found)
}

fn read(kind: Kind, row: &Row) -> Result<Found, Error> {
    let key: &str = rows::get(row, "key")?;
    let logged = bytes(row, "logged_form")?;
    // Whatever was written there by hand: it is not a version, and the next one is.
    let version = |column| Ok::<_, Error>(rows::get::<Option<i64>>(row, column)?.unwrap_or_default());
    let logged_version = u64::try_from(version("logged_version")?).unwrap_or_default();
    let kept = match bytes(row, "form")? {
        None => None,
        Some(form) => {
            let form = match kind {
                Kind::FlagDefinition => named(form, key),
                Kind::Experiment | Kind::FlagConfiguration | Kind::SegmentConfiguration | Kind::SegmentKeys => form,
            };
            // Columns that nobody touched say what a damaged form said before: that is not to come back by itself.
            let told = if rows::get(row, "named")? || form.is_empty() {
                told(kind, key, row, [Some(&form), logged.as_ref()])?
            } else {
                None
            };
            Some(Kept {
                version: u64::try_from(version("version")?).unwrap_or_default(),
                form,
                told,
            })
        }
    };
    Ok(Found {
        id: ItemId { kind, key: key.into() },
        entity: rows::get(row, "entity")?,
        row: kept,
        logged: logged.map(|form| Logged {
            form,
            version: logged_version,
        }),
        logged_version,
    })
}

fn bytes(row: &Row, column: &'static str) -> Result<Option<Bytes>, Error> {
    Ok(rows::get::<Option<&[u8]>>(row, column)?.map(Bytes::copy_from_slice))
}

/// A definition's form, with the key that its flag has now.
fn named(form: Bytes, key: &str) -> Bytes {
    match (form::read_definition(&form), key.parse::<key::Flag>()) {
        (Ok(definition), Ok(key)) if definition.key != key => {
            form::write_definition(&Definition { key, ..definition }).into()
        }
        _ => form,
    }
}

/// The form of what the columns say. `forms`: where to take from what has no column.
fn told(kind: Kind, key: &str, row: &Row, forms: [Option<&Bytes>; 2]) -> Result<Option<Bytes>, Error> {
    let form = match kind {
        Kind::FlagDefinition => definition(key, row)?.as_ref().map(form::write_definition),
        Kind::FlagConfiguration => configuration(row)?.as_ref().map(form::write_configuration),
        Kind::SegmentConfiguration => {
            let base = forms
                .into_iter()
                .flatten()
                .find_map(|form| form::read_segment(form).ok());
            segment(row, base.unwrap_or_default())?
                .as_ref()
                .map(form::write_segment)
        }
        Kind::Experiment | Kind::SegmentKeys => None,
    };
    Ok(form.map(Bytes::from))
}

fn definition(key: &str, row: &Row) -> Result<Option<Definition>, Error> {
    let Some(value_type) = ValueType::from_name(rows::get(row, "value_type")?) else {
        return Ok(None);
    };
    let columns: [Vec<&str>; 3] = [
        rows::get(row, "variant_keys")?,
        rows::get(row, "variant_values")?,
        rows::get(row, "variant_descriptions")?,
    ];
    let [keys, values, descriptions] = columns;
    let variants = keys
        .iter()
        .zip(values)
        .zip(descriptions)
        .map(|((key, json), description)| {
            Some(Variant {
                key: key.parse().ok()?,
                value: value(value_type, json)?,
                description: description.to_owned(),
            })
        });
    let (Ok(key), Some(variants)) = (key.parse(), variants.collect()) else {
        return Ok(None);
    };
    let (off, default) = (rows::get(row, "off_variant")?, rows::get(row, "default_variant")?);
    let (Ok(off_variant), Ok(default_variant)) = (variant(off), variant(default)) else {
        return Ok(None);
    };
    Ok(Some(Definition {
        key,
        value_type,
        variants,
        off_variant,
        default_variant,
        client_visible: rows::get(row, "client_visible")?,
    }))
}

fn variant(key: Option<&str>) -> Result<Option<key::Variant>, Violations> {
    key.map(str::parse).transpose()
}

fn value(value_type: ValueType, json: &str) -> Option<Value> {
    Some(match value_type {
        ValueType::Bool => Value::Bool(parsed(json)?),
        ValueType::String => Value::String(parsed(json)?),
        ValueType::Integer => Value::Integer(parsed(json)?),
        ValueType::Double => Value::Double(parsed(json)?),
        ValueType::Object => Value::Object(parsed(json)?),
    })
}

fn configuration(row: &Row) -> Result<Option<Configuration>, Error> {
    let (rules, prerequisites) = (rows::get(row, "rules")?, rows::get(row, "prerequisites")?);
    let default: Option<&str> = rows::get(row, "default_serve")?;
    let (enabled, salt) = (rows::get(row, "enabled")?, rows::get(row, "salt")?);
    let read = || {
        Some(Configuration {
            enabled,
            prerequisites: parsed(prerequisites)?,
            rules: parsed(rules)?,
            default: match default {
                Some(json) => Some(parsed(json)?),
                None => None,
            },
            salt,
        })
    };
    Ok(read())
}

fn segment(row: &Row, base: segment::Configuration) -> Result<Option<segment::Configuration>, Error> {
    let chunks: Option<i32> = rows::get(row, "key_list_chunks")?;
    let keys: Option<i64> = rows::get(row, "key_list_keys")?;
    let Some(conditions) = parsed(rows::get(row, "conditions")?) else {
        return Ok(None);
    };
    let key_list = match chunks.zip(keys) {
        None => None,
        Some((chunks, keys)) => match (u32::try_from(chunks), u64::try_from(keys)) {
            (Ok(chunks), Ok(keys)) => Some(KeyList { chunks, keys }),
            _ => return Ok(None),
        },
    };
    Ok(Some(segment::Configuration {
        included: rows::get(row, "included")?,
        excluded: rows::get(row, "excluded")?,
        conditions,
        key_list,
        ..base
    }))
}

fn parsed<T: DeserializeOwned>(json: &str) -> Option<T> {
    serde_json::from_str(json).ok()
}

/// Whether a form can be read.
pub(super) fn reads(kind: Kind, form: &[u8]) -> bool {
    match kind {
        Kind::Experiment => form::read_experiment(form).is_ok(),
        Kind::FlagConfiguration => form::read_configuration(form).is_ok(),
        Kind::FlagDefinition => form::read_definition(form).is_ok(),
        Kind::SegmentConfiguration => form::read_segment(form).is_ok(),
        Kind::SegmentKeys => form::read_keys(form).is_ok(),
    }
}

/// Whether two forms can be read and mean the same.
pub(super) fn same(kind: Kind, a: &[u8], b: &[u8]) -> bool {
    fn both<T: PartialEq>(read: impl Fn(&[u8]) -> Result<T, form::Unreadable>, a: &[u8], b: &[u8]) -> bool {
        matches!((read(a), read(b)), (Ok(a), Ok(b)) if a == b)
    }
    match kind {
        Kind::Experiment => both(form::read_experiment, a, b),
        Kind::FlagConfiguration => both(form::read_configuration, a, b),
        Kind::FlagDefinition => both(form::read_definition, a, b),
        Kind::SegmentConfiguration => both(form::read_segment, a, b),
        Kind::SegmentKeys => both(form::read_keys, a, b),
    }
}
