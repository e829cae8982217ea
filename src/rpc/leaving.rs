//! How answers leave: how long one may stay unread, and how much of them is held for who does not read.
//!
//! A peer says with HTTP/2's windows how much it takes; what goes beyond them waits here, and a peer that only ever asks would have it wait
//! for as long as it likes. So what is handed to the transport counts itself, from when it is handed over until the transport has let go of
//! it: written it, or given its stream up. That is when these bytes are dropped, and so they carry the count, and not the body that they
//! came from, which may be gone long before.
//!
//! Time is counted in periods, without a clock: a connection has a counter for the period that runs and one for the one before, and when
//! one that is about to begin finds something left of the last but one, that has been unread for a period at least, and for two at most.
//! The connection looks at that itself and ends (`server::connection`): who does not read would not hear it from us.
//!
//! An answer is handed over slice by slice, each when the one before it has found its way, so that who reads slowly is never long with any of
//! them: what a peer must do is go on reading, and not have done within a period.
//!
//! Small answers are bounded by the streams that a connection may have. Larger ones are counted in bytes besides, of all connections and
//! of each; what finds no room is refused.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::{Refusal, status};

/// Streams whose messages have a stall of their own, which ends them and nothing else of their connection.
const WATCHED: &str = "/halyard.evaluation.v1.WatchService/Watch";
/// What is smaller takes hardly more than the stream that it is for.
const LARGE_BYTES: usize = 4 * 1024;
/// What is handed to the transport at once: it takes two, one that it sends and one that is next. Both have a period, so this is also how
/// slow a reader may be: 270 bytes a second in 30 s.
const SLICE_BYTES: usize = 4 * 1024;
/// What all connections may leave unread of larger ones.
const UNREAD_BYTES: usize = 128 * 1024 * 1024;
/// What one of them may, if it is not one answer alone.
const CONNECTION_UNREAD_BYTES: usize = 32 * 1024 * 1024;

/// Whether what is answered to a path is counted here.
pub fn is_counted(path: &str) -> bool {
    !path.starts_with(WATCHED)
}

/// What all connections have unread. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pot(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicUsize,
    refused: AtomicU64,
}

impl Pot {
    /// How many bytes there are of larger answers.
    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// How many answers found no room.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

/// What one connection has unread. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Unread(Arc<OfConnection>);

#[derive(Debug, Default)]
struct OfConnection {
    pot: Pot,
    /// Bytes of larger ones.
    bytes: AtomicUsize,
    /// Whether the period that runs is an odd one.
    is_odd: AtomicBool,
    /// Slices of answers that left in even periods, and in odd ones.
    slices: [AtomicUsize; 2],
}

impl Unread {
    /// Nothing yet, of a new connection.
    pub fn new(pot: Pot) -> Self {
        Self(Arc::new(OfConnection {
            pot,
            ..OfConnection::default()
        }))
    }

    /// Ends a period, and begins another unless something has been unread since before the one that ended: whether that is so.
    pub fn turn(&self) -> bool {
        let is_odd = !self.0.is_odd.load(Ordering::Relaxed);
        let is_unread = self.slices(is_odd).load(Ordering::Relaxed) > 0;
        if !is_unread {
            self.0.is_odd.store(is_odd, Ordering::Relaxed);
        }
        is_unread
    }

    fn slices(&self, is_odd: bool) -> &AtomicUsize {
        let [even, odd] = &self.0.slices;
        if is_odd { odd } else { even }
    }

    /// A slice of an answer, counted. `large`: how many bytes were held for it.
    fn hand_over(&self, bytes: Bytes, large: usize) -> Bytes {
        Bytes::from_owner(Slice {
            bytes,
            _counted: self.count(large),
        })
    }

    /// Counts what waits to be written: it is as unread as an answer.
    pub fn waits(&self) -> Counted {
        self.count(0)
    }

    fn count(&self, large: usize) -> Counted {
        let is_odd = self.0.is_odd.load(Ordering::Relaxed);
        self.slices(is_odd).fetch_add(1, Ordering::Relaxed);
        Counted {
            unread: self.clone(),
            is_odd,
            large,
        }
    }

