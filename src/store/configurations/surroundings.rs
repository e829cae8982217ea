//! What a flag's configuration is checked against: the flags and segments that it may name, and who depends on whom around it.
//!
//! Read in the round trip that finds the flag. A configuration that depends on nothing, and that nothing depends on, finds
//! nothing here but its flag; so most writes cost what they always did.

use std::collections::{BTreeMap, HashMap, HashSet};

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;

use crate::domain::flag::Definition;
use crate::domain::graph::Graph;
use crate::domain::rule::{Operand, Operator};
use crate::domain::{check, draft, form, key};
use crate::store::environments::Address;
use crate::store::error::Error;
use crate::store::{pipeline, rows};

/// The flags that may be prerequisites: of those that are named ($4) or that the flag depends on now, whichever are not archived.
pub(super) const FLAGS: &str = "
    select f.key, f.form
    from projects p
    join flags f on f.project_id = p.id
    where p.key = $1 and f.archived_at is null and (f.key = any($4::text[]) or f.id in (
        select l.prerequisite_id from flag_prerequisites l
        join environments e on e.id = l.environment_id
        join flags own on own.id = l.flag_id
        where e.project_id = p.id and e.key = $2 and own.project_id = p.id and own.key = $3))";
/// Of the segments that are named ($4) or that the flag asks about now, those that there are.
pub(super) const SEGMENTS: &str = "
    select s.key
    from projects p
    join segments s on s.project_id = p.id
    where p.key = $1 and (s.key = any($4::text[]) or s.id in (
        select l.segment_id from flag_segments l
        join environments e on e.id = l.environment_id
        join flags own on own.id = l.flag_id
        where e.project_id = p.id and e.key = $2 and own.project_id = p.id and own.key = $3))";
/// Who depends on whom, as far as it matters: whatever depends on the flag, and all that those and the named ($4) depend on.
/// Archived flags count, so that one that is restored finds everything as it must be.
pub(super) const PREREQUISITES: &str = "
    with recursive place as (
        select p.id as project_id, e.id as environment_id
        from projects p join environments e on e.project_id = p.id
        where p.key = $1 and e.key = $2
    ), above as (
        select f.id from place join flags f on f.project_id = place.project_id where f.key = $3
        union
        select l.flag_id from above
        join flag_prerequisites l on l.prerequisite_id = above.id
        join place on place.environment_id = l.environment_id
    ), below as (
        select id from above
        union
        select f.id from place join flags f on f.project_id = place.project_id where f.key = any($4::text[])
        union
        select l.prerequisite_id from below
        join place on true
        join flag_prerequisites l on l.environment_id = place.environment_id and l.flag_id = below.id
    )
    select f.key as flag, r.key as prerequisite
    from below
    join place on true
    join flag_prerequisites l on l.environment_id = place.environment_id and l.flag_id = below.id
    join flags f on f.id = l.flag_id
    join flags r on r.id = l.prerequisite_id
    order by flag, prerequisite";

/// What a draft names, as far as such things can exist: no other text is sent to the database.
pub(super) struct Named<'a> {
    pub flags: Vec<&'a str>,
    pub segments: Vec<&'a str>,
}

impl<'a> Named<'a> {
    /// What prerequisites and rules name.
    pub(super) fn of(prerequisites: &'a [draft::Prerequisite], rules: &'a [draft::Rule]) -> Self {
        let conditions = rules.iter().flat_map(|rule| &rule.conditions);
        let asked = conditions.filter(|condition| condition.operator == Some(Operator::InSegment));
        let segments = asked
            .flat_map(|condition| &condition.values)
            .filter_map(|value| match value {
                Some(Operand::String(segment)) => Some(segment.as_str()),
                Some(Operand::Bool(_) | Operand::Number(_)) | None => None,
            });
        let flags = prerequisites.iter().map(|prerequisite| prerequisite.flag.as_str());
        Self {
            flags: flags.filter(|flag| key::Flag::new(flag).is_ok()).collect(),
            segments: segments.filter(|segment| key::Segment::new(segment).is_ok()).collect(),
        }
    }
}

/// Reads what is around a draft of a flag's configuration.
pub(super) async fn around(
    client: &impl GenericClient,
    at: Address<'_>,
    flag: Definition,
    draft: &draft::Configuration,
) -> Result<Surroundings, Error> {
    let named = Named::of(&draft.prerequisites, &draft.rules);
    let (project, environment, key) = (at.project.as_str(), at.environment.as_str(), flag.key.as_str());
    let queries: [pipeline::Query<'_>; 3] = [
        (FLAGS, &[&project, &environment, &key, &named.flags]),
        (SEGMENTS, &[&project, &environment, &key, &named.segments]),
        (PREREQUISITES, &[&project, &environment, &key, &named.flags]),
    ];
    let [flags, segments, edges] = pipeline::all(client, queries).await?;
    Surroundings::from_rows(flag, [&flags, &segments, &edges])
}

/// What there is around a configuration.
pub(super) struct Surroundings {
    flag: Definition,
    /// Flags that may be prerequisites.
    flags: HashMap<String, Definition>,
    /// The keys of segments that may be asked about.
    segments: HashSet<String>,
    /// Who depends on whom.
    prerequisites: Graph,
}

impl Surroundings {
    /// From the rows of [`FLAGS`], [`SEGMENTS`] and [`PREREQUISITES`].
    pub(super) fn from_rows(flag: Definition, [flags, segments, edges]: [&[Row]; 3]) -> Result<Self, Error> {
        let definition = |row: &Row| {
            let definition = form::read_definition(rows::get(row, "form")?);
            Ok((
                rows::get(row, "key")?,
                definition.map_err(|error| rows::corrupt("form", error))?,
            ))
        };
        let mut depend: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for row in edges {
            depend
                .entry(rows::get(row, "flag")?)
                .or_default()
                .push(rows::get(row, "prerequisite")?);
        }
        let mut prerequisites = Graph::new();
        for (flag, on) in depend {
            prerequisites.set(flag, on);
        }
        Ok(Self {
            flag,
            flags: flags.iter().map(definition).collect::<Result<_, Error>>()?,
            segments: segments
                .iter()
                .map(|row| rows::get(row, "key"))
                .collect::<Result<_, Error>>()?,
            prerequisites,
        })
    }

    /// The same, as a check takes it.
    pub(super) fn borrow(&self) -> check::Surroundings<'_> {
        check::Surroundings {
            flag: &self.flag,
            flags: &self.flags,
            prerequisites: &self.prerequisites,
            segments: &self.segments,
        }
    }
}
