//! An environment's state: immutable, and the next one shares all but what changed with it.
//!
//! Whatever has to be seen together is in here together: the items, the compiled snapshot, the head, the hash, the revisions
//! that led here and the Commit that ends a step here. Nothing in here waits, and nothing in here knows of streams.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use imbl::OrdMap;

use super::item::{Change, Item};
use super::malformed;
use super::message::Commit;
use super::options::Options;
use super::ring::{Delta, Merged, Ring};
use super::source::{Head, Identity, StoredChange, StoredDelta, StoredItem};
use crate::domain::change::{Digest, EnvironmentId, StateHash};
use crate::domain::form::ItemId;
use crate::evaluate::Snapshot;

/// How many merges of a state are kept for the next stream that stands where an earlier one stood.
const MERGES: usize = 16;

/// An environment as of one revision.
#[derive(Debug)]
pub struct State {
    /// The history that the revision is of.
    pub identity: Identity,
    /// Which revision.
    pub head: Head,
    /// The hash over all items.
    pub state_hash: StateHash,
    /// The items, ready to be evaluated.
    pub snapshot: Snapshot,
    /// The items.
    pub items: OrdMap<ItemId, Arc<Item>>,
    /// What ends a step that leads here.
    pub commit: Arc<Commit>,
    /// About what all items take to send, in bytes.
    pub(super) weight: usize,
    ring: Ring,
    merges: Mutex<BTreeMap<u64, Merged>>,
    /// The flags whose answers may have changed since earlier revisions.
    touched: Mutex<BTreeMap<u64, Arc<OnceLock<Keys>>>>,
}

/// Keys of flags.
type Keys = Arc<[Arc<str>]>;

/// A delta that does not continue the state.
#[derive(Debug, thiserror::Error)]
#[error("the revision does not follow the one before")]
pub(super) struct Discontinuous;

/// The parts of a state that changes work on.
#[derive(Default)]
struct Contents {
    items: OrdMap<ItemId, Arc<Item>>,
    snapshot: Snapshot,
    state_hash: StateHash,
    weight: usize,
}

impl State {
    /// The state that a source sent as a whole. Items that `previous` already had are shared with it.
    pub(super) fn whole(
        position: (Identity, EnvironmentId, Head),
        items: Vec<StoredItem>,
        recent: Vec<StoredDelta>,
        previous: Option<&Self>,
        limits: &Options,
    ) -> Self {
        let mut contents = Contents::default();
        let mut changed = Vec::new();
        for stored in items {
            let known = previous.and_then(|state| state.items.get(&stored.id));
            let item = share(known, stored);
            if known.is_none_or(|known| known.form_hash != item.form_hash) {
                changed.push(Arc::clone(&item));
            }
            contents.put(item);
        }
        malformed::report(position.1, &contents.snapshot, changed.iter().map(|item| &item.id));
        let ring = ring(position.2, recent, &contents.items, limits);
        Self::new(position, contents, ring)
    }

    /// The state one step on.
    pub(super) fn advance(&self, delta: StoredDelta, limits: &Options) -> Result<Self, Discontinuous> {
        let StoredDelta {
            head,
            previous_revision,
            previous_digest,
            changes,
        } = delta;
        let begins_here = (previous_revision, previous_digest) == (self.head.revision, self.head.digest);
        if !begins_here || head.revision <= previous_revision {
            return Err(Discontinuous);
        }
        let changes: Arc<[Change]> = changes.into_iter().map(Change::new).collect();
        let mut contents = Contents {
            items: self.items.clone(),
            snapshot: self.snapshot.clone(),
            state_hash: self.state_hash,
            weight: self.weight,
        };
        for change in changes.iter() {
            match change {
                Change::Put(item) => contents.put(Arc::clone(item)),
                Change::Delete(deletion) => contents.delete(&deletion.id),
            }
        }
        let environment = self.commit.position.environment;
        malformed::report(environment, &contents.snapshot, changes.iter().map(Change::id));
        let mut ring = self.ring.clone();
        ring.push(Delta::new((previous_revision, previous_digest), changes), limits);
        let position = (self.identity, environment, head);
        Ok(Self::new(position, contents, ring))
    }

