//! Assignments in memory: those that were asked for lately, within a bound.
//!
//! What is here is believed for a while, and asked for again then: rows go when people delete them, or with a database that was
//! brought back from a backup, and nobody tells the replicas.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, Weighter};
use uuid::Uuid;

use crate::domain::experiment::stored_unit;
use crate::domain::key;
use crate::evaluate::{Assigned, Experiment};

/// What an entry takes beside the unit's text.
const ENTRY_BYTES: u64 = 160;
/// For how long it is believed that nothing is stored of a unit while an iteration is new. Not long: a replica that has not heard of it
/// may still store something, and until it is found the two answer differently.
pub(super) const NOTHING_FOR: Duration = Duration::from_secs(3);
/// For how long an iteration is new, from when a unit of it was first found to have nothing.
const NEW_FOR: Duration = Duration::from_mins(1);
/// For how long it is believed later. A narrowed experiment has many such units, for as long as it runs, and each that is not believed
/// to have nothing makes an evaluation wait for PostgreSQL.
pub(super) const SETTLED_NOTHING_FOR: Duration = Duration::from_mins(10);
/// How many experiments' iterations are remembered as no longer new.
const ITERATIONS: usize = 10_000;
/// For how long a unit that PostgreSQL refuses is not brought to it again.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Assignments that are known. What is not in here may be stored all the same.
pub struct Known {
    cache: Cache<Key, Held, Size, RandomState>,
    /// For how long a stored arm is believed to be stored.
    believed_for: Duration,
    /// What the ages are counted from.
    began: Instant,
    /// The history that the assignments are of. 0: none was followed yet.
    generation: AtomicU64,
    /// By experiment, the newest iteration of which a unit was found to have nothing, and when the first was.
    met: Mutex<HashMap<Uuid, (u32, u32), RandomState>>,
}

/// A unit of an experiment. By the salt: another experiment may have the key one day.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    experiment: Uuid,
    /// As it is stored, which is never long.
    unit: Box<str>,
}

/// The same, borrowed.
struct Asked<'a> {
    experiment: Uuid,
    unit: &'a str,
}

/// What is known of a unit.
#[derive(Debug, Clone)]
struct Held {
    what: What,
    /// When it was found out, in seconds.
    found_at: u32,
}

#[derive(Debug, Clone)]
enum What {
    Arm {
        arm: key::Variant,
        iteration: u32,
    },
    /// Nothing is stored, as of the iteration.
    Nothing {
        iteration: u32,
        /// The iteration was no longer new.
        settled: bool,
    },
    /// PostgreSQL refuses to store it.
    Refused,
}

#[derive(Debug, Clone)]
struct Size;

impl Known {
    /// Keeps as many as fit into so many bytes, and believes for so long that a stored arm is stored.
    pub fn new(bytes: u64, believed_for: Duration) -> Self {
        let items = usize::try_from(bytes / (ENTRY_BYTES + 36)).unwrap_or(usize::MAX);
        let cache = Cache::with(
            items.max(1),
            bytes,
            Size,
            RandomState::default(),
            DefaultLifecycle::default(),
        );
        Self {
            cache,
            believed_for,
            began: Instant::now(),
            generation: AtomicU64::new(0),
            met: Mutex::default(),
        }
    }

    /// What is known of a unit.
    pub fn get(&self, experiment: &Experiment, unit: &str) -> Assigned {
        let asked = Asked {
            experiment: experiment.salt(),
            unit: &stored_unit(unit),
        };
        self.get_at(self.now(), &asked, experiment.iteration())
    }

    fn get_at(&self, now: u32, asked: &Asked<'_>, asked_in: u32) -> Assigned {
        let Some(Held { what, found_at }) = self.cache.get(asked) else {
            return Assigned::Unknown;
        };
        let age = Duration::from_secs(now.saturating_sub(found_at).into());
        match what {
            What::Arm { arm, iteration } if age < self.believed_for => Assigned::Arm { arm, iteration },
            // In another iteration the unit may be assigned by now.
            What::Nothing { iteration, settled } if iteration == asked_in && age < self.nothing_for(settled) => {
                Assigned::Nothing
            }
            What::Refused if age < REFUSED_FOR => Assigned::Unreachable,
            What::Arm { .. } | What::Nothing { .. } | What::Refused => Assigned::Unknown,
        }
    }

    /// The arm that a unit had when it was last found out, however long ago: for when it cannot be found out again.
    pub fn last(&self, experiment: Uuid, unit: &str) -> Option<Assigned> {
        self.arm(experiment, &stored_unit(unit))
    }

