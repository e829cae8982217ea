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
            let following = tracked.applied.and_then(|applied| applied.revision.checked_add(1));
            return Some(Wish {
                environment,
                applied: tracked.applied,
                recent: !tracked.replaced,
                single: following.is_some() && tracked.running == following,
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
mod tests;
