//! How many requests one credential makes a second: an environment key, a service token, or a person, whatever tokens they show.
//!
//! Only who was let in is counted, so that nobody can have memory taken by showing what is made up. A limiter is one atomic number,
//! shared by all workers, found in a map that changes only when a credential is used for the first time.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::domain::access::{Directory, Principal};
use crate::rpc::Refusal;
use crate::rpc::front::admit::Who;

/// How many more limiters there may be than credentials before those of credentials that are gone are let go.
const SPARE: usize = 64;

/// The shortest that anybody is asked to wait.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// How fast everybody is.
#[derive(Debug)]
pub(super) struct Rates<C: Clock = DefaultClock> {
    quota: Quota,
    clock: C,
    keys: Limiters<Arc<str>, C>,
    principals: Limiters<Principal, C>,
    refused: AtomicU64,
}

impl Rates {
    /// So many requests a second, and as many at once after a second's silence.
    pub fn new(a_second: NonZeroU32) -> Self {
        Self::with_clock(a_second, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Rates<C> {
    fn with_clock(a_second: NonZeroU32, clock: C) -> Self {
        Self {
            quota: Quota::per_second(a_second),
            clock,
            keys: Limiters::default(),
            principals: Limiters::default(),
            refused: AtomicU64::new(0),
        }
    }

    /// Counts a request, or refuses it.
    pub fn count(&self, who: &Who, directory: &Directory) -> Result<(), Refusal> {
        let Who { principal, key } = who;
        let fresh = || RateLimiter::direct_with_clock(self.quota, self.clock.clone());
        let wait = if let Some(key) = key {
            let known = (directory.keys.len(), |key: &Arc<str>| directory.keys.contains_key(key));
            self.keys.count(key, known, fresh, &self.clock)
        } else if let Some(principal) = principal {
            let exists = |principal: &Principal| match principal {
                Principal::User(id) => directory.users.contains_key(id),
                Principal::ServiceToken(id) => directory.tokens.contains_key(id),
            };
            let known = (directory.users.len() + directory.tokens.len(), exists);
            self.principals.count(principal, known, fresh, &self.clock)
        } else {
            return Ok(());
        };
        wait.map_err(|retry_after| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            Refusal::TooFast { retry_after }
        })
    }

    /// How many were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// A limiter of each of one kind of credentials that was used.
#[derive(Debug)]
struct Limiters<K, C: Clock>(ArcSwap<HashMap<K, Arc<Limiter<C>>, RandomState>>);

impl<K, C: Clock> Default for Limiters<K, C> {
    fn default() -> Self {
        Self(ArcSwap::default())
    }
}

impl<K: Eq + Hash + Clone, C: Clock> Limiters<K, C> {
    /// Counts a request, or says after how long there may be one. `known`: how many credentials there are, and whether one is
    /// among them.
    fn count(
        &self,
        id: &K,
        known: (usize, impl Fn(&K) -> bool),
        fresh: impl Fn() -> Limiter<C>,
        clock: &C,
    ) -> Result<(), Duration> {
        let count = |limiter: &Limiter<C>| {
            let counted = limiter.check();
            // The moment may have come meanwhile; to be told to wait for no time at all would be odd.
            counted.map_err(|refused| refused.wait_time_from(clock.now()).max(SHORTEST_WAIT))
        };
        if let Some(limiter) = self.0.load().get(id) {
            return count(limiter);
        }
        count(&self.begin(id, known, fresh))
    }

    /// Begins to count somebody; and stops to count who is gone, now and then.
    fn begin(&self, id: &K, known: (usize, impl Fn(&K) -> bool), fresh: impl Fn() -> Limiter<C>) -> Arc<Limiter<C>> {
        let (most, exists) = known;
        let mut begun = Arc::new(fresh());
        self.0.rcu(|limiters| {
            let mut limiters = HashMap::clone(limiters);
            if limiters.len() >= most + SPARE {
                limiters.retain(|id, _| exists(id));
            }
            // Another worker may have been quicker: both count with the one that stays.
            begun = limiters.entry(id.clone()).or_insert_with(|| begun.clone()).clone();
            limiters
        });
        begun
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::domain::access::{EnvironmentKey, KeyKind};
    use crate::domain::change::{Digest, EnvironmentId};

    fn directory(keys: &[String]) -> Directory {
        let key = EnvironmentKey {
            environment: EnvironmentId(1),
            kind: KeyKind::Server,
            secret_hash: Digest::default(),
            expires_at: None,
            previous: None,
        };
        Directory {
            keys: keys.iter().map(|id| (id.as_str().into(), key.clone())).collect(),
            ..Directory::default()
        }
    }

    fn rates(a_second: u32) -> (Rates<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (
            Rates::with_clock(NonZeroU32::new(a_second).unwrap(), clock.clone()),
            clock,
        )
    }

    fn key(id: &str) -> Who {
        Who {
            principal: None,
            key: Some(id.into()),
        }
    }

    fn person(id: u128) -> Who {
        Who {
            principal: Some(Principal::User(uuid::Uuid::from_u128(id))),
            key: None,
        }
    }

    #[test]
    fn one_too_many_is_told_when_to_come_again_and_others_are_not_touched() {
        let (rates, clock) = rates(4);
        let count = |who: &Who| rates.count(who, &directory(&[]));
        for who in [key("a"), person(1)] {
            for _ in 0..4 {
                count(&who).unwrap();
            }
            let Err(Refusal::TooFast { retry_after }) = count(&who) else {
                panic!("it makes too many");
            };
            assert_eq!(retry_after, Duration::from_millis(250));
        }
        for other in [key("b"), person(2), Who::default()] {
            count(&other).unwrap();
        }
        clock.advance(Duration::from_millis(250));
        count(&key("a")).unwrap();
        count(&key("a")).unwrap_err();
        assert_eq!(rates.refused(), 3);
    }

    #[test]
    fn memory_is_bounded_by_the_credentials_that_there_are() {
        let (rates, _) = rates(4);
        let names: Vec<_> = (0..1_000).map(|n| format!("k{n}")).collect();
        for ten in names.chunks(10) {
            // The ten before are gone.
            let directory = directory(ten);
            for name in ten {
                rates.count(&key(name), &directory).unwrap();
            }
            assert!(rates.keys.0.load().len() <= 10 + SPARE);
        }
    }
}
