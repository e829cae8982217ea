//! Where changes come from. The hub is fed by exactly one source: PostgreSQL, or in a sidecar another server.
//!
//! A source runs on its own and sends [`Event`]s into a bounded channel; the hub applies them in order. What a source promises:
//!
//! - Order: for one environment, events come in the order of (generation, revision), and none twice.
//! - No gaps: an `Advance` begins where what was sent before it for its environment ended, at its revision and digest. From
//!   PostgreSQL it is one revision; from another server it may be several, merged. Where the source cannot continue like that it
//!   sends a `Reset` with the whole state.
//! - Honesty: `Status` says when the source last knew that nothing newer existed. It is sent at least once a second while the
//!   source can be asked, and whenever its quality changes. An environment that the source cannot read, or not quickly enough, is
//!   excepted by `Behind` first, and ages alone.
//! - End: a source ends only when it is cancelled. While its origin is away it keeps trying.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use uuid::Uuid;

use crate::domain::access::Directory;
use crate::domain::change::{Digest, EnvironmentId};
use crate::domain::form::ItemId;

/// Where an environment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the last committed change.
    pub revision: u64,
    /// Its digest.
    pub digest: Digest,
    /// When it was committed, by the database's clock.
    pub committed_at: jiff::Timestamp,
}

/// Which history the revisions are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The installation's.
    pub store: Uuid,
    /// Rises whenever the installation's history was replaced by another. At least 1.
    pub generation: u64,
}

/// An item as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredItem {
    /// Which item.
    pub id: ItemId,
    /// Rises with every change of the item.
    pub version: u64,
    /// The stored form, verbatim.
    pub form: Bytes,
}

/// What a change does to one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredChange {
    /// It is new or has changed.
    Put(StoredItem),
    /// It is gone.
    Delete {
        /// Which item.
        id: ItemId,
        /// The last version it had.
        version: u64,
    },
}

/// One revision of an environment, or several merged into one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDelta {
    /// Where the environment stands after it.
    pub head: Head,
    /// The revision that it begins at.
    pub previous_revision: u64,
    /// That revision's digest.
    pub previous_digest: Digest,
    /// What it does. One change per item.
    pub changes: Vec<StoredChange>,
}

/// How a source learns of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// They are pushed to it.
    Live,
    /// It asks for them every second.
    Polling,
    /// It cannot reach its origin.
    Disconnected,
}

/// What a source has to say.
#[derive(Debug)]
pub enum Event {
    /// Which history follows. The first event; again whenever the generation rises, before the `Reset`s that it causes.
    Identity(Identity),
    /// The whole state of an environment, in place of whatever was known of it.
    Reset {
        /// Which environment.
        environment: EnvironmentId,
        /// Where it stands.
        head: Head,
        /// Every item.
        items: Vec<StoredItem>,
        /// The newest revisions up to the head, oldest first, from which clients may resume; possibly none.
        recent: Vec<StoredDelta>,
    },
    /// What leads on from where an environment stands.
    Advance {
        /// Which environment.
        environment: EnvironmentId,
        /// What it does.
        delta: StoredDelta,
    },
    /// The environment was deleted.
    Removed(EnvironmentId),
    /// Another environment took its place: its streams end, and their clients are to come again.
    Superseded(EnvironmentId),
    /// What access depends on, in place of whatever was known.
    Access(Arc<Directory>),
    /// Whatever `Status` says from now on, it is not about this environment, which may not have been sent at all: what was last sent
    /// of it may not be the newest. Events of it may come nevertheless.
    Behind(EnvironmentId),
    /// `Status` is about the environment again, those included that came since `Behind`: all that was newest then was sent.
    CaughtUp(EnvironmentId),
    /// Every environment was sent at least once, or cannot be read while the origin answers: the replica can be ready.
    Complete,
    /// How well the source is doing.
    Status {
        /// How it learns of changes.
        quality: Quality,
        /// When it last knew for certain that everything sent was the newest, save what is behind. `None`: never yet.
        confirmed_at: Option<Instant>,
    },
}

/// The origin cannot be asked now.
#[derive(Debug, thiserror::Error)]
#[error("the source of changes cannot be reached")]
pub struct Unreachable;

/// A boxed future, as the trait's methods return it.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unreachable>> + Send + 'a>>;

/// What the hub may ask its source, besides listening to it.
pub trait Source: Send + Sync + 'static {
    /// Where the environment stands at the origin, read after this call was made. `None`: it does not exist. If that is newer
    /// than what was sent, the source goes on to send it.
    fn confirm_head(&self, environment: EnvironmentId) -> Answer<'_, Option<Head>>;

    /// The revision of the `access` head at the origin, read after this call was made. If that is newer than the directory that
    /// was sent, the source goes on to send the newer one. Calls made at the same time share one read.
    fn confirm_access(&self) -> Answer<'_, u64>;
}
