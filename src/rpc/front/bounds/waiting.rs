//! Requests whose message has not come: so many may wait for theirs at a time, and who has waited longest makes room for a new one.
//!
//! They have no place yet among those that are answered: whoever sends the beginning of a request and nothing more would keep it for as
//! long as a message may take. Nor is a new one refused when there are enough. Most messages come in the next moment, and one that has
//! been waited for longest is the least likely to come at all; so a flood displaces what floods before it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::rpc::Refusal;

/// Those who wait.
#[derive(Debug)]
pub struct Waiting {
    most: usize,
    queue: Mutex<Queue>,
    displaced: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    /// The number of whoever comes next.
    next: u64,
    /// By their numbers, so in the order in which they came. Nothing is ever sent: what is dropped tells who waits to go.
    waiting: BTreeMap<u64, oneshot::Sender<Infallible>>,
}

/// Somebody who waits, until it is dropped.
struct Waiter<'a> {
    all: &'a Waiting,
    number: u64,
}

impl Waiting {
    pub(super) fn of(most: usize) -> Self {
        Self {
            most,
            queue: Mutex::default(),
            displaced: AtomicU64::new(0),
        }
    }

    /// How many may wait at a time.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queue().waiting.len()
    }

    /// How many had to make room.
    pub fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    /// What becomes of the work, unless too many others come to wait meanwhile.
    pub(in crate::rpc::front) async fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, Refusal> {
        let (_waiter, displaced) = self.enter();
        tokio::select! {
            biased;
            done = work => Ok(done),
            _ = displaced => Err(Refusal::Overloaded {
                what: "the request's message had not come, and too many others wait for theirs",
            }),
        }
    }

    fn enter(&self) -> (Waiter<'_>, oneshot::Receiver<Infallible>) {
        let (stays, displaced) = oneshot::channel();
        let mut queue = self.queue();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.insert(number, stays);
        let longest = (queue.waiting.len() > self.most).then(|| queue.waiting.pop_first());
        drop(queue);
        if longest.is_some() {
            self.displaced.fetch_add(1, Ordering::Relaxed);
        }
        (Waiter { all: self, number }, displaced)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let gone = self.all.queue().waiting.remove(&self.number);
        // Dropped without the lock.
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn who_has_waited_longest_makes_room_and_nobody_else_does() {
        let all = Waiting::of(2);
        let mut first = pin!(all.wait(pending::<()>()));
        let mut second = pin!(all.wait(pending::<()>()));
        for one in [first.as_mut(), second.as_mut()] {
            assert!(poll!(one).is_pending());
        }
        assert_eq!((all.waiting(), all.displaced()), (2, 0));
        let mut third = pin!(all.wait(pending::<()>()));
        assert!(poll!(third.as_mut()).is_pending());
        assert!(matches!(first.await, Err(Refusal::Overloaded { .. })));
        assert!(poll!(second.as_mut()).is_pending());
        assert_eq!((all.waiting(), all.displaced()), (2, 1));
    }

    #[tokio::test]
    async fn whoever_leaves_makes_room_too() {
        let all = Waiting::of(1);
        {
            let mut gone = pin!(all.wait(pending::<()>()));
            assert!(poll!(gone.as_mut()).is_pending());
        }
        assert_eq!(all.waiting(), 0);
        assert!(all.wait(ready(())).await.is_ok());
        assert_eq!((all.waiting(), all.displaced()), (0, 0));
    }
}
