//! A stream: a cursor over an environment's states. It pulls; nothing is ever queued for it.
//!
//! Between two steps a stream looks at the newest state and decides what leads there from where its client stands. During a
//! step it hands out the parts of one immutable value, whatever happens meanwhile. So a slow client makes fewer and larger
//! steps, and keeps nothing alive but what it is being sent.
//!
//! It may be polled by any runtime: it creates its timer, and finds a place to wait, when it is first polled.

mod begin;
mod timer;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::ReusableBoxFuture;

use super::age::Age;
use super::ahead::{self, Settled};
use super::answers::{Batch, Follow, Part};
use super::bell::{Seat, Wait};
use super::connect::{self, Answer};
use super::counts::Kind;
use super::credential::Credential;
use super::environment::Environment;
use super::gate::Turn;
use super::hub::{Hub, Registration};
use super::message::{Commit, Goodbye, GoodbyeReason, Message, Reason, StreamId};
use super::options::{around, up_to};
use super::request::{End, Request, View};
use super::state::State;
use super::step::Step;
use super::token::{Holding, Shown};
use timer::Timer;

/// The share by which heartbeats are moved at random.
const HEARTBEAT_JITTER: f64 = 0.1;
/// The share by which a stream's life is longer or shorter at random.
const ROTATION_JITTER: f64 = 0.2;

/// No bell is rung so often.
const NEVER: u64 = u64::MAX;

/// A stream. It is counted by [`Hub::streams`] until it ends or is dropped.
pub struct Subscription {
    registration: Option<Registration>,
    environment: Arc<Environment>,
    credential: Credential,
    id: StreamId,
    /// `None`: it tells items.
    follow: Option<Box<Follow>>,
    progress: Progress,
    /// `Some`: it waits for its turn to be sent a snapshot, or to go on with one.
    turn: Option<Box<Turn>>,
    /// Where it waits. `None`: it has not yet had to.
    seat: Option<Seat>,
    /// How often the bell had been rung when it last began to wait there, or [`NEVER`].
    waiting: u64,
    /// How often the bell has been rung, as of this poll.
    rung: u64,
    /// How often it had been when the stream last looked at the state, or [`NEVER`]. Until it rings again there is nothing new to see.
    looked: u64,
    timer: Timer,
    heartbeat: Duration,
    heartbeat_at: Instant,
    goodbye_at: Instant,
    goodbye_reason: GoodbyeReason,
}

enum Progress {
    /// Nothing was said yet.
    Connecting(Box<Shown>),
    /// The client is ahead of us.
    CatchingUp(Box<Shown>, ReusableBoxFuture<'static, Settled>),
    /// The client is ahead of us, and wrong.
    Diverged(Box<Shown>),
    /// A step is being sent.
    Stepping(Step, Certainty),
    /// A batch of answers is being sent.
    Answering(Box<Batch>, Certainty),
    /// A step was completed.
    Between(Cursor),
    Ended(End),
}

/// When a position was last certain to be the newest that there was anywhere. `None`: never.
type Certainty = Option<std::time::Instant>;

/// The newest state.
struct Sight {
    state: Arc<State>,
    /// When it was last certain that it is.
    certain_at: Certainty,
    /// How old it is, for a stream of answers.
    age: Age,
}

/// Where the client stands.
#[derive(Clone)]
struct Cursor {
    commit: Arc<Commit>,
    /// Of the Commit.
    certain_at: Certainty,
    /// Nothing was said since the Commit.
    fresh: bool,
}

impl Subscription {
    pub(super) fn new(hub: Arc<Hub>, environment: Arc<Environment>, request: Request<'_>) -> Self {
        let Request {
            token,
            heartbeat,
            still_valid,
            view,
        } = request;
        let follow = match view {
            View::Items => None,
            View::Answers(question) => Some(Box::new(Follow::new(question, hub.age()))),
        };
        let holding = follow.as_ref().map_or(Holding::Everything, |follow| follow.holding());
        let now = Instant::now();
        let heartbeat = hub.options().heartbeat_for(heartbeat);
        Self {
            credential: Credential::new(still_valid),
            id: StreamId::random(),
            follow,
            progress: Progress::Connecting(Box::new(Shown::read_for(holding, token))),
            turn: None,
            seat: None,
            waiting: NEVER,
            rung: 0,
            looked: NEVER,
            timer: Timer::default(),
            heartbeat,
            heartbeat_at: now + around(heartbeat, HEARTBEAT_JITTER),
            goodbye_at: now + around(hub.options().rotation, ROTATION_JITTER),
            goodbye_reason: GoodbyeReason::Rotated,
            environment,
            registration: Some(Registration::new(hub)),
        }
    }

