//! Whose turn it is to be sent a snapshot.
//!
//! When a whole fleet comes without state at once, each of its streams fills the buffers of its connection. So snapshots are sent only
//! so many bytes at a time: a stream waits for its turn before it says how its step begins, first come first served, and keeps its
//! share until the Commit. What weighs more than there is takes all of it.
//!
//! A client that does not read would keep its share for as long as it takes to give its stream up. So a share is taken back
//! from a stream whose transport has not come back for a while, if others wait; should the transport come back, the stream waits
//! again, behind everybody, before it says its next item.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::unconstrained;
use tokio::time::Instant;
use tokio_util::sync::ReusableBoxFuture;

/// Where streams wait for their turn.
pub struct Gate {
    semaphore: Arc<Semaphore>,
    whole: u32,
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
    taken_back: AtomicU64,
    next: AtomicU64,
    /// The shares that streams have.
    shares: Mutex<HashMap<u64, Weak<Mutex<Share>>, RandomState>>,
}

/// A place in the queue. Dropping it leaves the queue.
pub(super) struct Turn {
    coming: ReusableBoxFuture<'static, Option<OwnedSemaphorePermit>>,
    bytes: u32,
    gate: Arc<Gate>,
}

/// What a stream is being sent under. Dropping it gives the share back.
#[derive(Debug)]
pub(super) struct Hold {
    id: u64,
    gate: Arc<Gate>,
    bytes: u32,
    share: Arc<Mutex<Share>>,
}

#[derive(Debug)]
struct Share {
    /// `None`: it was taken back.
    permit: Option<Permit>,
    /// When the transport last came back for more.
    came_back_at: Instant,
}

/// Bytes of snapshots that may be on their way.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    bytes: u32,
    _of_semaphore: Option<OwnedSemaphorePermit>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("in_flight", &self.in_flight)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// Lets so many bytes through at a time.
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        let whole = u32::try_from(bytes.max(1)).unwrap_or(u32::MAX);
        let permits = usize::try_from(whole).unwrap_or(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            semaphore: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            whole,
            in_flight: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            taken_back: AtomicU64::new(0),
            next: AtomicU64::new(0),
            shares: Mutex::default(),
        })
    }

    /// How many bytes of snapshots may be on their way at a time.
    pub fn bytes(&self) -> usize {
        self.whole.try_into().unwrap_or(usize::MAX)
    }

    /// How many bytes of snapshots are on their way: what they weighed when their streams began to wait.
    pub fn bytes_in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many streams wait for their turn.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many shares were taken back from streams whose clients did not read.
    pub fn taken_back(&self) -> u64 {
        self.taken_back.load(Ordering::Relaxed)
    }

    /// A place for a snapshot of this weight, taken when it is first polled.
    pub(super) fn queue(self: &Arc<Self>, weight: usize) -> Turn {
        let bytes = u32::try_from(weight).unwrap_or(u32::MAX).clamp(1, self.whole);
        let acquiring = Arc::clone(&self.semaphore).acquire_many_owned(bytes);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Turn {
            // Pending is to mean that others are before it, and nothing else.
            coming: ReusableBoxFuture::new(unconstrained(async { acquiring.await.ok() })),
            bytes,
            gate: Arc::clone(self),
        }
    }

    /// Takes shares back whose streams' transports have not come back for so long, if there is anybody to give them to.
    pub(super) fn take_back(&self, longest: Duration) {
        if self.waiting() == 0 {
            return;
        }
        let now = Instant::now();
        let shares: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        for share in shares {
            let mut share = lock(&share);
            if now.saturating_duration_since(share.came_back_at) >= longest && share.permit.take().is_some() {
                self.taken_back.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Weak<Mutex<Share>>, RandomState>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Ready when it has come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Permit> {
        let permit = ready!(self.coming.poll(cx));
        let bytes = self.bytes;
        self.gate.in_flight.fetch_add(as_usize(bytes), Ordering::Relaxed);
        Poll::Ready(Permit {
            gate: Arc::clone(&self.gate),
            bytes,
            _of_semaphore: permit,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Before others can have it, so that the sum is never too large.
        self.gate.in_flight.fetch_sub(as_usize(self.bytes), Ordering::Relaxed);
    }
}

impl Hold {
    /// Holds a share from now on.
    pub(super) fn new(permit: Permit) -> Self {
        let (gate, bytes) = (Arc::clone(&permit.gate), permit.bytes);
        let id = gate.next.fetch_add(1, Ordering::Relaxed);
        let share = Arc::new(Mutex::new(Share {
            permit: Some(permit),
            came_back_at: Instant::now(),
        }));
        gate.lock().insert(id, Arc::downgrade(&share));
        Self { id, gate, bytes, share }
    }

    /// The transport has come back. If the share was taken back meanwhile: the place in the queue for another.
    pub(super) fn come_back(&self) -> Option<Turn> {
        let mut share = lock(&self.share);
        share.came_back_at = Instant::now();
        let lost = share.permit.is_none();
        drop(share);
        lost.then(|| self.gate.queue(as_usize(self.bytes)))
    }

    /// Goes on under another share.
    pub(super) fn go_on(&self, permit: Permit) {
        let mut share = lock(&self.share);
        share.came_back_at = Instant::now();
        share.permit = Some(permit);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.gate.lock().remove(&self.id);
        // Whoever looks at the shares just now may keep it a moment longer.
        lock(&self.share).permit = None;
    }
}

fn lock(share: &Mutex<Share>) -> MutexGuard<'_, Share> {
    share.lock().unwrap_or_else(PoisonError::into_inner)
}

fn as_usize(bytes: u32) -> usize {
    bytes.try_into().unwrap_or(usize::MAX)
}
