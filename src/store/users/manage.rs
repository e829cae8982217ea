//! What administrators do with accounts.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{FIND, FIND_BY_ID, INSERT, User, UserRow, columns, identities, json, record, with_identities};
use crate::domain::access::{InstanceRole, Role};
use crate::domain::email::Email;
use crate::domain::identity::IdentityKey;
use crate::domain::key;
use crate::store::audit::{self, Record};
use crate::store::error::{Entity, Error};
use crate::store::journal::Journal;
use crate::store::lock::{self, Installation};
use crate::store::members::{self, Member};
use crate::store::mutation::{Mutation, Outcome, Written};
use crate::store::page::{Page, PageRequest, check_etag, etag};
use crate::store::{Store, pipeline, rows};

/// By the address that is shown; accounts without one of their own may share it, so the id comes behind.
const LIST: &str = concat!(
    "select ",
    columns!(),
    ", coalesce(email_normalized, lower(email)) || ' ' || id as place from users
    where coalesce(email_normalized, lower(email)) || ' ' || id > $1
        and ($2 = '' or strpos(coalesce(email_normalized, lower(email)), $2) > 0)
    order by place limit $3"
);
const DELETE: &str = "delete from users where id = $1";
/// Administrators who cannot act, since nothing opens their account, do not count.
pub(in crate::store) const OTHER_ADMINISTRATORS: &str = "
    select count(*) as others from users u
    where u.instance_role = 'administrator' and u.active and u.id <> $1
        and (u.password_hash is not null or exists (select from identities i where i.user_id = u.id))";
/// The projects that a user is a member of: before anything else, as whoever changes members does.
const LOCK_PROJECTS: &str = "
    select p.id from projects p
    join members m on m.project_id = p.id
    where m.user_id = $1
    order by p.id
    for update of p";
/// Until the transaction ends the user can become a member of nothing more.
const LOCK_USER: &str = "select id from users where id = $1 for update";
/// The chains of these projects, in the order of everyone who locks several.
const LOCK_CHAINS: &str = "
    select h.chain from audit_heads h
    where h.chain in (select m.project_id::text from members m where m.user_id = $1)
    order by h.chain
    for update";
/// With where the projects' chains stand. Owners who cannot act do not count, as where members are changed.
const MEMBERSHIPS: &str = "
    select p.key, h.chain, h.sequence, h.hash, m.role, m.role = 'owner' and not exists (
        select from members o
        join users u on u.id = o.user_id
        where o.project_id = m.project_id and o.user_id <> m.user_id and o.role = 'owner' and u.active) as alone
    from members m
    join projects p on p.id = m.project_id
    left join audit_heads h on h.chain = p.id::text
    where m.user_id = $1
    order by p.key";
/// The most projects that a refusal names.
const NAMED: usize = 20;

/// An account to be, active.
#[derive(Clone)]
pub struct NewUser {
    /// Names it.
    pub id: Uuid,
    /// Its address.
    pub email: Email,
    /// Its role in the installation.
    pub role: Option<InstanceRole>,
    /// The hash of its password. `None`: it is opened by its identities alone.
    pub password_hash: Option<String>,
    /// Which identities open it.
    pub identities: Vec<IdentityKey>,
}

/// Which account.
#[derive(Debug, Clone)]
pub enum Selector {
    /// By its id.
    Id(Uuid),
    /// By its address.
    Email(Email),
}

impl Store {
    /// Opens an account.
    pub async fn create_user(
        &self,
        mutation: &Mutation,
        new: &NewUser,
        respond: impl FnOnce(&Written<User>) -> Vec<u8>,
    ) -> Result<Outcome<User>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            create(transaction, mutation, new).await
        })
        .await
    }

    /// Deletes an account with its sessions and memberships, which is told in the chain of each project too; answers with what it
    /// was.
    pub async fn delete_user(
        &self,
        mutation: &Mutation,
        id: Uuid,
        etag: &str,
        respond: impl FnOnce(&Written<User>) -> Vec<u8>,
    ) -> Result<Outcome<User>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            delete(transaction, mutation, id, etag).await
        })
        .await
    }

    /// Reads an account.
    pub async fn get_user(&self, which: &Selector) -> Result<User, Error> {
        let client = self.reader().await?;
        let (found, name) = match which {
            Selector::Id(id) => (pipeline::one(&*client, (FIND_BY_ID, &[id])).await?, id.to_string()),
            Selector::Email(email) => {
                let query: pipeline::Query<'_> = (FIND, &[&email.normalized()]);
                (pipeline::one(&*client, query).await?, email.to_string())
            }
        };
        let row = found.first().ok_or_else(|| Error::not_found(Entity::User, name))?;
        Ok(with_identities(row)?.credentials.user)
    }

    /// Lists accounts by address, those whose address contains a text in lower case.
    pub async fn list_users(&self, filter: &str, page: &PageRequest) -> Result<Page<User>, Error> {
        let client = self.reader().await?;
        let found = pipeline::one(&*client, (LIST, &[&page.after, &filter, &page.limit()])).await?;
        let read = |row| {
            let place: String = rows::get(row, "place")?;
            Ok((with_identities(row)?.credentials.user, place))
        };
        let users = found.iter().map(read).collect::<Result<_, Error>>()?;
        let Page { items, next } = page.page(users, |(_, place): &(User, String)| place.clone());
        Ok(Page {
            items: items.into_iter().map(|(user, _)| user).collect(),
            next,
        })
    }
}

