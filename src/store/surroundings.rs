//! What a flag's configuration is checked against: the flags and segments that it may name, and who depends on whom around it.
//!
//! Read in the round trip that finds the flag. A configuration that depends on nothing, and that nothing depends on, finds
//! nothing here but its flag; so most writes cost what they always did.

use std::collections::{BTreeMap, HashMap, HashSet};

use tokio_postgres::Row;

use super::error::Error;
use super::rows;
use crate::domain::flag::Definition;
use crate::domain::form;
use crate::domain::graph::Graph;

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

/// What there is around a configuration.
pub(super) struct Surroundings {
    /// Flags that may be prerequisites.
    pub flags: HashMap<String, Definition>,
    /// The keys of segments that may be asked about.
    pub segments: HashSet<String>,
    /// Who depends on whom.
    pub prerequisites: Graph,
}

impl Surroundings {
    /// From the rows of [`FLAGS`], [`SEGMENTS`] and [`PREREQUISITES`].
    pub(super) fn from_rows([flags, segments, edges]: [&[Row]; 3]) -> Result<Self, Error> {
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
            flags: flags.iter().map(definition).collect::<Result<_, Error>>()?,
            segments: segments
                .iter()
                .map(|row| rows::get(row, "key"))
                .collect::<Result<_, Error>>()?,
            prerequisites,
        })
    }
}
