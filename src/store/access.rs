//! What access depends on, read for the feed.

use std::collections::HashMap;

use tokio_postgres::{Client, IsolationLevel, Row};
use uuid::Uuid;

use super::error::Error;
use super::rows;
use crate::domain::access::{Directory, Environment, EnvironmentKey, InstanceRole, KeyKind, Role, User};
use crate::domain::change::EnvironmentId;
use crate::domain::key;

const REVISION: &str = "select revision from access_head";
const ENVIRONMENTS: &str = "
    select e.id, p.key as project, e.key, e.protected from environments e join projects p on p.id = e.project_id";
const KEYS: &str = "
    select id, environment_id, kind, secret_hash, expires_at from environment_keys where revoked_at is null";
const USERS: &str = "select id, email, instance_role, created_at from users where active";
const MEMBERS: &str = "
    select m.user_id, p.key as project, m.role from members m join projects p on p.id = m.project_id";

/// Reads what access depends on, all of it as of one revision of the `access` head.
pub async fn load_directory(client: &mut Client) -> Result<Directory, Error> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let revision = transaction.query_one(REVISION, &[]).await?;
    let mut directory = Directory {
        revision: rows::number(&revision, "revision")?,
        environments: collect(&transaction.query(ENVIRONMENTS, &[]).await?, environment)?,
        keys: collect(&transaction.query(KEYS, &[]).await?, environment_key)?,
        users: collect(&transaction.query(USERS, &[]).await?, user)?,
    };
    for row in &transaction.query(MEMBERS, &[]).await? {
        let role = rows::named(row, "role", Role::from_name)?;
        // Users who are not active are not in the directory.
        if let Some(user) = directory.users.get_mut(&rows::get::<Uuid>(row, "user_id")?) {
            user.memberships
                .insert(rows::parsed(row, "project", key::Project::new)?, role);
        }
    }
    transaction.commit().await?;
    Ok(directory)
}

fn collect<K: Eq + std::hash::Hash, V>(
    rows: &[Row],
    read: impl Fn(&Row) -> Result<(K, V), Error>,
) -> Result<HashMap<K, V>, Error> {
    rows.iter().map(read).collect()
}

fn environment(row: &Row) -> Result<(EnvironmentId, Environment), Error> {
    let environment = Environment {
        project: rows::parsed(row, "project", key::Project::new)?,
        key: rows::parsed(row, "key", key::Environment::new)?,
        protected: rows::get(row, "protected")?,
    };
    Ok((rows::environment_id(row, "id")?, environment))
}

fn environment_key(row: &Row) -> Result<(String, EnvironmentKey), Error> {
    let key = EnvironmentKey {
        environment: rows::environment_id(row, "environment_id")?,
        kind: rows::named(row, "kind", KeyKind::from_name)?,
        secret_hash: rows::digest(row, "secret_hash")?,
        expires_at: rows::get(row, "expires_at")?,
    };
    Ok((rows::get(row, "id")?, key))
}

fn user(row: &Row) -> Result<(Uuid, User), Error> {
    let user = User {
        email: rows::get(row, "email")?,
        role: rows::named_option(row, "instance_role", InstanceRole::from_name)?,
        created_at: rows::get(row, "created_at")?,
        memberships: std::collections::BTreeMap::new(),
    };
    Ok((rows::get(row, "id")?, user))
}
