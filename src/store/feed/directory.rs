//! Reading what access depends on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio::time::timeout;
use tokio_postgres::types::Type;
use tokio_postgres::{IsolationLevel, Row, Transaction};
use uuid::Uuid;

use super::error::Error;
use super::lease::with_client;
use super::options::Options;
use super::rows;
use crate::domain::access::{
    Directory, Environment, EnvironmentKey, InstanceRole, KeyKind, PreviousSecret, Role, ServiceToken, TokenId, User,
};
use crate::domain::change::EnvironmentId;
use crate::domain::identity::{Identity, IdentityKey};
use crate::domain::{key, limits};
use crate::store::pool::Pool;

/// By how much the clocks of the database and of the replicas may differ.
const CLOCKS_DIFFER_SECONDS: u32 = 60;

/// Reads the directory, all of one moment.
pub(super) async fn load(pool: &Pool, options: &Options) -> Result<Directory, Error> {
    let quick = options.query_timeout;
    with_client(pool, options.load_timeout, move |client| {
        Box::pin(async move {
            // The first answers must come as quickly as any others: what was revoked must not wait for a connection that hangs.
            let first = async {
                let transaction = client
                    .build_transaction()
                    .isolation_level(IsolationLevel::RepeatableRead)
                    .read_only(true)
                    .start()
                    .await?;
                let revision = revision(&transaction).await?;
                Ok::<_, Error>((transaction, revision))
            };
            let first = timeout(quick, first).await;
            let (transaction, revision) = first.map_err(|_| Error::TimedOut)??;
            let directory = read(&transaction, revision).await?;
            transaction.commit().await?;
            Ok(directory)
        })
    })
    .await
}

async fn revision(transaction: &Transaction<'_>) -> Result<u64, Error> {
    let head = "select pg_is_in_recovery() as standby, revision from access_head";
    let head = transaction.query_typed(head, &[]).await?;
    let head = head.first().ok_or(Error::Malformed("there is no access head"))?;
    // A standby may not have heard yet of what was revoked.
    if head.try_get("standby")? {
        return Err(Error::Standby);
    }
    rows::number(head, "revision")
}

async fn read(transaction: &Transaction<'_>, revision: u64) -> Result<Directory, Error> {
    let environments = "
        select environment.id, environment.key, environment.protected, project.key as project
        from environments environment
        join projects project on project.id = environment.project_id";
    let keys = "
        select id, environment_id, kind, secret_hash, expires_at, previous_secret_hash, previous_expires_at
        from environment_keys
        where revoked_at is null";
    let tokens = "
        select token.id, token.name, token.role, token.secret_hash, token.expires_at, project.key as project
        from service_tokens token
        join projects project on project.id = token.project_id
        where token.revoked_at is null";
    Ok(Directory {
        revision,
        environments: collect(transaction, environments, environment).await?,
        keys: collect(transaction, keys, environment_key).await?,
        users: users(transaction).await?,
        tokens: collect(transaction, tokens, service_token).await?,
        revoked_sessions: revoked_sessions(transaction).await?,
        identities: identities(transaction).await?,
        projects: projects(transaction).await?,
    })
}