    /// Names the stream.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// What it tells.
    pub(super) fn kind(&self) -> Kind {
        self.follow.as_ref().map_or(Kind::Items, |_| Kind::Answers)
    }

    /// These flags of a part were answered without the assignments that they depend on: they are told again later. Returns where to resume
    /// behind the part. `None`: its batch goes on.
    pub fn answered(&mut self, part: &Part, unsettled: &[Arc<str>]) -> Option<Bytes> {
        let follow = self.follow.as_mut()?;
        if !part.again && unsettled.is_empty() && follow.is_settled() {
            return part.resume_token.clone();
        }
        if let Some(registration) = &self.registration
            && part.again
            && unsettled.len() < part.changed.len()
        {
            registration.hub().counts().begin(part.intent);
        }
        // Something may be due earlier than what it waits for.
        self.waiting = NEVER;
        follow.answered(part, unsettled, Instant::now())
    }

    /// What the client holds once it has applied all that was said, as generation and revision. `None`: it is in the middle of
    /// something.
    pub(super) fn position(&self) -> Option<(u64, u64)> {
        match &self.progress {
            Progress::Between(cursor) => Some(cursor.commit.position.order()),
            Progress::Connecting(_)
            | Progress::CatchingUp(..)
            | Progress::Diverged(_)
            | Progress::Stepping(..)
            | Progress::Answering(..)
            | Progress::Ended(_) => None,
        }
    }

    /// About what its question takes in memory, in bytes.
    pub(super) fn question_bytes(&self) -> usize {
        self.follow.as_ref().map_or(0, |follow| follow.question_bytes())
    }

    /// Whether there would be a message if one were asked for. Only told for a stream that is not in the middle of something.
    pub(super) fn has_something_to_say(&self, now: Instant) -> bool {
        match &self.progress {
            Progress::Between(cursor) => {
                let is_due = now >= self.due();
                let is_behind = || cursor.commit.position != self.environment.state().commit.position;
                is_due || (self.turn.is_none() && is_behind())
            }
            Progress::Stepping(..) | Progress::Answering(..) | Progress::Connecting(_) | Progress::Diverged(_) => {
                self.turn.is_none()
            }
            Progress::CatchingUp(..) | Progress::Ended(_) => false,
        }
    }

    /// Has its transport ask again, if that waits.
    pub(super) fn wake(&self) {
        if let Some(seat) = &self.seat {
            seat.wake();
        }
    }

    /// Whether it may go on: its environment is there, and its credential holds.
    pub(super) fn check(&mut self) -> Result<(), End> {
        match self.registration.take() {
            Some(registration) => {
                let checked = self.check_with(registration.hub());
                self.registration = Some(registration);
                checked
            }
            None => Err(self.ended()),
        }
    }

    fn check_with(&mut self, hub: &Hub) -> Result<(), End> {
        // The keys of an environment go with it: its end is the better reason of the two.
        if self.environment.is_removed() {
            return Err(End::EnvironmentGone);
        }
        if self.environment.is_superseded() {
            return Err(End::Unreachable);
        }
        self.credential.check(hub, self.environment.id())
    }

