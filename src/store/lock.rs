//! What a mutation of a project stands on: the rows that it locks, in the one order that everyone keeps, and what it reads once
//! it has them.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::audit;
use super::environments::{self, Environment};
use super::error::{Entity, Error};
use super::mutation::{Actor, Caller};
use super::projects::{self, ProjectRow};
use super::{pipeline, rows};
use crate::domain::access::{InstanceRole, Permission, Role, Standing};
use crate::domain::change::Digest;
use crate::domain::key;

/// Never shared: see `docs/decisions/project-lock.md`.
const PROJECT: &str = "
    select id, key, name, description, version, definition_changes, created_at, updated_at from projects where key = $1
    for update";
const HEADS: &str = "
    select h.environment_id from environment_heads h
    join environments e on e.id = h.environment_id
    join projects p on p.id = e.project_id
    where p.key = $1 and ($2::text is null or e.key = $2)
    order by h.environment_id
    for update of h";
const AUDIT_HEAD: &str = "
    select chain, sequence, hash from audit_heads
    where chain = (select id::text from projects where key = $1)
    for update";
const STANDING: &str = "
    select clock_timestamp() as now, u.active, u.instance_role, m.role from (values (1)) one
    left join users u on u.id = $2
    left join projects p on p.key = $1
    left join members m on m.project_id = p.id and m.user_id = u.id";

/// What is locked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    /// The project, and the heads of all its environments: for what concerns them all, or which there are.
    Project(&'a key::Project),
    /// The project, and the head of one environment.
    Environment(environments::Address<'a>),
}

/// An environment whose head is locked.
#[derive(Debug, Clone)]
pub(super) struct LockedEnvironment {
    /// The environment; its `revision` is the last committed one.
    pub environment: Environment,
    /// The digest of that revision.
    pub digest: Digest,
}

/// What was locked, and who the caller is under the locks.
pub(super) struct Locked {
    /// The project.
    pub project: ProjectRow,
    /// The environments in the scope, in the order of their ids.
    pub environments: Vec<LockedEnvironment>,
    /// Where the project's audit chain stands.
    pub audit: audit::Head,
    /// The time of everything that this transaction writes, by the database's clock, read under the locks.
    pub now: jiff::Timestamp,
    standing: Standing,
}

/// Locks, and reads under the locks: one round trip. `reads` may depend on anything that the scope protects.
pub(super) async fn acquire<const N: usize>(
    transaction: &Transaction<'_>,
    caller: &Caller,
    scope: Scope<'_>,
    reads: [pipeline::Query<'_>; N],
) -> Result<(Locked, [Vec<Row>; N]), Error> {
    let (project, environment) = match scope {
        Scope::Project(project) => (project, None),
        Scope::Environment(at) => (at.project, Some(at.environment.as_str())),
    };
    let (key, user) = (project.as_str(), user_id(caller));
    let ground: [pipeline::Query<'_>; 5] = [
        (PROJECT, &[&key]),
        (HEADS, &[&key, &environment]),
        (AUDIT_HEAD, &[&key]),
        (STANDING, &[&key, &user]),
        (environments::IN_PROJECT, &[&key, &environment]),
    ];
    let queries: Vec<_> = ground.into_iter().chain(reads).collect();
    let mut answers = pipeline::run(transaction, &queries).await?.into_iter();
    let mut next = || answers.next().unwrap_or_default();
    let (projects, _, heads, standings, environments) = (next(), next(), next(), next(), next());

    let (now, standing) = read_standing(caller, standings.first())?;
    let permitted = |found| missing_or_denied(found, standing, project);
    let project = permitted(projects.first())?;
    let audit = permitted(heads.first())?;
    let locked = Locked {
        project: projects::from_row(project)?,
        environments: environments.iter().map(locked_environment).collect::<Result<_, _>>()?,
        audit: audit::head_from_row(audit)?,
        now,
        standing,
    };
    locked.require(Permission::Read)?;
    Ok((locked, std::array::from_fn(|_| next())))
}

/// The row; without one the caller hears of it only if it may.
fn missing_or_denied<'a>(found: Option<&'a Row>, standing: Standing, project: &key::Project) -> Result<&'a Row, Error> {
    if let Some(row) = found {
        return Ok(row);
    }
    Err(if Permission::Read.granted_to(standing) {
        Error::not_found(Entity::Project, project)
    } else {
        Error::Denied
    })
}

