//! What administrators do with accounts.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{FIND, FIND_BY_ID, INSERT, User, UserRow, credentials, from_row, json, record};
use crate::domain::access::InstanceRole;
use crate::domain::email::Email;
use crate::store::audit::Record;
use crate::store::error::{Entity, Error};
use crate::store::journal::Journal;
use crate::store::lock::{self, Installation};
use crate::store::mutation::{Mutation, Outcome, Written};
use crate::store::page::{Page, PageRequest, check_etag, etag};
use crate::store::{Store, pipeline, rows, sessions};

const LIST: &str = "
    select id, email, email_normalized, password_hash, instance_role, active, version, created_at, updated_at from users
    where email_normalized > $1 and ($2 = '' or strpos(email_normalized, $2) > 0)
    order by email_normalized limit $3";
const UPDATE: &str = "
    update users set email = $2, email_normalized = coalesce($3, email_normalized), instance_role = $4, active = $5,
        password_hash = coalesce($6, password_hash), version = version + 1, updated_at = $7
    where id = $1";
const DELETE: &str = "delete from users where id = $1";
const OTHER_ADMINISTRATORS: &str = "
    select count(*) as others from users where instance_role = 'administrator' and active and id <> $1";
/// The projects that a user is a member of: before anything else, as whoever changes members does.
const LOCK_PROJECTS: &str = "
    select p.id from projects p
    join members m on m.project_id = p.id
    where m.user_id = $1
    order by p.id
    for update of p";
/// Until the transaction ends the user can become a member of nothing more.
const LOCK_USER: &str = "select id from users where id = $1 for update";
/// Owners who cannot act do not count, as where members are changed.
const MEMBERSHIPS: &str = "
    select p.key, m.role, m.role = 'owner' and not exists (
        select from members o
        join users u on u.id = o.user_id
        where o.project_id = m.project_id and o.user_id <> m.user_id and o.role = 'owner' and u.active) as alone
    from members m
    join projects p on p.id = m.project_id
    where m.user_id = $1
    order by p.key";

/// An account to be, active.
#[derive(Clone)]
pub struct NewUser {
    /// Names it.
    pub id: Uuid,
    /// Its address.
    pub email: Email,
    /// Its role in the installation.
    pub role: Option<InstanceRole>,
    /// The hash of its password.
    pub password_hash: String,
}

/// What to change of an account. `None`: leave it.
#[derive(Clone, Default)]
pub struct UserPatch {
    /// Its address.
    pub email: Option<Email>,
    /// Its role in the installation; `Some(None)` takes it away.
    pub role: Option<Option<InstanceRole>>,
    /// Whether it may log in.
    pub active: Option<bool>,
    /// The hash of its password.
    pub password_hash: Option<String>,
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

    /// Changes an account. A new password and a deactivation end its sessions.
    pub async fn update_user(
        &self,
        mutation: &Mutation,
        id: Uuid,
        patch: UserPatch,
        etag: &str,
        respond: impl FnOnce(&Written<User>) -> Vec<u8>,
    ) -> Result<Outcome<User>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            update(transaction, mutation, id, patch, etag).await
        })
        .await
    }

    /// Deletes an account with its sessions and memberships; answers with what it was.
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
            Selector::Id(id) => (pipeline::one(&client, (FIND_BY_ID, &[id])).await?, id.to_string()),
            Selector::Email(email) => {
                let query: pipeline::Query<'_> = (FIND, &[&email.normalized()]);
                (pipeline::one(&client, query).await?, email.to_string())
            }
        };
        let row = found.first().ok_or_else(|| Error::not_found(Entity::User, name))?;
        Ok(credentials(row)?.user)
    }

    /// Lists accounts by address, those whose address contains a text in lower case.
    pub async fn list_users(&self, filter: &str, page: &PageRequest) -> Result<Page<User>, Error> {
        let client = self.reader().await?;
        let found = pipeline::one(&client, (LIST, &[&page.after, &filter, &page.limit()])).await?;
        let read = |row| {
            let normalized: String = rows::get(row, "email_normalized")?;
            Ok((credentials(row)?.user, normalized))
        };
        let users = found.iter().map(read).collect::<Result<_, Error>>()?;
        let Page { items, next } = page.page(users, |(_, normalized): &(User, String)| normalized.clone());
        Ok(Page {
            items: items.into_iter().map(|(user, _)| user).collect(),
            next,
        })
    }
}

