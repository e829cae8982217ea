//! How a stream's steps and batches begin, where they lead, and what a heartbeat says between them.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::{Certainty, Cursor, Progress, Sight, Subscription};
use crate::watch::age::Age;
use crate::watch::answers::Next;
use crate::watch::connect::Answer;
use crate::watch::gate::Hold;
use crate::watch::hub::Hub;
use crate::watch::message::{self, Begin, Heartbeat, Intent, Message, UNKNOWN_STALENESS};
use crate::watch::request::End;
use crate::watch::source::Quality;
use crate::watch::state::State;
use crate::watch::step::Step;
use crate::watch::token::Shown;

impl Subscription {
    /// Begins the step or batch that an answer asks for. `None`: there is nothing to tell.
    pub(super) fn begin(
        &mut self,
        (hub, cx): (&Hub, &mut Context<'_>),
        answer: Answer,
        shown: &Shown,
        sight: &Sight,
    ) -> Result<Option<Message>, End> {
        let held = match shown {
            Shown::Token(token) => token.revision,
            Shown::Nothing | Shown::OtherFormat | Shown::OtherQuestion(_) => 0,
        };
        let Some(follow) = &self.follow else {
            return self.step((hub, cx), answer, held, &sight.state, sight.certain_at);
        };
        let age = follow.age_at(&sight.age);
        // Ahead even of what it just waited for.
        let batch = follow.batch(&answer, held, (&sight.state, age), self.id);
        self.progress = Progress::Answering(Box::new(batch.ok_or(End::Unreachable)?), sight.certain_at);
        Ok(self.answer(hub, cx))
    }

    /// Whether the state that the client holds the answers of has become too old for some flags, or no longer is.
    pub(super) fn has_aged(&self, sight: &Sight) -> bool {
        self.follow.as_ref().is_some_and(|follow| *follow.age() != sight.age)
    }

    /// Sends what is answered differently at the age that the state has now. `None`: nothing is.
    pub(super) fn grow_old(&mut self, (hub, cx): (&Hub, &mut Context<'_>), sight: &Sight) -> Option<Message> {
        let Sight { state, certain_at, age } = sight;
        let follow = self.follow.as_ref()?;
        let batch = follow.batch(&Answer::None, state.head.revision, (state, age), self.id)?;
        self.progress = Progress::Answering(Box::new(batch), *certain_at);
        self.answer(hub, cx)
    }

    /// Sends again what was answered without the assignments that it depends on, as far as it fits into one part. `None`: it is gone.
    pub(super) fn answer_again(&mut self, (hub, cx): (&Hub, &mut Context<'_>), sight: &Sight) -> Option<Message> {
        let Sight { state, certain_at, age } = sight;
        let batch = self.follow.as_mut()?.again((state, age), self.id)?;
        self.progress = Progress::Answering(Box::new(batch), *certain_at);
        self.answer(hub, cx)
    }

    /// Goes on with a batch. `None`: there is nothing to tell, or not yet.
    pub(super) fn answer(&mut self, hub: &Hub, cx: &mut Context<'_>) -> Option<Message> {
        let Progress::Answering(batch, certain_at) = &mut self.progress else {
            return None;
        };
        let (certain_at, is_first) = (*certain_at, !batch.has_begun());
        let next = batch.next();
        let was_paused = batch.was_paused();
        let (state, age) = batch.leads_to();
        let to = (Arc::clone(state), age.clone());
        match next {
            Next::Part(part) => {
                // One that corrects answers counts when it is known that it does.
                if is_first && !part.again {
                    hub.counts().begin(part.intent);
                }
                if part.resume_token.is_some() {
                    self.arrive(to, certain_at, true);
                }
                Some(Message::Answers(part))
            }
            Next::Unchanged => {
                self.arrive(to, certain_at, false);
                if was_paused {
                    cx.waker().wake_by_ref();
                }
                None
            }
            Next::Later => {
                cx.waker().wake_by_ref();
                None
            }
        }
    }

    /// The client holds the answers of a state of some age.
    pub(super) fn arrive(&mut self, (state, age): (Arc<State>, Age), certain_at: Certainty, fresh: bool) {
        self.progress = Progress::Between(Cursor {
            commit: Arc::clone(&state.commit),
            certain_at,
            fresh,
        });
        if let Some(follow) = &mut self.follow {
            follow.hold(state, age);
        }
    }

    /// Begins a step. `None`: it must wait for its turn to. Only snapshots wait.
    fn step(
        &mut self,
        (hub, cx): (&Hub, &mut Context<'_>),
        answer: Answer,
        held: u64,
        state: &State,
        certain_at: Certainty,
    ) -> Result<Option<Message>, End> {
        let commit = Arc::clone(&state.commit);
        let (intent, from_revision, step, encoded) = match answer {
            Answer::Snapshot(reason) => {
                let Some(turn) = self.poll_turn(hub, state.weight, cx) else {
                    return Ok(self.goodbye_if_due(hub, Instant::now()));
                };
                let step = Step::snapshot(state.items.clone(), commit, turn);
                (Intent::Snapshot(reason), 0, step, None)
            }
            Answer::Delta(merged) => {
                let step = Step::delta(merged.changes, merged.weight, commit);
                (Intent::Delta, held, step, Some(merged.encoded))
            }
            Answer::None => (Intent::None, held, Step::none(commit), None),
            // Ahead even of what it just waited for.
            Answer::Ahead => return Err(End::Unreachable),
        };
        let begin = Begin {
            intent,
            generation: state.identity.generation,
            from_revision,
            to_revision: state.head.revision,
            item_count: u32::try_from(step.item_count()).unwrap_or(u32::MAX),
            stream: self.id,
            encoded,
        };
        hub.counts().begin(intent);
        self.turn = None;
        self.progress = Progress::Stepping(step, certain_at);
        Ok(Some(Message::Begin(begin)))
    }

    /// The step that has just begun, whole, if it is short and others make it too; else how it begins.
    pub(super) fn all_of(&mut self, mut begin: Begin) -> Message {
        let Progress::Stepping(step, certain_at) = &self.progress else {
            return Message::Begin(begin);
        };
        let Some(changes) = step.short() else {
            return Message::Begin(begin);
        };
        let Some(encoded) = begin.encoded.take() else {
            return Message::Begin(begin);
        };
        let whole = message::Step {
            begin,
            changes: Arc::clone(changes),
            commit: Arc::clone(&step.commit),
            encoded,
        };
        self.progress = Progress::Between(Cursor {
            commit: Arc::clone(&whole.commit),
            certain_at: *certain_at,
            fresh: true,
        });
        Message::Step(whole)
    }

    /// The turn of a snapshot, if it has come. It weighs what it does when it begins to wait; what is added to the state until its
    /// turn comes is sent with it.
    fn poll_turn(&mut self, hub: &Hub, weight: usize, cx: &mut Context<'_>) -> Option<Hold> {
        let turn = self.turn.get_or_insert_with(|| Box::new(hub.gate().queue(weight)));
        match turn.poll(cx) {
            Poll::Ready(permit) => Some(Hold::new(permit)),
            Poll::Pending => None,
        }
    }

    pub(super) fn heartbeat(&self, cursor: &Cursor, quality: Quality, now: Instant) -> Heartbeat {
        let now = now.into_std();
        let staleness = cursor.certain_at.map(|at| now.saturating_duration_since(at));
        let commit = &cursor.commit;
        let resume_token = match &self.follow {
            Some(follow) => follow.resume_token(&commit.position),
            None => commit.resume_token.clone(),
        };
        Heartbeat {
            resume_token,
            generation: commit.position.identity.generation,
            head_revision: commit.position.revision,
            quality,
            staleness: staleness.unwrap_or(UNKNOWN_STALENESS),
        }
    }
}
