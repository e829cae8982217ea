//! The newest revisions of an environment, from which clients resume, and how they merge into one step.
//!
//! A ring is a value: the next one shares its revisions with the last, so that a state and the revisions that led to it are
//! always seen together.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::Vector;

use super::item::{Change, EncodedStep};
use super::options::Options;
use crate::domain::change::Digest;

/// One revision, or several that came merged into one.
#[derive(Debug)]
pub(super) struct Delta {
    /// The revision that it begins at.
    pub(super) previous_revision: u64,
    /// That revision's digest.
    pub(super) previous_digest: Digest,
    /// What it does.
    pub(super) changes: Arc<[Change]>,
    /// About what it takes to send, in bytes.
    pub(super) weight: usize,
    /// The step that it is.
    encoded: Arc<EncodedStep>,
}

/// What leads from one revision to another: the latest change of every item that changed between them.
#[derive(Debug, Clone)]
pub(super) struct Merged {
    /// The changes. At most one per item.
    pub changes: Arc<[Change]>,
    /// About what they take to send, in bytes.
    pub(super) weight: usize,
    /// The step that makes them.
    pub(super) encoded: Arc<EncodedStep>,
}

/// The newest revisions, oldest first, without gaps.
#[derive(Debug, Clone, Default)]
pub(super) struct Ring {
    deltas: Vector<Arc<Delta>>,
    /// The last of them, which is what nearly every stream asks for.
    newest: Option<Arc<Delta>>,
    weight: usize,
}

impl Delta {
    /// What leads on from a revision with this digest.
    pub(super) fn new((previous_revision, previous_digest): (u64, Digest), changes: Arc<[Change]>) -> Self {
        let weight = weight(&changes);
        Self {
            previous_revision,
            previous_digest,
            changes,
            weight,
            encoded: Arc::default(),
        }
    }
}

impl Ring {
    /// Appends the revision that follows the newest, and lets go of the oldest beyond the limits. The newest is kept however
    /// many bytes it has: they are the state's own, and whoever stands before it is told what changed rather than everything.
    pub(super) fn push(&mut self, delta: Delta, limits: &Options) {
        self.weight += delta.weight;
        let delta = Arc::new(delta);
        self.newest = Some(Arc::clone(&delta));
        self.deltas.push_back(delta);
        let beyond = |ring: &Self| {
            let revisions = ring.deltas.len();
            revisions > limits.ring_revisions || (revisions > 1 && ring.weight > limits.ring_bytes)
        };
        while beyond(self) {
            let Some(oldest) = self.deltas.pop_front() else { break };
            self.weight -= oldest.weight;
        }
        if self.deltas.is_empty() {
            self.newest = None;
        }
    }

    /// The digest of a revision from which the newest can be reached. `None`: it is too old, not older than the newest, or within
    /// a merged step.
    pub(super) fn digest_at(&self, revision: u64) -> Option<Digest> {
        if let Some(newest) = self.newest_after(revision) {
            return Some(newest.previous_digest);
        }
        Some(self.deltas.get(self.index_after(revision)?)?.previous_digest)
    }

    /// Everything since a revision, merged. `None`: it is too old, not older than the newest, or within a merged step.
    pub(super) fn since(&self, revision: u64) -> Option<Merged> {
        if let Some(newest) = self.newest_after(revision) {
            return Some(Merged {
                changes: Arc::clone(&newest.changes),
                weight: newest.weight,
                encoded: Arc::clone(&newest.encoded),
            });
        }
        let start = self.index_after(revision)?;
        let changes = merge(self.deltas.iter().skip(start).flat_map(|delta| delta.changes.iter()));
        let weight = weight(&changes);
        Some(Merged {
            changes,
            weight,
            encoded: Arc::default(),
        })
    }

    /// The newest step, if it begins at this revision.
    fn newest_after(&self, revision: u64) -> Option<&Delta> {
        let newest = self.newest.as_deref();
        newest.filter(|newest| newest.previous_revision == revision)
    }

    /// Where the step that begins at this revision is.
    fn index_after(&self, revision: u64) -> Option<usize> {
        self.deltas
            .binary_search_by_key(&revision, |delta| delta.previous_revision)
            .ok()
    }
}

