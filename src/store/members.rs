//! Members: who has which role in a project.
//!
//! A project keeps an owner who can act: the last active one can neither be removed nor given a lesser role. What proves it is
//! the lock of the project's row, under which the others are counted.

use std::fmt;

use deadpool_postgres::Transaction;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::audit::{self, Record};
use super::error::{Entity, Error};
use super::journal::Journal;
use super::lock::{self, Locked, Scope};
use super::mutation::{Actor, Mutation, Outcome, Versioned, Written};
use super::page::{Page, PageRequest, check_etag, etag};
use super::{Store, pipeline, projects, rows};
use crate::domain::access::{Permission, Role};
use crate::domain::email::Email;
use crate::domain::{key, limits};

/// An account, with the role that it may have in a project.
const FIND: &str = "
    select u.id, u.email, u.active, p.id as project_id, m.role, m.version from users u
    join projects p on p.key = $1
    left join members m on m.project_id = p.id and m.user_id = u.id
    where u.id = $2 or u.email_normalized = $3";
const LIST: &str = "
    select u.id, u.email, u.active, p.id as project_id, m.role, m.version,
        coalesce(u.email_normalized, lower(u.email)) || ' ' || u.id as place
    from members m
    join projects p on p.id = m.project_id
    join users u on u.id = m.user_id
    where p.key = $1 and coalesce(u.email_normalized, lower(u.email)) || ' ' || u.id > $2
    order by place limit $3";
/// How many members there are, and how many active owners beside one account.
const COUNT: &str = "
    select count(*) as members,
        count(*) filter (
            where m.role = 'owner' and u.active and (u.id = $2 or u.email_normalized = $3) is not true
        ) as other_owners
    from members m
    join projects p on p.id = m.project_id
    join users u on u.id = m.user_id
    where p.key = $1";
/// What people set is theirs, whoever gave it before.
const SET: &str = "
    insert into members (project_id, user_id, role) values ($1, $2, $3)
    on conflict (project_id, user_id) do update
    set role = excluded.role, claimed_issuer = null, claimed_subject = null, version = nextval('member_versions')
    returning version";
const DELETE: &str = "delete from members where project_id = $1 and user_id = $2";

/// Which account.
#[derive(Debug, Clone)]
pub enum Account {
    /// By its id.
    Id(Uuid),
    /// By its address.
    Email(Email),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Email(email) => email.fmt(f),
        }
    }
}

/// A member. What serialises is what audit entries keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The account.
    #[serde(serialize_with = "audit::text")]
    pub user: Uuid,
    /// Its e-mail address; see [`User::email`](super::users::User::email).
    pub email: String,
    /// The role in the project.
    #[serde(serialize_with = "audit::role")]
    pub role: Role,
    /// Whether the account may log in.
    #[serde(skip)]
    pub active: bool,
    /// Changes with every change of the role. Empty: nothing was written, only validated.
    #[serde(skip)]
    pub etag: String,
}

impl Versioned for Member {
    fn forget_etag(&mut self) {
        self.etag.clear();
    }
}

impl Store {
    /// Gives an account a role in a project, whether or not it has one.
    pub async fn set_member(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        account: &Account,
        role: Role,
        etag: &str,
        respond: impl FnOnce(&Written<Member>) -> Vec<u8>,
    ) -> Result<Outcome<Member>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            set(transaction, mutation, project, account, role, etag).await
        })
        .await
    }

    /// Takes an account's role in a project away; answers with what it was. Anyone may leave.
    pub async fn remove_member(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        account: &Account,
        etag: &str,
        respond: impl FnOnce(&Written<Member>) -> Vec<u8>,
    ) -> Result<Outcome<Member>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            remove(transaction, mutation, project, account, etag).await
        })
        .await
    }

    /// Lists a project's members by their addresses.
    pub async fn list_members(&self, project: &key::Project, page: &PageRequest) -> Result<Page<Member>, Error> {
        let client = self.reader().await?;
        let found = pipeline::one(&*client, (LIST, &[&project.as_str(), &page.after, &page.limit()])).await?;
        if found.is_empty() && !projects::exists(&*client, project).await? {
            return Err(Error::not_found(Entity::Project, project));
        }
        let members = found.iter().map(|row| {
            let role = rows::named(row, "role", Role::from_name)?;
            Ok((member(row, role)?, rows::get(row, "place")?))
        });
        let members = members.collect::<Result<Vec<(Member, String)>, Error>>()?;
        let Page { items, next } = page.page(members, |(_, place)| place.clone());
        Ok(Page {
            items: items.into_iter().map(|(member, _)| member).collect(),
            next,
        })
    }
}

/// A member from a row that has one.
fn member(row: &Row, role: Role) -> Result<Member, Error> {
    Ok(Member {
        user: rows::get(row, "id")?,
        email: rows::get(row, "email")?,
        role,
        active: rows::get(row, "active")?,
        etag: etag([rows::get(row, "project_id")?, rows::get(row, "version")?]),
    })
}

