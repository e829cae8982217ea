//! Where each environment stands, what is wanted of it, and what is being read: the only place that knows.

use std::collections::{HashMap, HashSet, VecDeque};

use super::chain::Cursor;
use super::fetch::Wish;
use crate::domain::change::EnvironmentId;

/// Wants a look whatever the revision: less than any that could be newer.
const LOOK: u64 = 0;

/// The environments that have been heard of.
#[derive(Debug, Default)]
pub(super) struct Environments {
    tracked: HashMap<EnvironmentId, Tracked>,
    /// What waits to be read, each environment once.
    queue: VecDeque<EnvironmentId>,
}

#[derive(Debug, Default)]
struct Tracked {
    /// Where it was left.
    applied: Option<Cursor>,
    /// Whether it was ever sent, be it of an earlier generation.
    sent: bool,
    /// Whether it was sent under an earlier generation and not yet under this one.
    replaced: bool,
    /// The newest revision that someone claims to exist.
    want: Option<u64>,
    /// What was wanted when the running read began.
    running: Option<u64>,
    queued: bool,
    parked: Option<Parked>,
}

/// Why an environment is not read now although something is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parked {
    /// The database failed: until it answers a poll.
    UntilPoll,
    /// Its rows cannot be understood: until they are all looked at again.
    UntilScan,
}

/// What must be sent before a polled head counts as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Awaited {
    /// The environment at this revision or later, or the word of the primary that there is none.
    pub(super) revision: u64,
    /// Whether it is newer than what was sent, and nothing had hinted at it.
    pub(super) unexpected: bool,
}

/// How a read ended, as far as the cursors are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finished {
    /// Revisions were sent up to here; there may be more.
    Advanced { to: Cursor, more: bool },
    /// The whole state was sent.
    Replaced(Cursor),
    /// Nothing was newer.
    Current,
    /// To be read again at once.
    Again,
    /// It could not be read now.
    Failed(Parked),
}

impl Environments {
    /// Takes up a hint. Wrong ones cost a look.
    pub(super) fn hint(&mut self, environment: EnvironmentId, revision: u64) {
        let tracked = self.tracked.entry(environment).or_default();
        if tracked.applied.is_none_or(|applied| applied.revision < revision) {
            self.want(environment, revision);
        }
    }

    /// Asks for a look at what the primary says.
    pub(super) fn look(&mut self, environment: EnvironmentId) {
        self.want(environment, LOOK);
    }

    /// Takes up a head that was polled; `None`: one that cannot be understood. A head behind ours may be an older poll's word, so
    /// it only asks for a look.
    pub(super) fn note(&mut self, environment: EnvironmentId, head: Option<Cursor>) -> Option<Awaited> {
        let tracked = self.tracked.entry(environment).or_default();
        if head.is_some() && tracked.applied == head {
            return None;
        }
        let applied = tracked.applied.map_or(LOOK, |applied| applied.revision);
        let was_expected = tracked.want.is_some() || tracked.running.is_some();
        let newer = head.map(|head| head.revision).filter(|&revision| revision > applied);
        self.want(environment, newer.unwrap_or(LOOK));
        Some(Awaited {
            revision: newer.unwrap_or(applied.saturating_add(1)),
            unexpected: newer.is_some() && !was_expected,
        })
    }

    fn want(&mut self, environment: EnvironmentId, revision: u64) {
        let tracked = self.tracked.entry(environment).or_default();
        tracked.want = tracked.want.max(Some(revision));
        self.enqueue(environment);
    }

    fn enqueue(&mut self, environment: EnvironmentId) {
        let Some(tracked) = self.tracked.get_mut(&environment) else {
            return;
        };
        let ready = tracked.want.is_some() && tracked.running.is_none() && tracked.parked.is_none();
        if ready && !tracked.queued {
            tracked.queued = true;
            self.queue.push_back(environment);
        }
    }

    /// The next environment to read. It is not given out again before [`finish`](Self::finish) or [`gone`](Self::gone).
    pub(super) fn start(&mut self) -> Option<Wish> {
        while let Some(environment) = self.queue.pop_front() {
            let Some(tracked) = self.tracked.get_mut(&environment) else {
                continue;
            };
            tracked.queued = false;
            tracked.running = tracked.want.take();
            return Some(Wish {
                environment,
                applied: tracked.applied,
                recent: !tracked.replaced,
            });
        }
        None
    }

    /// Takes up how a read ended.
    pub(super) fn finish(&mut self, environment: EnvironmentId, how: Finished) {
        let Some(tracked) = self.tracked.get_mut(&environment) else {
            return;
        };
        let running = tracked.running.take();
        // What was wanted before the read began is answered by it, unless it says that there is more.
        let unanswered = match how {
            Finished::Advanced { to, more } => {
                tracked.applied = Some(to);
                running
                    .max(more.then_some(LOOK))
                    .filter(|&want| more || want > to.revision)
            }
            Finished::Replaced(head) => {
                (tracked.applied, tracked.sent, tracked.replaced) = (Some(head), true, false);
                None
            }
            Finished::Current => None,
            Finished::Again => running,
            Finished::Failed(parked) => {
                tracked.parked = Some(parked);
                running
            }
        };
        let applied = tracked.applied.map_or(LOOK, |applied| applied.revision);
        let since = tracked.want.filter(|&want| want == LOOK || want > applied);
        tracked.want = unanswered.max(since);
        self.enqueue(environment);
    }

