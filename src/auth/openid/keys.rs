//! The public keys of an issuer, of which only those for signatures count, each with the algorithms that it was made for.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::auth::jwt::Reason;
use crate::domain::limits;

/// An issuer's keys.
#[derive(Clone, Default)]
pub struct KeySet(Vec<Key>);

/// The issuer's answer is no set of keys.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not a set of keys (JWKS)")]
pub struct UnreadableKeys(#[from] serde_json::Error);

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// A set as it is published; each key is read on its own, so that one of a kind that we do not know spoils no other.
#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a published set. Keys that sign nothing that we accept are left out.
    pub fn parse(json: &[u8]) -> Result<Self, UnreadableKeys> {
        let Published { keys } = serde_json::from_slice(json)?;
        let keys = keys.into_iter().take(limits::ISSUER_KEYS);
        let read = keys.filter_map(|key| Key::read(&serde_json::from_value(key).ok()?));
        Ok(Self(read.collect()))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of this name, if the algorithm is one that it was made for. Without a name: the only key that it fits.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&DecodingKey, Reason> {
        let mut named = self
            .0
            .iter()
            .filter(|key| id.is_none() || key.id.as_deref() == id)
            .peekable();
        if named.peek().is_none() {
            return Err(Reason::UnknownKey);
        }
        let mut fitting = named.filter(|key| key.algorithms.contains(&algorithm));
        let found = fitting.next().ok_or(Reason::Algorithm)?;
        if id.is_none() && fitting.next().is_some() {
            return Err(Reason::Malformed);
        }
        Ok(&found.decoding)
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

impl Key {
    /// `None`: it is not one for signatures that we accept.
    fn read(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let signs = match &common.public_key_use {
            Some(PublicKeyUse::Signature) | None => true,
            Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)) => false,
        };
        let verifies = common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !signs || !verifies {
            return None;
        }
        let mut algorithms = made_for(&jwk.algorithm);
        if let Some(only) = common.key_algorithm {
            algorithms.retain(|algorithm| Algorithm::try_from(only).is_ok_and(|only| only == *algorithm));
        }
        if algorithms.is_empty() {
            return None;
        }
        Some(Self {
            id: common.key_id.clone(),
            algorithms,
            decoding: DecodingKey::from_jwk(jwk).ok()?,
        })
    }
}

/// What keys of a kind can sign. Empty: nothing that we accept, such as anything at all with a secret.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library's enums may grow")]
fn made_for(parameters: &AlgorithmParameters) -> Vec<Algorithm> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match parameters {
        AlgorithmParameters::RSA(_) => vec![RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => vec![ES256],
            EllipticCurve::P384 => vec![ES384],
            _ => Vec::new(),
        },
        AlgorithmParameters::OctetKeyPair(key) => match key.curve {
            EllipticCurve::Ed25519 => vec![EdDSA],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}