/// The latest change of every item; `changes` come oldest first.
fn merge<'a>(changes: impl Iterator<Item = &'a Change>) -> Arc<[Change]> {
    let latest: BTreeMap<_, _> = changes.map(|change| (change.id(), change)).collect();
    latest.into_values().cloned().collect()
}

fn weight(changes: &[Change]) -> usize {
    changes.iter().map(Change::weight).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::watch::source::{Event, StoredChange, StoredDelta};
    use crate::watch::testing::{History, Items, state_hash};

    type Writes = Vec<(u8, Option<Vec<u8>>)>;

    fn writes() -> impl Strategy<Value = Vec<Writes>> {
        let form = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..20));
        prop::collection::vec(prop::collection::vec((0..12_u8, form), 0..5), 1..25)
    }

    fn history(writes: &[Writes]) -> History {
        let mut history = History::new();
        for writes in writes {
            history.write(writes);
        }
        history
    }

    fn limits(revisions: usize, bytes: usize) -> Options {
        Options {
            ring_revisions: revisions,
            ring_bytes: bytes,
            ..Options::default()
        }
    }

    fn apply(items: &mut Items, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(item) => items.insert(item.id.clone(), (item.version, item.form.clone())),
                Change::Delete(deletion) => items.remove(&deletion.id),
            };
        }
    }

    /// The step from one revision of a history to a later one, as another server sends it.
    fn spanning(history: &History, from: usize, to: usize) -> StoredDelta {
        let revisions = history.revisions[from + 1..=to].iter();
        let changes = revisions.flat_map(|revision| revision.delta.changes.clone());
        let latest: BTreeMap<_, _> = changes
            .map(|change| match &change {
                StoredChange::Put(item) => (item.id.clone(), change),
                StoredChange::Delete { id, .. } => (id.clone(), change),
            })
            .collect();
        let before = history.revisions[from].delta.head;
        StoredDelta {
            head: history.revisions[to].delta.head,
            previous_revision: before.revision,
            previous_digest: before.digest,
            changes: latest.into_values().collect(),
        }
    }

    proptest! {
        #[test]
        fn steps_that_span_revisions_lead_on_from_their_ends(
            writes in writes(), ends in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let history = history(&writes);
            let mut ends: std::collections::BTreeSet<_> = ends.iter().map(|end| end.index(writes.len())).collect();
            ends.extend([0, writes.len()]);
            let mut state = History::new().state(0, &Options::default());
            for step in ends.iter().copied().collect::<Vec<_>>().windows(2) {
                state = state.advance(spanning(&history, step[0], step[1]), &Options::default()).unwrap();
            }
            prop_assert_eq!(state.state_hash, state_hash(&history.last().items));
            for revision in 0..writes.len() {
                let (digest, merged) = (state.digest_at(revision as u64), state.since(revision as u64));
                if !ends.contains(&revision) {
                    prop_assert!(digest.is_none() && merged.is_none(), "within a step nothing is known");
                    continue;
                }
                prop_assert_eq!(digest, Some(history.revisions[revision].delta.head.digest));
                let mut items = history.revisions[revision].items.clone();
                apply(&mut items, &merged.unwrap().changes);
                prop_assert_eq!(&items, &history.last().items);
            }
        }

        #[test]
        fn merged_changes_lead_from_any_revision_to_the_newest(writes in writes(), from: prop::sample::Index) {
            let history = history(&writes);
            let from = from.index(writes.len());
            let state = history.state(writes.len(), &Options::default());
            // The second time it comes from the merges that are kept.
            for _ in 0..2 {
                let merged = state.since(from as u64).unwrap();
                let mut items = history.revisions[from].items.clone();
                apply(&mut items, &merged.changes);
                prop_assert_eq!(&items, &history.last().items);
                prop_assert_eq!(state_hash(&items), state.state_hash);
                prop_assert_eq!(merged.weight, weight(&merged.changes));
                let distinct: std::collections::BTreeSet<_> = merged.changes.iter().map(Change::id).collect();
                prop_assert_eq!(distinct.len(), merged.changes.len());
            }
        }

        #[test]
        fn merged_changes_lead_from_every_revision_to_every_later_one(writes in writes()) {
            let mut history = History::new();
            let mut state = history.state(0, &Options::default());
            for writes in &writes {
                let Event::Advance { delta, .. } = history.write(writes) else { unreachable!() };
                state = state.advance(delta, &Options::default()).unwrap();
                let (last, earlier) = history.revisions.split_last().unwrap();
                for (from, revision) in earlier.iter().enumerate() {
                    let mut items = revision.items.clone();
                    apply(&mut items, &state.since(from as u64).unwrap().changes);
                    prop_assert_eq!(&items, &last.items, "from {}", from);
                }
            }
        }

        #[test]
        fn a_state_advanced_is_the_state_sent_whole(writes in writes(), whole: prop::sample::Index) {
            let start = whole.index(writes.len());
            let mut history = history(&writes[..start]);
            let mut state = history.state(0, &Options::default());
            for writes in &writes[start..] {
                let Event::Advance { delta, .. } = history.write(writes) else { unreachable!() };
                state = state.advance(delta, &Options::default()).unwrap();
            }
            let expected = history.state(0, &Options::default());
            let held: Items = state.items.iter().map(|(id, item)| (id.clone(), (item.version, item.form.clone()))).collect();
            prop_assert_eq!(&held, &history.last().items);
            prop_assert_eq!(state.state_hash, expected.state_hash);
            prop_assert_eq!(state.state_hash, state_hash(&held));
            prop_assert_eq!(state.weight, expected.weight);
            prop_assert_eq!(state.commit.position, expected.commit.position);
        }

        #[test]
        fn a_ring_keeps_the_newest_within_its_limits(writes in writes(), revisions in 0..30_usize, bytes in 0..2_000_usize) {
            let history = history(&writes);
            let limits = limits(revisions, bytes);
            let mut ring = Ring::default();
            for revision in &history.revisions[1..] {
                let StoredDelta { head: _, previous_revision, previous_digest, changes } = revision.delta.clone();
                let changes = changes.into_iter().map(Change::new).collect();
                ring.push(Delta::new((previous_revision, previous_digest), changes), &limits);
                prop_assert!(ring.deltas.len() <= revisions);
                prop_assert!(ring.weight <= bytes || ring.deltas.len() == 1);
                prop_assert_eq!(ring.weight, ring.deltas.iter().map(|delta| delta.weight).sum::<usize>());
            }
            for (revision, known) in history.revisions.iter().enumerate() {
                let kept = revision + ring.deltas.len() >= writes.len() && revision < writes.len();
                let digest = kept.then_some(known.delta.head.digest);
                prop_assert_eq!(ring.digest_at(revision as u64), digest);
                prop_assert_eq!(ring.since(revision as u64).is_some(), kept);
            }
        }
    }

    #[test]
    fn one_revision_is_not_merged_but_shared() {
        let history = History::of(3);
        let state = history.state(3, &Options::default());
        let (once, again) = (state.since(2).unwrap(), state.since(2).unwrap());
        assert!(Arc::ptr_eq(&once.changes, &again.changes));
        let item = &state.items[once.changes[0].id()];
        assert!(matches!(&once.changes[0], Change::Put(put) if Arc::ptr_eq(put, item)));
    }

    #[test]
    fn a_revision_larger_than_the_ring_is_known_until_the_next() {
        let history = History::of(3);
        let state = history.state(3, &limits(10, 1));
        assert!(state.since(2).is_some() && state.since(1).is_none());
    }

    #[test]
    fn recent_revisions_before_a_gap_are_let_go() {
        let history = History::of(5);
        let Event::Reset { items, mut recent, .. } = history.reset(5) else {
            unreachable!()
        };
        recent.remove(2);
        let position = (history.identity, history.environment, history.head());
        let state = crate::watch::State::whole(position, items, recent, None, &Options::default());
        assert!(state.since(3).is_some());
        assert!(state.since(2).is_none());
    }

    #[test]
    fn revisions_out_of_range_are_unknown() {
        let state = History::of(3).state(3, &Options::default());
        assert!(state.since(3).is_none());
        assert!(state.digest_at(u64::MAX).is_none());
    }
}
