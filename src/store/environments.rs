//! Environments: the stages of a project.

use bytes::Bytes;
use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use super::audit::{self, Record};
use super::error::{Entity, Error};
use super::journal::{Item, Journal};
use super::keys::{self, Key, NewKey};
use super::lock::{self, LockedEnvironment, Scope};
use super::mutation::{Mutation, Outcome, Versioned, Written};
use super::page::{Page, PageRequest, check_etag, etag};
use super::{Store, pipeline, projects, rows};
use crate::domain::access::Permission;
use crate::domain::change::{Digest, EnvironmentId};
use crate::domain::form::{ItemId, Kind};
use crate::domain::invalid::Violations;
use crate::domain::{check, key, limits};

/// The environments of a project, or one of them, with where they stand.
pub(super) const IN_PROJECT: &str = "
    select e.id, p.key as project, e.key, e.name, e.description, e.protected, e.version, e.created_at, e.updated_at,
        h.revision, h.digest
    from projects p
    join environments e on e.project_id = p.id
    join environment_heads h on h.environment_id = e.id
    where p.key = $1 and ($2::text is null or e.key = $2)
    order by e.id";
const LIST: &str = "
    select e.id, p.key as project, e.key, e.name, e.description, e.protected, e.version, e.created_at, e.updated_at, h.revision
    from projects p
    join environments e on e.project_id = p.id
    join environment_heads h on h.environment_id = e.id
    where p.key = $1 and e.key > $2
    order by e.key limit $3";
const DEFINITIONS: &str = "
    select f.key, f.form, f.form_version from flags f join projects p on p.id = f.project_id
    where p.key = $1 and f.archived_at is null
    order by f.key";
const INSERT: &str = "
    insert into environments (project_id, key, name, description, protected, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $6)
    returning id, version";
const UPDATE: &str = "
    update environments set name = $2, description = $3, protected = $4, version = version + 1, updated_at = $5
    where id = $1
    returning version";
const DELETE: &str = "delete from environments where id = $1";

/// Which environment.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    /// The project's key.
    pub project: &'a key::Project,
    /// The environment's key.
    pub environment: &'a key::Environment,
}

/// An environment. What serialises is what audit entries keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// Names it in the store.
    #[serde(skip)]
    pub id: EnvironmentId,
    /// Its project.
    #[serde(skip)]
    pub project: key::Project,
    /// Its key.
    pub key: key::Environment,
    /// For people.
    pub name: String,
    /// For people. Empty: none.
    pub description: String,
    /// Whether only admins and owners may change what it answers.
    pub protected: bool,
    /// The number of its last committed change.
    #[serde(skip)]
    pub revision: u64,
    /// When it was created.
    #[serde(skip)]
    pub created_at: Timestamp,
    /// When it was last changed itself; changes of flags do not count.
    #[serde(skip)]
    pub updated_at: Timestamp,
    /// Changes with every change of the environment itself. Empty: nothing was written, only validated.
    #[serde(skip)]
    pub etag: String,
}

/// An environment to be.
#[derive(Debug, Clone)]
pub struct NewEnvironment {
    /// Its key.
    pub key: key::Environment,
    /// For people.
    pub name: String,
    /// For people. Empty: none.
    pub description: String,
    /// Whether only admins and owners may change what it answers.
    pub protected: bool,
    /// Its first keys.
    pub keys: [NewKey; 2],
}

/// An environment and the keys made with it.
#[derive(Debug, Clone)]
pub struct CreatedEnvironment {
    /// The environment.
    pub environment: Environment,
    /// In the order in which they were given.
    pub keys: Vec<Key>,
}

/// What to change of an environment. `None`: leave it.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentPatch {
    /// For people.
    pub name: Option<String>,
    /// For people. Empty: none.
    pub description: Option<String>,
    /// Whether only admins and owners may change what it answers.
    pub protected: Option<bool>,
}

impl Versioned for Environment {
    fn forget_etag(&mut self) {
        self.etag.clear();
    }
}

impl Versioned for CreatedEnvironment {
    fn forget_etag(&mut self) {
        self.environment.forget_etag();
    }
}