async fn create(transaction: &Transaction<'_>, mutation: &Mutation, new: &NewUser) -> Result<Written<User>, Error> {
    let (Installation { audit, now }, []) = lock::administration(transaction, &mutation.caller, [], []).await?;
    let user = User {
        id: new.id,
        email: new.email.given().to_owned(),
        role: new.role,
        active: true,
        created_at: now,
        updated_at: now,
        etag: etag([1]),
    };
    let mut journal = Journal::of_chain(mutation, audit, now);
    journal.record(record("user.create", None, Some(&user)));
    journal.touch_access();
    let role = user.role.map(InstanceRole::name);
    let write: pipeline::Query<'_> = (
        INSERT,
        &[
            &user.id,
            &user.email,
            &new.email.normalized(),
            &new.password_hash,
            &role,
            &now,
        ],
    );
    let written = journal.write(transaction, &[write], user.clone()).await;
    written.map_err(|error| error.about(&user.email))
}

async fn update(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    id: Uuid,
    patch: UserPatch,
    etag: &str,
) -> Result<Written<User>, Error> {
    let reads: [pipeline::Query<'_>; 2] = [(FIND_BY_ID, &[&id]), (OTHER_ADMINISTRATORS, &[&id])];
    let (Installation { audit, now }, [found, others]) =
        lock::administration(transaction, &mutation.caller, [], reads).await?;
    let UserRow { version, credentials } = existing(&found, id, etag)?;
    let before = credentials.user;
    let UserPatch {
        email,
        role,
        active,
        password_hash,
    } = patch;
    let after = User {
        email: email
            .as_ref()
            .map_or_else(|| before.email.clone(), |email| email.given().to_owned()),
        role: role.unwrap_or(before.role),
        active: active.unwrap_or(before.active),
        ..before.clone()
    };
    if after == before && password_hash.is_none() {
        return Ok(Written::unchanged(after));
    }
    if !(after.active && after.role.is_some()) {
        keep_an_administrator(&before, &others)?;
    }
    let after = User {
        updated_at: now,
        etag: self::etag([version + 1]),
        ..after
    };
    let mut journal = Journal::of_chain(mutation, audit, now);
    journal.record(changed(&before, &after, password_hash.is_some()));
    journal.touch_access();
    // What is not given stays as it is, in the row and in the index.
    let normalized = email.as_ref().map(Email::normalized);
    let email = after.email.clone();
    let (role, active) = (after.role.map(InstanceRole::name), after.active);
    let write: pipeline::Query<'_> = (
        UPDATE,
        &[&id, &email, &normalized, &role, &active, &password_hash, &now],
    );
    let revoke: pipeline::Query<'_> = (sessions::REVOKE_ALL, &[&id, &now]);
    let ends_sessions = password_hash.is_some() || !active;
    let writes = if ends_sessions {
        vec![write, revoke]
    } else {
        vec![write]
    };
    let written = journal.write(transaction, &writes, after).await;
    written.map_err(|error| error.about(&email))
}

async fn delete(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    id: Uuid,
    etag: &str,
) -> Result<Written<User>, Error> {
    // The projects again behind the user: those that it became a member of while we waited for it.
    let before: [pipeline::Query<'_>; 3] = [(LOCK_PROJECTS, &[&id]), (LOCK_USER, &[&id]), (LOCK_PROJECTS, &[&id])];
    let reads: [pipeline::Query<'_>; 3] = [
        (FIND_BY_ID, &[&id]),
        (OTHER_ADMINISTRATORS, &[&id]),
        (MEMBERSHIPS, &[&id]),
    ];
    let (Installation { audit, now }, [found, others, memberships]) =
        lock::administration(transaction, &mutation.caller, before, reads).await?;
    let user = existing(&found, id, etag)?.credentials.user;
    keep_an_administrator(&user, &others)?;
    keep_an_owner(&user, &memberships)?;
    let mut journal = Journal::of_chain(mutation, audit, now);
    journal.record(deleted(&user, &memberships)?);
    journal.touch_access();
    journal.write(transaction, &[(DELETE, &[&id])], user).await
}

/// The account, as it is under the lock.
fn existing(found: &[Row], id: Uuid, etag: &str) -> Result<UserRow, Error> {
    let row = found.first().ok_or_else(|| Error::not_found(Entity::User, id))?;
    let row = from_row(row)?;
    check_etag(etag, &row.credentials.user.etag, Entity::User, &id.to_string())?;
    Ok(row)
}

/// Refuses to lose the last active administrator.
fn keep_an_administrator(user: &User, others: &[Row]) -> Result<(), Error> {
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
    let projects = alone.join(", ");
    Err(blocked(
        user,
        format!("is the last active owner of {projects}; make somebody else owner first, or deactivate the account"),
    ))
}

fn blocked(user: &User, description: String) -> Error {
    Error::Blocked {
        entity: Entity::User,
        key: user.email.clone(),
        description,
    }
}

/// The entry of a change, which says of a new password only that there is one.
fn changed(before: &User, after: &User, new_password: bool) -> Record {
    let mut content = json(after);
    if new_password {
        content["password"] = "changed".into();
    }
    Record {
        after: Some(content.to_string()),
        ..record("user.update", Some(before), Some(after))
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