    /// The next message, or why there is none any more. May be dropped and called again: nothing is lost.
    ///
    /// The credential is checked each time, so hand a message to the transport before asking for the next.
    pub async fn next(&mut self) -> Result<Message, End> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same for bodies that poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, End>> {
        if self.rests(cx) {
            return Poll::Pending;
        }
        let Some(registration) = self.registration.take() else {
            return Poll::Ready(Err(self.ended()));
        };
        let message = self.poll_with(registration.hub(), cx);
        if let Poll::Ready(Err(end)) = message {
            self.progress = Progress::Ended(end);
            (self.turn, self.timer, self.seat) = (None, Timer::default(), None);
        } else {
            self.registration = Some(registration);
        }
        message
    }

    /// The same, but of a short step that many streams make all at once.
    pub(super) fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, End>> {
        self.poll_next(cx).map_ok(|message| match message {
            Message::Begin(begin) => self.all_of(begin),
            Message::Item(_)
            | Message::Commit(_)
            | Message::Step(_)
            | Message::Answers(_)
            | Message::Heartbeat(_)
            | Message::Goodbye(_) => message,
        })
    }

    fn ended(&self) -> End {
        match self.progress {
            Progress::Ended(end) => end,
            Progress::Connecting(_)
            | Progress::CatchingUp(..)
            | Progress::Diverged(_)
            | Progress::Stepping(..)
            | Progress::Answering(..)
            | Progress::Between(_) => End::Finished,
        }
    }

    fn poll_with(&mut self, hub: &Arc<Hub>, cx: &mut Context<'_>) -> Poll<Result<Message, End>> {
        loop {
            self.notice_lost_turn();
            // Read before anything is looked at, so that no change falls between looking and waiting.
            self.rung = self.environment.bell().rung();
            self.check_with(hub)?;
            if let Some(message) = self.advance(hub, cx)? {
                return Poll::Ready(Ok(message));
            }
            if self.wait(cx) != Wait::Rung {
                ready!(self.poll_timer(cx));
            }
        }
    }

    /// Whether nothing has happened since it said that it waits. Transports ask several times for each message that they get. Whatever
    /// there is to look at rings the bell, and all that happens by itself has the timer.
    fn rests(&self, cx: &Context<'_>) -> bool {
        let rung = self.environment.bell().rung();
        let waits = self.waiting == rung && self.seat.as_ref().is_some_and(Seat::is_open);
        waits && self.looked == rung && self.holds_all() && self.timer.rests(cx)
    }

    /// Lets itself be woken when there is something to look at that was not there at the beginning of this poll.
    fn wait(&mut self, cx: &Context<'_>) -> Wait {
        let (bell, rung) = (self.environment.bell(), self.rung);
        let mut waits = self.seat.get_or_insert_with(|| bell.seat()).wait(rung, cx);
        if waits == Wait::Closed {
            // The runtime that it was first polled on is gone. It goes on with the one that it is polled on now.
            waits = self.seat.insert(bell.seat()).wait(rung, cx);
        }
        self.waiting = if waits == Wait::Begun { rung } else { NEVER };
        waits
    }

    /// Says what there is to say now. `None`: nothing until something happens.
    fn advance(&mut self, hub: &Arc<Hub>, cx: &mut Context<'_>) -> Result<Option<Message>, End> {
        if self.waits_for_time() {
            return Ok(None);
        }
        match &mut self.progress {
            Progress::Ended(end) => Err(*end),
            Progress::Stepping(step, certain_at) => {
                if let Some(turn) = &mut self.turn {
                    let Poll::Ready(permit) = turn.poll(cx) else {
                        return Ok(None);
                    };
                    self.turn = None;
                    step.go_on(permit);
                }
                if let Some(change) = step.next_change() {
                    return Ok(Some(Message::Item(change)));
                }
                let cursor = Cursor {
                    commit: Arc::clone(&step.commit),
                    certain_at: *certain_at,
                    fresh: true,
                };
                let commit = Arc::clone(&cursor.commit);
                self.progress = Progress::Between(cursor);
                Ok(Some(Message::Commit(commit)))
            }
            Progress::Answering(..) => Ok(self.answer(hub, cx)),
            Progress::Connecting(shown) => {
                let shown = **shown;
                self.connect(hub, &shown, cx)
            }
            Progress::CatchingUp(shown, settling) => {
                let Poll::Ready(settled) = settling.poll(cx) else {
                    return Ok(None);
                };
                let shown = **shown;
                self.settle(hub, settled, &shown, cx)
            }
            Progress::Diverged(shown) => {
                let shown = **shown;
                self.settle(hub, Settled::Diverged, &shown, cx)
            }
            Progress::Between(cursor) => {
                let cursor = cursor.clone();
                self.between(hub, cursor, cx)
            }
        }
    }