impl Store {
    /// Creates an environment, in which every flag is off. Its first revision holds every definition.
    pub async fn create_environment(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        new: NewEnvironment,
        respond: impl FnOnce(&Written<CreatedEnvironment>) -> Vec<u8>,
    ) -> Result<Outcome<CreatedEnvironment>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            create(transaction, mutation, project, &new).await
        })
        .await
    }

    /// Changes an environment's name, description or protection.
    pub async fn update_environment(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        patch: EnvironmentPatch,
        etag: &str,
        respond: impl FnOnce(&Written<Environment>) -> Vec<u8>,
    ) -> Result<Outcome<Environment>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            update(transaction, mutation, at, patch, etag).await
        })
        .await
    }

    /// Deletes an environment with its configurations, keys and change log; answers with what it was.
    pub async fn delete_environment(
        &self,
        mutation: &Mutation,
        at: Address<'_>,
        etag: &str,
        respond: impl FnOnce(&Written<Environment>) -> Vec<u8>,
    ) -> Result<Outcome<Environment>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            delete(transaction, mutation, at, etag).await
        })
        .await
    }

    /// Reads an environment.
    pub async fn get_environment(&self, at: Address<'_>) -> Result<Environment, Error> {
        let client = self.reader().await?;
        let query: pipeline::Query<'_> = (IN_PROJECT, &[&at.project.as_str(), &at.environment.as_str()]);
        match pipeline::one(&*client, query).await?.first() {
            Some(row) => from_row(row),
            None if projects::exists(&*client, at.project).await? => {
                Err(Error::not_found(Entity::Environment, at.environment))
            }
            None => Err(Error::not_found(Entity::Project, at.project)),
        }
    }

    /// Lists a project's environments by key.
    pub async fn list_environments(
        &self,
        project: &key::Project,
        page: &PageRequest,
    ) -> Result<Page<Environment>, Error> {
        let client = self.reader().await?;
        let found = pipeline::one(&*client, (LIST, &[&project.as_str(), &page.after, &page.limit()])).await?;
        if found.is_empty() && !projects::exists(&*client, project).await? {
            return Err(Error::not_found(Entity::Project, project));
        }
        let environments = found.iter().map(from_row).collect::<Result<_, _>>()?;
        Ok(page.page(environments, |environment: &Environment| environment.key.to_string()))
    }
}

/// Reads an environment with its project's key and its revision.
pub(super) fn from_row(row: &Row) -> Result<Environment, Error> {
    let id = rows::environment_id(row, "id")?;
    Ok(Environment {
        id,
        project: rows::parsed(row, "project", key::Project::new)?,
        key: rows::parsed(row, "key", key::Environment::new)?,
        name: rows::get(row, "name")?,
        description: rows::get(row, "description")?,
        protected: rows::get(row, "protected")?,
        revision: rows::number(row, "revision")?,
        created_at: rows::get(row, "created_at")?,
        updated_at: rows::get(row, "updated_at")?,
        etag: etag([id.0, rows::get(row, "version")?]),
    })
}

async fn create(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    new: &NewEnvironment,
) -> Result<Written<CreatedEnvironment>, Error> {
    let reads: [pipeline::Query<'_>; 1] = [(DEFINITIONS, &[&project.as_str()])];
    let (locked, [definitions]) = lock::acquire(transaction, &mutation.caller, Scope::Project(project), reads).await?;
    locked.require(Permission::ManageEnvironments)?;
    check_texts(&new.name, &new.description)?;
    let mut existing = locked.environments.iter().map(|locked| &locked.environment.key);
    if existing.any(|key| *key == new.key) {
        return Err(Error::AlreadyExists {
            entity: Entity::Environment,
            key: new.key.to_string(),
        });
    }
    if locked.environments.len() >= limits::ENVIRONMENTS {
        return Err(Error::LimitReached {
            entity: Entity::Environment,
            limit: limits::ENVIRONMENTS,
        });
    }
    let (key, now) = (new.key.as_str(), locked.now);
    let insert: pipeline::Query<'_> = (
        INSERT,
        &[
            &locked.project.id,
            &key,
            &new.name,
            &new.description,
            &new.protected,
            &now,
        ],
    );
    let row = pipeline::row(transaction, insert).await?;
    let id = rows::environment_id(&row, "id")?;
    let environment = Environment {
        id,
        project: project.clone(),
        key: new.key.clone(),
        name: new.name.clone(),
        description: new.description.clone(),
        protected: new.protected,
        revision: 1,
        created_at: now,
        updated_at: now,
        etag: etag([id.0, rows::get(&row, "version")?]),
    };
    let keys: Vec<_> = new.keys.iter().map(|new| keys::made(new, now)).collect();

    let mut journal = Journal::new(mutation, &locked);
    journal.revision(
        &unborn(&environment),
        definitions.iter().map(definition).collect::<Result<_, _>>()?,
    );
    journal.record(record("environment.create", project, None, Some(&environment))?);
    for key in &keys {
        journal.record(keys::record("key.create", &environment, None, Some(key))?);
    }
    journal.touch_access();
    let columns = keys::Columns::of(&new.keys);
    let created = CreatedEnvironment { environment, keys };
    journal
        .write(
            transaction,
            &[(keys::INSERT, &columns.parameters(&id.0, &now))],
            created,
        )
        .await
}

