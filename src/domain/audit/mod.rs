//! The audit log's entries and the hash chain that ties them together.
//!
//! A chain proves its order and its content to whoever recomputes it ([`verify`]), in the database or in an exported file
//! ([`line`](mod@line)). What it cannot prove alone is where it ends: for that a [`Head`] is kept somewhere else.

pub mod line;
pub mod verify;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::change::{Digest, Fields};
use super::invalid::Violations;

/// What happened, by whom, and to what. Passwords, tokens and keys are never in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Names the entry.
    pub id: Uuid,
    /// When, by the database's clock.
    pub at: jiff::Timestamp,
    /// Who: `user:<id>`, `database`, `command-line`, …
    pub actor: String,
    /// Who, for people: an e-mail address. Empty: none.
    pub actor_name: String,
    /// With which credential: a token's id. Empty: none.
    pub credential: String,
    /// What was done, such as `flag.update`.
    pub action: String,
    /// To what kind of thing, such as `flag`.
    pub entity: String,
    /// To which: its key.
    pub entity_key: String,
    /// The project's key. Empty: something of the installation.
    pub project: String,
    /// The environment's key. Empty: none in particular.
    pub environment: String,
    /// The entity before, as JSON. `None`: it did not exist.
    pub before: Option<String>,
    /// The entity after, as JSON. `None`: it no longer exists.
    pub after: Option<String>,
    /// The request's id. Empty: none was given.
    pub request_id: String,
    /// The caller's network address, and behind it whose certificate was verified. Empty: none.
    pub peer: String,
    /// The reason that the caller gave. Empty: none.
    pub reason: String,
}

/// An entry at its place in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// The entry.
    pub entry: Entry,
    /// Its place, from 1.
    pub sequence: u64,
    /// The hash of the entry before; of the first, 32 zero bytes.
    pub previous: Digest,
    /// Its own hash.
    pub hash: Digest,
}

/// Where a chain stands: its last entry. Written as `<sequence>:<hash in hexadecimal digits>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The entry's place. Zero: there is none.
    pub sequence: u64,
    /// The entry's hash. Of a chain without entries, 32 zero bytes.
    pub hash: Digest,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sequence, hash } = self;
        write!(f, "{sequence}:{hash}")
    }
}

impl FromStr for Head {
    type Err = Violations;

    fn from_str(text: &str) -> Result<Self, Violations> {
        let parts = text.split_once(':');
        let read = parts.and_then(|(sequence, hash)| Some((sequence.parse().ok()?, Digest::from_hex(hash)?)));
        let (sequence, hash) = read.ok_or_else(|| {
            Violations::one(
                "",
                "is not a place in a chain and a hash of 64 hexadecimal digits, as in 42:9f86d0…",
            )
        })?;
        Ok(Self { sequence, hash })
    }
}

impl Entry {
    /// The hash of this entry at a place in its chain: `SHA-256(previous ‖ sequence ‖ the fields in their written order)`, each
    /// preceded by its length; the time is in microseconds, an absent JSON differs from an empty one.
    pub fn hash(&self, previous: Digest, sequence: u64) -> Digest {
        let Self {
            id,
            at,
            actor,
            actor_name,
            credential,
            action,
            entity,
            entity_key,
            project,
            environment,
            before,
            after,
            request_id,
            peer,
            reason,
        } = self;
        let mut hash = Fields::new();
        hash.field(&previous.0);
        hash.field(&sequence.to_be_bytes());
        hash.field(id.as_bytes());
        hash.field(&at.as_microsecond().to_be_bytes());
        for text in [
            actor,
            actor_name,
            credential,
            action,
            entity,
            entity_key,
            project,
            environment,
        ] {
            hash.field(text.as_bytes());
        }
        for json in [before, after] {
            hash.field(&[u8::from(json.is_some())]);
            hash.field(json.as_deref().unwrap_or_default().as_bytes());
        }
        for text in [request_id, peer, reason] {
            hash.field(text.as_bytes());
        }
        hash.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        let head = Head {
            sequence: 42,
            hash: Digest([0xab; 32]),
        };
        assert_eq!(head.to_string(), format!("42:{}", "ab".repeat(32)));
        assert_eq!(head.to_string().parse(), Ok(head));
        for nonsense in ["", "42", "42:", "42:ab", ":", &format!("-1:{}", "ab".repeat(32))] {
            assert!(nonsense.parse::<Head>().is_err(), "{nonsense}");
        }
    }
}
