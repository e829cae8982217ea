//! The revisions that changed a flag: who, when and what.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::domain::flag::{Configuration, Definition};
use crate::domain::form::{self, Kind};
use crate::domain::{key, limits};
use crate::store::environments::Address;
use crate::store::error::{Error, Flaw};
use crate::store::page::Page;
use crate::store::{Store, pipeline, rows};

/// As many revisions as the page may have, and no more once their forms exceed its bytes; with what each item was before.
///
/// A revision has at most two items of a flag, so that the innermost query reads no more of the log than it must.
const LIST: &str = "
    with recent as (
        select revision, kind, form, octet_length(form) as bytes
        from change_items
        where environment_id = $1 and kind in ('flag_configuration', 'flag_definition') and key = $2 and revision < $3
            and revision > (select h.history_revision from environment_heads h where h.environment_id = $1)
        order by revision desc limit $4::bigint * 2
    ), counted as (
        select revision, kind, form, dense_rank() over (order by revision desc) as place,
            coalesce(sum(bytes) over (order by revision desc groups between unbounded preceding and 1 preceding), 0) as bytes
        from recent
    )
    select i.revision, i.kind, i.form, c.committed_at, c.actor, u.email as actor_name, previous.form as previous_form,
        exists (
            select from change_items o
            where o.environment_id = $1 and o.kind in ('flag_configuration', 'flag_definition') and o.key = $2
                and o.revision < i.revision
                and o.revision > (select h.history_revision from environment_heads h where h.environment_id = $1)
        ) as more
    from counted i
    join changes c on c.environment_id = $1 and c.revision = i.revision
    left join users u on c.actor = 'user:' || u.id
    left join lateral (
        select p.form from change_items p
        where p.environment_id = $1 and p.kind = i.kind and p.key = $2 and p.revision < i.revision
        order by p.revision desc limit 1
    ) previous on true
    where i.place <= $4::bigint and i.bytes < $5::bigint
    order by i.revision desc, i.kind desc";

const FLOOR: &str = "select history_revision as floor from environment_heads where environment_id = $1";

/// What one revision of an environment did to a flag.
#[derive(Debug, Clone, PartialEq)]
pub struct FlagRevision {
    /// Which.
    pub revision: u64,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// Who made it, as the audit log has it.
    pub actor: String,
    /// The e-mail address that the account has now. Empty: none.
    pub actor_name: String,
    /// To the definition, then to the configuration; at least one.
    pub changes: Vec<FlagChange>,
}

/// What a revision did to one part of a flag.
#[derive(Debug, Clone, PartialEq)]
pub struct FlagChange {
    /// The part after the revision.
    pub part: Part,
    /// The fields that are not what they were, as callers know them. None: the part is new, or gone, or cannot be compared.
    pub fields: Vec<&'static str>,
    /// Whether the part was edited by hand into something that cannot be read; it is then told as if it were gone.
    pub unreadable: bool,
}

/// A part of a flag that has revisions. `None`: it was deleted or archived.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// The definition, the same in every environment.
    Definition(Option<Definition>),
    /// The configuration in the environment.
    Configuration(Option<Configuration>),
}

impl Store {
    /// Lists the revisions before one (`None`: all) that changed a flag, newest first, at most so many; of deleted flags too. A
    /// page is shorter if its forms are large. The list ends where the history that is kept begins; asking for what lies before
    /// is refused.
    pub async fn list_revisions(
        &self,
        at: Address<'_>,
        flag: &key::Flag,
        before: Option<u64>,
        size: usize,
    ) -> Result<Page<FlagRevision>, Error> {
        let environment = self.get_environment(at).await?;
        let client = self.reader().await?;
        if let Some(before) = before {
            let found = pipeline::one(&*client, (FLOOR, &[&environment.id.0])).await?;
            let floor = found.first().map(|row| rows::number(row, "floor")).transpose()?;
            let floor = floor.unwrap_or_default();
            if floor > 0 && before <= floor + 1 {
                return Err(super::gone(before.saturating_sub(1), floor));
            }
        }
        let list: pipeline::Query<'_> = (
            LIST,
            &[
                &environment.id.0,
                &flag.as_str(),
                &rows::to_sql(before.unwrap_or(u64::MAX)),
                &rows::to_sql(size as u64),
                &rows::to_sql(limits::REVISIONS_PAGE_BYTES as u64),
            ],
        );
        let found = pipeline::one(&*client, list).await?;
        if found.is_empty() && before.is_none() {
            // A flag that never changed here is told from one that never was.
            drop(client);
            self.get_flag(at.project, flag).await?;
        }
        let next = match found.last() {
            Some(row) if rows::get(row, "more")? => Some(rows::number(row, "revision")?.to_string()),
            Some(_) | None => None,
        };
        Ok(Page {
            items: revisions(&found)?,
            next,
        })
    }
}

