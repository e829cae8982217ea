//! Projects: what holds environments and flags.

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::audit::{self, Record};
use super::error::{Entity, Error};
use super::journal::Journal;
use super::lock::{self, Locked, Scope};
use super::mutation::{Actor, Mutation, Outcome, Versioned, Written};
use super::page::{Page, PageRequest, check_etag, etag};
use super::{Store, pipeline, rows};
use crate::domain::access::{Permission, Role};
use crate::domain::invalid::Violations;
use crate::domain::{check, key, limits};

const FIND: &str = "
    select id, key, name, description, version, definition_changes, created_at, updated_at from projects where key = $1";
const LIST: &str = "
    select id, key, name, description, version, definition_changes, created_at, updated_at from projects p
    where key > $1 and ($2::uuid is null or exists (select from members m where m.project_id = p.id and m.user_id = $2))
        and ($3::text is null or key = $3)
    order by key limit $4";
/// Of two projects that one user creates at the same time the second is counted with the first. Whoever locks users comes from a
/// project or a chain that exists; this transaction waits for neither afterwards.
const LOCK_OWNER: &str = "select id from users where id = $1 for no key update";
const COUNT_OWNED: &str = "select count(*) as owned from members where user_id = $1 and role = 'owner'";
const INSERT: &str = "
    insert into projects (key, name, description, created_at, updated_at) values ($1, $2, $3, $4, $4)
    on conflict (key) do nothing
    returning id, key, name, description, version, definition_changes, created_at, updated_at";
const INSERT_MEMBER: &str = "insert into members (project_id, user_id, role) values ($1, $2, $3)";
const UPDATE: &str = "
    update projects set name = $2, description = $3, version = version + 1, updated_at = $4 where id = $1";
const DELETE: &str = "delete from projects where id = $1";

/// A project. What serialises is what audit entries keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Project {
    /// Its key.
    pub key: key::Project,
    /// For people.
    pub name: String,
    /// For people. Empty: none.
    pub description: String,
    /// When it was created.
    #[serde(skip)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[serde(skip)]
    pub updated_at: Timestamp,
    /// Changes with every change. Empty: nothing was written, only validated.
    #[serde(skip)]
    pub etag: String,
}

/// A project to be.
#[derive(Debug, Clone)]
pub struct NewProject {
    /// Its key.
    pub key: key::Project,
    /// For people.
    pub name: String,
    /// For people. Empty: none.
    pub description: String,
}

/// What to change of a project. `None`: leave it.
#[derive(Debug, Clone, Default)]
pub struct ProjectPatch {
    /// For people.
    pub name: Option<String>,
    /// For people. Empty: none.
    pub description: Option<String>,
}

/// Whose projects to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Viewer {
    /// Everyone's.
    Administrator,
    /// Those in which this user has a role.
    Member(Uuid),
    /// This one alone: that of a service token.
    Machine(key::Project),
}

/// A project with what only the store knows of it.
pub(super) struct ProjectRow {
    pub id: i64,
    /// How often definitions of its flags changed.
    pub definition_changes: u64,
    version: i64,
    pub project: Project,
}

impl Versioned for Project {
    fn forget_etag(&mut self) {
        self.etag.clear();
    }
}

impl Store {
    /// Creates a project; a user who does becomes its owner.
    pub async fn create_project(
        &self,
        mutation: &Mutation,
        new: NewProject,
        respond: impl FnOnce(&Written<Project>) -> Vec<u8>,
    ) -> Result<Outcome<Project>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            create(transaction, mutation, &new).await
        })
        .await
    }

    /// Changes a project's name or description.
    pub async fn update_project(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        patch: ProjectPatch,
        etag: &str,
        respond: impl FnOnce(&Written<Project>) -> Vec<u8>,
    ) -> Result<Outcome<Project>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            update(transaction, mutation, project, patch, etag).await
        })
        .await
    }

    /// Deletes a project with everything in it; answers with what it was. Its audit entries stay.
    pub async fn delete_project(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        etag: &str,
        respond: impl FnOnce(&Written<Project>) -> Vec<u8>,
    ) -> Result<Outcome<Project>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            delete(transaction, mutation, project, etag).await
        })
        .await
    }

    /// Reads a project.
    pub async fn get_project(&self, project: &key::Project) -> Result<Project, Error> {
        let found = pipeline::one(&*self.reader().await?, (FIND, &[&project.as_str()])).await?;
        let row = found
            .first()
            .ok_or_else(|| Error::not_found(Entity::Project, project))?;
        Ok(from_row(row)?.project)
    }

    /// Lists projects by key.
    pub async fn list_projects(&self, viewer: Viewer, page: &PageRequest) -> Result<Page<Project>, Error> {
        let (user, only) = match &viewer {
            Viewer::Administrator => (None, None),
            Viewer::Member(user) => (Some(user), None),
            Viewer::Machine(project) => (None, Some(project.as_str())),
        };
        let client = self.reader().await?;
        let found = pipeline::one(&*client, (LIST, &[&page.after, &user, &only, &page.limit()])).await?;
        let projects = found
            .iter()
            .map(|row| Ok(from_row(row)?.project))
            .collect::<Result<_, Error>>()?;
        Ok(page.page(projects, |project: &Project| project.key.to_string()))
    }
}

