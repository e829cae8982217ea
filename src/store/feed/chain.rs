//! What may follow what: pure decisions over revisions and digests.

use crate::domain::change::{self, Digest, ItemChange};
use crate::watch::source::{Head, StoredChange, StoredDelta};

/// A point of an environment's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The revision.
    pub(super) revision: u64,
    /// Its digest.
    pub(super) digest: Digest,
}

impl From<&Head> for Cursor {
    fn from(head: &Head) -> Self {
        Self {
            revision: head.revision,
            digest: head.digest,
        }
    }
}

/// How many of the deltas, from the first on, follow `applied` one by one: by number, by previous digest, and by a digest that is
/// what their content gives.
pub(super) fn following(applied: Cursor, deltas: &[StoredDelta]) -> usize {
    let mut at = applied;
    let follows = |delta: &&StoredDelta| {
        let follows = at.revision.checked_add(1) == Some(delta.head.revision)
            && at.digest == delta.previous_digest
            && is_sound(delta);
        at = Cursor::from(&delta.head);
        follows
    };
    deltas.iter().take_while(follows).count()
}

/// How many of the deltas, from the last back, lead to `head` without a break.
pub(super) fn leading(head: Cursor, deltas: &[StoredDelta]) -> usize {
    let mut to = Some(head);
    let leads = |delta: &&StoredDelta| {
        let leads = to == Some(Cursor::from(&delta.head)) && is_sound(delta);
        to = delta.head.revision.checked_sub(1).map(|revision| Cursor {
            revision,
            digest: delta.previous_digest,
        });
        leads
    };
    deltas.iter().rev().take_while(leads).count()
}

/// Whether the delta's digest is what its content gives.
fn is_sound(delta: &StoredDelta) -> bool {
    let items: Vec<_> = delta.changes.iter().map(item).collect();
    change::digest(delta.previous_digest, delta.head.revision, &items) == delta.head.digest
}

fn item(change: &StoredChange) -> ItemChange<'_> {
    match change {
        StoredChange::Put(item) => ItemChange {
            id: &item.id,
            version: item.version,
            form: Some(&item.form),
        },
        StoredChange::Delete { id, version } => ItemChange {
            id,
            version: *version,
            form: None,
        },
    }
}

/// What the primary says of an environment, all of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its head.
    pub(super) head: Cursor,
    /// The digest that the change log gives for the revision that was applied, if it still has it.
    pub(super) past: Option<Digest>,
    /// Whether the change log has the revision after that.
    pub(super) has_next: bool,
}

/// What the primary's word means for what was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is nothing newer.
    Current,
    /// The next revisions can be read one by one.
    Continue,
    /// The whole state must be read; it is of the same history as far as can be told.
    Reload,
    /// What was applied is not in the primary's history.
    Diverged,
}