/// A project's people under its lock.
struct Held {
    locked: Locked,
    /// The account's row, if there is such an account.
    account: Option<Row>,
    /// As which it is a member.
    member: Option<Member>,
    members: u64,
    /// Active owners beside the account.
    other_owners: u64,
}

async fn hold(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    account: &Account,
) -> Result<Held, Error> {
    let (id, email) = match account {
        Account::Id(id) => (Some(id), None),
        Account::Email(email) => (None, Some(email.normalized())),
    };
    let key = project.as_str();
    let reads: [pipeline::Query<'_>; 2] = [(FIND, &[&key, &id, &email]), (COUNT, &[&key, &id, &email])];
    let (locked, [found, counted]) =
        lock::acquire(transaction, &mutation.caller, Scope::People(project), reads).await?;
    let account = found.into_iter().next();
    let role = account
        .as_ref()
        .map(|row| rows::named_option(row, "role", Role::from_name))
        .transpose()?
        .flatten();
    let member = account.as_ref().zip(role).map(|(row, role)| member(row, role));
    let count = |column| counted.first().map_or(Ok(0), |row| rows::number(row, column));
    Ok(Held {
        locked,
        member: member.transpose()?,
        account,
        members: count("members")?,
        other_owners: count("other_owners")?,
    })
}

impl Held {
    /// Refuses to take its role from the last owner who can act.
    fn keep_an_owner(&self, of: &key::Project, lost: Role) -> Result<(), Error> {
        match lost {
            Role::Owner if self.other_owners == 0 => Err(Error::blocked(
                Entity::Project,
                of,
                "would have no active owner; make another member owner first",
            )),
            Role::Owner | Role::Admin | Role::Developer | Role::Viewer => Ok(()),
        }
    }
}

async fn set(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    account: &Account,
    role: Role,
    etag: &str,
) -> Result<Written<Member>, Error> {
    let held = hold(transaction, mutation, project, account).await?;
    let (locked, before) = (&held.locked, held.member.as_ref());
    locked.require_grant(role)?;
    if let Some(before) = before {
        locked.require_grant(before.role)?;
    }
    let row = held
        .account
        .as_ref()
        .ok_or_else(|| Error::not_found(Entity::User, account))?;
    check_etag(
        etag,
        before.map_or("", |before| &before.etag),
        Entity::Member,
        &account.to_string(),
    )?;
    match before {
        Some(before) if before.role == role => return Ok(Written::unchanged(before.clone())),
        Some(before) => held.keep_an_owner(project, before.role)?,
        None if held.members >= limits::MEMBERS as u64 => {
            return Err(Error::LimitReached {
                entity: Entity::Member,
                limit: limits::MEMBERS,
            });
        }
        None => {}
    }
    let (id, user) = (locked.project.id, rows::get::<Uuid>(row, "id")?);
    let written = pipeline::row(transaction, (SET, &[&id, &user, &role.name()])).await;
    let written = written.map_err(|error| error.about(&account.to_string()))?;
    let after = Member {
        user,
        email: rows::get(row, "email")?,
        role,
        active: rows::get(row, "active")?,
        etag: self::etag([id, rows::get(&written, "version")?]),
    };
    let action = if before.is_some() {
        "member.update"
    } else {
        "member.add"
    };
    let mut journal = Journal::new(mutation, locked);
    journal.record(record(action, project, before, Some(&after))?);
    journal.touch_access();
    journal.write(transaction, &[], after).await
}

async fn remove(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    account: &Account,
    etag: &str,
) -> Result<Written<Member>, Error> {
    let held = hold(transaction, mutation, project, account).await?;
    let locked = &held.locked;
    let leaves = held
        .member
        .as_ref()
        .is_some_and(|member| mutation.caller.actor == Actor::User(member.user));
    if !leaves {
        locked.require(Permission::ManageMembers)?;
    }
    // Whether there is such an account is not told to who may know of members alone.
    let before = held
        .member
        .as_ref()
        .ok_or_else(|| Error::not_found(Entity::Member, account))?;
    if !leaves {
        locked.require_grant(before.role)?;
    }
    check_etag(etag, &before.etag, Entity::Member, &account.to_string())?;
    held.keep_an_owner(project, before.role)?;
    let mut journal = Journal::new(mutation, locked);
    journal.record(record("member.remove", project, Some(before), None)?);
    journal.touch_access();
    let delete: pipeline::Query<'_> = (DELETE, &[&locked.project.id, &before.user]);
    journal.write(transaction, &[delete], before.clone()).await
}

/// What the audit log says of a member.
pub(super) fn record(
    action: &'static str,
    project: &key::Project,
    before: Option<&Member>,
    after: Option<&Member>,
) -> Result<Record, Error> {
    Ok(Record {
        action,
        entity: Entity::Member,
        key: before
            .or(after)
            .map(|member| member.user.to_string())
            .unwrap_or_default(),
        project: project.to_string(),
        environment: String::new(),
        before: before.map(audit::json).transpose()?,
        after: after.map(audit::json).transpose()?,
    })
}
