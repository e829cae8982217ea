//! Assignments in memory: those that were asked for lately, within a bound.

use std::hash::{Hash, Hasher};

use foldhash::fast::RandomState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, Weighter};
use uuid::Uuid;

use crate::domain::key;
use crate::evaluate::{Assigned, Experiment};

/// What an entry takes beside the unit's text.
const ENTRY_BYTES: u64 = 160;

/// Assignments that are known. What is not in here may be stored all the same.
pub struct Known {
    cache: Cache<Key, Held, Size, RandomState>,
}

/// A unit of an experiment. By the salt: another experiment may have the key one day.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    experiment: Uuid,
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
    /// `None`: nothing is stored, as of the iteration.
    arm: Option<key::Variant>,
    iteration: u32,
}

#[derive(Debug, Clone)]
struct Size;

impl Known {
    /// Keeps as many as fit into so many bytes.
    pub fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / (ENTRY_BYTES + 36)).unwrap_or(usize::MAX);
        let cache = Cache::with(
            items.max(1),
            bytes,
            Size,
            RandomState::default(),
            DefaultLifecycle::default(),
        );
        Self { cache }
    }

    /// What is known of a unit.
    pub fn get(&self, experiment: &Experiment, unit: &str) -> Assigned {
        let asked = Asked {
            experiment: experiment.salt(),
            unit,
        };
        match self.cache.get(&asked) {
            Some(Held {
                arm: Some(arm),
                iteration,
            }) => Assigned::Arm { arm, iteration },
            // In another iteration the unit may be assigned by now.
            Some(Held { arm: None, iteration }) if iteration == experiment.iteration() => Assigned::Nothing,
            Some(Held { arm: None, .. }) | None => Assigned::Unknown,
        }
    }

    /// Notes what was found out of a unit that was asked for in an iteration.
    pub fn note(&self, experiment: Uuid, asked_in: u32, unit: &str, assigned: &Assigned) {
        let held = match assigned {
            Assigned::Arm { arm, iteration } => Held {
                arm: Some(arm.clone()),
                iteration: *iteration,
            },
            Assigned::Nothing => Held {
                arm: None,
                iteration: asked_in,
            },
            Assigned::Unreachable | Assigned::Unknown => return,
        };
        let unit = unit.into();
        self.cache.insert(Key { experiment, unit }, held);
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
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

    #[test]
    fn what_does_not_fit_is_forgotten() {
        let known = Known::new(100 * (ENTRY_BYTES + 8));
        let arm = Assigned::Arm {
            arm: "a".parse().unwrap(),
            iteration: 1,
        };
        for n in 0..10_000 {
            known.note(Uuid::nil(), 1, &format!("user-{n:03}"), &arm);
        }
        assert!((1..=100).contains(&known.len()), "{}", known.len());
    }

    #[test]
    fn what_could_not_be_found_out_is_not_noted() {
        let known = Known::new(1 << 20);
        known.note(Uuid::nil(), 1, "u", &Assigned::Unreachable);
        known.note(Uuid::nil(), 1, "u", &Assigned::Unknown);
        assert!(known.is_empty());
        known.note(Uuid::nil(), 1, "u", &Assigned::Nothing);
        assert_eq!(known.len(), 1);
    }
}
