//! The open streams: what was handed to each transport, and what each client says that it has applied.
//!
//! A stream's transport asks for the next message when it has room for it. If it has none for long, because the client does not
//! read, nobody would ever learn of it: so the hub goes through the open streams now and then, and takes from those that are stuck
//! all that they hold. What is left is an empty shell that says why, should the client ever read again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use tokio::time::Instant;

use super::counts::{Counts, Kind};
use super::message::{Commit, GoodbyeReason, Message, StreamId};
use super::options::Options;
use super::request::{End, Refused};
use super::subscription::Subscription;
use crate::domain::change::EnvironmentId;
use crate::domain::propagation::Order;

/// Who opened a stream.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// The id of the key that it showed.
    pub key: Arc<str>,
    /// What it calls itself. Empty: unknown.
    pub name: Box<str>,
    /// What it is made with. Empty: unknown.
    pub library: Box<str>,
}

/// A stream as its transport has it. Dropping it closes the stream.
pub struct Stream {
    shell: Arc<Shell>,
    all: Arc<OpenStreams>,
}

/// What outlives a stream that is taken away from its transport.
pub(super) struct Shell {
    pub(super) id: StreamId,
    pub(super) environment: EnvironmentId,
    pub(super) client: Client,
    pub(super) opened_at: Timestamp,
    kind: Kind,
    inner: Mutex<Inner>,
}

struct Inner {
    /// `None`: it has ended.
    subscription: Option<Box<Subscription>>,
    end: End,
    /// `Some`: it has said Goodbye.
    goodbye: Option<GoodbyeReason>,
    /// Since when the transport has not come back for more. `None`: it waits for us.
    offered_at: Option<Instant>,
    sent: Order,
    acknowledged: Option<Acknowledged>,
}

/// What a client has applied.
#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    order: Order,
    /// When it first said so.
    at: Timestamp,
}

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// What was last handed to the transport; all up to it.
    pub(super) sent: Order,
    /// What the client has. `None`: it has never said.
    pub(super) applied: Option<Order>,
    /// Since when.
    pub(super) since: Timestamp,
}

/// The streams that there are.
#[derive(Default)]
pub(super) struct OpenStreams {
    table: Mutex<Table>,
    pub(super) counts: Counts,
}

#[derive(Default)]
struct Table {
    shells: HashMap<StreamId, Arc<Shell>, RandomState>,
    /// How many there are of each key.
    of_key: HashMap<Arc<str>, usize, RandomState>,
}

impl Stream {
    /// Names the stream.
    pub fn id(&self) -> StreamId {
        self.shell.id
    }

    /// The next message, or why there is none any more.
    ///
    /// The credential is checked each time, so hand a message to the transport before asking for the next.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, End>> {
        let (counts, kind) = (&self.all.counts, self.shell.kind);
        let mut inner = self.shell.lock();
        let Some(subscription) = &mut inner.subscription else {
            return Poll::Ready(Err(inner.end));
        };
        let polled = subscription.poll_next(cx);
        inner.offered_at = polled.is_ready().then(Instant::now);
        match &polled {
            Poll::Ready(Ok(message)) => {
                if let Message::Goodbye(goodbye) = message {
                    inner.goodbye = Some(goodbye.reason);
                }
                if let Some(commit) = completes(message) {
                    let (before, now) = (inner.sent, commit.position.order());
                    if before.0 == now.0 && before.1 < now.1 {
                        counts.sent.observe(commit.committed_at);
                    }
                    inner.sent = now;
                }
            }
            Poll::Ready(Err(end)) => inner.finish(*end, kind, counts),
            Poll::Pending => {}
        }
        polled
    }
}

