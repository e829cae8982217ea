//! How the messages of requests arrive: within which time, how many, and how much of them is held before they are whole.
//!
//! A message that is announced and does not come would otherwise be waited for as long as its connection lives, and a peer could begin
//! as many as it may have streams. What is counted here is read off the five bytes before each message, not the message itself: what
//! it means is the services' to say.
//!
//! What is not whole is counted in two pots: methods that anybody may call have a small one, so that who shows no credential cannot take
//! the room of who does.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::Refusal;
use super::methods::Methods;
use crate::domain::limits::OPEN_REQUEST_BYTES;

/// The services of applications: all of their methods need a credential.
const APPLICATIONS: &str = "/halyard.evaluation.";
/// Bytes before each message: whether it is compressed, and how long it is.
const PREFIX: usize = 5;
/// What all messages together may take that are not whole yet.
const HELD_BYTES: usize = 64 * 1024 * 1024;
/// Besides them, those of methods that anybody may call.
const OPEN_HELD_BYTES: usize = 4 * 1024 * 1024;
/// More than that, if so many messages of the largest size take more.
const LARGEST_AT_ONCE: usize = 16;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What messages may take to arrive.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long one may take, and how long the next or the end of the request may stay away.
    pub patience: Duration,
    /// The largest message.
    pub message_bytes: usize,
}

/// Requests that were refused because of how their messages arrived.
#[derive(Debug, Default)]
pub struct Counts {
    /// A message did not arrive in time.
    pub late: AtomicU64,
    /// There was more on its way in than this server holds.
    pub crowded: AtomicU64,
    /// More messages than the method takes.
    pub surplus: AtomicU64,
}

/// The messages that are on their way in, of all requests.
#[derive(Debug)]
pub struct Arrivals {
    methods: Methods,
    /// To methods that need a credential, and are read only if it was a valid one.
    known: Arc<Pot>,
    /// To those that anybody may call.
    open: Arc<Pot>,
}

/// Messages that are counted together.
#[derive(Debug)]
struct Pot {
    patience: Duration,
    /// The largest message.
    largest: usize,
    /// What may be held of all.
    most: usize,
    held: AtomicUsize,
    counts: Arc<Counts>,
}

/// How many messages a request may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Messages {
    One,
    Many,
}

/// A request whose messages are going to arrive.
#[derive(Debug)]
pub struct Arrival {
    pot: Arc<Pot>,
    messages: Messages,
}

impl Arrivals {
    /// None yet.
    pub fn new(terms: Terms, counts: &Arc<Counts>) -> Self {
        let Terms {
            patience,
            message_bytes,
        } = terms;
        let pot = |largest: usize, most| {
            Arc::new(Pot {
                patience,
                largest,
                most,
                held: AtomicUsize::new(0),
                counts: counts.clone(),
            })
        };
        Self {
            methods: Methods::default(),
            known: pot(
                message_bytes,
                HELD_BYTES.max(message_bytes.saturating_mul(LARGEST_AT_ONCE)),
            ),
            open: pot(OPEN_REQUEST_BYTES, OPEN_HELD_BYTES),
        }
    }

    /// A request to a path.
    pub fn of(&self, path: &str) -> Arrival {
        // No method of ours takes a stream; a test says when that has changed.
        let messages = if path.starts_with("/grpc.reflection.") {
            Messages::Many
        } else {
            Messages::One
        };
        Arrival {
            pot: if self.is_known(path) { &self.known } else { &self.open }.clone(),
            messages,
        }
    }

    /// Whether a path needs a credential. Most are an application's, and are not looked up.
    fn is_known(&self, path: &str) -> bool {
        path.starts_with(APPLICATIONS) || self.methods.get(path).is_some_and(|method| !method.is_open())
    }
}

