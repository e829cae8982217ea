//! Who may ask a sidecar: what access depends on here is its own configuration.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::access::{AcceptedKey, Directory, EnvironmentKey, KeyKind, PreviousSecret};
use crate::domain::change::{Digest, EnvironmentId};

/// The id of the key as which callers without a credential are let in. No key that anyone could show has it: ids are hexadecimal.
pub const ANONYMOUS: &str = "anonymous";

/// Who may ask.
#[derive(Debug, Clone, Default)]
pub struct Callers {
    /// Who shows one of these. Of one id at most two: a key that is being rotated has two secrets.
    pub keys: Vec<AcceptedKey>,
    /// What callers without a credential may do. `None`: they are refused.
    pub anonymous: Option<KeyKind>,
}

impl Callers {
    /// The directory by which they are let into an environment. None of its keys ends: what ends them is a new configuration.
    pub(super) fn directory(&self, environment: EnvironmentId, revision: u64) -> Directory {
        let mut keys: HashMap<Arc<str>, EnvironmentKey> = HashMap::new();
        for AcceptedKey { id, kind, secret_hash } in &self.keys {
            match keys.get_mut(id) {
                None => {
                    keys.insert(id.clone(), endless(environment, *kind, *secret_hash));
                }
                Some(key) if key.secret_hash != *secret_hash => {
                    key.previous = Some(PreviousSecret {
                        secret_hash: *secret_hash,
                        expires_at: jiff::Timestamp::MAX,
                    });
                }
                Some(_) => {}
            }
        }
        if let Some(kind) = self.anonymous {
            keys.insert(ANONYMOUS.into(), endless(environment, kind, Digest::default()));
        }
        Directory {
            revision,
            keys,
            ..Directory::default()
        }
    }
}

fn endless(environment: EnvironmentId, kind: KeyKind, secret_hash: Digest) -> EnvironmentKey {
    EnvironmentKey {
        environment,
        kind,
        secret_hash,
        expires_at: None,
        previous: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_secrets_of_a_rotated_key_are_in_the_directory() {
        let key = |secret: u8| AcceptedKey {
            id: "a".into(),
            kind: KeyKind::Client,
            secret_hash: Digest([secret; 32]),
        };
        let callers = Callers {
            keys: vec![key(1), key(2), key(1)],
            anonymous: Some(KeyKind::Server),
        };
        let directory = callers.directory(EnvironmentId(7), 3);
        let rotated = &directory.keys["a"];
        assert_eq!(rotated.secret_hash, Digest([1; 32]));
        assert_eq!(rotated.previous.unwrap().secret_hash, Digest([2; 32]));
        assert_eq!(directory.keys[ANONYMOUS].kind, KeyKind::Server);
        assert_eq!((directory.keys.len(), directory.revision), (2, 3));
    }
}
