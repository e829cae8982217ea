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
/// What all connections may leave unread of larger ones.
const UNREAD_BYTES: usize = 128 * 1024 * 1024;
/// What one of them may.
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
    /// Pieces of answers that left in even periods, and in odd ones.
    pieces: [AtomicUsize; 2],
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
        let is_unread = self.pieces(is_odd).load(Ordering::Relaxed) > 0;
        if !is_unread {
            self.0.is_odd.store(is_odd, Ordering::Relaxed);
        }
        is_unread
    }

    fn pieces(&self, is_odd: bool) -> &AtomicUsize {
        let [even, odd] = &self.0.pieces;
        if is_odd { odd } else { even }
    }

    /// Counts a piece of an answer.
    fn take(&self, bytes: Bytes) -> Result<Bytes, Refusal> {
        let large = if bytes.len() < LARGE_BYTES { 0 } else { bytes.len() };
        if large > 0 {
            self.hold(large)?;
        }
        Ok(Bytes::from_owner(Piece {
            bytes,
            _counted: self.count(large),
        }))
    }

    /// Counts what waits to be written: it is as unread as an answer.
    pub fn waits(&self) -> Counted {
        self.count(0)
    }

    fn count(&self, large: usize) -> Counted {
        let is_odd = self.0.is_odd.load(Ordering::Relaxed);
        self.pieces(is_odd).fetch_add(1, Ordering::Relaxed);
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
        let room = |most: usize| move |held: usize| held.checked_add(large).filter(|held| *held <= most);
        let taken = |held: &AtomicUsize, most| held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room(most));
        if taken(bytes, CONNECTION_UNREAD_BYTES).is_ok() {
            if taken(&pot.bytes, UNREAD_BYTES).is_ok() {
                return Ok(());
            }
            bytes.fetch_sub(large, Ordering::Relaxed);
        }
        pot.refused.fetch_add(1, Ordering::Relaxed);
        Err(Refusal::answers_unread())
    }
}

/// A piece of an answer, which is counted until it is dropped. It owns bytes, and is not what is handed to the transport: that moves
/// what it sends from queue to queue, and is quicker with what is small.
struct Piece {
    bytes: Bytes,
    _counted: Counted,
}

impl AsRef<[u8]> for Piece {
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
        unread.pieces(*is_odd).fetch_sub(1, Ordering::Relaxed);
        if *large > 0 {
            let OfConnection {
                pot: Pot(pot), bytes, ..
            } = &*unread.0;
            bytes.fetch_sub(*large, Ordering::Relaxed);
            pot.bytes.fetch_sub(*large, Ordering::Relaxed);
        }
    }
}

/// The body of an answer, whose pieces count themselves as they leave.
#[derive(Debug)]
pub struct Leaving {
    body: Body,
    /// `None`: they are not counted here.
    unread: Option<Unread>,
}

impl Leaving {
    /// One that is counted among what its connection has unread, or is not.
    pub fn new(body: Body, unread: Option<Unread>) -> Self {
        Self { body, unread }
    }
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
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
        Poll::Ready(Some(Ok(match unread.take(bytes) {
            Ok(piece) => Frame::data(piece),
            Err(refusal) => {
                // Its headers have gone: it is refused in what comes behind them, and nothing follows.
                this.body = Body::empty();
                Frame::trailers(status::trailers(Some(refusal.into())))
            }
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