    /// The read found that the environment does not exist. Returns whether it had been sent.
    pub(super) fn gone(&mut self, environment: EnvironmentId) -> bool {
        let Some(tracked) = self.tracked.remove(&environment) else {
            return false;
        };
        if let Some(revision) = tracked.want {
            // Something was heard of it while it was being read.
            self.want(environment, revision);
        }
        tracked.sent
    }

    /// Reads again what was parked: for lack of a database, or, after a scan, for any reason.
    pub(super) fn unpark(&mut self, scanned: bool) {
        let mut ready = Vec::new();
        for (&environment, tracked) in &mut self.tracked {
            if tracked.parked == Some(Parked::UntilPoll) || (scanned && tracked.parked.is_some()) {
                tracked.parked = None;
                ready.push(environment);
            }
        }
        for environment in ready {
            self.enqueue(environment);
        }
    }

    /// Another history begins: everything must be sent whole, and reads that are running do not count.
    pub(super) fn restart(&mut self) {
        self.queue.clear();
        self.tracked.retain(|_, tracked| tracked.sent);
        for tracked in self.tracked.values_mut() {
            *tracked = Tracked {
                sent: true,
                replaced: true,
                want: Some(LOOK),
                ..Tracked::default()
            };
        }
        let all: Vec<_> = self.tracked.keys().copied().collect();
        for environment in all {
            self.enqueue(environment);
        }
    }

    /// Looks at every environment that is not among those which are said to exist.
    pub(super) fn look_at_others(&mut self, existing: &HashSet<EnvironmentId>) {
        let others = self
            .tracked
            .keys()
            .filter(|environment| !existing.contains(environment));
        let others: Vec<_> = others.copied().collect();
        for environment in others {
            self.look(environment);
        }
    }

    /// Whether the environment has been heard of.
    pub(super) fn knows(&self, environment: EnvironmentId) -> bool {
        self.tracked.contains_key(&environment)
    }

