//! The open streams: what was handed to each transport, and what each client says that it has applied.
//!
//! A stream's transport asks for the next message before it has room for the last, and then not again until it has: if the client does
//! not read, nobody would ever learn of it. So the hub goes through the open streams every second. It takes all that they hold from
//! those whose transports have not come back for long although there is something to say, and from those whose credentials have
//! ended meanwhile. What is left is an empty shell that says why, should the client ever read again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use jiff::Timestamp;
use tokio::time::Instant;

use super::answers::Part;
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
    question_bytes: usize,
    kind: Kind,
    inner: Mutex<Inner>,
}

struct Inner {
    /// `None`: it has ended.
    subscription: Option<Box<Subscription>>,
    end: End,
    /// `Some`: it has said Goodbye.
    goodbye: Option<GoodbyeReason>,
    /// The transport was handed something that it has not come back from.
    is_offered: bool,
    /// Since when the transport has not come although it was handed something or there is something to say, as far as was looked.
    /// `None`: it has come since, or need not.
    missed_since: Option<Instant>,
    /// Where the client stands with all that it was handed, and with what since then has altered nothing for it.
    sent: Order,
    /// The last that it was handed anything of.
    told: Order,
    /// The generation that the stream began in. `None`: it has completed nothing yet.
    first_generation: Option<u64>,
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
    of_key: HashMap<Arc<str>, OfKey, RandomState>,
    question_bytes: usize,
}

/// What the streams of one key come to.
#[derive(Default)]
struct OfKey {
    streams: usize,
    question_bytes: usize,
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
        let polled = subscription.poll_whole(cx);
        let position = subscription.position();
        // When that was is noted by who looks for it, so that no message costs a look at the clock.
        inner.is_offered = polled.is_ready();
        inner.missed_since = None;
        if let Some(position) = position {
            inner.sent = position;
            inner.first_generation.get_or_insert(position.0);
        }
        match &polled {
            Poll::Ready(Ok(message)) => {
                if let Message::Goodbye(goodbye) = message {
                    inner.goodbye = Some(goodbye.reason);
                }
                if let Some(commit) = completes(message) {
                    let (before, now) = (inner.told, commit.position.order());
                    if before.0 == now.0 && before.1 < now.1 {
                        counts.sent.observe(commit.committed_at);
                    }
                    inner.told = now;
                }
            }
            Poll::Ready(Err(end)) => inner.finish(*end, kind, counts),
            Poll::Pending => {}
        }
        polled
    }

    /// These flags of a part were answered without the assignments that they depend on: they are told again later. Returns where to resume
    /// behind the part; `None`: its batch goes on. `Err`: the stream was ended meanwhile, and the part is not to be sent.
    pub fn answered(&self, part: &Part, unsettled: &[Arc<str>]) -> Result<Option<Bytes>, End> {
        let mut inner = self.shell.lock();
        let end = inner.end;
        let subscription = inner.subscription.as_mut().ok_or(end)?;
        Ok(subscription.answered(part, unsettled))
    }
}

/// Where the client stands when it has applied the message, if that completes something.
fn completes(message: &Message) -> Option<&Commit> {
    match message {
        Message::Commit(commit) => Some(commit),
        Message::Step(step) => Some(&step.commit),
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
        if let Some(subscription) = self.subscription.take() {
            // A transport that waits would wait for ever: the bell that was to wake it may have been rung, but not been passed on yet.
            subscription.wake();
            counts.end(kind, end, self.goodbye);
            self.end = end;
            self.is_offered = false;
            self.missed_since = None;
        }
    }

    /// Why the stream has to end although its transport does not come back for it. `None`: it goes on.
    fn overdue(&mut self, longest: Duration, now: Instant) -> Option<End> {
        let subscription = self.subscription.as_mut()?;
        if let Err(end) = subscription.check() {
            return Some(end);
        }
        let is_missed = self.is_offered || subscription.has_something_to_say(now);
        self.missed_since = is_missed.then(|| self.missed_since.unwrap_or(now));
        let since = self.missed_since?;
        (now.duration_since(since) >= longest).then_some(End::Stalled)
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
            if order >= inner.told {
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

    /// Takes a client's word, and says whether that is possible. A generation of 0 is the only one that the stream has been in: after a
    /// second one nobody knows which of the two is meant.
    pub(super) fn acknowledge(&self, (generation, revision): Order, now: Timestamp) -> bool {
        let mut inner = self.lock();
        let cursor = inner
            .subscription
            .as_ref()
            .and_then(|subscription| subscription.position());
        let most = cursor.unwrap_or_default().max(inner.sent);
        let order = (if generation == 0 { most.0 } else { generation }, revision);
        let is_ambiguous = generation == 0 && inner.first_generation != Some(most.0);
        let known = inner.acknowledged.map_or((0, 0), |acknowledged| acknowledged.order);
        if is_ambiguous || order > most {
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
        let question_bytes = subscription.question_bytes();
        let kind = subscription.kind();
        let mut table = self.lock();
        if table.shells.len() >= limits.streams {
            return Err(Refused::TooMany);
        }
        let bytes = table.question_bytes + question_bytes;
        let of_key = table.of_key.entry(Arc::clone(&client.key)).or_default();
        if of_key.streams >= limits.key_streams {
            return Err(Refused::TooManyOfKey);
        }
        let bytes_of_key = of_key.question_bytes + question_bytes;
        if bytes > limits.question_bytes || bytes_of_key > limits.key_question_bytes {
            return Err(Refused::TooLarge);
        }
        of_key.streams += 1;
        of_key.question_bytes = bytes_of_key;
        table.question_bytes = bytes;
        let shell = Arc::new(Shell {
            id: subscription.id(),
            environment,
            client,
            opened_at: Timestamp::now(),
            question_bytes,
            kind,
            inner: Mutex::new(Inner {
                subscription: Some(Box::new(subscription)),
                end: End::Finished,
                goodbye: None,
                is_offered: true,
                missed_since: None,
                sent: (0, 0),
                told: (0, 0),
                first_generation: None,
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
        if table.shells.remove(&shell.id).is_none() {
            return;
        }
        table.question_bytes -= shell.question_bytes;
        if let Some(of_key) = table.of_key.get_mut(&shell.client.key) {
            of_key.streams -= 1;
            of_key.question_bytes -= shell.question_bytes;
            if of_key.streams == 0 {
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

    /// Ends the streams whose transports have not come back for so long, or that may not go on, and returns how many were stalled. They
    /// make room for others.
    pub(super) fn release(&self, longest: Duration) -> usize {
        let now = Instant::now();
        let mut stalled = 0;
        for shell in self.all() {
            let mut inner = shell.lock();
            if let Some(end) = inner.overdue(longest, now) {
                inner.finish(end, shell.kind, &self.counts);
                drop(inner);
                self.forget(&shell);
                stalled += usize::from(end == End::Stalled);
            }
        }
        stalled
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
