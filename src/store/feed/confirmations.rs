//! When it was last certain that everything sent was the newest.

use std::time::{Duration, Instant};

use super::hint::{Hint, Pending};

/// What a poll found, and what must have been sent for its word to count.
#[derive(Debug)]
pub(super) struct Claim {
    /// When the poll was asked.
    pub(super) asked_at: Instant,
    /// What it found that had not been sent yet.
    pub(super) awaited: Vec<Hint>,
}

/// The claims that wait. Only the oldest and the newest are kept: under steady writes the newest alone would never be met before
/// it is replaced.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    oldest: Option<Claim>,
    newest: Option<Claim>,
    confirmed_at: Option<Instant>,
}

impl Confirmations {
    /// Adds what a poll found. A poll lists only what has changed since the one before, so a claim that replaces another waits
    /// for what that one waited for as well.
    pub(super) fn push(&mut self, claim: Claim) {
        if self.oldest.is_none() {
            self.oldest = Some(claim);
            return;
        }
        let mut awaited = Pending::default();
        let replaced = self.newest.take().map(|claim| claim.awaited);
        for hint in replaced.into_iter().flatten().chain(claim.awaited) {
            awaited.add(hint);
        }
        self.newest = Some(Claim {
            asked_at: claim.asked_at,
            awaited: awaited.hints().collect(),
        });
    }

    /// Forgets what waits: it spoke of another history.
    pub(super) fn clear(&mut self) {
        (self.oldest, self.newest) = (None, None);
    }

    /// Counts the claims that have been met, `was_sent` telling what has been. Returns whether there was one.
    pub(super) fn settle(&mut self, was_sent: impl Fn(Hint) -> bool) -> bool {
        let mut moved = false;
        while let Some(claim) = &mut self.oldest {
            // What was sent once needs not be asked for again.
            while claim.awaited.pop_if(|hint| was_sent(*hint)).is_some() {}
            if !claim.awaited.is_empty() {
                break;
            }
            self.confirmed_at = self.confirmed_at.max(Some(claim.asked_at));
            self.oldest = self.newest.take();
            moved = true;
        }
        moved
    }

    /// What the oldest claim waits for, if it has done so for longer than `patience`.
    pub(super) fn overdue(&self, now: Instant, patience: Duration) -> impl Iterator<Item = Hint> {
        let overdue = |claim: &&Claim| now.saturating_duration_since(claim.asked_at) > patience;
        let claim = self.oldest.as_ref().filter(overdue);
        claim.into_iter().flat_map(|claim| claim.awaited.iter().copied())
    }

    /// When everything sent was last known to be the newest.
    pub(super) fn confirmed_at(&self) -> Option<Instant> {
        self.confirmed_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::change::EnvironmentId;

    fn claim(asked_at: Instant, revisions: &[u64]) -> Claim {
        Claim {
            asked_at,
            awaited: revisions.iter().map(|&revision| Hint::Access { revision }).collect(),
        }
    }

    fn up_to(sent: u64) -> impl Fn(Hint) -> bool {
        move |hint| matches!(hint, Hint::Access { revision } if revision <= sent)
    }

    #[test]
    fn a_poll_counts_only_when_all_it_found_was_sent() {
        let now = Instant::now();
        let mut confirmations = Confirmations::default();
        confirmations.push(claim(now, &[5, 3]));
        assert!(!confirmations.settle(up_to(3)));
        assert_eq!(confirmations.confirmed_at(), None);
        assert!(confirmations.settle(up_to(5)));
        assert_eq!(confirmations.confirmed_at(), Some(now));
        assert!(!confirmations.settle(up_to(5)));
    }

    #[test]
    fn a_poll_that_found_nothing_counts_at_once() {
        let mut confirmations = Confirmations::default();
        confirmations.push(claim(Instant::now(), &[]));
        assert!(confirmations.settle(up_to(0)));
    }

    #[test]
    fn steady_writes_do_not_starve_the_confirmation() {
        let now = Instant::now();
        let mut confirmations = Confirmations::default();
        for second in 0..10 {
            confirmations.push(claim(now + Duration::from_secs(second), &[second]));
        }
        assert!(confirmations.settle(up_to(0)));
        assert_eq!(confirmations.confirmed_at(), Some(now));
        assert!(confirmations.settle(up_to(9)));
        assert_eq!(confirmations.confirmed_at(), Some(now + Duration::from_secs(9)));
    }

    #[test]
    fn a_claim_that_is_replaced_is_still_waited_for() {
        let now = Instant::now();
        let of = |id, revision| Hint::Environment {
            id: EnvironmentId(id),
            revision,
        };
        let mut confirmations = Confirmations::default();
        for (second, awaited) in [(0, of(1, 1)), (1, of(1, 3)), (2, of(2, 5)), (3, of(1, 2))] {
            confirmations.push(Claim {
                asked_at: now + Duration::from_secs(second),
                awaited: vec![awaited],
            });
        }
        let check = |confirmations: &mut Confirmations, sent: [Hint; 2], second| {
            let was_sent = |hint| {
                match (hint, sent) {
                (Hint::Environment { id, revision }, sent) => sent.iter().any(|it| {
                    matches!(it, Hint::Environment { id: other, revision: newest } if *other == id && *newest >= revision)
                }),
                (Hint::Access { .. }, _) => false,
            }
            };
            confirmations.settle(was_sent);
            assert_eq!(
                confirmations.confirmed_at(),
                Some(now + Duration::from_secs(second)),
                "{sent:?}"
            );
        };
        check(&mut confirmations, [of(1, 2), of(2, 4)], 0);
        check(&mut confirmations, [of(1, 3), of(2, 4)], 0);
        check(&mut confirmations, [of(1, 3), of(2, 5)], 3);
    }

    #[test]
    fn only_a_claim_that_has_waited_too_long_is_overdue() {
        let (now, patience) = (Instant::now(), Duration::from_secs(2));
        let mut confirmations = Confirmations::default();
        assert_eq!(confirmations.overdue(now + patience, patience).count(), 0);
        confirmations.push(claim(now, &[3, 5]));
        confirmations.push(claim(now, &[7]));
        assert_eq!(confirmations.overdue(now + patience, patience).count(), 0);
        let later = now + patience + Duration::from_millis(1);
        let overdue: Vec<_> = confirmations.overdue(later, patience).collect();
        assert_eq!(overdue, [3, 5].map(|revision| Hint::Access { revision }));
    }

    #[test]
    fn what_was_claimed_of_another_history_does_not_count() {
        let mut confirmations = Confirmations::default();
        confirmations.push(claim(Instant::now(), &[1]));
        confirmations.clear();
        assert!(!confirmations.settle(up_to(9)));
    }
}
