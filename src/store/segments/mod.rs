//! Segments: named audiences, once per project. What they are called alters no answer; who belongs to them is configured per
//! environment, in [`configurations`], and long lists of targeting keys arrive by [`uploads`] and are put in force by
//! [`activation`].

mod activation;
mod chunks;
pub mod configurations;
mod keys;
mod preparation;
pub mod uploads;
mod write;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use super::environments::{Address, Environment};
use super::error::{Entity, Error};
use super::flags::any_case;
use super::mutation::{Mutation, Outcome, Versioned, Written};
use super::page::{Page, PageRequest, etag};
use super::{Store, pipeline, projects, rows};
use crate::domain::key;
use crate::domain::segment::Metadata;
use configurations::SegmentConfiguration;

pub use activation::{Activation, UploadMode};
pub use keys::{ListPlace, ListedKeys};
pub(super) use preparation::Turns;

const FIND: &str = "
    select p.key as project, s.id, s.key, s.name, s.description, s.version, s.created_at, s.updated_at
    from segments s join projects p on p.id = s.project_id
    where p.key = $1 and s.key = $2";
const LIST: &str = "
    select p.key as project, s.id, s.key, s.name, s.description, s.version, s.created_at, s.updated_at,
        c.form as configuration_form, c.version as configuration_version, c.updated_at as configuration_updated_at
    from projects p
    join segments s on s.project_id = p.id
    left join segment_configurations c on c.segment_id = s.id and c.environment_id = $4
    where p.key = $1 and s.key > $2 and ($5::text is null or s.key ~ $5 or s.name ~ $5 or s.description ~ $5)
    order by s.key limit $3";

/// A segment. What serialises is what audit entries keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// Its project.
    #[serde(skip)]
    pub project: key::Project,
    /// Its key.
    pub key: key::Segment,
    /// What people know of it.
    #[serde(flatten)]
    pub metadata: Metadata,
    /// When it was created.
    #[serde(skip)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[serde(skip)]
    pub updated_at: Timestamp,
    /// Changes with every change of the segment itself. Empty: nothing was written, only validated.
    #[serde(skip)]
    pub etag: String,
}

/// A segment to be, which contains nobody in any environment.
#[derive(Debug, Clone)]
pub struct NewSegment {
    /// Its key.
    pub key: key::Segment,
    /// What people know of it.
    pub metadata: Metadata,
}

/// What to change of a segment. `None`: leave it.
#[derive(Debug, Clone, Default)]
pub struct SegmentPatch {
    /// A name.
    pub name: Option<String>,
    /// For people. Empty: none.
    pub description: Option<String>,
}

/// Which segments of a project to list.
#[derive(Debug, Clone, Copy)]
pub struct SegmentFilter<'a> {
    /// The environment whose configurations to add. `None`: none.
    pub environment: Option<&'a key::Environment>,
    /// Only those that have this text in their key, name or description; case does not count. Empty: any.
    pub text: &'a str,
}

/// A segment as it is stored.
struct SegmentRow {
    id: i64,
    version: i64,
    segment: Segment,
}

impl Versioned for Segment {
    fn forget_etag(&mut self) {
        self.etag.clear();
    }
}

impl Store {
    /// Creates a segment. No environment's state has it until it is configured there, so it makes no revision.
    pub async fn create_segment(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        new: NewSegment,
        respond: impl FnOnce(&Written<Segment>) -> Vec<u8>,
    ) -> Result<Outcome<Segment>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            write::create(transaction, mutation, project, new).await
        })
        .await
    }

    /// Changes what people know of a segment. No revision.
    pub async fn update_segment(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        segment: &key::Segment,
        patch: SegmentPatch,
        etag: &str,
        respond: impl FnOnce(&Written<Segment>) -> Vec<u8>,
    ) -> Result<Outcome<Segment>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            write::update(transaction, mutation, project, segment, patch, etag).await
        })
        .await
    }

    /// Deletes a segment with its configurations, lists and uploads; answers with what it was. Refused while it is used.
    pub async fn delete_segment(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        segment: &key::Segment,
        etag: &str,
        respond: impl FnOnce(&Written<Segment>) -> Vec<u8>,
    ) -> Result<Outcome<Segment>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            write::delete(transaction, mutation, project, segment, etag).await
        })
        .await
    }

    /// Reads a segment.
    pub async fn get_segment(&self, project: &key::Project, segment: &key::Segment) -> Result<Segment, Error> {
        let client = self.reader().await?;
        let query: pipeline::Query<'_> = (FIND, &[&project.as_str(), &segment.as_str()]);
        match pipeline::one(&*client, query).await?.first() {
            Some(row) => Ok(from_row(row)?.segment),
            None if projects::exists(&*client, project).await? => Err(Error::not_found(Entity::Segment, segment)),
            None => Err(Error::not_found(Entity::Project, project)),
        }
    }

    /// Lists a project's segments by key, with one environment's configurations if asked.
    pub async fn list_segments(
        &self,
        project: &key::Project,
        filter: SegmentFilter<'_>,
        page: &PageRequest,
    ) -> Result<Page<(Segment, Option<SegmentConfiguration>)>, Error> {
        let SegmentFilter { environment, text } = filter;
        let environment = match environment {
            Some(environment) => Some(self.get_environment(Address { project, environment }).await?),
            None => None,
        };
        let client = self.reader().await?;
        let id = environment.as_ref().map(|environment| environment.id.0);
        let pattern = (!text.is_empty()).then(|| any_case(text));
        let list: pipeline::Query<'_> = (LIST, &[&project.as_str(), &page.after, &page.limit(), &id, &pattern]);
        let found = pipeline::one(&*client, list).await?;
        if found.is_empty() && !projects::exists(&*client, project).await? {
            return Err(Error::not_found(Entity::Project, project));
        }
        let listed = found
            .iter()
            .map(|row| listed(row, environment.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(page.page(listed, |(segment, _): &(Segment, _)| segment.key.to_string()))
    }
}

fn listed(row: &Row, environment: Option<&Environment>) -> Result<(Segment, Option<SegmentConfiguration>), Error> {
    let SegmentRow {
        id,
        version: _,
        segment,
    } = from_row(row)?;
    let configuration = match environment {
        Some(environment) => Some(configurations::from_row(row, environment, id, &segment.key)?.configuration),
        None => None,
    };
    Ok((segment, configuration))
}

/// Reads a segment with its project's key.
fn from_row(row: &Row) -> Result<SegmentRow, Error> {
    let (id, version) = (rows::get(row, "id")?, rows::get(row, "version")?);
    Ok(SegmentRow {
        id,
        version,
        segment: Segment {
            project: rows::parsed(row, "project", key::Project::new)?,
            key: rows::parsed(row, "key", key::Segment::new)?,
            metadata: Metadata {
                name: rows::get(row, "name")?,
                description: rows::get(row, "description")?,
            },
            created_at: rows::get(row, "created_at")?,
            updated_at: rows::get(row, "updated_at")?,
            etag: etag([id, version]),
        },
    })
}
