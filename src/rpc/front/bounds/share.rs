//! A share of what may be in flight, and places in it.
//!
//! Of the applications' shares no key takes all. While half of the places are free nobody is asked whose call it is. From there on it is
//! counted whose the places are, and a key has a quarter of them at most: so three quarters are the most that one can have.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::overloaded;
use crate::rpc::Refusal;

/// So many at a time. Apart from others in memory: all workers write it for every request.
#[derive(Debug)]
#[repr(align(128))]
pub struct Share {
    most: usize,
    taken: AtomicUsize,
    refused: AtomicU64,
    /// By key, those who came when half of the places were taken. Who has gone is not in it.
    by_key: Mutex<HashMap<Arc<str>, usize>>,
}

/// A place in a share, until it is dropped: however a request ends, it gives its place back.
#[derive(Debug)]
pub(in crate::rpc::front) struct Slot<S: Deref<Target = Share>> {
    share: S,
    /// The key that it is counted among those of. `None`: it is not counted.
    key: Option<Arc<str>>,
}

impl Share {
    pub(super) fn of(most: usize) -> Self {
        Self {
            most,
            taken: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            by_key: Mutex::default(),
        }
    }

    /// How many there may be at a time.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many there are.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many found no place.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes a place, at once or not at all.
    pub(in crate::rpc::front) fn enter<S: Deref<Target = Self>>(share: S) -> Result<Slot<S>, Refusal> {
        let one_more = |taken| (taken < share.most).then_some(taken + 1);
        // Not taken and given back if it was too many: others would be refused for the sake of those who are.
        let taken = share.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        if taken.is_err() {
            share.refuse();
            return Err(overloaded());
        }
        Ok(Slot { share, key: None })
    }

    /// The same for a call of whoever shows this key.
    pub(in crate::rpc::front) fn enter_with<S: Deref<Target = Self>>(
        share: S,
        key: Option<&Arc<str>>,
    ) -> Result<Slot<S>, Refusal> {
        let is_counted = share.taken() >= share.most / 2;
        let mut slot = Self::enter(share)?;
        if let Some(key) = key.filter(|_| is_counted) {
            let most = (slot.share.most / 4).max(1);
            let mut by_key = slot.share.by_key();
            let taken = by_key.entry(key.clone()).or_default();
            if *taken >= most {
                drop(by_key);
                slot.share.refuse();
                return Err(overloaded());
            }
            *taken += 1;
            drop(by_key);
            slot.key = Some(key.clone());
        }
        Ok(slot)
    }

    fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn by_key(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place that was counted among a key's is given back.
    fn leave(&self, key: &Arc<str>) {
        let mut by_key = self.by_key();
        if let Some(taken) = by_key.get_mut(key) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                by_key.remove(key);
            }
        }
    }
}

impl<S: Deref<Target = Share>> Drop for Slot<S> {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.share.leave(key);
        }
        self.share.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_may_be_and_every_place_is_given_back() {
        let share = Share::of(3);
        let highest = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        if let Ok(_slot) = Share::enter(&share) {
                            highest.fetch_max(share.taken(), Ordering::Relaxed);
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        assert!(highest.into_inner() <= 3);
        assert_eq!(share.taken(), 0);
        let places: Vec<_> = (0..3).map(|_| Share::enter(&share).unwrap()).collect();
        let before = share.refused();
        Share::enter(&share).unwrap_err();
        assert_eq!((share.taken(), share.refused()), (3, before + 1));
        drop(places);
        Share::enter(&share).unwrap();
    }

    #[test]
    fn no_key_takes_all_and_others_find_a_place() {
        let share = Share::of(40);
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let enter = |key| Share::enter_with(&share, Some(key));
        let mut places: Vec<_> = std::iter::from_fn(|| enter(&one).ok()).collect();
        assert_eq!((places.len(), share.taken(), share.refused()), (30, 30, 1));
        let others: Vec<_> = std::iter::from_fn(|| enter(&other).ok()).collect();
        assert_eq!((others.len(), share.taken()), (10, 40));
        // What is given back can be taken again, and nothing is kept of who has gone.
        places.truncate(29);
        places.push(enter(&one).unwrap());
        drop((places, others));
        assert_eq!(share.taken(), 0);
        assert!(share.by_key().is_empty());
        drop(Share::enter_with(&Share::of(1), Some(&one)).unwrap());
    }
}
