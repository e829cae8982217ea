//! How often passwords may be tried: per account, whether or not it exists, and per network address.
//!
//! What is counted are not accounts but buckets that they fall into by a hash which nobody outside can compute. So the memory is
//! bounded, whatever is tried, and nobody can choose whom to share a bucket with.
//!
//! A caller's network address is the connection's. Behind a proxy that is the proxy's, hence the generous rate.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use uuid::Uuid;

use crate::domain::access::Principal;
use crate::domain::email::Email;
use crate::rpc::Refusal;

/// How many buckets there are, each of some tens of bytes.
const BUCKETS: u64 = 1 << 16;

/// How often passwords may be tried.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// For one account.
    pub account: Rate,
    /// From one network address; of IPv6, from one network of 64 bits, which is what one customer has.
    pub address: Rate,
}

/// So many at once, and then one more after each pause.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// At once.
    pub burst: NonZeroU32,
    /// After how long one more is allowed. Not zero.
    pub pause: Duration,
}

impl Default for Rates {
    /// Ten to an account and then six a minute; a hundred from an address and then five a second.
    fn default() -> Self {
        Self {
            account: Rate::new(10, Duration::from_secs(10)),
            address: Rate::new(100, Duration::from_millis(200)),
        }
    }
}

impl Rate {
    /// At least one at once.
    pub fn new(burst: u32, pause: Duration) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        Self { burst, pause }
    }

    fn quota(self) -> Quota {
        let quota = Quota::with_period(self.pause).unwrap_or(Quota::per_second(self.burst));
        quota.allow_burst(self.burst)
    }
}

type Limiter<C> = RateLimiter<u64, HashMapStateStore<u64>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// Refuses who tries too often.
pub struct Throttle<C: Clock = DefaultClock> {
    clock: C,
    hash: RandomState,
    accounts: Limiter<C>,
    addresses: Limiter<C>,
}

impl Throttle {
    /// Nobody has tried yet.
    pub fn new(rates: Rates) -> Self {
        Self::with_clock(rates, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Throttle<C> {
    fn with_clock(rates: Rates, clock: C) -> Self {
        let limiter = |rate: Rate| RateLimiter::new(rate.quota(), HashMapStateStore::default(), clock.clone());
        Self {
            accounts: limiter(rates.account),
            addresses: limiter(rates.address),
            hash: RandomState::new(),
            clock,
        }
    }

    /// Counts a try at an account from an address, or refuses it.
    pub fn check(&self, email: &Email, peer: Option<IpAddr>) -> Result<(), Refusal> {
        if let Some(peer) = peer {
            self.pass(&self.addresses, network(peer))?;
        }
        self.pass(&self.accounts, email.normalized())
    }

    /// Counts that a login is gone on with, or refuses it: what is allowed of tries at an account is ample for it.
    pub fn check_session(&self, session: Uuid) -> Result<(), Refusal> {
        self.pass(&self.accounts, session)
    }

    /// Counts that somebody looks another up, by whatever may be an address, or refuses it: as often as from a network address.
    pub fn check_look_up(&self, principal: Principal) -> Result<(), Refusal> {
        self.pass(&self.addresses, principal)
    }

    fn pass(&self, limiter: &Limiter<C>, who: impl Hash) -> Result<(), Refusal> {
        let bucket = self.hash.hash_one(who) % BUCKETS;
        limiter.check_key(&bucket).map_err(|refused| Refusal::Throttled {
            retry_after: refused.wait_time_from(self.clock.now()),
        })
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn throttle(clock: &FakeRelativeClock) -> Throttle<FakeRelativeClock> {
        let rates = Rates {
            account: Rate::new(2, Duration::from_secs(10)),
            address: Rate::new(3, Duration::from_secs(1)),
        };
        Throttle::with_clock(rates, clock.clone())
    }

    fn email(text: &str) -> Email {
        Email::new(text).unwrap()
    }

    fn wait(outcome: &Result<(), Refusal>) -> Duration {
        let Err(Refusal::Throttled { retry_after }) = outcome else {
            panic!("should be throttled: {outcome:?}");
        };
        *retry_after
    }

    #[test]
    fn an_account_is_throttled_whatever_the_case_and_the_address() {
        let clock = FakeRelativeClock::default();
        let throttle = throttle(&clock);
        assert!(throttle.check(&email("ada@example.com"), None).is_ok());
        let elsewhere = Some("192.0.2.1".parse().unwrap());
        assert!(throttle.check(&email("ADA@example.com"), elsewhere).is_ok());
        let refused = throttle.check(&email("Ada@example.com"), None);
        assert_eq!(wait(&refused), Duration::from_secs(10));
        assert!(throttle.check(&email("eve@example.com"), None).is_ok());
        clock.advance(Duration::from_secs(10));
        assert!(throttle.check(&email("ada@example.com"), None).is_ok());
        assert!(throttle.check(&email("ada@example.com"), None).is_err());
    }

    #[test]
    fn an_address_is_throttled_whatever_the_account() {
        let clock = FakeRelativeClock::default();
        let throttle = throttle(&clock);
        let try_from = |n: u32, peer: &str| {
            let peer = Some(peer.parse().unwrap());
            throttle.check(&email(&format!("user-{n}@example.com")), peer)
        };
        assert!((0..3).all(|n| try_from(n, "192.0.2.1").is_ok()));
        assert_eq!(wait(&try_from(3, "::ffff:192.0.2.1")), Duration::from_secs(1));
        assert!(try_from(4, "192.0.2.2").is_ok());
        assert!((5..8).all(|n| try_from(n, &format!("2001:db8::{n}")).is_ok()));
        assert!(try_from(8, "2001:db8::8").is_err());
        assert!(try_from(9, "2001:db8:0:1::8").is_ok());
    }

    #[test]
    fn memory_is_bounded_whatever_is_tried() {
        let clock = FakeRelativeClock::default();
        let throttle = throttle(&clock);
        for n in 0..2 * BUCKETS {
            let _ = throttle.check(&email(&format!("{n}@example.com")), None);
        }
        assert!(throttle.accounts.len() as u64 <= BUCKETS);
    }
}
