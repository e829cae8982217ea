//! Who waits for a connection: so many, and no more. Who would wait behind hundreds of others is better told at once.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::deadline;
use super::error::Error;

/// How many requests may wait for each connection of the pool. At a few milliseconds each, the last of them waits no longer than
/// anyone waits for a connection.
pub const WAITING_PER_CONNECTION: usize = 32;

/// Those who wait.
#[derive(Debug)]
pub struct Queue {
    most: usize,
    waiting: AtomicUsize,
    refused: AtomicU64,
}

/// A place among those who wait; dropping it leaves it.
pub(super) struct Place<'a>(&'a AtomicUsize);

impl Queue {
    /// For a pool of so many connections.
    pub(super) fn of_pool(size: usize) -> Self {
        Self {
            most: size.saturating_mul(WAITING_PER_CONNECTION),
            waiting: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Queues up. Tasks of our own, of which there are few, always may.
    pub(super) fn enter(&self) -> Result<Place<'_>, Error> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.waiting);
        if before >= self.most && deadline::is_request() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Crowded);
        }
        Ok(place)
    }

    /// How many wait for a connection now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many requests were refused since too many waited.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_too_many_is_refused_and_our_own_tasks_never() {
        let queue = Queue::of_pool(1);
        let mut places: Vec<_> = (0..WAITING_PER_CONNECTION).map(|_| queue.enter().unwrap()).collect();
        let ask = || deadline::by(None, async { queue.enter().map(drop) });
        assert!(matches!(ask().await.unwrap(), Err(Error::Crowded)));
        assert_eq!((queue.waiting(), queue.refused()), (WAITING_PER_CONNECTION, 1));
        assert!(queue.enter().is_ok());
        places.pop();
        assert!(ask().await.unwrap().is_ok());
        drop(places);
        assert_eq!(queue.waiting(), 0);
    }
}