/// Compares what was applied with what the primary says. `broken`: the revisions that the log gave after it did not follow.
pub(super) fn judge(applied: Cursor, seen: Seen, broken: bool) -> Verdict {
    let Seen { head, past, has_next } = seen;
    if head == applied {
        return Verdict::Current;
    }
    if head.revision <= applied.revision || past.is_some_and(|past| past != applied.digest) {
        return Verdict::Diverged;
    }
    if past.is_some() && has_next && !broken {
        Verdict::Continue
    } else {
        Verdict::Reload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::form::{ItemId, Kind};
    use crate::watch::source::StoredItem;
    use proptest::prelude::*;

    const START: Cursor = Cursor {
        revision: 7,
        digest: Digest([1; 32]),
    };

    fn put(key: &str, version: u64, form: &str) -> StoredChange {
        StoredChange::Put(StoredItem {
            id: id(key),
            version,
            form: form.to_owned().into(),
        })
    }

    fn id(key: &str) -> ItemId {
        ItemId {
            kind: Kind::FlagConfiguration,
            key: key.into(),
        }
    }

    fn delta(previous: Cursor, changes: Vec<StoredChange>) -> StoredDelta {
        let items: Vec<_> = changes.iter().map(item).collect();
        let revision = previous.revision + 1;
        StoredDelta {
            head: Head {
                revision,
                digest: change::digest(previous.digest, revision, &items),
                committed_at: jiff::Timestamp::UNIX_EPOCH,
            },
            previous_revision: previous.revision,
            previous_digest: previous.digest,
            changes,
        }
    }

    fn history(length: usize) -> Vec<StoredDelta> {
        let mut at = START;
        let mut history = Vec::new();
        for n in 0..length {
            let delete = StoredChange::Delete {
                id: id("b"),
                version: 3,
            };
            let delta = delta(at, vec![put("a", n as u64 + 1, "{}"), delete]);
            at = Cursor::from(&delta.head);
            history.push(delta);
        }
        history
    }

    /// Ways in which a log can be damaged at one place. Each makes that place the first which does not follow.
    fn damage(history: &mut Vec<StoredDelta>, at: usize, way: u8) {
        match way {
            0 => drop(history.remove(at)),
            1 => history.insert(at, history[at.saturating_sub(1)].clone()),
            2 => history[at].head.digest.0[0] ^= 1,
            3 => history[at].previous_digest.0[31] ^= 1,
            4 => history[at].changes[0] = put("a", 99, "{}"),
            5 => history[at].changes[0] = put("a", at as u64 + 1, "{ }"),
            6 => drop(history[at].changes.pop()),
            7 => history[at].head.revision += 1,
            _ => {
                history[at].changes[1] = StoredChange::Delete {
                    id: id("c"),
                    version: 3,
                };
            }
        }
    }

    proptest! {
        #[test]
        fn an_undamaged_history_follows_and_leads_as_a_whole(length in 0_usize..20) {
            let history = history(length);
            prop_assert_eq!(following(START, &history), length);
            let head = history.last().map_or(START, |last| Cursor::from(&last.head));
            prop_assert_eq!(leading(head, &history), length);
        }

        #[test]
        fn nothing_from_the_damage_on_is_taken(length in 1_usize..20, place: prop::sample::Index, way in 0_u8..9) {
            let whole = history(length);
            let at = place.index(length);
            let mut damaged = whole.clone();
            damage(&mut damaged, at, way);
            let taken = following(START, &damaged);
            let doubled_first = way == 1 && at == 0;
            prop_assert_eq!(taken, if doubled_first { 1 } else { at });
            prop_assert_eq!(&damaged[..taken], &whole[..taken]);
        }

        #[test]
        fn what_leads_to_the_head_is_a_part_of_the_true_history(length in 1_usize..20, place: prop::sample::Index, way in 0_u8..9) {
            let whole = history(length);
            let head = Cursor::from(&whole[length - 1].head);
            let mut damaged = whole.clone();
            damage(&mut damaged, place.index(length), way);
            let count = leading(head, &damaged);
            prop_assert!(count < length || damaged.len() > length);
            prop_assert_eq!(&damaged[damaged.len() - count..], &whole[length - count..]);
        }

        #[test]
        fn another_history_is_never_continued(revision in 1_u64..9, head in 1_u64..9, has_next: bool, broken: bool) {
            let applied = Cursor { revision, digest: Digest([1; 32]) };
            let seen = Seen {
                head: Cursor { revision: head, digest: Digest([2; 32]) },
                past: (head >= revision).then_some(Digest([3; 32])),
                has_next,
            };
            prop_assert_eq!(judge(applied, seen, broken), Verdict::Diverged);
        }
    }

    fn check(head: u64, past: Option<u8>, has_next: bool, broken: bool, expected: Verdict) {
        let seen = Seen {
            head: Cursor {
                revision: head,
                digest: Digest([1; 32]),
            },
            past: past.map(|byte| Digest([byte; 32])),
            has_next,
        };
        assert_eq!(judge(START, seen, broken), expected);
    }

    #[test]
    fn the_same_head_is_current_even_without_a_log() {
        check(7, None, false, true, Verdict::Current);
    }

    #[test]
    fn a_head_behind_ours_has_diverged() {
        check(6, None, false, false, Verdict::Diverged);
    }

    #[test]
    fn our_revision_with_another_digest_in_the_past_has_diverged() {
        check(9, Some(2), true, false, Verdict::Diverged);
    }

    #[test]
    fn an_intact_log_is_continued() {
        check(8, Some(1), true, false, Verdict::Continue);
    }

    #[test]
    fn a_log_with_a_hole_or_a_broken_revision_is_not() {
        check(9, Some(1), false, false, Verdict::Reload);
        check(9, Some(1), true, true, Verdict::Reload);
        check(9, None, true, false, Verdict::Reload);
    }
}
