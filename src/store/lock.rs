//! What a mutation of a project stands on: the rows that it locks, in the one order that everyone keeps, and what it reads once
//! it has them.

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::audit;
use super::environments::{self, Environment};
use super::error::{Entity, Error};
use super::mutation::{Actor, Caller};
use super::projects::{self, ProjectRow};
use super::{hand, pipeline, rows};
use crate::domain::access::{InstanceRole, Permission, Role, Standing};
use crate::domain::change::Digest;
use crate::domain::key;

/// Never shared: see `docs/decisions/project-lock.md`.
pub(super) const PROJECT: &str = "
    select id, key, name, description, version, definition_changes, created_at, updated_at from projects where key = $1
    for update";
pub(super) const HEADS: &str = "
    select h.environment_id from environment_heads h
    join environments e on e.id = h.environment_id
    join projects p on p.id = e.project_id
    where p.key = $1 and ($2::text is null or e.key = $2)
    order by h.environment_id
    for update of h";
pub(super) const AUDIT_HEAD: &str = "
    select chain, sequence, hash from audit_heads
    where chain = (select id::text from projects where key = $1)
    for update";
/// Says too that this is a transaction of ours, for the triggers that note edits by hand: see `docs/decisions/hand-edits.md`.
const STANDING: &str = "
    select clock_timestamp() as now, set_config('halyard.journal', 'on', true),
        exists (select from hand_edits h where h.project_id = p.id) as hand_edited,
        u.active, u.instance_role, m.role
    from (values (1)) one
    left join users u on u.id = $2
    left join projects p on p.key = $1
    left join members m on m.project_id = p.id and m.user_id = u.id";
/// The same of a service token. Null: it has no role in the project, or no longer.
const STANDING_OF_TOKEN: &str = "
    select clock_timestamp() as now, set_config('halyard.journal', 'on', true),
        exists (select from hand_edits h where h.project_id = p.id) as hand_edited, t.role
    from (values (1)) one
    left join projects p on p.key = $1
    left join service_tokens t on t.project_id = p.id and t.id = $2
        and t.revoked_at is null and (t.expires_at is null or t.expires_at > clock_timestamp())";

const NOW: &str = "select clock_timestamp() as now";

/// The time, for a transaction that only adopts what was edited by hand.
pub(super) const BEGIN: &str = "select clock_timestamp() as now, set_config('halyard.journal', 'on', true)";