    /// The digest of an earlier revision. `None`: it is no longer known here.
    pub(super) fn digest_at(&self, revision: u64) -> Option<Digest> {
        self.ring.digest_at(revision)
    }

    /// What leads here from an earlier revision. `None`: it is no longer known here.
    ///
    /// After a replica has died its clients all come from the same few revisions, so merges are kept.
    pub(super) fn since(&self, revision: u64) -> Option<Merged> {
        if revision.checked_add(1) == Some(self.head.revision) {
            return self.ring.since(revision);
        }
        let kept = self.merges().get(&revision).cloned();
        if kept.is_some() {
            return kept;
        }
        let made = self.ring.since(revision)?;
        let mut merges = self.merges();
        if merges.len() < MERGES {
            merges.insert(revision, made.clone());
        }
        Some(made)
    }

    /// The flags whose answers may have changed since an earlier revision, given all changes since, sorted. Found out once for all
    /// streams, which wait for it: it takes a look at every flag.
    pub(super) fn touched_since(&self, revision: u64, merged: &Merged) -> Keys {
        let mut kept = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = Arc::clone(kept.entry(revision).or_default());
        if kept.len() > MERGES {
            // Who stands furthest back is the last of few.
            kept.pop_first();
        }
        drop(kept);
        // Only those that stand at the same revision wait for it.
        let find = || self.snapshot.touched_by(merged.changes.iter().map(Change::id)).into();
        Arc::clone(cell.get_or_init(find))
    }

    fn new((identity, environment, head): (Identity, EnvironmentId, Head), contents: Contents, ring: Ring) -> Self {
        let Contents {
            items,
            snapshot,
            state_hash,
            weight,
        } = contents;
        Self {
            identity,
            head,
            state_hash,
            snapshot,
            items,
            commit: Commit::new(identity, environment, head, state_hash),
            weight,
            ring,
            merges: Mutex::default(),
            touched: Mutex::default(),
        }
    }

    fn merges(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Merged>> {
        self.merges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn put(&mut self, item: Arc<Item>) {
        self.snapshot.put(&item.id, &item.form);
        self.state_hash
            .toggle(item.id.kind.name(), &item.id.key, &item.form_hash);
        self.weight += item.weight();
        let replaced = self.items.insert(item.id.clone(), item);
        self.take_away(replaced);
    }

    fn delete(&mut self, id: &ItemId) {
        self.snapshot.delete(id);
        let deleted = self.items.remove(id);
        self.take_away(deleted);
    }

    fn take_away(&mut self, item: Option<Arc<Item>>) {
        if let Some(item) = item {
            self.state_hash
                .toggle(item.id.kind.name(), &item.id.key, &item.form_hash);
            self.weight -= item.weight();
        }
    }
}

/// The known item if it is what was stored: with its encoding, if it was sent before.
fn share(known: Option<&Arc<Item>>, stored: StoredItem) -> Arc<Item> {
    match known {
        Some(item) if item.is(&stored) => Arc::clone(item),
        Some(_) | None => Item::new(stored),
    }
}

/// The ring of the revisions that lead up to the head, as far back as they do so without a gap.
fn ring(head: Head, recent: Vec<StoredDelta>, items: &OrdMap<ItemId, Arc<Item>>, limits: &Options) -> Ring {
    let (mut revision, mut digest) = (head.revision, head.digest);
    let mut unbroken = Vec::with_capacity(recent.len());
    for delta in recent.into_iter().rev() {
        if delta.head.revision != revision || delta.head.digest != digest {
            tracing::error!(
                revision = delta.head.revision,
                "the source sent recent revisions with a gap; clients before it get snapshots"
            );
            break;
        }
        (revision, digest) = (delta.previous_revision, delta.previous_digest);
        unbroken.push(delta);
    }
    let mut ring = Ring::default();
    for delta in unbroken.into_iter().rev() {
        let changes = delta.changes.into_iter().map(|change| match change {
            StoredChange::Put(stored) => Change::Put(share(items.get(&stored.id), stored)),
            StoredChange::Delete { .. } => Change::new(change),
        });
        let previous = (delta.previous_revision, delta.previous_digest);
        ring.push(Delta::new(previous, changes.collect()), limits);
    }
    ring
}
