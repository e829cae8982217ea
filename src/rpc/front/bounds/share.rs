//! A share of what may be in flight, and places in it.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::overloaded;
use crate::rpc::Refusal;

/// So many at a time. Apart from others in memory: all workers write it for every request.
#[derive(Debug)]
#[repr(align(128))]
pub struct Share {
    most: usize,
    taken: AtomicUsize,
    refused: AtomicU64,
}

/// A place in a share, until it is dropped: however a request ends, it gives its place back.
#[derive(Debug)]
pub(in crate::rpc::front) struct Slot<S: Deref<Target = Share>>(S);

impl Share {
    pub(super) fn of(most: usize) -> Self {
        Self {
            most,
            taken: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
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
            share.refused.fetch_add(1, Ordering::Relaxed);
            return Err(overloaded());
        }
        Ok(Slot(share))
    }
}

impl<S: Deref<Target = Share>> Drop for Slot<S> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
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
}
