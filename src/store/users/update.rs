//! What administrators change of accounts.

use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::manage::{OTHER_ADMINISTRATORS, blocked, existing, keep_an_administrator};
use super::{FIND_BY_ID, User, UserRow, identities, json, record};
use crate::domain::access::InstanceRole;
use crate::domain::email::Email;
use crate::domain::identity::IdentityKey;
use crate::store::audit::Record;
use crate::store::error::Error;
use crate::store::journal::Journal;
use crate::store::lock::{self, Installation};
use crate::store::mutation::{Mutation, Outcome, Written};
use crate::store::page::etag;
use crate::store::{Store, pipeline, sessions};

const UPDATE: &str = "
    update users set email = $2, email_normalized = $3, instance_role = $4, active = $5,
        password_hash = coalesce($6, password_hash), version = version + 1, updated_at = $7
    where id = $1";
/// Whoever changes the role of an administrator takes it out of the claim's hands.
const DISCLAIM: &str = "update identities set administrator = false where user_id = $1 and administrator";

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
    /// All identities that open it.
    pub identities: Option<Vec<IdentityKey>>,
}

/// An account before and after a change.
struct Change {
    before: User,
    after: User,
    /// The address that it was found by.
    address_before: Option<String>,
    /// The address that it will be found by.
    address: Option<String>,
    password_hash: Option<String>,
    /// All identities that are to open it. `None`: those that do.
    identities: Option<Vec<IdentityKey>>,
}

impl Store {
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
}

async fn update(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    id: Uuid,
    patch: UserPatch,
    etag: &str,
) -> Result<Written<User>, Error> {
    let (issuers, subjects) = identities::columns(patch.identities.as_deref().unwrap_or_default());
    let reads: [pipeline::Query<'_>; 3] = [
        (FIND_BY_ID, &[&id]),
        (OTHER_ADMINISTRATORS, &[&id]),
        (identities::HOLDERS, &[&issuers, &subjects]),
    ];
    let (installation, [found, others, holders]) =
        lock::administration(transaction, &mutation.caller, [], reads).await?;
    let (UserRow { version, credentials }, address) = existing(&found, id, etag)?;
    identities::require_free(&holders, id)?;
    let has_password = credentials.password_hash.is_some();
    let mut change = Change::new(credentials.user, address, patch.clone());
    change.require_address()?;
    if change.is_none() {
        return Ok(Written::unchanged(change.after));
    }
    if !change.stays_administrator(has_password) {
        keep_an_administrator(&change.before, &others)?;
    }
    change.after.updated_at = installation.now;
    change.after.etag = self::etag([version + 1]);
    write(transaction, mutation, installation, change).await
}

impl Change {
    fn new(before: User, address_before: Option<String>, patch: UserPatch) -> Self {
        let UserPatch {
            email,
            role,
            active,
            password_hash,
            identities,
        } = patch;
        let given = email.as_ref().map(|email| email.given().to_owned());
        let normalized = email.as_ref().map(|email| email.normalized().to_owned());
        let wanted = identities.as_ref();
        let linked = wanted.map(|wanted| identities::linked(&before.identities, wanted));
        let after = User {
            email: given.unwrap_or_else(|| before.email.clone()),
            role: role.unwrap_or(before.role),
            active: active.unwrap_or(before.active),
            identities: linked.unwrap_or_else(|| before.identities.clone()),
            ..before.clone()
        };
        Self {
            before,
            after,
            address: normalized.or_else(|| address_before.clone()),
            address_before,
            password_hash,
            identities,
        }
    }

    /// Refuses a password that nobody could log in with.
    fn require_address(&self) -> Result<(), Error> {
        if self.password_hash.is_none() || self.address.is_some() {
            return Ok(());
        }
        let description = "has no e-mail address of its own to log in with; give it one together with the password";
        Err(blocked(&self.before, description.to_owned()))
    }

    /// Whether an administrator stays one who can act: is active, and has a password or an identity that opens the account. What
    /// nothing opened before is no loss.
    fn stays_administrator(&self, had_password: bool) -> bool {
        let opened = had_password || !self.before.identities.is_empty();
        let opens = had_password || self.password_hash.is_some() || !self.after.identities.is_empty();
        self.after.active && self.after.role.is_some() && (opens || !opened)
    }

    fn is_none(&self) -> bool {
        self.after == self.before && self.address == self.address_before && self.password_hash.is_none()
    }
}

async fn write(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    Installation { audit, now }: Installation,
    change: Change,
) -> Result<Written<User>, Error> {
    let Change {
        before,
        after,
        address_before: _,
        address,
        password_hash,
        identities,
    } = change;
    let mut journal = Journal::of_chain(mutation, audit, now);
    journal.record(changed(&before, &after, password_hash.is_some()));
    journal.touch_access();
    let (id, email) = (after.id, after.email.clone());
    let (role, active) = (after.role.map(InstanceRole::name), after.active);
    let (issuers, subjects) = identities::columns(identities.as_deref().unwrap_or_default());
    let update: [&(dyn ToSql + Sync); 7] = [&id, &email, &address, &role, &active, &password_hash, &now];
    let timed: [&(dyn ToSql + Sync); 2] = [&id, &now];
    let listed: [&(dyn ToSql + Sync); 4] = [&id, &issuers, &subjects, &now];
    let mut writes: Vec<pipeline::Query<'_>> = vec![(UPDATE, &update)];
    if password_hash.is_some() || !active {
        writes.push((sessions::REVOKE_ALL, &timed));
    }
    if after.role != before.role {
        writes.push((DISCLAIM, &timed[..1]));
    }
    if identities.is_some() {
        writes.extend([(identities::UNLINK, &listed[..3]), (identities::LINK, &listed[..])]);
    }
    let written = journal.write(transaction, &writes, after).await;
    written.map_err(|error| error.about(&email))
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