impl Arrival {
    /// The body of that request.
    pub fn of<B>(self, body: B) -> Arriving<B> {
        let Self { pot, messages } = self;
        Arriving {
            body,
            pot,
            messages,
            whole: 0,
            position: Position::default(),
            held: 0,
            waiting: None,
        }
    }
}

/// The body of a request, whose messages arrive.
#[derive(Debug)]
pub struct Arriving<B> {
    body: B,
    pot: Arc<Pot>,
    messages: Messages,
    /// Messages that have arrived.
    whole: usize,
    position: Position,
    /// What is counted of this request among what is held.
    held: usize,
    /// Runs from the first time that something had to be waited for, for each message of many anew.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// Where in a sequence of messages the last byte was.
#[derive(Debug, Default, PartialEq, Eq)]
struct Position {
    prefix: [u8; PREFIX],
    /// How much of the prefix there is.
    prefixed: usize,
    /// What is missing of the message behind it.
    missing: usize,
    /// What there is of a message that is not whole, its prefix included.
    partial: usize,
}

impl Position {
    /// Goes on over bytes; says how many messages they made whole.
    fn advance(&mut self, mut bytes: &[u8]) -> usize {
        let mut whole = 0;
        while !bytes.is_empty() {
            let taken = if self.prefixed < PREFIX {
                let taken = bytes.len().min(PREFIX - self.prefixed);
                for (to, from) in self.prefix.iter_mut().skip(self.prefixed).zip(bytes.iter().take(taken)) {
                    *to = *from;
                }
                self.prefixed += taken;
                let [_, length @ ..] = self.prefix;
                self.missing = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                taken
            } else {
                let taken = bytes.len().min(self.missing);
                self.missing -= taken;
                taken
            };
            self.partial += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.prefixed == PREFIX && self.missing == 0 {
                whole += 1;
                *self = Self::default();
            }
        }
        whole
    }
}

impl<B> Arriving<B> {
    /// Looks at what has come.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let whole = self.position.advance(bytes);
        self.whole = self.whole.saturating_add(whole);
        match self.messages {
            Messages::One => {
                if self.whole > 1 || (self.whole == 1 && self.position.partial > 0) {
                    count(&self.pot.counts.surplus);
                    return Err(Refusal::SurplusMessage);
                }
            }
            Messages::Many => {
                if whole > 0 {
                    self.waiting = None;
                }
            }
        }
        if self.position.missing > self.pot.largest {
            // Nobody waits for what is refused when it is there.
            return Err(Refusal::TooLarge);
        }
        self.hold(self.position.partial)
    }

    /// Has so many bytes counted. Most messages come whole, and none of them is.
    fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        let pot = &self.pot;
        if bytes > self.held {
            let more = bytes - self.held;
            if pot.held.fetch_add(more, Ordering::Relaxed).saturating_add(more) > pot.most {
                pot.held.fetch_sub(more, Ordering::Relaxed);
                count(&pot.counts.crowded);
                return Err(Refusal::requests_crowded());
            }
        } else if bytes < self.held {
            pot.held.fetch_sub(self.held - bytes, Ordering::Relaxed);
        }
        self.held = bytes;
        Ok(())
    }

    /// Nothing has come: how long may that go on?
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        let patience = self.pot.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        waiting.as_mut().poll(context).map(|()| {
            count(&self.pot.counts.late);
            Refusal::Late
        })
    }
}

impl<B> Drop for Arriving<B> {
    fn drop(&mut self) {
        if self.held > 0 {
            self.pot.held.fetch_sub(self.held, Ordering::Relaxed);
        }
    }
}

impl<B> Body for Arriving<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let refused = |refusal: Refusal| Poll::Ready(Some(Err(Status::from(refusal).into())));
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => match frame.data_ref().map(|bytes| self.take(bytes)) {
                Some(Err(refusal)) => refused(refusal),
                Some(Ok(())) | None => Poll::Ready(Some(Ok(frame))),
            },
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.wait(context) {
                Poll::Ready(refusal) => refused(refusal),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