/// Where an environment stands before its first revision.
fn unborn(environment: &Environment) -> LockedEnvironment {
    LockedEnvironment {
        environment: Environment {
            revision: 0,
            ..environment.clone()
        },
        digest: Digest::default(),
    }
}

fn definition(row: &Row) -> Result<Item, Error> {
    let key: &str = rows::get(row, "key")?;
    Ok(Item {
        id: ItemId {
            kind: Kind::FlagDefinition,
            key: key.into(),
        },
        version: rows::number(row, "form_version")?,
        form: Some(Bytes::copy_from_slice(rows::get(row, "form")?)),
    })
}

async fn update(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    patch: EnvironmentPatch,
    etag: &str,
) -> Result<Written<Environment>, Error> {
    let (locked, []) = lock::acquire(transaction, &mutation.caller, Scope::Environment(at), []).await?;
    locked.require(Permission::ManageEnvironments)?;
    let before = &locked.environment(at.environment)?.environment;
    check_etag(etag, &before.etag, Entity::Environment, before.key.as_str())?;
    let after = Environment {
        name: patch.name.unwrap_or_else(|| before.name.clone()),
        description: patch.description.unwrap_or_else(|| before.description.clone()),
        protected: patch.protected.unwrap_or(before.protected),
        ..before.clone()
    };
    check_texts(&after.name, &after.description)?;
    if after == *before {
        return Ok(Written::unchanged(after));
    }
    let (id, now) = (after.id, locked.now);
    let update: pipeline::Query<'_> = (
        UPDATE,
        &[&id.0, &after.name, &after.description, &after.protected, &now],
    );
    let row = pipeline::row(transaction, update).await?;
    let after = Environment {
        updated_at: now,
        etag: self::etag([id.0, rows::get(&row, "version")?]),
        ..after
    };
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record(
        "environment.update",
        &after.project,
        Some(before),
        Some(&after),
    )?);
    if after.protected != before.protected {
        journal.touch_access();
    }
    journal.write(transaction, &[], after).await
}

async fn delete(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    at: Address<'_>,
    etag: &str,
) -> Result<Written<Environment>, Error> {
    let (locked, []) = lock::acquire(transaction, &mutation.caller, Scope::Environment(at), []).await?;
    locked.require(Permission::ManageEnvironments)?;
    let before = locked.environment(at.environment)?.environment.clone();
    check_etag(etag, &before.etag, Entity::Environment, before.key.as_str())?;
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("environment.delete", &before.project, Some(&before), None)?);
    journal.touch_access();
    let id = before.id.0;
    let delete: [pipeline::Query<'_>; 2] = [pipeline::LONG, (DELETE, &[&id])];
    journal.write(transaction, &delete, before).await
}

fn check_texts(name: &str, description: &str) -> Result<(), Violations> {
    let mut violations = Violations::new();
    check::text(&mut violations, "environment.name", name, limits::NAME_CHARS);
    check::text(
        &mut violations,
        "environment.description",
        description,
        limits::DESCRIPTION_CHARS,
    );
    violations.or(())
}

fn record(
    action: &'static str,
    project: &key::Project,
    before: Option<&Environment>,
    after: Option<&Environment>,
) -> Result<Record, Error> {
    let key = before
        .or(after)
        .map(|environment| environment.key.to_string())
        .unwrap_or_default();
    Ok(Record {
        action,
        entity: Entity::Environment,
        project: project.to_string(),
        environment: key.clone(),
        key,
        before: before.map(audit::json).transpose()?,
        after: after.map(audit::json).transpose()?,
    })
}
