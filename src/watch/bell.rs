//! How streams are told to look again: one wake for each runtime that has some, and from there each stream on its own thread.
//!
//! A stream that is woken from another thread goes through its runtime's queue for strangers, behind whatever its own thread has
//! to do: and after each stream that would be the connection it has just written to, which would send every message by itself. So
//! what crosses threads is one wake for a [`Relay`], a task on the streams' own runtime. It wakes them a batch at a time, and lets
//! others come to their turn between two batches. All streams of a batch write into their connections before these send.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};

use tokio::runtime::{self, Handle};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How many streams are woken before others get a turn: about a millisecond's work. More would keep evaluations waiting that
/// share the thread; fewer would have connections send more often.
const BATCH: usize = 1_024;

/// Says "look again", and nothing else.
#[derive(Debug)]
pub(super) struct Bell {
    /// How often it was rung. Written before anybody is woken.
    rung: AtomicU64,
    told: watch::Sender<()>,
    relays: Mutex<HashMap<runtime::Id, Weak<Relay>>>,
}

/// Where the streams of one runtime wait.
#[derive(Debug)]
struct Relay {
    bell: Arc<Bell>,
    seats: Mutex<Seats>,
    /// The task is gone, because its runtime is: nobody is woken here any more. Written under the lock of the seats.
    closed: AtomicBool,
    /// Ends the task when no stream is left.
    _task: DropGuard,
}

/// The streams that wait, in the order in which they came: those of one connection mostly came together, and so they are woken
/// together.
#[derive(Debug, Default)]
struct Seats {
    /// `None`: nobody waits there just now.
    waiting: Vec<Option<Waiting>>,
    /// The seats that belong to nobody.
    free: Vec<usize>,
}

#[derive(Debug)]
struct Waiting {
    /// How often the bell had been rung before the stream last looked.
    looked: u64,
    waker: Waker,
}

/// A stream's place to wait. Dropping it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Seat {
    relay: Arc<Relay>,
    number: usize,
}

/// What came of an attempt to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// The stream will be woken.
    Begun,
    /// There was something to look at meanwhile: look again.
    Rung,
    /// Nobody is woken here any more: take a new seat.
    Closed,
}

impl Bell {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            rung: AtomicU64::new(0),
            told: watch::Sender::new(()),
            relays: Mutex::default(),
        })
    }

    /// Lets everybody look again. What there is to see must be there before.
    pub(super) fn ring(&self) {
        self.rung.fetch_add(1, Ordering::AcqRel);
        self.told.send_replace(());
    }

    /// How often it was rung. Read it before looking, and tell it to [`Seat::wait`].
    pub(super) fn rung(&self) -> u64 {
        self.rung.load(Ordering::Acquire)
    }

    /// For who waits alone.
    pub(super) fn listen(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    /// A place to wait, among the streams of the current runtime. There must be one.
    pub(super) fn seat(self: &Arc<Self>) -> Seat {
        let runtime = Handle::current();
        let mut relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
        let relay = relays.get(&runtime.id()).and_then(Weak::upgrade);
        let relay = relay.filter(|relay| !relay.is_closed()).unwrap_or_else(|| {
            let relay = Relay::start(Arc::clone(self), &runtime);
            relays.insert(runtime.id(), Arc::downgrade(&relay));
            relay
        });
        drop(relays);
        Seat::take(relay)
    }
}

impl Relay {
    fn start(bell: Arc<Bell>, runtime: &Handle) -> Arc<Self> {
        // Before the first stream looks, so that nothing falls in between.
        let told = bell.listen();
        let ended = CancellationToken::new();
        let relay = Arc::new(Self {
            bell,
            seats: Mutex::default(),
            closed: AtomicBool::new(false),
            _task: ended.clone().drop_guard(),
        });
        runtime.spawn(Task(Arc::downgrade(&relay)).run(told, ended));
        relay
    }

    /// Wakes streams from this seat on, and says where to continue. `None`: it was the last batch.
    fn wake(&self, from: usize) -> Option<usize> {
        let mut batch = Vec::new();
        let mut next = None;
        let mut seats = self.lock();
        let rung = self.bell.rung();
        for (number, seat) in seats.waiting.iter_mut().enumerate().skip(from) {
            if batch.len() == BATCH {
                next = Some(number);
                break;
            }
            // Who has looked since has nothing to look at, and goes on waiting.
            if let Some(waiting) = seat.take_if(|waiting| waiting.looked != rung) {
                batch.push(waiting.waker);
            }
        }
        drop(seats);
        batch.into_iter().for_each(Waker::wake);
        next
    }

    /// Lets everybody look for another place to wait.
    fn close(&self) {
        let mut seats = self.lock();
        self.closed.store(true, Ordering::Release);
        let waiting: Vec<_> = seats.waiting.iter_mut().filter_map(Option::take).collect();
        drop(seats);
        for waiting in waiting {
            waiting.waker.wake();
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        // Nothing under the lock leaves the seats half changed.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes the bell on to the streams of its runtime. However it ends, they learn of it.
struct Task(Weak<Relay>);

impl Task {
    async fn run(self, mut told: watch::Receiver<()>, ended: CancellationToken) {
        while let Some(Ok(())) = ended.run_until_cancelled(told.changed()).await {
            let mut from = Some(0);
            while let Some(number) = from {
                let Some(relay) = self.0.upgrade() else { return };
                from = relay.wake(number);
                drop(relay);
                if from.is_some() {
                    yield_now().await;
                }
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(relay) = self.0.upgrade() {
            relay.close();
        }
    }
}

impl Seat {
    fn take(relay: Arc<Relay>) -> Self {
        let mut seats = relay.lock();
        let number = seats.free.pop().unwrap_or_else(|| {
            seats.waiting.push(None);
            seats.waiting.len() - 1
        });
        drop(seats);
        Self { relay, number }
    }

    /// Whether who waits here is woken.
    pub(super) fn is_open(&self) -> bool {
        !self.relay.is_closed()
    }

    /// Wakes who waits here.
    pub(super) fn wake(&self) {
        let waiting = self.relay.lock().waiting.get_mut(self.number).and_then(Option::take);
        if let Some(waiting) = waiting {
            waiting.waker.wake();
        }
    }

    /// Waits for the bell, which had been rung so often before the stream looked. It may have nothing to look at when it is
    /// woken.
    pub(super) fn wait(&self, looked: u64, cx: &Context<'_>) -> Wait {
        let mut seats = self.relay.lock();
        if self.relay.is_closed() {
            return Wait::Closed;
        }
        // Under the lock: whoever rings after this finds the stream waiting.
        if self.relay.bell.rung() != looked {
            return Wait::Rung;
        }
        if let Some(seat) = seats.waiting.get_mut(self.number) {
            match seat {
                Some(waiting) if waiting.waker.will_wake(cx.waker()) => waiting.looked = looked,
                Some(_) | None => {
                    let waker = cx.waker().clone();
                    *seat = Some(Waiting { looked, waker });
                }
            }
        }
        Wait::Begun
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.relay.lock();
        let left = seats.waiting.get_mut(self.number).and_then(Option::take);
        seats.free.push(self.number);
        drop(seats);
        // Dropped without the lock: it may be the last thing that keeps a task.
        drop(left);
    }
}
