//! Invitations: links that make whoever shows one a member, once; that part is in [`accept`]. The store knows the hash of a link's
//! secret, never the secret.

mod accept;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::audit::{self, Record};
use super::error::{Entity, Error};
use super::journal::Journal;
use super::lock::{self, Scope};
use super::makers::Maker;
use super::mutation::{Mutation, Outcome, Versioned, Written};
use super::page::{Page, PageRequest};
use super::{Store, pipeline, projects, rows};
use crate::domain::access::{Permission, Role};
use crate::domain::change::Digest;
use crate::domain::invalid::Violations;
use crate::domain::{check, key, limits};

pub use accept::{Invitee, Joined, Newcomer, Shown};

const COUNT: &str = "
    select count(*) as pending from invitations i
    join projects p on p.id = i.project_id
    where p.key = $1 and i.revoked_at is null and i.accepted_at is null and i.expires_at > clock_timestamp()";
const FIND: &str = "
    select i.id, i.name, i.role, i.created_at, i.expires_at, i.revoked_at, i.accepted_at, i.accepted_by, i.created_by_user,
        i.created_by_token, coalesce(u.email, t.name, '') as created_by_name
    from invitations i
    join projects p on p.id = i.project_id
    left join users u on u.id = i.created_by_user
    left join service_tokens t on t.id = i.created_by_token
    where p.key = $1 and i.id = $2";
const LIST: &str = "
    select i.id, i.name, i.role, i.created_at, i.expires_at, i.revoked_at, i.accepted_at, i.accepted_by, i.created_by_user,
        i.created_by_token, coalesce(u.email, t.name, '') as created_by_name
    from invitations i
    join projects p on p.id = i.project_id
    left join users u on u.id = i.created_by_user
    left join service_tokens t on t.id = i.created_by_token
    left join invitations a on a.project_id = i.project_id and a.id = $2
    where p.key = $1
        and ($2 = '' or i.created_at < a.created_at or (i.created_at = a.created_at and i.id > a.id))
    order by i.created_at desc, i.id limit $3";
const INSERT: &str = "
    insert into invitations (
        id, project_id, name, role, secret_hash, created_at, expires_at, created_by_user, created_by_token)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const REVOKE: &str = "update invitations set revoked_at = $2 where id = $1";
/// An invitation, without its secret. What serialises is what audit entries keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invitation {
    /// Names it; not secret.
    pub id: String,
    /// For people: whom it is meant for. Empty: nobody has said.
    pub name: String,
    /// The role that it gives.
    #[serde(serialize_with = "audit::role")]
    pub role: Role,
    /// When it was made.
    #[serde(skip)]
    pub created_at: Timestamp,
    /// When it can no longer be accepted.
    pub expires_at: Timestamp,
    /// When it was revoked. `None`: it was not.
    pub revoked_at: Option<Timestamp>,
    /// When it was accepted. `None`: it was not.
    pub accepted_at: Option<Timestamp>,
    /// Whose account accepted it.
    #[serde(skip)]
    pub accepted_by: Option<Uuid>,
    /// Who made it, and must still be allowed to when it is accepted. `None`: whoever runs the installation.
    #[serde(skip)]
    pub created_by: Option<Maker>,
}

/// An invitation to be.
#[derive(Debug, Clone)]
pub struct NewInvitation {
    /// Names it; not secret.
    pub id: String,
    /// For people: whom it is meant for. Empty: nobody says.
    pub name: String,
    /// The role that it gives.
    pub role: Role,
    /// SHA-256 of its secret.
    pub secret_hash: Digest,
    /// When it can no longer be accepted.
    pub expires_at: Timestamp,
}

impl Versioned for Invitation {}

impl Store {
    /// Makes an invitation. An owner's is made by owners only.
    pub async fn create_invitation(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        new: NewInvitation,
        respond: impl FnOnce(&Written<Invitation>) -> Vec<u8>,
    ) -> Result<Outcome<Invitation>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            create(transaction, mutation, project, new).await
        })
        .await
    }

    /// Revokes an invitation. One that is revoked already stays as it is; one that was accepted cannot be. An owner's is revoked
    /// by owners only.
    pub async fn revoke_invitation(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        id: &str,
        respond: impl FnOnce(&Written<Invitation>) -> Vec<u8>,
    ) -> Result<Outcome<Invitation>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            revoke(transaction, mutation, project, id).await
        })
        .await
    }

    /// Lists a project's invitations, newest first, those too that can no longer be accepted.
    pub async fn list_invitations(
        &self,
        project: &key::Project,
        page: &PageRequest,
    ) -> Result<Page<Invitation>, Error> {
        let client = self.reader().await?;
        let found = pipeline::one(&*client, (LIST, &[&project.as_str(), &page.after, &page.limit()])).await?;
        if found.is_empty() && !projects::exists(&*client, project).await? {
            return Err(Error::not_found(Entity::Project, project));
        }
        let invitations = found.iter().map(from_row).collect::<Result<_, _>>()?;
        Ok(page.page(invitations, |invitation: &Invitation| invitation.id.clone()))
    }
}