/// What is locked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    /// The project, and the heads of all its environments: for what concerns them all, or which there are.
    Project(&'a key::Project),
    /// The project, and the head of one environment.
    Environment(environments::Address<'a>),
    /// The project, and no environment: for what concerns who may do what in it.
    People(&'a key::Project),
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

/// Locks, and reads under the locks: one round trip. `reads` may depend on anything that the scope protects. Refuses a caller who
/// may not even read.
pub(super) async fn acquire<const N: usize>(
    transaction: &Transaction<'_>,
    caller: &Caller,
    scope: Scope<'_>,
    reads: [pipeline::Query<'_>; N],
) -> Result<(Locked, [Vec<Row>; N]), Error> {
    let acquired = acquire_for_anyone(transaction, caller, scope, reads).await?;
    acquired.0.require(Permission::Read)?;
    Ok(acquired)
}

/// The same for callers who need have no role in the project: whoever calls this says who may.
pub(super) async fn acquire_for_anyone<const N: usize>(
    transaction: &Transaction<'_>,
    caller: &Caller,
    scope: Scope<'_>,
    reads: [pipeline::Query<'_>; N],
) -> Result<(Locked, [Vec<Row>; N]), Error> {
    let (project, environment) = match scope {
        Scope::Project(project) => (project, None),
        Scope::Environment(at) => (at.project, Some(at.environment.as_str())),
        // No environment has an empty key.
        Scope::People(project) => (project, Some("")),
    };
    let key = project.as_str();
    let who = Who::of(caller);
    let ground: [pipeline::Query<'_>; 5] = [
        (PROJECT, &[&key]),
        (HEADS, &[&key, &environment]),
        (AUDIT_HEAD, &[&key]),
        (who.statement(), &[&key, who.parameter()]),
        (environments::IN_PROJECT, &[&key, &environment]),
    ];
    let queries: Vec<_> = ground.into_iter().chain(reads).collect();
    let mut answers = pipeline::run(transaction, &queries).await?;
    if is_hand_edited(answers.get(STANDING_PLACE))? {
        // What somebody else did is written down as theirs, before anything is built on it.
        hand::adopt(transaction, project).await?;
        answers = pipeline::run(transaction, &queries).await?;
    }
    let mut answers = answers.into_iter();
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
    Ok((locked, std::array::from_fn(|_| next())))
}

/// Where the standing is among what is asked first.
const STANDING_PLACE: usize = 3;

fn is_hand_edited(standing: Option<&Vec<Row>>) -> Result<bool, Error> {
    standing
        .and_then(|rows| rows.first())
        .map_or(Ok(false), |row| rows::get(row, "hand_edited"))
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

pub(super) fn locked_environment(row: &Row) -> Result<LockedEnvironment, Error> {
    Ok(LockedEnvironment {
        environment: environments::from_row(row)?,
        digest: rows::digest(row, "digest")?,
    })
}

/// What a mutation of the installation stands on: its audit chain, whose lock lets one at a time through.
pub(super) struct Installation {
    /// Where the chain stands.
    pub audit: audit::Head,
    /// The time of everything that this transaction writes, by the database's clock, read under the lock.
    pub now: jiff::Timestamp,
}

/// Locks the installation's chain, and reads under the lock: one round trip. For callers who prove otherwise who they are.
pub(super) async fn installation<const N: usize>(
    transaction: &Transaction<'_>,
    reads: [pipeline::Query<'_>; N],
) -> Result<(Installation, [Vec<Row>; N]), Error> {
    let ground: [pipeline::Query<'_>; 2] = [(audit::LOCK_INSTANCE, &[]), (NOW, &[])];
    let queries: Vec<_> = ground.into_iter().chain(reads).collect();
    let mut answers = pipeline::run(transaction, &queries).await?.into_iter();
    let mut next = || answers.next().unwrap_or_default();
    let (heads, times) = (next(), next());
    let missing = || Error::Bug(super::error::Cause::NoRow);
    let installation = Installation {
        audit: audit::head_from_row(heads.first().ok_or_else(missing)?)?,
        now: rows::get(times.first().ok_or_else(missing)?, "now")?,
    };
    Ok((installation, std::array::from_fn(|_| next())))
}

/// The same for an administrator of the installation; anyone else is refused. `before` locks what comes before the chain.
pub(super) async fn administration<const B: usize, const N: usize>(
    transaction: &Transaction<'_>,
    caller: &Caller,
    before: [pipeline::Query<'_>; B],
    reads: [pipeline::Query<'_>; N],
) -> Result<(Installation, [Vec<Row>; N]), Error> {
    let who = Who::of(caller);
    let standing: pipeline::Query<'_> = (who.statement(), &[&"", who.parameter()]);
    let lock: pipeline::Query<'_> = (audit::LOCK_INSTANCE, &[]);
    let queries: Vec<_> = before.into_iter().chain([lock, standing]).chain(reads).collect();
    let mut answers = pipeline::run(transaction, &queries).await?.into_iter().skip(B);
    let mut next = || answers.next().unwrap_or_default();
    let (heads, standings) = (next(), next());
    let (now, standing) = read_standing(caller, standings.first())?;
    if !Permission::ManageInstance.granted_to(standing) {
        return Err(Error::Denied);
    }
    let head = heads.first().ok_or(Error::Bug(super::error::Cause::NoRow))?;
    let audit = audit::head_from_row(head)?;
    Ok((Installation { audit, now }, std::array::from_fn(|_| next())))
}

/// Who the caller is outside of any project, and the database's time.
pub(super) async fn instance_standing(
    transaction: &Transaction<'_>,
    caller: &Caller,
) -> Result<(jiff::Timestamp, Standing), Error> {
    let who = Who::of(caller);
    let row = pipeline::row(transaction, (who.statement(), &[&"", who.parameter()])).await?;
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
    let who = Who::of(caller);
    let key = project.as_str();
    let standing: [pipeline::Query<'_>; 1] = [(who.statement(), &[&key, who.parameter()])];
    let queries: Vec<_> = standing.into_iter().chain(reads).collect();
    let mut answers = pipeline::run(transaction, &queries).await?.into_iter();
    let (_, standing) = read_standing(caller, answers.next().unwrap_or_default().first())?;
    let found = std::array::from_fn(|_| answers.next().unwrap_or_default());
    let allowed = Permission::Read.granted_to(standing) && needed(&found)?.granted_to(standing);
    if allowed { Ok(found) } else { Err(Error::Denied) }
}

/// Whose standing is read.
enum Who {
    /// A user's; `None`: nobody's, and only the time is.
    User(Option<uuid::Uuid>),
    Token(String),
}

impl Who {
    fn of(caller: &Caller) -> Self {
        Self::of_actor(caller.actor)
    }

    fn of_actor(actor: Actor) -> Self {
        match actor {
            Actor::User(id) => Self::User(Some(id)),
            Actor::ServiceToken(id) => Self::Token(id.to_string()),
            Actor::CommandLine | Actor::System | Actor::Database => Self::User(None),
        }
    }

    fn statement(&self) -> &'static str {
        match self {
            Self::User(_) => STANDING,
            Self::Token(_) => STANDING_OF_TOKEN,
        }
    }

    fn parameter(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::User(id) => id,
            Self::Token(id) => id,
        }
    }
}

fn read_standing(caller: &Caller, row: Option<&Row>) -> Result<(jiff::Timestamp, Standing), Error> {
    let row = row.ok_or(Error::Bug(super::error::Cause::NoRow))?;
    let standing = standing(caller.actor, row)?.ok_or(Error::Denied)?;
    Ok((rows::get(row, "now")?, standing))
}

/// `None`: there is no such user, or no active one.
fn standing(actor: Actor, row: &Row) -> Result<Option<Standing>, Error> {
    Ok(Some(match actor {
        Actor::CommandLine | Actor::System | Actor::Database => Standing {
            instance: Some(InstanceRole::Administrator),
            ..Standing::default()
        },
        Actor::User(_) => {
            if rows::get::<Option<bool>>(row, "active")? != Some(true) {
                return Ok(None);
            }
            Standing {
                instance: rows::named_option(row, "instance_role", InstanceRole::from_name)?,
                project: rows::named_option(row, "role", Role::from_name)?,
                machine: false,
            }
        }
        Actor::ServiceToken(_) => Standing {
            instance: None,
            project: rows::named_option(row, "role", Role::from_name)?,
            machine: true,
        },
    }))
}

/// Whether somebody may give this role in a project now: to be asked under the project's lock of who need not be the caller.
pub(super) async fn may_grant(
    client: &impl GenericClient,
    actor: Actor,
    project: &key::Project,
    role: Role,
) -> Result<bool, Error> {
    let (who, key) = (Who::of_actor(actor), project.as_str());
    let row = pipeline::row(client, (who.statement(), &[&key, who.parameter()])).await?;
    let standing = standing(actor, &row)?;
    Ok(standing.is_some_and(|standing| needed_to_grant(role).granted_to(standing)))
}

fn needed_to_grant(role: Role) -> Permission {
    match role {
        Role::Owner => Permission::SetOwners,
        Role::Admin | Role::Developer | Role::Viewer => Permission::ManageMembers,
    }
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

    /// Refuses a caller who may not give somebody this role, or take it away.
    pub(super) fn require_grant(&self, role: Role) -> Result<(), Error> {
        self.require(needed_to_grant(role))
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