/// Where the client stands when it has applied the message, if that completes something.
fn completes(message: &Message) -> Option<&Commit> {
    match message {
        Message::Commit(commit) => Some(commit),
        Message::Answers(part) if part.resume_token.is_some() => Some(&part.state.commit),
        Message::Begin(_) | Message::Item(_) | Message::Answers(_) | Message::Heartbeat(_) | Message::Goodbye(_) => {
            None
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.all.forget(&self.shell);
        // Whoever looks at the streams just now may keep the shell a moment longer.
        self.shell
            .lock()
            .finish(End::Finished, self.shell.kind, &self.all.counts);
    }
}

impl Inner {
    fn finish(&mut self, end: End, kind: Kind, counts: &Counts) {
        if self.subscription.take().is_some() {
            counts.end(kind, end, self.goodbye);
            self.end = end;
            self.offered_at = None;
        }
    }
}

impl Shell {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the stream stands. `None`: it has ended.
    pub(super) fn standing(&self) -> Option<Standing> {
        let inner = self.lock();
        let cursor = inner.subscription.as_ref()?.position();
        // Nothing that has come since alters what the client holds.
        let caught_up = |order: Order| {
            if order >= inner.sent {
                cursor.unwrap_or(order).max(order)
            } else {
                order
            }
        };
        Some(Standing {
            sent: cursor.unwrap_or(inner.sent).max(inner.sent),
            applied: inner.acknowledged.map(|acknowledged| caught_up(acknowledged.order)),
            since: inner
                .acknowledged
                .map_or(self.opened_at, |acknowledged| acknowledged.at),
        })
    }

    /// Takes a client's word, and says whether that is possible. A generation of 0 is whichever the stream is in.
    pub(super) fn acknowledge(&self, (generation, revision): Order, now: Timestamp) -> bool {
        let mut inner = self.lock();
        let cursor = inner
            .subscription
            .as_ref()
            .and_then(|subscription| subscription.position());
        let most = cursor.unwrap_or_default().max(inner.sent);
        let order = (if generation == 0 { most.0 } else { generation }, revision);
        let known = inner.acknowledged.map_or((0, 0), |acknowledged| acknowledged.order);
        if order > most {
            return false;
        }
        if order > known {
            inner.acknowledged = Some(Acknowledged { order, at: now });
        }
        true
    }
}

impl OpenStreams {
    /// Opens a stream, unless there are as many as there may be.
    pub(super) fn open(
        self: &Arc<Self>,
        environment: EnvironmentId,
        subscription: Subscription,
        client: Client,
        limits: &Options,
    ) -> Result<Stream, Refused> {
        let kind = subscription.kind();
        let mut table = self.lock();
        if table.shells.len() >= limits.streams {
            return Err(Refused::TooMany);
        }
        let of_key = table.of_key.entry(Arc::clone(&client.key)).or_default();
        if *of_key >= limits.key_streams {
            return Err(Refused::TooManyOfKey);
        }
        *of_key += 1;
        let shell = Arc::new(Shell {
            id: subscription.id(),
            environment,
            client,
            opened_at: Timestamp::now(),
            kind,
            inner: Mutex::new(Inner {
                subscription: Some(Box::new(subscription)),
                end: End::Finished,
                goodbye: None,
                offered_at: Some(Instant::now()),
                sent: (0, 0),
                acknowledged: None,
            }),
        });
        table.shells.insert(shell.id, Arc::clone(&shell));
        self.counts.open(kind);
        let all = Arc::clone(self);
        Ok(Stream { shell, all })
    }

    fn forget(&self, shell: &Shell) {
        let mut table = self.lock();
        table.shells.remove(&shell.id);
        if let Some(of_key) = table.of_key.get_mut(&shell.client.key) {
            *of_key -= 1;
            if *of_key == 0 {
                table.of_key.remove(&shell.client.key);
            }
        }
    }

    pub(super) fn get(&self, id: StreamId) -> Option<Arc<Shell>> {
        self.lock().shells.get(&id).cloned()
    }

    /// All of them, in no order.
    pub(super) fn all(&self) -> Vec<Arc<Shell>> {
        self.lock().shells.values().cloned().collect()
    }

    /// Ends the streams whose transports have not come back for so long, and returns how many there were.
    pub(super) fn release(&self, longest: Duration) -> usize {
        let now = Instant::now();
        let stalled = |shell: &Arc<Shell>| {
            let mut inner = shell.lock();
            let stalled = inner.offered_at.is_some_and(|at| now.duration_since(at) >= longest);
            if stalled {
                inner.finish(End::Stalled, shell.kind, &self.counts);
            }
            stalled
        };
        self.all().iter().filter(|shell| stalled(shell)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
