//! Where each environment stands, what is wanted of it, and what is being read: the only place that knows.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use super::chain::Cursor;
use super::failures::{Failures, Fault, Pauses};
use super::fetch::Wish;
use super::together;
use crate::domain::change::EnvironmentId;

/// Wants a look whatever the revision: less than any that could be newer.
const LOOK: u64 = 0;

/// The environments that have been heard of.
#[derive(Debug, Default)]
pub(super) struct Environments {
    tracked: HashMap<EnvironmentId, Tracked>,
    /// What waits to be read, each environment once.
    queue: VecDeque<EnvironmentId>,
    /// The same of those whose last read failed.
    retries: VecDeque<EnvironmentId>,
    /// Those of them that are being read.
    retrying: HashSet<EnvironmentId>,
    /// What is to be read by itself the next time.
    alone: HashSet<EnvironmentId>,
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
    /// The reads that have failed since the last that did not.
    failures: Option<Failures>,
    /// Nothing waits for it any more, and the hub knows.
    behind: Option<Behind>,
}

/// How far an environment is that nothing waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// What was polled of it counts as sent.
    Excused,
    /// It can be read again; what was polled of it while it was excused is on its way.
    CatchingUp,
}

/// Why an environment is not read now although something is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parked {
    /// The database failed: until it answers a poll.
    Poll,
    /// It failed again although the database answers: until a poll after this.
    PollAfter(Instant),
    /// Its rows cannot be understood: until they are all looked at again.
    Scan,
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
    /// The same, and by itself.
    Alone,
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
            let queue = match tracked.failures {
                Some(_) => &mut self.retries,
                None => &mut self.queue,
            };
            queue.push_back(environment);
        }
    }

    /// The next environment to read. It is not given out again before [`finish`](Self::finish) or [`gone`](Self::gone). Of those
    /// whose last read failed no more than `retries` are given out at a time, and others before them.
    pub(super) fn start(&mut self, retries: usize) -> Option<Wish> {
        loop {
            let environment = match self.queue.pop_front() {
                Some(environment) => environment,
                None if self.retrying.len() < retries => self.retries.pop_front()?,
                None => return None,
            };
            let Some(tracked) = self.tracked.get_mut(&environment) else {
                continue;
            };
            tracked.queued = false;
            tracked.running = tracked.want.take();
            let alone = self.alone.remove(&environment);
            let together = tracked.is_little_behind(tracked.running) && !alone;
            if tracked.failures.is_some() {
                self.retrying.insert(environment);
            }
            return Some(Wish {
                environment,
                applied: tracked.applied,
                recent: !tracked.replaced,
                together,
            });
        }
    }

    /// The same, and those after it that may be read together with it.
    pub(super) fn start_several(&mut self, retries: usize) -> Vec<Wish> {
        let mut wishes: Vec<_> = self.start(retries).into_iter().collect();
        if !wishes.iter().all(|wish| wish.together) {
            return wishes;
        }
        while wishes.len() < together::MOST && self.queue.front().is_some_and(|next| self.may_join(*next)) {
            wishes.extend(self.start(retries));
        }
        wishes
    }

    fn may_join(&self, environment: EnvironmentId) -> bool {
        let tracked = self.tracked.get(&environment);
        tracked.is_some_and(|tracked| tracked.is_little_behind(tracked.want)) && !self.alone.contains(&environment)
    }

    /// Takes up how a read ended. Returns whether the environment was behind, and no longer is.
    pub(super) fn finish(&mut self, environment: EnvironmentId, how: Finished) -> bool {
        let Some(tracked) = self.tracked.get_mut(&environment) else {
            return false;
        };
        let running = tracked.running.take();
        self.retrying.remove(&environment);
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
            Finished::Alone => {
                self.alone.insert(environment);
                running
            }
            Finished::Failed(parked) => {
                tracked.parked = Some(parked);
                running
            }
        };
        let applied = tracked.applied.map_or(LOOK, |applied| applied.revision);
        let since = tracked.want.filter(|&want| want == LOOK || want > applied);
        tracked.want = unanswered.max(since);
        let (was_read, is_idle) = (how.was_read(), tracked.want.is_none());
        let caught_up = was_read && tracked.catch_up(unanswered.is_none(), is_idle);
        if was_read {
            tracked.failures = None;
        }
        self.enqueue(environment);
        caught_up
    }

    /// The read failed. Returns whether that is news: it did not fail before.
    pub(super) fn fail(&mut self, environment: EnvironmentId, fault: Fault, pauses: Pauses, now: Instant) -> bool {
        let Some(tracked) = self.tracked.get_mut(&environment) else {
            return false;
        };
        let is_news = tracked.failures.is_none();
        let failures = tracked.failures.get_or_insert_with(|| Failures::new(pauses));
        let pause = failures.add(fault, now);
        let parked = match (fault, pause) {
            (Fault::Rows, _) => Parked::Scan,
            (Fault::Read | Fault::Connection, None) => Parked::Poll,
            (Fault::Read | Fault::Connection, Some(pause)) => Parked::PollAfter(now + pause),
        };
        self.finish(environment, Finished::Failed(parked));
        is_news
    }

    /// The environments that could not be read although the database answered what was asked at this time.
    pub(super) fn unreadable(&self, answered: Instant) -> Vec<EnvironmentId> {
        let unreadable = self.tracked.iter().filter(|(_, tracked)| {
            let failures = tracked.failures.as_ref();
            failures.is_some_and(|failures| failures.are_its_own(answered))
        });
        unreadable.map(|(&environment, _)| environment).collect()
    }

    /// From now on nothing waits for the environment, until it has caught up. Returns whether that is news to the hub.
    pub(super) fn excuse(&mut self, environment: EnvironmentId) -> bool {
        let tracked = self.tracked.entry(environment).or_default();
        tracked.behind.replace(Behind::Excused).is_none()
    }

    /// Whether nothing waits for the environment, because it is behind.
    pub(super) fn is_behind(&self, environment: EnvironmentId) -> bool {
        let tracked = self.tracked.get(&environment);
        tracked.is_some_and(|tracked| tracked.behind.is_some())
    }

    /// The read found that the environment does not exist. Returns whether it had been sent.
    pub(super) fn gone(&mut self, environment: EnvironmentId) -> bool {
        let Some(tracked) = self.tracked.remove(&environment) else {
            return false;
        };
        self.retrying.remove(&environment);
        self.alone.remove(&environment);
        if let Some(revision) = tracked.want {
            // Something was heard of it while it was being read.
            self.want(environment, revision);
        }
        tracked.sent
    }

    /// Reads again what was parked, now that a poll was answered, which may have been a scan.
    pub(super) fn unpark(&mut self, scanned: bool, now: Instant) {
        let mut ready = Vec::new();
        for (&environment, tracked) in &mut self.tracked {
            let is_due = match tracked.parked {
                None => false,
                Some(Parked::Poll) => true,
                Some(Parked::PollAfter(pause)) => now >= pause,
                Some(Parked::Scan) => scanned,
            };
            if is_due {
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
        (self.retrying, self.alone, self.queue, self.retries) = Default::default();
        self.tracked
            .retain(|_, tracked| tracked.sent || tracked.behind.is_some());
        for tracked in self.tracked.values_mut() {
            *tracked = Tracked {
                sent: tracked.sent,
                replaced: true,
                want: Some(LOOK),
                failures: tracked.failures.take(),
                behind: tracked.behind.map(|_| Behind::Excused),
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

    /// Whether the environment was sent up to this revision, or nothing is left to be read of it, or nothing waits for it.
    pub(super) fn has(&self, environment: EnvironmentId, revision: u64) -> bool {
        let Some(tracked) = self.tracked.get(&environment) else {
            return true;
        };
        let is_applied = tracked.applied.is_some_and(|applied| applied.revision >= revision);
        let is_idle = tracked.want.is_none() && tracked.running.is_none();
        is_applied || is_idle || tracked.behind == Some(Behind::Excused)
    }
}

impl Tracked {
    /// Whether no more than a few revisions are wanted which follow what was applied, and the last read did not fail.
    fn is_little_behind(&self, want: Option<u64>) -> bool {
        let (Some(applied), Some(want)) = (self.applied, want) else {
            return false;
        };
        let following = want.saturating_sub(applied.revision);
        (1..=u64::from(together::REVISIONS)).contains(&following) && self.failures.is_none()
    }

    /// Takes up that the environment was read, and whether that answers all that was wanted when the read began, and until now.
    /// Returns whether the environment was behind and no longer is.
    ///
    /// Polls that counted while it was excused may have found what is wanted still. So it has caught up only with a read that
    /// leaves nothing to be wanted, or with one that began after it was excused for the last time and answers what was wanted
    /// then.
    fn catch_up(&mut self, is_answered: bool, is_idle: bool) -> bool {
        let caught_up = match self.behind {
            None => return false,
            Some(Behind::Excused) => is_idle,
            Some(Behind::CatchingUp) => is_answered,
        };
        self.behind = (!caught_up).then_some(Behind::CatchingUp);
        caught_up
    }
}

impl Finished {
    /// Whether the read found out what there was.
    fn was_read(self) -> bool {
        match self {
            Self::Advanced { .. } | Self::Replaced(_) | Self::Current => true,
            Self::Again | Self::Alone | Self::Failed(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
