//! Accepting an invitation: an account, or one that is opened by it, becomes a member, and the invitation is spent.

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use uuid::Uuid;

use super::{FIND, Invitation, from_row, record};
use crate::domain::access::Role;
use crate::domain::change::Digest;
use crate::domain::email::Email;
use crate::domain::{key, limits};
use crate::store::error::{Entity, Error};
use crate::store::journal::Journal;
use crate::store::lock::{self, Installation, Locked, Scope};
use crate::store::members::{self, Member};
use crate::store::mutation::{Actor, Mutation, Outcome, Versioned, Written};
use crate::store::page::etag;
use crate::store::users::{self, User};
use crate::store::{Store, pipeline, rows};

/// Which project an invitation is to. How long this takes may tell how much of a hash is right, which tells nothing of a secret.
const FIND_BY_SECRET: &str = "
    select p.key as project from invitations i
    join projects p on p.id = i.project_id
    where i.id = $1 and i.secret_hash = $2";
const ACCEPT: &str = "update invitations set accepted_at = $2, accepted_by = $3 where id = $1";
/// An account that would join a project; `for share`, so that it is not deactivated meanwhile.
const FIND_ACCOUNT: &str = "
    select u.id, u.email, u.password_hash, u.active, u.instance_role, u.version, u.created_at, u.updated_at, m.role, (
        select count(*) from members other join projects o on o.id = other.project_id where o.key = $1
    ) as members
    from users u
    join projects p on p.key = $1
    left join members m on m.project_id = p.id and m.user_id = u.id
    where u.id = $2
    for share of u";
const COUNT_MEMBERS: &str = "
    select count(*) as members from members m join projects p on p.id = m.project_id where p.key = $1";
const INSERT_ACCOUNT: &str = "
    insert into users (id, email, email_normalized, password_hash, created_at, updated_at) values ($1, $2, $3, $4, $5, $5)";
const INSERT_MEMBER: &str = "insert into members (project_id, user_id, role) values ($1, $2, $3) returning version";

/// An invitation, as whoever has its link shows it.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Which one it claims to be.
    pub id: &'a str,
    /// SHA-256 of the secret.
    pub secret_hash: Digest,
}

/// Who accepts an invitation.
#[derive(Clone)]
pub enum Invitee {
    /// Who has an account.
    Account(Uuid),
    /// Who will have one.
    Newcomer(Newcomer),
}

/// An account to be.
#[derive(Clone)]
pub struct Newcomer {
    /// Names it.
    pub id: Uuid,
    /// Its address.
    pub email: Email,
    /// The hash of its password.
    pub password_hash: String,
}

/// What became of an accepted invitation.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The project.
    pub project: key::Project,
    /// The account.
    pub user: User,
    /// Its role in the project.
    pub role: Role,
}

impl Versioned for Joined {}

impl Store {
    /// Makes an account a member by an invitation; of those who show it at the same time, one is. Refuses one that is not known
    /// as it refuses any stranger, and one whose maker may no longer give its role.
    pub async fn accept_invitation(
        &self,
        mutation: &Mutation,
        shown: Shown<'_>,
        invitee: &Invitee,
        respond: impl FnOnce(&Written<Joined>) -> Vec<u8>,
    ) -> Result<Outcome<Joined>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            accept(transaction, mutation, shown, invitee).await
        })
        .await
    }

    /// Refuses an invitation that nobody could accept now, before anything that takes its time is done for who shows it.
    pub async fn check_invitation(&self, shown: Shown<'_>) -> Result<(), Error> {
        let client = self.reader().await?;
        let project = find_project(&*client, shown).await?;
        let query: pipeline::Query<'_> = (FIND, &[&project.as_str(), &shown.id]);
        let invitation = pipeline::one(&*client, query).await?;
        let invitation = from_row(invitation.first().ok_or(Error::Denied)?)?;
        require_good(&*client, &project, &invitation, Timestamp::now()).await
    }
}

async fn find_project(client: &impl GenericClient, shown: Shown<'_>) -> Result<key::Project, Error> {
    let query: pipeline::Query<'_> = (FIND_BY_SECRET, &[&shown.id, &shown.secret_hash.0.as_slice()]);
    let found = pipeline::one(client, query).await?;
    rows::parsed(found.first().ok_or(Error::Denied)?, "project", key::Project::new)
}