fn locked_environment(row: &Row) -> Result<LockedEnvironment, Error> {
    Ok(LockedEnvironment {
        environment: environments::from_row(row)?,
        digest: rows::digest(row, "digest")?,
    })
}

/// Who the caller is outside of any project, and the database's time.
pub(super) async fn instance_standing(
    transaction: &Transaction<'_>,
    caller: &Caller,
) -> Result<(jiff::Timestamp, Standing), Error> {
    let row = pipeline::row(transaction, (STANDING, &[&"", &user_id(caller)])).await?;
    read_standing(caller, Some(&row))
}

/// Refuses a caller who does not have in this project whichever permission `needed` says, given the rows of `reads`: for what
/// changes nothing that others read, and so needs no lock of theirs. One round trip.
pub(super) async fn authorise<const N: usize>(
    transaction: &Transaction<'_>,
    caller: &Caller,
    project: &key::Project,
    reads: [pipeline::Query<'_>; N],
    needed: impl FnOnce(&[Vec<Row>; N]) -> Result<Permission, Error>,
) -> Result<[Vec<Row>; N], Error> {
    let user = user_id(caller);
    let key = project.as_str();
    let standing: [pipeline::Query<'_>; 1] = [(STANDING, &[&key, &user])];
    let queries: Vec<_> = standing.into_iter().chain(reads).collect();
    let mut answers = pipeline::run(transaction, &queries).await?.into_iter();
    let (_, standing) = read_standing(caller, answers.next().unwrap_or_default().first())?;
    let found = std::array::from_fn(|_| answers.next().unwrap_or_default());
    let allowed = Permission::Read.granted_to(standing) && needed(&found)?.granted_to(standing);
    if allowed { Ok(found) } else { Err(Error::Denied) }
}

fn user_id(caller: &Caller) -> Option<uuid::Uuid> {
    match caller.actor {
        Actor::User(id) => Some(id),
        Actor::CommandLine | Actor::System => None,
    }
}

fn read_standing(caller: &Caller, row: Option<&Row>) -> Result<(jiff::Timestamp, Standing), Error> {
    let row = row.ok_or(Error::Bug(super::error::Cause::NoRow))?;
    let now = rows::get(row, "now")?;
    let standing = match caller.actor {
        Actor::CommandLine | Actor::System => Standing {
            instance: Some(InstanceRole::Administrator),
            project: None,
        },
        Actor::User(_) => {
            // Null: there is no such user any more.
            if rows::get::<Option<bool>>(row, "active")? != Some(true) {
                return Err(Error::Denied);
            }
            Standing {
                instance: rows::named_option(row, "instance_role", InstanceRole::from_name)?,
                project: rows::named_option(row, "role", Role::from_name)?,
            }
        }
    };
    Ok((now, standing))
}

impl Locked {
    /// Refuses a caller without this permission.
    pub(super) fn require(&self, permission: Permission) -> Result<(), Error> {
        if permission.granted_to(self.standing) {
            Ok(())
        } else {
            Err(Error::Denied)
        }
    }

    /// Refuses a caller who may not change what the environments in the scope answer.
    pub(super) fn require_change(&self) -> Result<(), Error> {
        let protected = self.environments.iter().any(|locked| locked.environment.protected);
        self.require(if protected {
            Permission::ChangeProtected
        } else {
            Permission::Change
        })
    }

    /// The environment of this key.
    pub(super) fn environment(&self, key: &key::Environment) -> Result<&LockedEnvironment, Error> {
        let found = self.environments.iter().find(|locked| locked.environment.key == *key);
        found.ok_or_else(|| Error::not_found(Entity::Environment, key))
    }
}

impl LockedEnvironment {
    /// The revision that this transaction makes of it.
    pub(super) fn next_revision(&self) -> u64 {
        self.environment.revision + 1
    }
}