async fn create(transaction: &Transaction<'_>, mutation: &Mutation, new: &NewUser) -> Result<Written<User>, Error> {
    let (issuers, subjects) = identities::columns(&new.identities);
    let reads: [pipeline::Query<'_>; 1] = [(identities::HOLDERS, &[&issuers, &subjects])];
    let (Installation { audit, now }, [holders]) =
        lock::administration(transaction, &mutation.caller, [], reads).await?;
    identities::require_free(&holders, new.id)?;
    let user = User {
        id: new.id,
        email: new.email.given().to_owned(),
        role: new.role,
        active: true,
        created_at: now,
        updated_at: now,
        etag: etag([1]),
        identities: identities::linked(&[], &new.identities),
    };
    let mut journal = Journal::of_chain(mutation, audit, now);
    journal.record(record("user.create", None, Some(&user)));
    journal.touch_access();
    let role = user.role.map(InstanceRole::name);
    let writes: [pipeline::Query<'_>; 2] = [
        (
            INSERT,
            &[
                &user.id,
                &user.email,
                &new.email.normalized(),
                &new.password_hash,
                &role,
                &now,
            ],
        ),
        (identities::LINK, &[&user.id, &issuers, &subjects, &now]),
    ];
    let written = journal.write(transaction, &writes, user.clone()).await;
    written.map_err(|error| error.about(&user.email))
}

async fn delete(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    id: Uuid,
    etag: &str,
) -> Result<Written<User>, Error> {
    // The projects again behind the user: those that it became a member of while we waited for it.
    let before: [pipeline::Query<'_>; 4] = [
        (LOCK_PROJECTS, &[&id]),
        (LOCK_USER, &[&id]),
        (LOCK_PROJECTS, &[&id]),
        (LOCK_CHAINS, &[&id]),
    ];
    let reads: [pipeline::Query<'_>; 3] = [
        (FIND_BY_ID, &[&id]),
        (OTHER_ADMINISTRATORS, &[&id]),
        (MEMBERSHIPS, &[&id]),
    ];
    let (Installation { audit, now }, [found, others, memberships]) =
        lock::administration(transaction, &mutation.caller, before, reads).await?;
    let user = existing(&found, id, etag)?.0.credentials.user;
    keep_an_administrator(&user, &others)?;
    keep_an_owner(&user, &memberships)?;
    for membership in &memberships {
        tell_project(transaction, mutation, &user, membership, now).await?;
    }
    let mut journal = Journal::of_chain(mutation, audit, now);
    journal.record(deleted(&user, &memberships)?);
    journal.touch_access();
    journal.write(transaction, &[(DELETE, &[&id])], user).await
}

/// Tells a project, in its chain, that it loses a member.
async fn tell_project(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    user: &User,
    membership: &Row,
    now: Timestamp,
) -> Result<(), Error> {
    let project = rows::parsed(membership, "key", key::Project::new)?;
    let member = Member {
        user: user.id,
        email: user.email.clone(),
        role: rows::named(membership, "role", Role::from_name)?,
        active: user.active,
        etag: String::new(),
    };
    let mut journal = Journal::of_chain(mutation, audit::head_from_row(membership)?, now);
    journal.record(members::record("member.remove", &project, Some(&member), None)?);
    journal.write(transaction, &[], ()).await?;
    Ok(())
}

/// The account, as it is under the lock, and the address that it is found by.
pub(super) fn existing(found: &[Row], id: Uuid, etag: &str) -> Result<(UserRow, Option<String>), Error> {
    let row = found.first().ok_or_else(|| Error::not_found(Entity::User, id))?;
    let address = rows::get(row, "email_normalized")?;
    let row = with_identities(row)?;
    check_etag(etag, &row.credentials.user.etag, Entity::User, &id.to_string())?;
    Ok((row, address))
}

/// Refuses to lose the last active administrator.
pub(super) fn keep_an_administrator(user: &User, others: &[Row]) -> Result<(), Error> {
    let others = others.first().map(|row| rows::number(row, "others")).transpose()?;
    if user.active && user.role.is_some() && others.unwrap_or_default() == 0 {
        return Err(blocked(
            user,
            "is the last active administrator; make another one first".to_owned(),
        ));
    }
    Ok(())
}

/// Refuses to leave a project without an owner who can act.
fn keep_an_owner(user: &User, memberships: &[Row]) -> Result<(), Error> {
    let mut alone = Vec::new();
    for row in memberships {
        if rows::get(row, "alone")? {
            alone.push(rows::get::<String>(row, "key")?);
        }
    }
    if alone.is_empty() {
        return Ok(());
    }
    let more = match alone.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    alone.truncate(NAMED);
    let projects = alone.join(", ") + &more;
    Err(blocked(
        user,
        format!("is the last active owner of {projects}; make somebody else owner first, or deactivate the account"),
    ))
}

pub(super) fn blocked(user: &User, description: String) -> Error {
    Error::Blocked {
        entity: Entity::User,
        key: user.email.clone(),
        description,
    }
}

/// The entry of a deletion, which says what the user was a member of.
fn deleted(user: &User, memberships: &[Row]) -> Result<Record, Error> {
    let mut content = json(user);
    for row in memberships {
        content["memberships"][rows::get::<&str>(row, "key")?] = rows::get::<&str>(row, "role")?.into();
    }
    Ok(Record {
        before: Some(content.to_string()),
        ..record("user.delete", Some(user), None)
    })
}