async fn accept(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    shown: Shown<'_>,
    invitee: &Invitee,
) -> Result<Written<Joined>, Error> {
    let project = find_project(transaction, shown).await?;
    let reads: [pipeline::Query<'_>; 1] = [(FIND, &[&project.as_str(), &shown.id])];
    let mut caller = mutation.caller.clone();
    if let Invitee::Newcomer(_) = invitee {
        // Who has no account yet has no standing that could be read: the invitation speaks for them.
        caller.actor = Actor::System;
    }
    let (locked, [found]) = lock::acquire_for_anyone(transaction, &caller, Scope::People(&project), reads).await?;
    // It was there a moment ago: the project was deleted and made anew since.
    let before = from_row(found.first().ok_or(Error::Denied)?)?;
    let user = match invitee {
        Invitee::Account(id) => {
            let (user, role) = known(transaction, &project, *id).await?;
            match role {
                // Trying again is answered as it was the first time.
                Some(role) if before.accepted_by == Some(*id) => {
                    return Ok(Written::unchanged(Joined { project, user, role }));
                }
                Some(_) => {
                    require_good(transaction, &project, &before, locked.now).await?;
                    let description = "is a member already; the invitation is still good for somebody else";
                    return Err(Error::blocked(Entity::User, &user.email, description));
                }
                None => require_good(transaction, &project, &before, locked.now).await?,
            }
            user
        }
        Invitee::Newcomer(newcomer) => {
            require_good(transaction, &project, &before, locked.now).await?;
            let members = pipeline::row(transaction, (COUNT_MEMBERS, &[&project.as_str()])).await?;
            require_room(rows::number(&members, "members")?)?;
            open_account(transaction, mutation, newcomer, locked.now).await?
        }
    };
    join(transaction, mutation, &locked, &before, user).await
}

/// Refuses an invitation that can no longer be accepted, or whose maker could no longer make it: who was thrown out, or has a
/// lesser role now, does not come back by what they made before. Under the project's lock.
async fn require_good(
    client: &impl GenericClient,
    project: &key::Project,
    invitation: &Invitation,
    now: Timestamp,
) -> Result<(), Error> {
    invitation.require_pending(now)?;
    let Some(maker) = &invitation.created_by else {
        return Ok(());
    };
    if lock::may_grant(client, maker.principal.into(), project, invitation.role).await? {
        return Ok(());
    }
    let description = "is no longer valid because who made it may no longer give this role";
    Err(Error::blocked(Entity::Invitation, &invitation.id, description))
}

/// An active account, and its role if it is a member already.
async fn known(transaction: &Transaction<'_>, project: &key::Project, id: Uuid) -> Result<(User, Option<Role>), Error> {
    let found = pipeline::one(transaction, (FIND_ACCOUNT, &[&project.as_str(), &id])).await?;
    let row = found.first().ok_or(Error::Denied)?;
    let user = users::credentials(row)?.user;
    if !user.active {
        return Err(Error::Denied);
    }
    let role = rows::named_option(row, "role", Role::from_name)?;
    if role.is_none() {
        require_room(rows::number(row, "members")?)?;
    }
    Ok((user, role))
}

fn require_room(members: u64) -> Result<(), Error> {
    if members < limits::MEMBERS as u64 {
        return Ok(());
    }
    Err(Error::LimitReached {
        entity: Entity::Member,
        limit: limits::MEMBERS,
    })
}

/// Opens an account, which concerns the installation and is told in its chain. The project's chain is locked by now, and the
/// access head will be: nobody goes the other way.
async fn open_account(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    newcomer: &Newcomer,
    now: Timestamp,
) -> Result<User, Error> {
    let (Installation { audit, now: _ }, []) = lock::installation(transaction, []).await?;
    let user = User {
        id: newcomer.id,
        email: newcomer.email.given().to_owned(),
        role: None,
        active: true,
        created_at: now,
        updated_at: now,
        etag: etag([1]),
        identities: Vec::new(),
    };
    let mut journal = Journal::of_chain(mutation, audit, now);
    journal.record(users::record("user.create", None, Some(&user)));
    let Newcomer {
        id,
        email,
        password_hash,
    } = newcomer;
    let insert: pipeline::Query<'_> = (
        INSERT_ACCOUNT,
        &[id, &email.given(), &email.normalized(), password_hash, &now],
    );
    let written = journal.write(transaction, &[insert], user).await;
    Ok(written.map_err(|error| error.about(email.given()))?.entity)
}

/// Makes the account a member, and spends the invitation.
async fn join(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    locked: &Locked,
    before: &Invitation,
    user: User,
) -> Result<Written<Joined>, Error> {
    let project = &locked.project.project.key;
    let insert: pipeline::Query<'_> = (INSERT_MEMBER, &[&locked.project.id, &user.id, &before.role.name()]);
    let row = pipeline::row(transaction, insert).await?;
    let member = Member {
        user: user.id,
        email: user.email.clone(),
        role: before.role,
        active: true,
        etag: etag([locked.project.id, rows::get(&row, "version")?]),
    };
    let after = Invitation {
        accepted_at: Some(locked.now),
        accepted_by: Some(user.id),
        ..before.clone()
    };
    let mut journal = Journal::new(mutation, locked);
    journal.record(record("invitation.accept", project, Some(before), Some(&after))?);
    journal.record(members::record("member.add", project, None, Some(&member))?);
    journal.touch_access();
    let accept: pipeline::Query<'_> = (ACCEPT, &[&before.id, &locked.now, &user.id]);
    let joined = Joined {
        project: project.clone(),
        role: before.role,
        user: user.clone(),
    };
    journal.write(transaction, &[accept], joined).await
}