    fn connect(&mut self, hub: &Arc<Hub>, shown: &Shown, cx: &mut Context<'_>) -> Result<Option<Message>, End> {
        let sight = self.look(hub);
        match (connect::decide(shown, &sight.state), shown) {
            (Answer::Ahead, Shown::Token(token) | Shown::OtherQuestion(token)) => {
                let settling = ahead::settle(Arc::clone(hub), Arc::clone(&self.environment), *token);
                self.progress = Progress::CatchingUp(Box::new(*shown), ReusableBoxFuture::new(settling));
                // Once around to poll it.
                self.advance(hub, cx)
            }
            (answer, shown) => self.begin((hub, cx), answer, shown, &sight),
        }
    }

    fn settle(
        &mut self,
        hub: &Arc<Hub>,
        settled: Settled,
        shown: &Shown,
        cx: &mut Context<'_>,
    ) -> Result<Option<Message>, End> {
        let sight = self.look(hub);
        // Should it have to wait for its turn, it is not asked again what has been settled.
        match settled {
            Settled::CaughtUp => {
                self.progress = Progress::Connecting(Box::new(*shown));
                let answer = connect::decide(shown, &sight.state);
                self.begin((hub, cx), answer, shown, &sight)
            }
            Settled::Diverged => {
                self.progress = Progress::Diverged(Box::new(*shown));
                let answer = Answer::Snapshot(Reason::Diverged);
                self.begin((hub, cx), answer, shown, &sight)
            }
            Settled::Gone => Err(End::EnvironmentGone),
            Settled::Unknown => Err(End::Unreachable),
        }
    }

    /// Whether the client holds what there is, and nothing is due before the timer wakes the stream.
    fn waits_for_time(&self) -> bool {
        self.holds_all() && self.looked == self.rung && self.timer.wakes_by(self.due())
    }

    /// When the next thing is due that happens by itself between two steps.
    fn due(&self) -> Instant {
        let due = self.heartbeat_at.min(self.goodbye_at);
        self.again_at().map_or(due, |again_at| again_at.min(due))
    }

    /// When to ask again for answers that were not settled. `None`: all are.
    fn again_at(&self) -> Option<Instant> {
        self.follow.as_ref().and_then(|follow| follow.again_at())
    }

    /// Whether the client holds what there was when the stream last looked.
    fn holds_all(&self) -> bool {
        matches!(self.progress, Progress::Between(_)) && self.turn.is_none()
    }

