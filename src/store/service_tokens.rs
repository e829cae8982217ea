//! Service tokens: the credentials of machines that administrate. Each has a role in one project. The store knows the hash of a
//! secret, never the secret.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use super::audit::{self, Record};
use super::error::{Entity, Error, Flaw};
use super::journal::Journal;
use super::lock::{self, Locked, Scope};
use super::makers::Maker;
use super::mutation::{Mutation, Outcome, Versioned, Written};
use super::page::{Page, PageRequest};
use super::{Store, pipeline, projects, rows};
use crate::domain::access::{Permission, Role, TokenId};
use crate::domain::change::Digest;
use crate::domain::invalid::Violations;
use crate::domain::{check, key, limits};

const COUNT: &str = "
    select count(*) as live from service_tokens t
    join projects p on p.id = t.project_id
    where p.key = $1 and t.revoked_at is null and (t.expires_at is null or t.expires_at > clock_timestamp())";
const FIND: &str = "
    select t.id, t.name, t.role, t.created_at, t.expires_at, t.revoked_at, u.used_at, t.created_by_user, t.created_by_token,
        coalesce(mu.email, mt.name, '') as created_by_name
    from service_tokens t
    join projects p on p.id = t.project_id
    left join users mu on mu.id = t.created_by_user
    left join service_tokens mt on mt.id = t.created_by_token
    left join credential_uses u on u.kind = 'service_token' and u.id = t.id
    where p.key = $1 and t.id = $2";
const LIST: &str = "
    select t.id, t.name, t.role, t.created_at, t.expires_at, t.revoked_at, u.used_at, t.created_by_user, t.created_by_token,
        coalesce(mu.email, mt.name, '') as created_by_name
    from service_tokens t
    join projects p on p.id = t.project_id
    left join users mu on mu.id = t.created_by_user
    left join service_tokens mt on mt.id = t.created_by_token
    left join service_tokens a on a.project_id = t.project_id and a.id = $2
    left join credential_uses u on u.kind = 'service_token' and u.id = t.id
    where p.key = $1
        and ($2 = '' or t.created_at < a.created_at or (t.created_at = a.created_at and t.id > a.id))
    order by t.created_at desc, t.id limit $3";
const INSERT: &str = "
    insert into service_tokens (
        id, project_id, name, role, secret_hash, created_at, expires_at, created_by_user, created_by_token)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
/// When the calling token stops working.
const EXPIRY: &str = "select expires_at from service_tokens where id = $1";
const REVOKE: &str = "update service_tokens set revoked_at = $2 where id = $1";

/// A service token, without its secret. What serialises is what audit entries keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceToken {
    /// Names it; not secret.
    #[serde(serialize_with = "audit::text")]
    pub id: TokenId,
    /// For people.
    pub name: String,
    /// Its role in its project.
    #[serde(serialize_with = "audit::role")]
    pub role: Role,
    /// When it was made.
    #[serde(skip)]
    pub created_at: Timestamp,
    /// When it stops working. `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked. `None`: it was not.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, as far as replicas have told. `None`: never.
    #[serde(skip)]
    pub last_used_at: Option<Timestamp>,
    /// Who made it. `None`: whoever runs the installation.
    #[serde(skip)]
    pub created_by: Option<Maker>,
}

/// A service token to be.
#[derive(Debug, Clone)]
pub struct NewServiceToken {
    /// Names it; not secret.
    pub id: TokenId,
    /// For people.
    pub name: String,
    /// Its role in the project.
    pub role: Role,
    /// SHA-256 of its secret.
    pub secret_hash: Digest,
    /// When it stops working. `None`: never.
    pub expires_at: Option<Timestamp>,
}

impl Versioned for ServiceToken {}

impl Store {
    /// Makes a service token. An owner's is made by owners only, and none that outlives it by a token that expires.
    pub async fn create_service_token(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        new: NewServiceToken,
        respond: impl FnOnce(&Written<ServiceToken>) -> Vec<u8>,
    ) -> Result<Outcome<ServiceToken>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            create(transaction, mutation, project, new).await
        })
        .await
    }

    /// Revokes a service token. One that is revoked already stays as it is. An owner's is revoked by owners only.
    pub async fn revoke_service_token(
        &self,
        mutation: &Mutation,
        project: &key::Project,
        id: TokenId,
        respond: impl FnOnce(&Written<ServiceToken>) -> Vec<u8>,
    ) -> Result<Outcome<ServiceToken>, Error> {
        self.mutate(mutation, respond, async |transaction| {
            revoke(transaction, mutation, project, id).await
        })
        .await
    }

    /// Lists a project's service tokens, newest first, revoked and expired ones too.
    pub async fn list_service_tokens(
        &self,
        project: &key::Project,
        page: &PageRequest,
    ) -> Result<Page<ServiceToken>, Error> {
        let client = self.reader().await?;
        let found = pipeline::one(&*client, (LIST, &[&project.as_str(), &page.after, &page.limit()])).await?;
        if found.is_empty() && !projects::exists(&*client, project).await? {
            return Err(Error::not_found(Entity::Project, project));
        }
        let tokens = found.iter().map(from_row).collect::<Result<_, _>>()?;
        Ok(page.page(tokens, |token: &ServiceToken| token.id.to_string()))
    }
}

