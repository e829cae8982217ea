//! The audit log's entries and the hash chain that ties them together.

use uuid::Uuid;

use super::change::{Digest, Fields};

/// What happened, by whom, and to what. Passwords, tokens and keys are never in it.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The caller's network address. Empty: none.
    pub peer: String,
    /// The reason that the caller gave. Empty: none.
    pub reason: String,
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