    fn hold(&self, large: usize) -> Result<(), Refusal> {
        let OfConnection {
            pot: Pot(pot), bytes, ..
        } = &*self.0;
        let taken = |held: &AtomicUsize, has_room: &dyn Fn(usize, usize) -> bool| {
            let more = |held: usize| held.checked_add(large).filter(|more| has_room(held, *more));
            held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
        };
        // One that is larger than what a connection may have is given alone: refused, it would be asked for for ever.
        if taken(bytes, &|held, more| held == 0 || more <= CONNECTION_UNREAD_BYTES) {
            if taken(&pot.bytes, &|_, more| more <= UNREAD_BYTES) {
                return Ok(());
            }
            bytes.fetch_sub(large, Ordering::Relaxed);
        }
        pot.refused.fetch_add(1, Ordering::Relaxed);
        Err(Refusal::answers_unread())
    }

    fn release(&self, large: usize) {
        if large > 0 {
            let OfConnection {
                pot: Pot(pot), bytes, ..
            } = &*self.0;
            bytes.fetch_sub(large, Ordering::Relaxed);
            pot.bytes.fetch_sub(large, Ordering::Relaxed);
        }
    }
}

/// A slice of an answer, which is counted until it is dropped. It owns bytes, and is not what is handed to the transport: that moves
/// what it sends from queue to queue, and is quicker with what is small.
struct Slice {
    bytes: Bytes,
    _counted: Counted,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Something that is counted among what is unread, until it is dropped.
#[derive(Debug)]
pub struct Counted {
    unread: Unread,
    is_odd: bool,
    /// Its bytes, if it is a larger one.
    large: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self { unread, is_odd, large } = self;
        unread.slices(*is_odd).fetch_sub(1, Ordering::Relaxed);
        unread.release(*large);
    }
}

/// What is left of a larger answer, all of it held.
#[derive(Debug)]
struct Rest {
    bytes: Bytes,
    unread: Unread,
}

impl Rest {
    /// The next slice.
    fn cut(&mut self) -> Bytes {
        let slice = self.bytes.split_to(self.bytes.len().min(SLICE_BYTES));
        let large = slice.len();
        self.unread.hand_over(slice, large)
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.unread.release(self.bytes.len());
    }
}

/// How somebody is told that there is no room for an answer whose headers have gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// In trailers, which gRPC reads.
    InTrailers,
    /// By an answer that breaks off: others do not read trailers.
    ByBreakingOff,
}

/// The body of an answer, whose slices count themselves as they leave.
#[derive(Debug)]
pub struct Leaving {
    body: Body,
    /// `None`: they are not counted here.
    unread: Option<Unread>,
    told: Told,
    /// What comes before the body goes on.
    rest: Option<Rest>,
}

impl Leaving {
    /// One that is counted among what its connection has unread, or is not.
    pub fn new(body: Body, unread: Option<Unread>, told: Told) -> Self {
        Self {
            body,
            unread,
            told,
            rest: None,
        }
    }

    /// The next slice of what is left.
    fn cut(&mut self) -> Option<Bytes> {
        let rest = self.rest.as_mut()?;
        let slice = rest.cut();
        if rest.bytes.is_empty() {
            self.rest = None;
        }
        Some(slice)
    }
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Some(slice) = this.cut() {
            return Poll::Ready(Some(Ok(Frame::data(slice))));
        }
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => return Poll::Ready(Some(Err(status))),
            None => return Poll::Ready(None),
        };
        let bytes = match frame.into_data() {
            Ok(bytes) => bytes,
            Err(other) => return Poll::Ready(Some(Ok(other))),
        };
        let Some(unread) = &this.unread else {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        };
        if bytes.len() < LARGE_BYTES {
            return Poll::Ready(Some(Ok(Frame::data(unread.hand_over(bytes, 0)))));
        }
        if let Err(refusal) = unread.hold(bytes.len()) {
            // Its headers have gone: it is refused in what comes behind them, and nothing follows.
            this.body = Body::empty();
            return Poll::Ready(Some(match this.told {
                Told::InTrailers => Ok(Frame::trailers(status::trailers(Some(refusal.into())))),
                Told::ByBreakingOff => Err(refusal.into()),
            }));
        }
        let unread = unread.clone();
        this.rest = Some(Rest { bytes, unread });
        Poll::Ready(this.cut().map(|slice| Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.bytes.len() as u64);
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper().and_then(|upper| upper.checked_add(rest)) {
            hint.set_upper(upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests;