/// The sessions that were revoked since the oldest access token that still works was made, and a little before that: clocks of
/// replicas differ.
async fn revoked_sessions(transaction: &Transaction<'_>) -> Result<HashSet<Uuid>, Error> {
    let seconds = f64::from(limits::ACCESS_TOKEN_SECONDS + CLOCKS_DIFFER_SECONDS);
    let sessions = "select id from sessions where revoked_at > now() - $1 * interval '1 second'";
    let sessions = transaction.query_typed(sessions, &[(&seconds, Type::FLOAT8)]).await?;
    sessions.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

/// Identities of inactive users too: who is kept out is not to be taken for somebody new.
async fn identities(transaction: &Transaction<'_>) -> Result<HashMap<IdentityKey, Identity>, Error> {
    let identities = "select issuer, subject, user_id, email, administrator, synced_at from identities";
    let mut identities = collect(transaction, identities, identity).await?;
    let given = "
        select member.claimed_issuer, member.claimed_subject, member.role, project.key as project
        from members member
        join projects project on project.id = member.project_id
        where member.claimed_issuer is not null";
    let given = transaction.query_typed(given, &[]).await?;
    for (key, project, role) in given.iter().filter_map(|row| readable(claimed(row))) {
        if let Some(identity) = identities.get_mut(&key) {
            identity.given.insert(project, role);
        }
    }
    Ok(identities)
}

async fn projects(transaction: &Transaction<'_>) -> Result<HashSet<key::Project>, Error> {
    let projects = transaction
        .query_typed("select key as project from projects", &[])
        .await?;
    Ok(projects.iter().filter_map(|row| readable(project(row))).collect())
}

async fn users(transaction: &Transaction<'_>) -> Result<HashMap<Uuid, User>, Error> {
    let users = "select id, email, instance_role, created_at from users where active";
    let mut users = collect(transaction, users, user).await?;
    let members = "
        select member.user_id, member.role, project.key as project
        from members member
        join projects project on project.id = member.project_id";
    let members = transaction.query_typed(members, &[]).await?;
    for (id, project, role) in members.iter().filter_map(|row| readable(member(row))) {
        if let Some(user) = users.get_mut(&id) {
            user.memberships.insert(project, role);
        }
    }
    Ok(users)
}

async fn collect<K, V>(
    transaction: &Transaction<'_>,
    sql: &str,
    entry: fn(&Row) -> Result<(K, V), Error>,
) -> Result<HashMap<K, V>, Error>
where
    K: Eq + std::hash::Hash,
{
    let rows = transaction.query_typed(sql, &[]).await?;
    Ok(rows.iter().filter_map(|row| readable(entry(row))).collect())
}

/// A row edited by hand into something that cannot be read gives nobody access, and takes it from nobody else.
fn readable<T>(entry: Result<T, Error>) -> Option<T> {
    entry
        .inspect_err(|error| {
            tracing::error!(
                error = error as &(dyn std::error::Error + 'static),
                "a row that grants access cannot be read; passed over"
            );
        })
        .ok()
}

fn environment(row: &Row) -> Result<(EnvironmentId, Environment), Error> {
    let key = key::Environment::new(row.try_get("key")?);
    let environment = Environment {
        project: project(row)?,
        key: key.map_err(|_| Error::Malformed("an environment's key is not one"))?,
        protected: row.try_get("protected")?,
    };
    Ok((EnvironmentId(row.try_get("id")?), environment))
}

fn environment_key(row: &Row) -> Result<(Arc<str>, EnvironmentKey), Error> {
    let kind = KeyKind::from_name(row.try_get("kind")?);
    let key = EnvironmentKey {
        environment: EnvironmentId(row.try_get("environment_id")?),
        kind: kind.ok_or(Error::Malformed("a key's kind is unknown"))?,
        secret_hash: rows::digest(row, "secret_hash")?,
        expires_at: row.try_get("expires_at")?,
        previous: previous_secret(row)?,
    };
    Ok((row.try_get::<_, &str>("id")?.into(), key))
}

fn previous_secret(row: &Row) -> Result<Option<PreviousSecret>, Error> {
    let Some(expires_at) = row.try_get("previous_expires_at")? else {
        return Ok(None);
    };
    Ok(Some(PreviousSecret {
        secret_hash: rows::digest(row, "previous_secret_hash")?,
        expires_at,
    }))
}

fn service_token(row: &Row) -> Result<(TokenId, ServiceToken), Error> {
    let id = TokenId::parse(row.try_get("id")?).ok_or(Error::Malformed("a service token's id is not one"))?;
    let token = ServiceToken {
        name: row.try_get("name")?,
        project: project(row)?,
        role: role(row)?,
        secret_hash: rows::digest(row, "secret_hash")?,
        expires_at: row.try_get("expires_at")?,
    };
    Ok((id, token))
}

fn user(row: &Row) -> Result<(Uuid, User), Error> {
    let role = match row.try_get::<_, Option<&str>>("instance_role")? {
        Some(role) => Some(InstanceRole::from_name(role).ok_or(Error::Malformed("an instance role is unknown"))?),
        None => None,
    };
    let user = User {
        email: row.try_get("email")?,
        role,
        created_at: row.try_get("created_at")?,
        memberships: BTreeMap::new(),
    };
    Ok((row.try_get("id")?, user))
}

fn identity(row: &Row) -> Result<(IdentityKey, Identity), Error> {
    let identity = Identity {
        user: row.try_get("user_id")?,
        email: row.try_get("email")?,
        administrator: row.try_get("administrator")?,
        given: BTreeMap::new(),
        synced_at: row.try_get("synced_at")?,
    };
    Ok((identity_key(row, "issuer", "subject")?, identity))
}

fn claimed(row: &Row) -> Result<(IdentityKey, key::Project, Role), Error> {
    let key = identity_key(row, "claimed_issuer", "claimed_subject")?;
    Ok((key, project(row)?, role(row)?))
}

fn identity_key(row: &Row, issuer: &str, subject: &str) -> Result<IdentityKey, Error> {
    Ok(IdentityKey {
        issuer: row.try_get(issuer)?,
        subject: row.try_get(subject)?,
    })
}

fn member(row: &Row) -> Result<(Uuid, key::Project, Role), Error> {
    Ok((row.try_get("user_id")?, project(row)?, role(row)?))
}

fn role(row: &Row) -> Result<Role, Error> {
    Role::from_name(row.try_get("role")?).ok_or(Error::Malformed("a role is unknown"))
}

fn project(row: &Row) -> Result<key::Project, Error> {
    key::Project::new(row.try_get("project")?).map_err(|_| Error::Malformed("a project's key is not one"))
}
