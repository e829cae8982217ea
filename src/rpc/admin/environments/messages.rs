//! What callers say of environments and keys, and what they are told.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::auth::keys;
use crate::domain::access::KeyKind;
use crate::domain::invalid::Violations;
use crate::domain::propagation::{Place, Propagation};
use crate::domain::{key, limits};
use crate::pb::admin::v1 as pb;
use crate::rpc::Refusal;
use crate::rpc::admin::{name_or, texts, unmade};
use crate::rpc::convert::common::{key, timestamp};
use crate::store::Written;
use crate::store::environments::{CreatedEnvironment, Environment};
use crate::store::keys::{Key, NewKey, Rotation};

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
    let keys::Generated { id, secret, hash } = keys::generate(kind).map_err(|error| unmade(&error))?;
    let new = NewKey {
        id,
        kind,
        name,
        secret_hash: hash,
        expires_at,
    };
    Ok((new, secret))
}

/// A rotation of a key of either kind, and the two secrets of which it will take one.
pub(super) struct NewSecrets {
    pub(super) rotation: Rotation,
    server: SecretString,
    client: SecretString,
}

impl NewSecrets {
    /// Secrets for the key of this id.
    pub(super) fn new(id: &str, overlap: Duration) -> Result<Self, Refusal> {
        let server = keys::renew(KeyKind::Server, id).map_err(|error| unmade(&error))?;
        let client = keys::renew(KeyKind::Client, id).map_err(|error| unmade(&error))?;
        let rotation = Rotation {
            server_hash: server.hash,
            client_hash: client.hash,
            overlap,
        };
        Ok(Self {
            rotation,
            server: server.secret,
            client: client.secret,
        })
    }

    /// The one that the key took.
    pub(super) fn of(&self, key: &Key) -> &SecretString {
        match key.kind {
            KeyKind::Server => &self.server,
            KeyKind::Client => &self.client,
        }
    }
}

/// How long the secret before is to work on.
pub(super) fn read_overlap(violations: &mut Violations, overlap: Option<prost_types::Duration>) -> Duration {
    const USUAL: Duration = Duration::from_hours(24);
    const LONGEST: Duration = Duration::from_hours(limits::ROTATION_OVERLAP_HOURS as u64);
    let Some(overlap) = overlap else {
        return USUAL;
    };
    match Duration::try_from(overlap) {
        Ok(overlap) if overlap <= LONGEST => overlap,
        Ok(_) => {
            let description = format!("is longer than {} hours", limits::ROTATION_OVERLAP_HOURS);
            violations.add("overlap", description);
            USUAL
        }
        Err(_) => {
            violations.add("overlap", "is not a duration; it must not be negative");
            USUAL
        }
    }
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
        rotated_at,
        previous_expires_at,
        last_used_at,
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
        rotate_time: rotated_at.map(timestamp),
        previous_expire_time: previous_expires_at.map(timestamp),
        last_use_time: last_used_at.map(timestamp),
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

pub(super) fn write_propagation(told: Propagation) -> pb::GetPropagationResponse {
    let Propagation {
        revision,
        replicas,
        streams,
        sent,
        applied,
        silent,
        behind,
        unheard_replicas,
        unheard_streams,
    } = told;
    pb::GetPropagationResponse {
        revision,
        replicas,
        streams,
        sent,
        applied,
        silent,
        behind: behind.into_iter().map(write_place).collect(),
        unheard_replicas,
        unheard_streams,
    }
}

fn write_place(place: Place) -> pb::LaggingStream {
    let Place {
        stream,
        client,
        library,
        sent,
        applied,
        since,
    } = place;
    pb::LaggingStream {
        stream,
        client,
        library,
        sent_revision: sent.1,
        applied_revision: applied.map_or(0, |(_, revision)| revision),
        since: Some(timestamp(since)),
    }
}
