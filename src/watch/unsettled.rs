//! Flags that a stream answered although an assignment could not be found out: they are asked for again until it could.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::options::around;
use super::token::Fingerprint;

/// After so long they are asked for again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Each time that it is of no use the pause is twice as long, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The share by which pauses are moved at random: many streams are answered without assignments at the same moment.
const JITTER: f64 = 0.25;

/// Those of one stream. Only flags that depend on a running experiment can be among them.
#[derive(Default)]
pub(super) struct Unsettled {
    flags: BTreeSet<Arc<str>>,
    /// The last that was asked for again.
    last: Option<Arc<str>>,
    pause: Duration,
    /// When to ask again. `None`: there is nothing to ask for.
    due: Option<Instant>,
}

impl Unsettled {
    /// Whether every answer is settled.
    pub(super) fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// When to ask again. `None`: there is nothing to ask for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Of those that were answered, or are gone, these could not be settled.
    pub(super) fn note<'a>(
        &mut self,
        answered: impl Iterator<Item = &'a Arc<str>>,
        unsettled: &[Arc<str>],
        now: Instant,
    ) {
        for flag in answered {
            self.flags.remove(flag);
        }
        self.flags.extend(unsettled.iter().cloned());
        if self.flags.is_empty() {
            *self = Self::default();
        } else if self.due.is_none() {
            self.pause = FIRST_PAUSE;
            self.due = Some(now + around(self.pause, JITTER));
        }
    }

    /// Of those that were asked for again these still could not be settled.
    pub(super) fn note_again(&mut self, unsettled: &[Arc<str>], now: Instant) {
        self.flags.extend(unsettled.iter().cloned());
        if self.flags.is_empty() {
            *self = Self::default();
        } else if unsettled.is_empty() {
            // It goes well: on with the others.
            self.due = Some(now);
        } else {
            self.pause = (2 * self.pause).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.due = Some(now + around(self.pause, JITTER));
        }
    }

    /// The next to be asked for again, sorted, as many as fit. They are no longer among them.
    pub(super) fn take(&mut self, mut fits: impl FnMut(&Arc<str>) -> bool) -> Vec<Arc<str>> {
        let after = self.last.take();
        let from = after.filter(|last| self.flags.last() > Some(last));
        let from = from.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.flags.range((from, Bound::Unbounded));
        let taken: Vec<_> = next.take_while(|flag| fits(flag)).cloned().collect();
        for flag in &taken {
            self.flags.remove(flag);
        }
        self.last = taken.last().cloned();
        taken
    }

    /// Tells answers of which some are not settled from those that all are, so that who resumes with them is sent everything.
    pub(super) fn tell_apart(&self, question: Fingerprint) -> Fingerprint {
        if self.is_empty() { question } else { unsettled(question) }
    }
}

/// Tells answers that are not all settled from those that are. Fingerprints are hashes, so that no other question has the opposite.
fn unsettled(Fingerprint(question): Fingerprint) -> Fingerprint {
    Fingerprint(question.map(|byte| !byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(keys: &[&str]) -> Vec<Arc<str>> {
        keys.iter().map(|key| Arc::from(*key)).collect()
    }

    /// These were answered, and none of them is settled.
    fn note(unsettled: &mut Unsettled, keys: &[&str], now: Instant) {
        let flags = flags(keys);
        unsettled.note(flags.iter(), &flags, now);
    }

    fn take(unsettled: &mut Unsettled, mut count: usize) -> Vec<Arc<str>> {
        unsettled.take(|_| {
            let fits = count > 0;
            count = count.saturating_sub(1);
            fits
        })
    }

    #[test]
    fn all_have_their_turn_also_if_none_is_ever_settled() {
        let (mut unsettled, now) = (Unsettled::default(), Instant::now());
        note(&mut unsettled, &["c", "a", "b", "a"], now);
        for expected in [["a", "b"].as_slice(), &["c"], &["a", "b"]] {
            let taken = take(&mut unsettled, 2);
            assert_eq!(taken, flags(expected));
            unsettled.note_again(&taken, now);
        }
        assert_eq!(take(&mut unsettled, 9), flags(&["c"]));
        assert_eq!(take(&mut unsettled, 9), flags(&["a", "b"]));
        assert!(unsettled.is_empty());
    }

    #[test]
    fn what_a_later_batch_settles_is_not_asked_for_again() {
        let (mut unsettled, now) = (Unsettled::default(), Instant::now());
        note(&mut unsettled, &["a", "b", "c"], now);
        unsettled.note(flags(&["a", "b", "d"]).iter(), &flags(&["b"]), now);
        assert_eq!(take(&mut unsettled, 9), flags(&["b", "c"]));
        note(&mut unsettled, &["a"], now);
        unsettled.note(flags(&["a"]).iter(), &[], now);
        assert!(unsettled.is_empty() && unsettled.due().is_none());
    }

    #[test]
    fn pauses_grow_while_it_is_of_no_use_and_end_when_it_is() {
        let (mut unsettled, now) = (Unsettled::default(), Instant::now());
        unsettled.note_again(&[], now);
        assert_eq!(unsettled.due(), None);
        note(&mut unsettled, &["a", "b"], now);
        let due = unsettled.due();
        note(&mut unsettled, &["c"], now + Duration::from_secs(9));
        assert_eq!(unsettled.due(), due, "not put off by others");
        let pause = |due: Option<Instant>| due.unwrap() - now;
        assert!((0.75..=1.25).contains(&pause(due).as_secs_f64()));
        for around in [2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let taken = take(&mut unsettled, 1);
            unsettled.note_again(&taken, now);
            let pause = pause(unsettled.due()).as_secs_f64();
            assert!((0.75 * around..=1.25 * around).contains(&pause), "{pause} for {around}");
        }
        take(&mut unsettled, 1);
        unsettled.note_again(&[], now);
        assert_eq!(unsettled.due(), Some(now), "on with the others");
        while !unsettled.is_empty() {
            take(&mut unsettled, 1);
        }
        unsettled.note_again(&[], now);
        assert_eq!(unsettled.due(), None);
    }
}