impl Invitation {
    /// Refuses if it can no longer be accepted. Who knows its secret may know why.
    fn require_pending(&self, now: Timestamp) -> Result<(), Error> {
        let why_not = if self.accepted_at.is_some() {
            Some("was accepted already; ask for another")
        } else if self.revoked_at.is_some() {
            Some("was revoked; ask for another")
        } else {
            (self.expires_at <= now).then_some("has expired; ask for another")
        };
        why_not.map_or(Ok(()), |why_not| {
            Err(Error::blocked(Entity::Invitation, &self.id, why_not))
        })
    }
}

fn from_row(row: &Row) -> Result<Invitation, Error> {
    Ok(Invitation {
        id: rows::get(row, "id")?,
        name: rows::get(row, "name")?,
        role: rows::named(row, "role", Role::from_name)?,
        created_at: rows::get(row, "created_at")?,
        expires_at: rows::get(row, "expires_at")?,
        revoked_at: rows::get(row, "revoked_at")?,
        accepted_at: rows::get(row, "accepted_at")?,
        accepted_by: rows::get(row, "accepted_by")?,
        created_by: Maker::from_row(row)?,
    })
}

async fn create(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    new: NewInvitation,
) -> Result<Written<Invitation>, Error> {
    let reads: [pipeline::Query<'_>; 1] = [(COUNT, &[&project.as_str()])];
    let (locked, [counted]) = lock::acquire(transaction, &mutation.caller, Scope::People(project), reads).await?;
    locked.require_grant(new.role)?;
    check_new(&new, locked.now)?;
    let pending = counted.first().map(|row| rows::number(row, "pending")).transpose()?;
    if pending >= Some(limits::INVITATIONS as u64) {
        return Err(Error::LimitReached {
            entity: Entity::Invitation,
            limit: limits::INVITATIONS,
        });
    }
    let NewInvitation {
        id,
        name,
        role,
        secret_hash,
        expires_at,
    } = new;
    let now = locked.now;
    let invitation = Invitation {
        id: id.clone(),
        name: name.clone(),
        role,
        created_at: now,
        expires_at: rows::kept(expires_at),
        revoked_at: None,
        accepted_at: None,
        accepted_by: None,
        created_by: Maker::of(&mutation.caller),
    };
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("invitation.create", project, None, Some(&invitation))?);
    let hash = secret_hash.0.as_slice();
    let (user, token) = Maker::columns(invitation.created_by.as_ref());
    let insert: pipeline::Query<'_> = (
        INSERT,
        &[
            &id,
            &locked.project.id,
            &name,
            &role.name(),
            &hash,
            &now,
            &expires_at,
            &user,
            &token,
        ],
    );
    let written = journal.write(transaction, &[insert], invitation).await;
    written.map_err(|error| error.about(&id))
}

async fn revoke(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    id: &str,
) -> Result<Written<Invitation>, Error> {
    let (locked, [found]) = lock::acquire(
        transaction,
        &mutation.caller,
        Scope::People(project),
        [(FIND, &[&project.as_str(), &id])],
    )
    .await?;
    locked.require(Permission::ManageMembers)?;
    let found = found.first().ok_or_else(|| Error::not_found(Entity::Invitation, id))?;
    let before = from_row(found)?;
    locked.require_grant(before.role)?;
    if before.revoked_at.is_some() {
        return Ok(Written::unchanged(before));
    }
    if before.accepted_at.is_some() {
        let description = "was accepted already; remove the member instead";
        return Err(Error::blocked(Entity::Invitation, id, description));
    }
    let after = Invitation {
        revoked_at: Some(locked.now),
        ..before.clone()
    };
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("invitation.revoke", project, Some(&before), Some(&after))?);
    journal
        .write(transaction, &[(REVOKE, &[&id, &locked.now])], after)
        .await
}

/// Checks an invitation; paths are those of the request that makes one.
fn check_new(new: &NewInvitation, now: Timestamp) -> Result<(), Violations> {
    let mut violations = Violations::new();
    check::text(&mut violations, "name", &new.name, limits::NAME_CHARS);
    if new.expires_at <= now {
        violations.add("expire_time", "is in the past; leave it out for one that lasts 7 days");
    }
    violations.or(())
}

fn record(
    action: &'static str,
    project: &key::Project,
    before: Option<&Invitation>,
    after: Option<&Invitation>,
) -> Result<Record, Error> {
    Ok(Record {
        action,
        entity: Entity::Invitation,
        key: before
            .or(after)
            .map(|invitation| invitation.id.clone())
            .unwrap_or_default(),
        project: project.to_string(),
        environment: String::new(),
        before: before.map(audit::json).transpose()?,
        after: after.map(audit::json).transpose()?,
    })
}