fn from_row(row: &Row) -> Result<ServiceToken, Error> {
    let id = TokenId::parse(rows::get(row, "id")?).ok_or_else(|| rows::corrupt("id", Flaw::Range))?;
    Ok(ServiceToken {
        id,
        name: rows::get(row, "name")?,
        role: rows::named(row, "role", Role::from_name)?,
        created_at: rows::get(row, "created_at")?,
        expires_at: rows::get(row, "expires_at")?,
        revoked_at: rows::get(row, "revoked_at")?,
        last_used_at: rows::get(row, "used_at")?,
        created_by: Maker::from_row(row)?,
    })
}

async fn create(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    new: NewServiceToken,
) -> Result<Written<ServiceToken>, Error> {
    let created_by = Maker::of(&mutation.caller);
    let (maker_user, maker_token) = Maker::columns(created_by.as_ref());
    let reads: [pipeline::Query<'_>; 2] = [(COUNT, &[&project.as_str()]), (EXPIRY, &[&maker_token])];
    let (locked, [counted, calling]) =
        lock::acquire(transaction, &mutation.caller, Scope::People(project), reads).await?;
    locked.require_grant(new.role)?;
    let calling = calling.first().map(|row| rows::get(row, "expires_at")).transpose()?;
    check_new(&new, calling.flatten(), locked.now)?;
    let live = counted.first().map(|row| rows::number(row, "live")).transpose()?;
    if live >= Some(limits::SERVICE_TOKENS as u64) {
        return Err(Error::LimitReached {
            entity: Entity::ServiceToken,
            limit: limits::SERVICE_TOKENS,
        });
    }
    let now = locked.now;
    let NewServiceToken {
        id,
        name,
        role,
        secret_hash,
        expires_at,
    } = new;
    let token = ServiceToken {
        id,
        name,
        role,
        created_at: now,
        expires_at: expires_at.map(rows::kept),
        revoked_at: None,
        last_used_at: None,
        created_by,
    };
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("service_token.create", project, None, Some(&token))?);
    journal.touch_access();
    let (id, name, hash) = (id.to_string(), token.name.clone(), secret_hash.0.as_slice());
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
            &maker_user,
            &maker_token,
        ],
    );
    let written = journal.write(transaction, &[insert], token).await;
    written.map_err(|error| error.about(&id))
}

async fn revoke(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    id: TokenId,
) -> Result<Written<ServiceToken>, Error> {
    let text = id.to_string();
    let (locked, before) = hold(transaction, mutation, project, &text).await?;
    if before.revoked_at.is_some() {
        return Ok(Written::unchanged(before));
    }
    let after = ServiceToken {
        revoked_at: Some(locked.now),
        ..before.clone()
    };
    let mut journal = Journal::new(mutation, &locked);
    journal.record(record("service_token.revoke", project, Some(&before), Some(&after))?);
    journal.touch_access();
    journal
        .write(transaction, &[(REVOKE, &[&text, &locked.now])], after)
        .await
}

/// Locks the project, and finds one of its tokens, for who may grant what it grants.
async fn hold(
    transaction: &Transaction<'_>,
    mutation: &Mutation,
    project: &key::Project,
    id: &str,
) -> Result<(Locked, ServiceToken), Error> {
    let reads: [pipeline::Query<'_>; 1] = [(FIND, &[&project.as_str(), &id])];
    let (locked, [found]) = lock::acquire(transaction, &mutation.caller, Scope::People(project), reads).await?;
    locked.require(Permission::ManageMembers)?;
    let token = from_row(
        found
            .first()
            .ok_or_else(|| Error::not_found(Entity::ServiceToken, id))?,
    )?;
    locked.require_grant(token.role)?;
    Ok((locked, token))
}

/// Checks a token; paths are those of the request that makes one. `calling` is when the token that makes it stops working: one that
/// outlived it would be a way to go on.
fn check_new(new: &NewServiceToken, calling: Option<Timestamp>, now: Timestamp) -> Result<(), Violations> {
    let mut violations = Violations::new();
    check::text(&mut violations, "name", &new.name, limits::NAME_CHARS);
    if new.expires_at.is_some_and(|expiry| expiry <= now) {
        violations.add(
            "expire_time",
            "is in the past; leave it out for a token that never expires",
        );
    }
    if let Some(end) = calling
        && new.expires_at.map(rows::kept).is_none_or(|expiry| expiry > end)
    {
        let description =
            format!("must be {end} or before: the calling token expires then, and makes none that outlives it");
        violations.add("expire_time", description);
    }
    violations.or(())
}

fn record(
    action: &'static str,
    project: &key::Project,
    before: Option<&ServiceToken>,
    after: Option<&ServiceToken>,
) -> Result<Record, Error> {
    Ok(Record {
        action,
        entity: Entity::ServiceToken,
        key: before.or(after).map(|token| token.id.to_string()).unwrap_or_default(),
        project: project.to_string(),
        environment: String::new(),
        before: before.map(audit::json).transpose()?,
        after: after.map(audit::json).transpose()?,
    })
}