    fn arm(&self, experiment: Uuid, unit: &str) -> Option<Assigned> {
        match self.cache.get(&Asked { experiment, unit })?.what {
            What::Arm { arm, iteration } => Some(Assigned::Arm { arm, iteration }),
            What::Nothing { .. } | What::Refused => None,
        }
    }

    /// Notes what was found out of a unit that was asked for in an iteration.
    pub fn note(&self, experiment: Uuid, asked_in: u32, unit: &str, assigned: &Assigned) {
        self.note_stored(experiment, asked_in, &stored_unit(unit), assigned);
    }

    /// The same of a unit as it is stored.
    pub(super) fn note_stored(&self, experiment: Uuid, asked_in: u32, unit: &str, assigned: &Assigned) {
        self.note_at(self.now(), experiment, asked_in, unit, assigned);
    }

    fn note_at(&self, now: u32, experiment: Uuid, asked_in: u32, unit: &str, assigned: &Assigned) {
        let what = match assigned {
            Assigned::Arm { arm, iteration } => What::Arm {
                arm: arm.clone(),
                iteration: *iteration,
            },
            Assigned::Nothing => What::Nothing {
                iteration: asked_in,
                settled: self.is_settled(now, experiment, asked_in),
            },
            Assigned::Unreachable | Assigned::Unknown => return,
        };
        self.put(now, experiment, unit, what);
    }

    /// Notes that PostgreSQL refuses a unit, as it is stored, so that it does not stand in the way of others all the time.
    pub(super) fn note_refused(&self, experiment: Uuid, unit: &str) {
        if self.arm(experiment, unit).is_none() {
            self.put(self.now(), experiment, unit, What::Refused);
        }
    }

    fn nothing_for(&self, settled: bool) -> Duration {
        if settled {
            SETTLED_NOTHING_FOR.min(self.believed_for)
        } else {
            NOTHING_FOR
        }
    }

    /// Whether every replica has heard of the iteration, since it was met here long enough ago.
    fn is_settled(&self, now: u32, experiment: Uuid, iteration: u32) -> bool {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if met.len() >= ITERATIONS && !met.contains_key(&experiment) {
            met.clear();
        }
        let (newest, since) = met.entry(experiment).or_insert((iteration, now));
        if iteration > *newest {
            (*newest, *since) = (iteration, now);
        }
        iteration == *newest && u64::from(now.saturating_sub(*since)) >= NEW_FOR.as_secs()
    }

    /// Forgets a unit of an experiment: what was stored of it is no longer there.
    pub fn forget(&self, experiment: Uuid, unit: &str) {
        let unit = &*stored_unit(unit);
        self.cache.remove(&Asked { experiment, unit });
    }

    fn put(&self, found_at: u32, experiment: Uuid, unit: &str, what: What) {
        let unit = unit.into();
        self.cache.insert(Key { experiment, unit }, Held { what, found_at });
    }

