//! One step of a stream: the items of one immutable state or merge, and the Commit that ends it.

use std::ops::Bound;
use std::sync::Arc;
use std::vec;

use imbl::OrdMap;

use super::gate::{Hold, Permit, Turn};
use super::item::{Change, Item};
use super::message::Commit;
use crate::domain::form::ItemId;

/// How many items of a snapshot are looked up at a time. A stream must not keep a list of all of them: lists are not shared
/// between revisions as the map is, and a thousand clients that never read would each keep their own.
const BATCH: usize = 32;

/// A delta of no more bytes than this is handed over at once: about what a transport takes before it sends.
const SHORT_BYTES: usize = 4 * 1024;

/// What a stream is in the middle of.
#[derive(Debug)]
pub(super) struct Step {
    changes: Changes,
    /// Under which it is sent. `None`: it needs none.
    hold: Option<Hold>,
    /// What ends it.
    pub(super) commit: Arc<Commit>,
}

#[derive(Debug)]
enum Changes {
    Listed {
        list: Arc<[Change]>,
        weight: usize,
        next: usize,
    },
    Everything {
        items: OrdMap<ItemId, Arc<Item>>,
        last: Option<ItemId>,
        batch: vec::IntoIter<Change>,
    },
}

impl Step {
    /// Puts every item.
    pub(super) fn snapshot(items: OrdMap<ItemId, Arc<Item>>, commit: Arc<Commit>, hold: Hold) -> Self {
        let changes = Changes::Everything {
            items,
            last: None,
            batch: Vec::new().into_iter(),
        };
        let hold = Some(hold);
        Self { changes, hold, commit }
    }

    /// Makes the listed changes, of so many bytes.
    pub(super) fn delta(list: Arc<[Change]>, weight: usize, commit: Arc<Commit>) -> Self {
        let changes = Changes::Listed { list, weight, next: 0 };
        Self {
            changes,
            hold: None,
            commit,
        }
    }

    /// Does nothing.
    pub(super) fn none(commit: Arc<Commit>) -> Self {
        Self::delta(Arc::new([]), 0, commit)
    }

    /// The transport has come back for more. `Some`: it must wait for its turn.
    pub(super) fn come_back(&self) -> Option<Turn> {
        self.hold.as_ref()?.come_back()
    }

    /// Its turn has come again.
    pub(super) fn go_on(&self, permit: Permit) {
        if let Some(hold) = &self.hold {
            hold.go_on(permit);
        }
    }

    /// How many items it had at first.
    pub(super) fn item_count(&self) -> usize {
        match &self.changes {
            Changes::Listed { list, .. } => list.len(),
            Changes::Everything { items, .. } => items.len(),
        }
    }

    /// All of its items, if they are few bytes.
    pub(super) fn short(&self) -> Option<&Arc<[Change]>> {
        match &self.changes {
            Changes::Listed { list, weight, .. } => (*weight <= SHORT_BYTES).then_some(list),
            Changes::Everything { .. } => None,
        }
    }

    /// The next item. `None`: the Commit is next.
    pub(super) fn next_change(&mut self) -> Option<Change> {
        match &mut self.changes {
            Changes::Listed { list, next, .. } => {
                let change = list.get(*next)?;
                *next += 1;
                Some(change.clone())
            }
            Changes::Everything { items, last, batch } => {
                if batch.len() == 0 {
                    *batch = after(items, last.as_ref());
                    if let Some(change) = batch.as_slice().last() {
                        *last = Some(change.id().clone());
                    }
                }
                batch.next()
            }
        }
    }
}

fn after(items: &OrdMap<ItemId, Arc<Item>>, last: Option<&ItemId>) -> vec::IntoIter<Change> {
    let start = last.map_or(Bound::Unbounded, Bound::Excluded);
    let batch: Vec<_> = items
        .range::<_, ItemId>((start, Bound::Unbounded))
        .take(BATCH)
        .map(|(_, item)| Change::Put(Arc::clone(item)))
        .collect();
    batch.into_iter()
}