/// One revision of each run of rows.
fn revisions(found: &[Row]) -> Result<Vec<FlagRevision>, Error> {
    let mut revisions: Vec<FlagRevision> = Vec::new();
    for row in found {
        let revision = rows::number(row, "revision")?;
        let change = change(row)?;
        match revisions.last_mut().filter(|last| last.revision == revision) {
            Some(last) => last.changes.push(change),
            None => revisions.push(FlagRevision {
                revision,
                committed_at: rows::get(row, "committed_at")?,
                actor: rows::get(row, "actor")?,
                actor_name: rows::get::<Option<String>>(row, "actor_name")?.unwrap_or_default(),
                changes: vec![change],
            }),
        }
    }
    Ok(revisions)
}

fn change(row: &Row) -> Result<FlagChange, Error> {
    let forms = [rows::get(row, "previous_form")?, rows::get(row, "form")?];
    match rows::named(row, "kind", Kind::from_name)? {
        Kind::FlagDefinition => {
            let Read { before, after } = Read::new(forms, form::read_definition);
            Ok(FlagChange {
                fields: differing(before.as_ref(), after.as_ref(), definition_fields),
                unreadable: forms[1].is_some() && after.is_none(),
                part: Part::Definition(after),
            })
        }
        Kind::FlagConfiguration => {
            let Read { before, after } = Read::new(forms, form::read_configuration);
            Ok(FlagChange {
                fields: differing(before.as_ref(), after.as_ref(), configuration_fields),
                unreadable: forms[1].is_some() && after.is_none(),
                part: Part::Configuration(after),
            })
        }
        // The statement asks for no others.
        Kind::Experiment | Kind::SegmentConfiguration | Kind::SegmentKeys => Err(rows::corrupt("kind", Flaw::Range)),
    }
}

/// A part before and after a revision. What cannot be read was edited by hand, and must not hide the rest of the history.
struct Read<T> {
    before: Option<T>,
    after: Option<T>,
}

impl<T> Read<T> {
    fn new(forms: [Option<&[u8]>; 2], read: impl Fn(&[u8]) -> Result<T, form::Unreadable>) -> Self {
        let [before, after] = forms.map(|form| form.and_then(|form| read(form).ok()));
        Self { before, after }
    }
}

/// The fields that differ between two that are both there.
fn differing<T>(
    before: Option<&T>,
    after: Option<&T>,
    fields: impl FnOnce(&T, &T) -> [(&'static str, bool); 5],
) -> Vec<&'static str> {
    let compared = before.zip(after).map(|(before, after)| fields(before, after));
    let differing = compared.into_iter().flatten().filter(|(_, same)| !same);
    differing.map(|(field, _)| field).collect()
}

/// Whether each field is what it was.
fn definition_fields(before: &Definition, after: &Definition) -> [(&'static str, bool); 5] {
    let Definition {
        key: _,
        value_type,
        variants,
        off_variant,
        default_variant,
        client_visible,
    } = after;
    [
        ("type", before.value_type == *value_type),
        ("variants", before.variants == *variants),
        ("off_variant", before.off_variant == *off_variant),
        ("default_variant", before.default_variant == *default_variant),
        ("client_visible", before.client_visible == *client_visible),
    ]
}

/// The same, of a configuration.
fn configuration_fields(before: &Configuration, after: &Configuration) -> [(&'static str, bool); 5] {
    let Configuration {
        enabled,
        prerequisites,
        rules,
        default,
        salt,
    } = after;
    [
        ("enabled", before.enabled == *enabled),
        ("prerequisites", before.prerequisites == *prerequisites),
        ("rules", before.rules == *rules),
        ("default_serve", before.default == *default),
        ("salt", before.salt == *salt),
    ]
}
