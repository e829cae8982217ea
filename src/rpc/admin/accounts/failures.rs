//! Logins that failed, counted until they are written to the audit log: the first of an account at once, those of the minute after
//! it together, and so on. So a server writes an entry a minute for an account at most, however many guess at it; all the accounts
//! that do not exist count as one.
//!
//! Whoever failed does not wait for the entry: how long it takes would tell whether it is the first of its account, and so whether
//! there is such an account.
//!
//! `now` is an argument. What is kept is bounded by the number of accounts.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::email::{self, Email};
use crate::store::users::{FailedLogins, PEERS, User};

/// Counts logins that failed.
pub struct Failures {
    window: Duration,
    /// By the account's address in lower case; the empty one stands for all that are not an account's.
    counted: Mutex<HashMap<String, Counted>>,
}

/// What failed since the last entry.
struct Counted {
    /// `None`: there is none yet.
    written_at: Option<Instant>,
    failed: FailedLogins,
}

/// Whether there is something to be written at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// It is the first for a while.
    AtOnce,
    /// With others, later.
    Later,
}

impl Failures {
    /// Counts for as long as `window` together.
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            counted: Mutex::default(),
        }
    }

    /// Counts a login that was refused.
    pub fn refused(&self, user: Option<&User>, peer: Option<IpAddr>) -> Urgency {
        let key = user.map(|user| email::fold(&user.email)).unwrap_or_default();
        let mut counted = self.lock();
        let counted = counted.entry(key).or_insert_with(|| Counted::new(user.cloned()));
        counted.failed.refused += 1;
        counted.came_from(peer)
    }

    /// Counts a login that was refused unseen. Whose account it was is known if somebody failed there lately.
    pub fn throttled(&self, email: &Email, peer: Option<IpAddr>) -> Urgency {
        let mut counted = self.lock();
        let key = if counted.contains_key(email.normalized()) {
            email.normalized()
        } else {
            ""
        };
        let counted = counted.entry(key.to_owned()).or_insert_with(|| Counted::new(None));
        counted.failed.throttled += 1;
        counted.came_from(peer)
    }

    /// Counts again what could not be written.
    pub fn put_back(&self, failed: FailedLogins) {
        let key = failed.user.as_ref().map(|user| email::fold(&user.email));
        let mut counted = self.lock();
        if let Some(counted) = counted.get_mut(&key.unwrap_or_default()) {
            counted.failed.refused += failed.refused;
            counted.failed.throttled += failed.throttled;
            failed
                .peers
                .into_iter()
                .for_each(|peer| add(&mut counted.failed.peers, peer));
        }
    }

    /// What is to be written now, and forgets the accounts at which nobody failed for a while.
    pub fn due(&self, now: Instant) -> Vec<FailedLogins> {
        self.take(now, |written_at| {
            written_at.is_none_or(|written_at| now.saturating_duration_since(written_at) >= self.window)
        })
    }

    /// What was not written yet: for the end.
    pub fn rest(&self, now: Instant) -> Vec<FailedLogins> {
        self.take(now, |_| true)
    }

    fn take(&self, now: Instant, is_due: impl Fn(Option<Instant>) -> bool) -> Vec<FailedLogins> {
        let mut due = Vec::new();
        self.lock().retain(|_, counted| {
            if !is_due(counted.written_at) {
                return true;
            }
            if counted.failed.refused == 0 && counted.failed.throttled == 0 {
                return false;
            }
            let next = nothing(counted.failed.user.clone());
            due.push(std::mem::replace(&mut counted.failed, next));
            counted.written_at = Some(now);
            true
        });
        due
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Counted>> {
        // Numbers cannot be left half changed.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nothing(user: Option<User>) -> FailedLogins {
    FailedLogins {
        user,
        refused: 0,
        throttled: 0,
        peers: Vec::new(),
    }
}

impl Counted {
    fn new(user: Option<User>) -> Self {
        Self {
            written_at: None,
            failed: nothing(user),
        }
    }

    /// Notes where the last one came from.
    fn came_from(&mut self, peer: Option<IpAddr>) -> Urgency {
        if let Some(peer) = peer {
            add(&mut self.failed.peers, peer.to_string());
        }
        match self.written_at {
            None => Urgency::AtOnce,
            Some(_) => Urgency::Later,
        }
    }
}

fn add(peers: &mut Vec<String>, peer: String) {
    if peers.len() < PEERS && !peers.contains(&peer) {
        peers.push(peer);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    fn ada() -> User {
        User {
            id: Uuid::from_u128(1),
            email: "Ada@example.com".to_owned(),
            role: None,
            active: true,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            updated_at: jiff::Timestamp::UNIX_EPOCH,
            etag: String::new(),
            identities: Vec::new(),
        }
    }

    fn counts(failed: &[FailedLogins]) -> Vec<(bool, u64, u64)> {
        let counts = |failed: &FailedLogins| (failed.user.is_some(), failed.refused, failed.throttled);
        let mut counts: Vec<_> = failed.iter().map(counts).collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn the_first_is_written_at_once_and_the_others_of_the_minute_together() {
        let (failures, start) = (Failures::new(WINDOW), Instant::now());
        let peer = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
        assert_eq!(failures.refused(Some(&ada()), peer(1)), Urgency::AtOnce);
        let first = failures.due(start);
        assert_eq!(counts(&first), [(true, 1, 0)]);
        assert_eq!(first[0].peers, ["192.0.2.1"]);
        for n in 0..50 {
            assert_eq!(failures.refused(Some(&ada()), peer(n)), Urgency::Later);
        }
        let email = Email::new("ADA@example.com").unwrap();
        failures.throttled(&email, peer(1));
        assert!(failures.due(start + WINDOW / 2).is_empty());
        let due = failures.due(start + WINDOW);
        assert_eq!(counts(&due), [(true, 50, 1)]);
        assert_eq!(due[0].peers.len(), PEERS);
        assert!(failures.due(start + WINDOW).is_empty());
        assert!(failures.due(start + 2 * WINDOW).is_empty());
        assert!(failures.lock().is_empty(), "forgotten");
        assert_eq!(failures.refused(Some(&ada()), None), Urgency::AtOnce);
    }

    #[test]
    fn accounts_that_do_not_exist_count_as_one_and_are_not_remembered() {
        let (failures, start) = (Failures::new(WINDOW), Instant::now());
        for n in 0..100 {
            failures.refused(None, None);
            failures.throttled(&Email::new(&format!("{n}@example.com")).unwrap(), None);
        }
        assert_eq!(failures.lock().len(), 1);
        assert_eq!(counts(&failures.rest(start)), [(false, 100, 100)]);
    }

    #[test]
    fn what_cannot_be_written_is_counted_again() {
        let (failures, start) = (Failures::new(WINDOW), Instant::now());
        failures.refused(Some(&ada()), None);
        failures
            .due(start)
            .into_iter()
            .for_each(|failed| failures.put_back(failed));
        assert!(failures.due(start).is_empty(), "not before its time");
        assert_eq!(counts(&failures.due(start + WINDOW)), [(true, 1, 0)]);
    }
}