    /// Whether the environment was sent up to this revision, or nothing is left to be read of it. One that never could be read
    /// counts as nothing to be read: nobody was told anything of it that could be stale.
    pub(super) fn has(&self, environment: EnvironmentId, revision: u64) -> bool {
        let Some(tracked) = self.tracked.get(&environment) else {
            return true;
        };
        let is_applied = tracked.applied.is_some_and(|applied| applied.revision >= revision);
        let is_idle = tracked.want.is_none() && tracked.running.is_none();
        let is_unreadable = tracked.parked == Some(Parked::UntilScan) && !tracked.sent;
        is_applied || is_idle || is_unreadable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::change::Digest;
    use proptest::prelude::*;

    const ONE: EnvironmentId = EnvironmentId(1);

    fn at(revision: u64) -> Cursor {
        Cursor {
            revision,
            digest: Digest([u8::try_from(revision).unwrap(); 32]),
        }
    }

    /// An environment that was sent at this revision.
    fn sent(revision: u64) -> Environments {
        let mut environments = Environments::default();
        environments.look(ONE);
        environments.start().unwrap();
        environments.finish(ONE, Finished::Replaced(at(revision)));
        environments
    }

    #[test]
    fn a_hint_of_what_was_sent_is_not_read() {
        let mut environments = sent(5);
        environments.hint(ONE, 5);
        assert_eq!(environments.start(), None);
        environments.hint(ONE, 6);
        assert_eq!(environments.start().unwrap().applied, Some(at(5)));
    }

    #[test]
    fn an_environment_is_read_once_at_a_time() {
        let mut environments = sent(5);
        environments.hint(ONE, 6);
        environments.start().unwrap();
        environments.hint(ONE, 7);
        assert_eq!(environments.start(), None);
        environments.finish(ONE, Finished::Advanced { to: at(6), more: false });
        assert_eq!(environments.start().unwrap().applied, Some(at(6)));
    }

    #[test]
    fn what_was_hinted_while_it_was_read_is_not_read_again() {
        let mut environments = sent(5);
        environments.hint(ONE, 6);
        environments.start().unwrap();
        environments.hint(ONE, 7);
        environments.finish(ONE, Finished::Advanced { to: at(7), more: false });
        assert_eq!(environments.start(), None);
        assert!(environments.has(ONE, 9));
    }

    #[test]
    fn a_hint_of_what_does_not_exist_costs_one_look() {
        let mut environments = sent(5);
        environments.hint(ONE, 99);
        environments.start().unwrap();
        assert!(!environments.has(ONE, 99));
        environments.finish(ONE, Finished::Current);
        assert_eq!(environments.start(), None);
        assert!(environments.has(ONE, 99));
    }

    #[test]
    fn a_polled_head_behind_ours_or_with_another_digest_asks_for_a_look() {
        let other = Cursor { revision: 5, ..at(9) };
        for head in [Some(at(4)), Some(other), None] {
            let mut environments = sent(5);
            let awaited = environments.note(ONE, head).unwrap();
            assert!(!awaited.unexpected);
            assert!(!environments.has(ONE, awaited.revision));
            assert!(environments.start().is_some());
            environments.finish(ONE, Finished::Current);
            assert!(environments.has(ONE, awaited.revision));
        }
        let mut environments = sent(5);
        assert_eq!(environments.note(ONE, Some(at(5))), None);
        assert_eq!(environments.start(), None);
    }

    #[test]
    fn a_newer_polled_head_is_unexpected_only_without_a_hint() {
        let mut environments = sent(5);
        for unexpected in [true, false] {
            let awaited = Awaited {
                revision: 6,
                unexpected,
            };
            assert_eq!(environments.note(ONE, Some(at(6))), Some(awaited));
        }
    }

    #[test]
    fn what_failed_waits_for_a_poll_and_what_is_malformed_for_a_scan() {
        for (parked, unparked_by_poll) in [(Parked::UntilPoll, true), (Parked::UntilScan, false)] {
            let mut environments = sent(5);
            environments.hint(ONE, 6);
            environments.start().unwrap();
            environments.finish(ONE, Finished::Failed(parked));
            environments.hint(ONE, 7);
            assert_eq!(environments.start(), None);
            environments.unpark(false);
            assert_eq!(environments.start().is_some(), unparked_by_poll);
            environments.unpark(true);
            assert_eq!(environments.start().is_some(), !unparked_by_poll);
        }
    }

    #[test]
    fn the_unreadable_holds_nothing_up_unless_it_was_sent() {
        let mut never_sent = Environments::default();
        never_sent.hint(ONE, 6);
        let mut environments = sent(5);
        environments.hint(ONE, 6);
        for (environments, has) in [(&mut never_sent, true), (&mut environments, false)] {
            environments.start().unwrap();
            environments.finish(ONE, Finished::Failed(Parked::UntilScan));
            assert_eq!(environments.has(ONE, 6), has);
        }
    }

    #[test]
    fn only_what_was_sent_is_removed() {
        assert!(sent(5).gone(ONE));
        let mut environments = Environments::default();
        environments.hint(ONE, 1);
        environments.start().unwrap();
        assert!(!environments.gone(ONE));
        assert!(!environments.knows(ONE));
    }

    #[test]
    fn another_history_is_read_whole_and_without_recent_revisions_once() {
        let mut environments = sent(5);
        environments.restart();
        let wish = environments.start().unwrap();
        assert_eq!((wish.applied, wish.recent), (None, false));
        environments.finish(ONE, Finished::Replaced(at(3)));
        environments.look(ONE);
        let wish = environments.start().unwrap();
        assert_eq!((wish.applied, wish.recent), (Some(at(3)), true));
    }

    proptest! {
        /// Whatever is hinted, polled and read in whatever order, the environment ends where the origin stands, and what was read
        /// one by one has neither gaps nor doubles.
        #[test]
        fn it_always_arrives(steps in prop::collection::vec((0_u8..6, 0_u64..4), 1..60)) {
            let mut environments = Environments::default();
            let mut origin = 1;
            let mut reading = None;
            environments.note(ONE, Some(at(origin)));
            for (step, n) in steps {
                match step {
                    0 => origin += n,
                    1 => environments.hint(ONE, n),
                    2 => { environments.note(ONE, Some(at(origin.saturating_sub(n).max(1)))); }
                    3 => environments.unpark(false),
                    4 => reading = reading.or_else(|| environments.start()),
                    _ => if let Some(wish) = reading.take() {
                        finish(&mut environments, wish, origin, n);
                    },
                }
                prop_assert!(reading.is_none() || environments.start().is_none());
            }
            if let Some(wish) = reading {
                finish(&mut environments, wish, origin, 0);
            }
            environments.unpark(false);
            environments.note(ONE, Some(at(origin)));
            for _ in 0..200 {
                let Some(wish) = environments.start() else { break };
                prop_assert!(!environments.has(ONE, origin) || wish.applied == Some(at(origin)));
                finish(&mut environments, wish, origin, 0);
            }
            prop_assert_eq!(environments.start(), None);
            prop_assert_eq!(environments.note(ONE, Some(at(origin))), None);
        }
    }

    fn finish(environments: &mut Environments, wish: Wish, origin: u64, n: u64) {
        let how = match (wish.applied, n) {
            (_, 3) => Finished::Failed(Parked::UntilPoll),
            (None, _) => Finished::Replaced(at(origin)),
            (Some(applied), _) if applied.revision >= origin => Finished::Current,
            (Some(applied), _) => Finished::Advanced {
                to: at(applied.revision + 1),
                more: applied.revision + 1 < origin,
            },
        };
        environments.finish(wish.environment, how);
    }
}