/// Whether a project exists: for reads that found nothing, to say what is missing.
pub(super) async fn exists(client: &impl GenericClient, project: &key::Project) -> Result<bool, Error> {
    Ok(!pipeline::one(client, (FIND, &[&project.as_str()])).await?.is_empty())
}

/// Reads a project with all its columns.
pub(super) fn from_row(row: &Row) -> Result<ProjectRow, Error> {
    let id = rows::get(row, "id")?;
    let version = rows::get(row, "version")?;
    Ok(ProjectRow {
        id,
        definition_changes: rows::number(row, "definition_changes")?,
        version,
        project: Project {
            key: rows::parsed(row, "key", key::Project::new)?,
            name: rows::get(row, "name")?,
            description: rows::get(row, "description")?,
            created_at: rows::get(row, "created_at")?,
            updated_at: rows::get(row, "updated_at")?,
            etag: etag([id, version]),
        },
    })
}

async fn create(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    new: &NewProject,
) -> Result<Written<Project>, Error> {
    let (now, standing) = lock::instance_standing(transaction, &mutation.caller).await?;
    if !Permission::CreateProjects.granted_to(standing) {
        return Err(Error::Denied);
    }
    check_texts(&new.name, &new.description)?;
    if let (Actor::User(user), None) = (mutation.caller.actor, standing.instance) {
        require_room(transaction, user).await?;
    }
    let key = new.key.as_str();
    let inserted = pipeline::one(transaction, (INSERT, &[&key, &new.name, &new.description, &now])).await?;
    let row = inserted.first().ok_or_else(|| Error::AlreadyExists {
        entity: Entity::Project,
        key: key.to_owned(),
    })?;
    let ProjectRow { id, project, .. } = from_row(row)?;

    let mut journal = Journal::of_chain(mutation, audit::Head::empty(id.to_string()), now);
    journal.record(record("project.create", None, Some(&project))?);
    let Actor::User(user) = mutation.caller.actor else {
        return journal.write(transaction, &[], project).await;
    };
    journal.touch_access();
    let owner = Role::Owner.name();
    journal
        .write(transaction, &[(INSERT_MEMBER, &[&id, &user, &owner])], project)
        .await
}

/// Refuses somebody who owns as many projects as they may.
async fn require_room(transaction: &Transaction<'_>, user: Uuid) -> Result<(), Error> {
    let reads: [pipeline::Query<'_>; 2] = [(LOCK_OWNER, &[&user]), (COUNT_OWNED, &[&user])];
    let [_, counted] = pipeline::all(transaction, reads).await?;
    let owned = counted.first().map(|row| rows::number(row, "owned")).transpose()?;
    if owned >= Some(limits::OWNED_PROJECTS as u64) {
        return Err(Error::LimitReached {
            entity: Entity::Project,
            limit: limits::OWNED_PROJECTS,
        });
    }
    Ok(())
}

async fn update(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    patch: ProjectPatch,
    etag: &str,
) -> Result<Written<Project>, Error> {
    let locked = acquire(transaction, mutation, project, etag, Permission::ManageEnvironments).await?;
    let before = &locked.project.project;
    let after = Project {
        name: patch.name.unwrap_or_else(|| before.name.clone()),
        description: patch.description.unwrap_or_else(|| before.description.clone()),
        ..before.clone()
    };
    check_texts(&after.name, &after.description)?;
    if after == *before {
        return Ok(Written::unchanged(after));
    }
    let after = Project {
        updated_at: locked.now,
        etag: self::etag([locked.project.id, locked.project.version + 1]),
        ..after
    };
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("project.update", Some(before), Some(&after))?);
    let (name, description) = (after.name.clone(), after.description.clone());
    let write: pipeline::Query<'_> = (UPDATE, &[&locked.project.id, &name, &description, &locked.now]);
    journal.write(transaction, &[write], after).await
}

async fn delete(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    etag: &str,
) -> Result<Written<Project>, Error> {
    let locked = acquire(transaction, mutation, project, etag, Permission::DeleteProject).await?;
    let before = locked.project.project.clone();
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("project.delete", Some(&before), None)?);
    journal.touch_access();
    let delete: [pipeline::Query<'_>; 2] = [pipeline::LONG, (DELETE, &[&locked.project.id])];
    journal.write(transaction, &delete, before).await
}

async fn acquire(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    etag: &str,
    permission: Permission,
) -> Result<Locked, Error> {
    let (locked, []) = lock::acquire(transaction, &mutation.caller, Scope::Project(project), []).await?;
    locked.require(permission)?;
    check_etag(etag, &locked.project.project.etag, Entity::Project, project.as_str())?;
    Ok(locked)
}

fn check_texts(name: &str, description: &str) -> Result<(), Violations> {
    let mut violations = Violations::new();
    check::text(&mut violations, "project.name", name, limits::NAME_CHARS);
    check::text(
        &mut violations,
        "project.description",
        description,
        limits::DESCRIPTION_CHARS,
    );
    violations.or(())
}

fn record(action: &'static str, before: Option<&Project>, after: Option<&Project>) -> Result<Record, Error> {
    let key = before
        .or(after)
        .map(|project| project.key.to_string())
        .unwrap_or_default();
    Ok(Record {
        action,
        entity: Entity::Project,
        project: key.clone(),
        key,
        environment: String::new(),
        before: before.map(audit::json).transpose()?,
        after: after.map(audit::json).transpose()?,
    })
}