    /// Says which generation of the history is followed now. With another all is forgotten: what was stored may be lost.
    pub fn follow(&self, generation: u64) {
        if self.generation.load(Ordering::Relaxed) == generation {
            return;
        }
        let followed = self.generation.swap(generation, Ordering::Relaxed);
        if followed != 0 && followed != generation {
            self.cache.clear();
            self.met.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    fn now(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX)
    }
}

impl Weighter<Key, Held> for Size {
    fn weight(&self, key: &Key, _: &Held) -> u64 {
        ENTRY_BYTES + key.unit.len() as u64
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { experiment, unit } = self;
        Asked {
            experiment: *experiment,
            unit,
        }
        .hash(state);
    }
}

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { experiment, unit } = self;
        experiment.hash(state);
        unit.hash(state);
    }
}

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.experiment == key.experiment && *self.unit == *key.unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const ASKED: Asked<'static> = Asked {
        experiment: Uuid::nil(),
        unit: "u",
    };

    fn arm() -> Assigned {
        Assigned::Arm {
            arm: "a".parse().unwrap(),
            iteration: 1,
        }
    }

    #[test]
    fn what_does_not_fit_is_forgotten() {
        let known = Known::new(100 * (ENTRY_BYTES + 8), HOUR);
        for n in 0..10_000 {
            known.note(Uuid::nil(), 1, &format!("user-{n:03}"), &arm());
        }
        assert!((1..=100).contains(&known.len()), "{}", known.len());
    }

    #[test]
    fn what_could_not_be_found_out_is_not_noted() {
        let known = Known::new(1 << 20, HOUR);
        known.note(Uuid::nil(), 1, "u", &Assigned::Unreachable);
        known.note(Uuid::nil(), 1, "u", &Assigned::Unknown);
        assert!(known.is_empty());
        known.note(Uuid::nil(), 1, "u", &Assigned::Nothing);
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn an_arm_is_believed_for_an_hour_and_that_there_is_none_for_seconds() {
        let known = Known::new(1 << 20, HOUR);
        known.note_at(10, Uuid::nil(), 1, "u", &Assigned::Nothing);
        assert_eq!(known.get_at(12, &ASKED, 1), Assigned::Nothing);
        assert_eq!(known.get_at(12, &ASKED, 2), Assigned::Unknown);
        assert_eq!(known.get_at(13, &ASKED, 1), Assigned::Unknown);
        assert_eq!(known.last(Uuid::nil(), "u"), None);
        known.note_at(20, Uuid::nil(), 1, "u", &arm());
        assert_eq!(known.get_at(20 + 3_599, &ASKED, 2), arm());
        assert_eq!(known.get_at(20 + 3_600, &ASKED, 2), Assigned::Unknown);
        assert_eq!(
            known.last(Uuid::nil(), "u"),
            Some(arm()),
            "for when nobody can be asked"
        );
    }

    #[test]
    fn that_there_is_none_is_believed_for_longer_once_an_iteration_is_no_longer_new() {
        let known = Known::new(1 << 20, HOUR);
        let of = |unit| Asked {
            experiment: Uuid::nil(),
            unit,
        };
        known.note_at(10, Uuid::nil(), 2, "early", &Assigned::Nothing);
        known.note_at(69, Uuid::nil(), 2, "u", &Assigned::Nothing);
        assert_eq!(known.get_at(72, &ASKED, 2), Assigned::Unknown, "a minute is not over");
        known.note_at(70, Uuid::nil(), 2, "u", &Assigned::Nothing);
        assert_eq!(known.get_at(70 + 599, &ASKED, 2), Assigned::Nothing);
        assert_eq!(known.get_at(70 + 600, &ASKED, 2), Assigned::Unknown);
        assert_eq!(known.get_at(73, &of("early"), 2), Assigned::Unknown);
        known.note_at(80, Uuid::nil(), 3, "u", &Assigned::Nothing);
        assert_eq!(known.get_at(83, &ASKED, 3), Assigned::Unknown, "the next one is new");
        known.note_at(200, Uuid::nil(), 2, "u", &Assigned::Nothing);
        assert_eq!(
            known.get_at(203, &ASKED, 2),
            Assigned::Unknown,
            "of a state that is old"
        );
        known.note_at(200, Uuid::nil(), 3, "u", &Assigned::Nothing);
        known.forget(Uuid::nil(), "u");
        assert_eq!(known.get_at(200, &ASKED, 3), Assigned::Unknown);
    }

    #[test]
    fn a_refused_unit_is_left_alone_for_seconds_and_hides_no_arm() {
        let known = Known::new(1 << 20, HOUR);
        known.put(10, Uuid::nil(), "u", What::Refused);
        assert_eq!(known.get_at(19, &ASKED, 1), Assigned::Unreachable);
        assert_eq!(known.get_at(20, &ASKED, 1), Assigned::Unknown);
        known.note_at(20, Uuid::nil(), 1, "u", &arm());
        known.note_refused(Uuid::nil(), "u");
        assert_eq!(known.get_at(20, &ASKED, 1), arm());
    }

    #[test]
    fn of_another_generation_nothing_is_known() {
        let known = Known::new(1 << 20, HOUR);
        known.note(Uuid::nil(), 1, "u", &arm());
        known.follow(3);
        known.follow(3);
        assert_eq!(known.len(), 1);
        known.follow(4);
        assert!(known.is_empty());
    }

    #[test]
    fn a_long_unit_is_kept_as_it_is_stored() {
        let known = Known::new(100 * ENTRY_BYTES, HOUR);
        let unit = "x".repeat(60_000);
        known.note(Uuid::nil(), 1, &unit, &arm());
        assert_eq!(known.last(Uuid::nil(), &unit), Some(arm()));
        known.note_stored(Uuid::nil(), 1, &stored_unit(&unit), &Assigned::Nothing);
        assert_eq!((known.len(), known.last(Uuid::nil(), &unit)), (1, None));
    }
}
