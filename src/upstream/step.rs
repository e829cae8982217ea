//! A step of the upstream's stream: what it changes, and whether that is what the upstream holds.
//!
//! It trusts nothing: that steps are whole, that they follow what is held, that a form is what its hash says, and that all of it
//! together has the hash of the Commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use super::held::{Entry, Held, Name};
use crate::domain::change::StateHash;
use crate::pb::evaluation::v1 as pb;
use crate::watch::Shown;
use crate::watch::Token;
use crate::watch::source::StoredDelta;

/// The stream is not what its contract says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A message where it may not be.
    #[error("{0} came where it may not")]
    Misplaced(&'static str),
    /// A message without what it must have.
    #[error("a message lacks {0}; is the upstream of another version?")]
    Lacks(&'static str),
    /// Not all items of a step came, or too many.
    #[error("a step announced {announced} items and had {received}")]
    ItemCount {
        /// How many were announced.
        announced: u32,
        /// How many came.
        received: u32,
    },
    /// A step that begins elsewhere.
    #[error("a step begins at revision {0}, which is not held")]
    DoesNotFollow(u64),
    /// A Commit of another revision than its Begin, or a Heartbeat of another than the Commit.
    #[error("revision {announced} was announced, {committed} is told")]
    NotAsAnnounced {
        /// What was announced.
        announced: u64,
        /// What was told.
        committed: u64,
    },
    /// The history went back without a word.
    #[error("the stream went back to revision {0}")]
    WentBack(u64),
    /// A form that is not its hash's.
    #[error("the stored form of {0} is not what its hash says")]
    FormHash(String),
    /// What came adds up to something else than the upstream holds.
    #[error("STATE MISMATCH at revision {0}: what was received is not what the upstream holds")]
    StateMismatch(u64),
}

/// A step that has begun. Of an item that changes twice the later change counts.
#[derive(Debug)]
pub struct Step {
    begin: pb::Begin,
    received: u32,
    changes: BTreeMap<Name, Option<Entry>>,
}

/// What a step has led to.
#[derive(Debug)]
pub struct Outcome {
    /// What is held now.
    pub held: Arc<Held>,
    /// What is different.
    pub difference: Difference,
}

/// What a step has changed.
#[derive(Debug)]
pub enum Difference {
    /// Nothing.
    None,
    /// Some items.
    Some(StoredDelta),
    /// Perhaps everything.
    Everything,
}

impl Step {
    /// Begins a step, on top of what is held.
    pub fn begin(begin: pb::Begin, held: Option<&Held>) -> Result<Self, Broken> {
        let (generation, from) = (begin.generation, begin.from_revision);
        let follows = match begin.intent() {
            pb::Intent::Snapshot => true,
            pb::Intent::Delta | pb::Intent::None => {
                held.is_some_and(|held| held.position.order() == (generation, from))
            }
            pb::Intent::Unspecified => return Err(Broken::Lacks("the intent of a step")),
        };
        if !follows {
            return Err(Broken::DoesNotFollow(from));
        }
        Ok(Self {
            begin,
            received: 0,
            changes: BTreeMap::new(),
        })
    }

    /// Takes up an item.
    pub fn item(&mut self, item: pb::Item) -> Result<(), Broken> {
        let pb::Item { change } = item;
        let (name, entry) = match change.ok_or(Broken::Lacks("the change of an item"))? {
            pb::item::Change::Put(put) => read_put(put)?,
            pb::item::Change::Delete(pb::Delete { kind, key }) => (Name::new(&kind, &key), None),
        };
        self.received = self.received.saturating_add(1);
        if self.received > self.begin.item_count {
            return Err(self.miscounted());
        }
        self.changes.insert(name, entry);
        Ok(())
    }

    /// Completes the step. After an error nothing of it is held.
    pub fn commit(self, commit: pb::Commit, held: Option<&Arc<Held>>) -> Result<Outcome, Broken> {
        let position = self.check(&commit, held.map(Arc::as_ref))?;
        let pb::Commit {
            resume_token: _,
            generation: _,
            revision,
            state_hash,
            committed_at,
        } = commit;
        let intent = self.begin.intent();
        let committed_at = committed_at.and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok());
        let mut next = Held {
            position,
            committed_at: committed_at.ok_or(Broken::Lacks("the time of a commit"))?,
            state_hash: StateHash::EMPTY,
            items: OrdMap::new(),
        };
        if let (pb::Intent::Delta | pb::Intent::None, Some(held)) = (intent, held) {
            (next.state_hash, next.items) = (held.state_hash, held.items.clone());
        }
        let changes = next.apply(self.changes);
        if next.state_hash.as_bytes().as_slice() != state_hash {
            return Err(Broken::StateMismatch(revision));
        }
        if let (pb::Intent::None, Some(held)) = (intent, held) {
            return Ok(Outcome {
                held: held.clone(),
                difference: Difference::None,
            });
        }
        let difference = match (intent, held) {
            (pb::Intent::Delta, Some(held)) => Difference::Some(StoredDelta {
                head: next.head(),
                previous_revision: held.position.revision,
                previous_digest: held.position.digest,
                changes,
            }),
            (pb::Intent::Snapshot | pb::Intent::Delta | pb::Intent::None | pb::Intent::Unspecified, _) => {
                Difference::Everything
            }
        };
        Ok(Outcome {
            held: Arc::new(next),
            difference,
        })
    }

    /// Whether the step is whole and leads where it said, and nowhere that was left. Gives the position it leads to.
    fn miscounted(&self) -> Broken {
        Broken::ItemCount {
            announced: self.begin.item_count,
            received: self.received,
        }
    }

    fn check(&self, commit: &pb::Commit, held: Option<&Held>) -> Result<Token, Broken> {
        let Self { begin, received, .. } = self;
        if begin.item_count != *received {
            return Err(self.miscounted());
        }
        if (begin.generation, begin.to_revision) != (commit.generation, commit.revision) {
            return Err(Broken::NotAsAnnounced {
                announced: begin.to_revision,
                committed: commit.revision,
            });
        }
        let Shown::Token(position) = Shown::read(&commit.resume_token) else {
            return Err(Broken::Lacks("a token that this version can read"));
        };
        if position.order() != (commit.generation, commit.revision) {
            return Err(Broken::Lacks("a token of its own revision"));
        }
        // A snapshot may lead back if it says that what is held was never this history's, or no longer is.
        let (order, intent) = (position.order(), begin.intent());
        let is_same = |held: &Held| {
            let (here, there) = (&held.position, &position);
            (here.identity, here.environment) == (there.identity, there.environment)
        };
        let went_on = |held: &Held| match intent {
            pb::Intent::Delta => is_same(held) && order > held.position.order(),
            pb::Intent::None => position == held.position,
            pb::Intent::Snapshot | pb::Intent::Unspecified => {
                let reason = begin.reason();
                order >= held.position.order()
                    || matches!(
                        reason,
                        pb::SnapshotReason::DifferentStore | pb::SnapshotReason::Diverged
                    )
                    || position.identity.store != held.position.identity.store
            }
        };
        if held.is_none_or(went_on) {
            Ok(position)
        } else {
            Err(Broken::WentBack(commit.revision))
        }
    }
}

fn read_put(put: pb::Put) -> Result<(Name, Option<Entry>), Broken> {
    let pb::Put {
        kind,
        key,
        version,
        form_hash,
        form,
        item: _,
    } = put;
    let form = form.ok_or(Broken::Lacks("an item's stored form"))?;
    let (name, entry) = (Name::new(&kind, &key), Entry::new(version, form.into()));
    if entry.form_hash.0.as_slice() != form_hash {
        return Err(Broken::FormHash(format!("{kind} {key}")));
    }
    Ok((name, Some(entry)))
}

#[cfg(test)]
pub(super) mod tests;
