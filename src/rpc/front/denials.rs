//! Who was denied what, until it is written down.
//!
//! A refusal costs a caller nothing, so it must not cost a transaction each: those of one caller, method and project are one, with
//! a count, and there is a limit to how many are remembered.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{Caller, Peer};
use crate::domain::{key, limits};
use crate::store::audit::Denial;
use crate::store::{self, Actor};

/// Denials of different callers, methods and projects that are remembered at a time; what comes then is counted together.
const MOST: usize = 1_000;
/// In place of the method, of those that are counted together.
const SEVERAL: &str = "several";

/// Denials that are not written down yet.
#[derive(Debug, Default)]
pub struct Denials {
    pending: Mutex<BTreeMap<Subject, Denial>>,
    arrived: Notify,
}

/// What is counted together.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    actor: String,
    method: &'static str,
    project: Option<key::Project>,
}

impl Subject {
    fn of(denial: &Denial) -> Self {
        Self {
            actor: denial.caller.actor.to_string(),
            method: denial.method,
            project: denial.project.clone(),
        }
    }
}

impl Denials {
    /// Notes that a caller was denied what it called, and the reason that it gave, unless that would only have read.
    pub(super) fn note(&self, caller: &Caller, peer: &Peer, reason: &str) {
        if !caller.method.only_reads() {
            self.add(denial(caller, peer, reason, Timestamp::now()));
        }
    }

    fn add(&self, denial: Denial) {
        let mut pending = self.lock();
        let known = pending.contains_key(&Subject::of(&denial));
        let denial = if known || pending.len() < MOST {
            denial
        } else {
            one_of_many(&denial)
        };
        match pending.entry(Subject::of(&denial)) {
            Entry::Vacant(vacant) => {
                vacant.insert(denial);
            }
            Entry::Occupied(mut before) => before.get_mut().join(&denial),
        }
        self.arrived.notify_one();
    }

    /// Waits until there may be some. For one consumer.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes one that is not written down yet.
    pub fn take(&self) -> Option<Denial> {
        self.lock().pop_first().map(|(_, denial)| denial)
    }

    /// Puts one back that could not be written down.
    pub fn put_back(&self, denial: Denial) {
        self.add(denial);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Subject, Denial>> {
        // Nothing under the lock leaves the map half changed.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn denial(caller: &Caller, peer: &Peer, reason: &str, now: Timestamp) -> Denial {
    let named = caller.subject.get();
    Denial {
        caller: store::Caller {
            actor: Actor::from(caller.principal),
            name: caller.name().to_owned(),
            credential: caller.credential.clone(),
            peer: peer.to_string(),
            reason: reason.chars().take(limits::REASON_CHARS).collect(),
        },
        method: caller.method.path,
        // Whoever has no role in a project cannot write into its log; what was aimed at is told all the same.
        project: named.filter(|project| caller.is_member(project)).cloned(),
        named: named.cloned(),
        count: 1,
        first: now,
        last: now,
    }
}

/// What is left of a denial when there are too many: that there was one.
fn one_of_many(denial: &Denial) -> Denial {
    Denial {
        caller: store::Caller {
            actor: Actor::System,
            name: String::new(),
            credential: String::new(),
            peer: String::new(),
            reason: String::new(),
        },
        method: SEVERAL,
        project: None,
        named: None,
        count: denial.count,
        first: denial.first,
        last: denial.last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(user: u128, method: &'static str, second: i64) -> Denial {
        let at = Timestamp::from_second(second).unwrap();
        Denial {
            caller: store::Caller {
                actor: Actor::User(uuid::Uuid::from_u128(user)),
                name: String::new(),
                credential: String::new(),
                peer: String::new(),
                reason: String::new(),
            },
            method,
            project: None,
            named: None,
            count: 1,
            first: at,
            last: at,
        }
    }

    fn all(denials: &Denials) -> Vec<Denial> {
        std::iter::from_fn(|| denials.take()).collect()
    }

    #[test]
    fn those_of_one_caller_and_method_are_one_with_a_count() {
        let denials = Denials::default();
        for (user, method, second) in [(1, "/a", 5), (1, "/a", 7), (2, "/a", 6), (1, "/b", 6), (1, "/a", 6)] {
            denials.add(denial(user, method, second));
        }
        let taken = all(&denials);
        let counts: Vec<_> = taken
            .iter()
            .map(|denial| (denial.count, denial.first.as_second(), denial.last.as_second()))
            .collect();
        assert_eq!(counts, [(3, 5, 7), (1, 6, 6), (1, 6, 6)]);
        assert!(denials.take().is_none());
        for denial in taken {
            denials.put_back(denial);
        }
        assert_eq!(all(&denials).iter().map(|denial| denial.count).sum::<u64>(), 5);
    }

    #[test]
    fn there_is_a_limit_to_how_many_are_remembered() {
        let denials = Denials::default();
        for user in 0..2 * MOST as u128 {
            denials.add(denial(user, "/a", 1));
        }
        denials.add(denial(1, "/a", 1));
        let taken = all(&denials);
        assert_eq!(taken.len(), MOST + 1);
        let together = taken.iter().find(|denial| denial.method == SEVERAL).unwrap();
        assert_eq!(
            (together.caller.actor, together.count),
            (Actor::System, MOST as u64),
            "those beyond are counted"
        );
        assert_eq!(
            taken.iter().map(|denial| denial.count).sum::<u64>(),
            2 * MOST as u64 + 1
        );
    }
}