    /// Looks for the next thing to say when the client stands at a Commit.
    fn between(&mut self, hub: &Arc<Hub>, mut cursor: Cursor, cx: &mut Context<'_>) -> Result<Option<Message>, End> {
        self.notice_drain(hub);
        // Before its timer has gone off nothing is due that happens by itself, and the clock need not be asked.
        let is_early = self.timer.wakes_by(self.due());
        let now = (!is_early).then(Instant::now);
        if now.is_some_and(|now| now >= self.goodbye_at) {
            return Ok(Some(self.goodbye(hub)));
        }
        let sight = self.look(hub);
        let (here, there) = (&cursor.commit.position, &sight.state.commit.position);
        let current = here == there;
        if current && self.has_aged(&sight) {
            return Ok(self.grow_old((hub, cx), &sight));
        }
        if current {
            cursor.certain_at = sight.certain_at;
            let is_due = now.is_some_and(|now| self.again_at().is_some_and(|again_at| now >= again_at));
            if is_due && let Some(message) = self.answer_again((hub, cx), &sight) {
                return Ok(Some(message));
            }
        }
        // A stream that never catches up still has its heartbeats: behind each step, one that is due. So has one that waits.
        let due = now.filter(|now| *now >= self.heartbeat_at);
        if let Some(now) = due
            && (current || cursor.fresh || self.turn.is_some())
        {
            self.heartbeat_at = now + around(self.heartbeat, HEARTBEAT_JITTER);
            cursor.fresh = false;
            let heartbeat = self.heartbeat(&cursor, hub.confirmed().quality, now);
            self.progress = Progress::Between(cursor);
            return Ok(Some(Message::Heartbeat(heartbeat)));
        }
        if current {
            return Ok(None);
        }
        // A stream never goes back. Its client comes again, and the origin is asked.
        if there.order() <= here.order() {
            return Err(End::Unreachable);
        }
        let shown = Shown::Token(*here);
        self.begin((hub, cx), connect::decide(&shown, &sight.state), &shown, &sight)
    }

    /// What there is to see now. What the source has confirmed is read before the state, since all that is confirmed was applied
    /// before: read after it, the certainty, and the age, could be those of a newer state.
    fn look(&mut self, hub: &Hub) -> Sight {
        self.looked = self.rung;
        let certain_at = self.environment.certain_at(hub.confirmed().at);
        let age = self.follow.as_ref().map(|_| hub.age()).unwrap_or_default();
        Sight {
            certain_at,
            age,
            state: Arc::clone(&self.environment.state()),
        }
    }

    /// Brings the Goodbye forward when a drain has begun.
    fn notice_drain(&mut self, hub: &Hub) {
        let Some(since) = hub.draining_since() else { return };
        if self.goodbye_reason != GoodbyeReason::Draining {
            self.goodbye_reason = GoodbyeReason::Draining;
            self.goodbye_at = self.goodbye_at.min(since + up_to(hub.options().drain_window));
        }
    }

    /// Says Goodbye if it is time to.
    fn goodbye_if_due(&mut self, hub: &Hub, now: Instant) -> Option<Message> {
        self.notice_drain(hub);
        (now >= self.goodbye_at).then(|| self.goodbye(hub))
    }

    fn goodbye(&mut self, hub: &Hub) -> Message {
        self.progress = Progress::Ended(End::Finished);
        self.turn = None;
        let longest = match self.goodbye_reason {
            GoodbyeReason::Draining => hub.options().drain_window,
            GoodbyeReason::Rotated => hub.options().rotation_pause,
        };
        Message::Goodbye(Goodbye {
            reason: self.goodbye_reason,
            reconnect_after: up_to(longest),
        })
    }

    /// Waits again if others have come before, because the transport had not come back for long.
    fn notice_lost_turn(&mut self) {
        if let Progress::Stepping(step, _) = &self.progress
            && self.turn.is_none()
        {
            self.turn = step.come_back().map(Box::new);
        }
    }

    /// Ready when the next thing is due that happens by itself.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = match self.progress {
            Progress::Between(_) => Some(self.due()),
            Progress::Connecting(_) | Progress::Diverged(_) if self.turn.is_some() => Some(self.goodbye_at),
            Progress::Connecting(_)
            | Progress::CatchingUp(..)
            | Progress::Diverged(_)
            | Progress::Stepping(..)
            | Progress::Answering(..)
            | Progress::Ended(_) => None,
        };
        let Some(due) = due.into_iter().chain(self.credential.expires_at()).min() else {
            return Poll::Pending;
        };
        self.timer.poll(due, cx)
    }
}
