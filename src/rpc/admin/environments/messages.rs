//! What callers say of environments and keys, and what they are told.

use secrecy::{ExposeSecret as _, SecretString};

use crate::auth::keys;
use crate::domain::access::KeyKind;
use crate::domain::invalid::Violations;
use crate::domain::key;
use crate::pb::admin::v1 as pb;
use crate::rpc::Refusal;
use crate::rpc::admin::{name_or, texts};
use crate::rpc::convert::common::{key, timestamp};
use crate::store::Written;
use crate::store::environments::{CreatedEnvironment, Environment};
use crate::store::keys::{Key, NewKey};

/// What a caller may say of an environment.
pub(super) struct Described {
    pub(super) key: key::Environment,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) protected: bool,
}

pub(super) fn read(violations: &mut Violations, environment: pb::Environment) -> Option<(key::Project, Described)> {
    let pb::Environment {
        project,
        key: environment,
        name,
        description,
        protected,
        revision: _,
        create_time: _,
        update_time: _,
        etag: _,
    } = environment;
    texts(violations, "environment", &name, &description);
    let project = key(violations, "environment.project", &project);
    let key: Option<key::Environment> = key(violations, "environment.key", &environment);
    let name = name_or(name, key.as_ref());
    let described = key.map(|key| Described {
        key,
        name,
        description,
        protected,
    });
    project.zip(described)
}

pub(super) fn read_kind(violations: &mut Violations, kind: i32) -> Option<KeyKind> {
    match pb::KeyKind::try_from(kind) {
        Ok(pb::KeyKind::Server) => Some(KeyKind::Server),
        Ok(pb::KeyKind::Client) => Some(KeyKind::Client),
        Ok(pb::KeyKind::Unspecified) | Err(_) => {
            violations.add("kind", "is neither SERVER nor CLIENT");
            None
        }
    }
}

/// A key to be, and its secret, which is shown this once.
pub(super) fn new_key(
    kind: KeyKind,
    name: String,
    expires_at: Option<jiff::Timestamp>,
) -> Result<(NewKey, SecretString), Refusal> {
    let keys::Generated { id, secret, hash } = keys::generate(kind).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "a key could not be made");
        Refusal::Internal
    })?;
    let new = NewKey {
        id,
        kind,
        name,
        secret_hash: hash,
        expires_at,
    };
    Ok((new, secret))
}

/// The answer to a creation; without secrets for its replays.
pub(super) fn created(
    written: &Written<CreatedEnvironment>,
    secrets: Option<&[SecretString]>,
) -> pb::CreateEnvironmentResponse {
    let CreatedEnvironment { environment, keys } = &written.entity;
    let secret = |n: usize| secrets.and_then(|secrets| secrets.get(n));
    pb::CreateEnvironmentResponse {
        environment: Some(write(environment)),
        keys: keys
            .iter()
            .enumerate()
            .map(|(n, key)| write_created(key, secret(n)))
            .collect(),
        secret_omitted: secrets.is_none(),
    }
}

pub(super) fn write_created(key: &Key, secret: Option<&SecretString>) -> pb::CreatedKey {
    pb::CreatedKey {
        key: Some(write_key(key)),
        secret: secret
            .map(|secret| secret.expose_secret().to_owned())
            .unwrap_or_default(),
    }
}

pub(super) fn write_key(key: &Key) -> pb::Key {
    let Key {
        id,
        kind,
        name,
        created_at,
        expires_at,
        revoked_at,
    } = key;
    let kind = match kind {
        KeyKind::Server => pb::KeyKind::Server,
        KeyKind::Client => pb::KeyKind::Client,
    };
    pb::Key {
        id: id.clone(),
        kind: kind.into(),
        name: name.clone(),
        create_time: Some(timestamp(*created_at)),
        expire_time: expires_at.map(timestamp),
        revoke_time: revoked_at.map(timestamp),
    }
}

pub(super) fn write(environment: &Environment) -> pb::Environment {
    let Environment {
        id: _,
        project,
        key,
        name,
        description,
        protected,
        revision,
        created_at,
        updated_at,
        etag,
    } = environment;
    pb::Environment {
        project: project.to_string(),
        key: key.to_string(),
        name: name.clone(),
        description: description.clone(),
        protected: *protected,
        revision: *revision,
        create_time: Some(timestamp(*created_at)),
        update_time: Some(timestamp(*updated_at)),
        etag: etag.clone(),
    }
}
