//! A stream of answers: a question that is answered again whenever an answer may have changed.
//!
//! Nothing is remembered of the answers themselves. A stream holds the state that its client's answers are of, and compares, for
//! the flags that a change touches, what that state answers with what the newest does: two evaluations of a flag cost less than
//! remembering what each of many clients was told about each of many flags.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::age::Age;
use super::connect::Answer as Decision;
use super::item::Change;
use super::message::{Intent, Reason, StreamId};
use super::ring::Merged;
use super::state::State;
use super::token::{Fingerprint, Holding, Token};
use super::unsettled::Unsettled;
use crate::domain::access::KeyKind;
use crate::domain::context::Context;
use crate::domain::form::{ItemId, Kind};
use crate::evaluate::{Answer, Flag};

/// Flags that a stream compares before others get their turn: a change may touch all flags of thousands of streams.
const COMPARED_AT_ONCE: usize = 256;
/// Flags in one part of a batch.
const PART_FLAGS: usize = 64;
/// Bytes that the definitions of a part's flags have together, unless it is one flag: about what one message takes.
const PART_BYTES: usize = 32 * 1024;

/// What a stream of answers is about.
#[derive(Debug)]
pub struct Question {
    /// Who is asking.
    pub context: Context,
    /// The flags wanted, sorted and none twice. `None`: every flag.
    pub flags: Option<Arc<[Arc<str>]>>,
    /// What the key that asks may see.
    pub asked_by: KeyKind,
    /// Tells it from others.
    pub fingerprint: Fingerprint,
}

/// A batch of answers, or a part of one.
#[derive(Debug, Clone)]
pub struct Part {
    /// What is answered.
    pub question: Arc<Question>,
    /// What answers.
    pub state: Arc<State>,
    /// How old that is.
    pub age: Age,
    /// What the batch does with what the client holds.
    pub intent: Intent,
    /// The flags whose answers are new, sorted.
    pub changed: Vec<Arc<str>>,
    /// The flags that no longer have an answer, sorted.
    pub removed: Vec<Arc<str>>,
    /// Where to resume, if this part is the last and all answers are settled.
    pub resume_token: Option<Bytes>,
    /// It only corrects answers that were given without their assignments: those that still would be need not be sent.
    pub again: bool,
    /// Names the stream.
    pub stream: StreamId,
}

impl Question {
    /// About what it takes in memory, in bytes, for as long as its stream lives.
    pub(super) fn size_bytes(&self) -> usize {
        let name = |flag: &Arc<str>| size_of::<Arc<str>>() + 2 * size_of::<usize>() + flag.len();
        let named = |flags: &Arc<[Arc<str>]>| flags.iter().map(name).sum();
        size_of::<Self>() + self.context.size_bytes() + self.flags.as_ref().map_or(0, named)
    }

    /// The flag, if whoever asks may see it and wants it to be answered.
    pub fn flag<'a>(&self, state: &'a State, key: &str) -> Option<&'a Flag> {
        let flag = state.snapshot.get(key).filter(|_| self.asks_for(key))?;
        flag.visible_to(self.asked_by).then_some(flag)
    }

    /// Whether two states, of these ages, may answer differently for a flag. They may wherever an assignment has a say: which arm a
    /// unit has is not known here, and whatever stood for it could hide a difference.
    fn differs(&self, before: (&State, &Age), after: (&State, &Age), key: &str) -> bool {
        let answer = |(state, age)| self.flag(state, key).map(|flag| self.answer((state, age), flag));
        match (answer(before), answer(after)) {
            (Some(None), _) | (_, Some(None)) => true,
            (before, after) => before != after,
        }
    }

    /// The answer, as far as whoever asks may see it. `None`: it depends on an assignment.
    fn answer<'a>(&self, (state, age): (&'a State, &Age), flag: &'a Flag) -> Option<Answer<'a>> {
        let answer = flag.evaluate_unassigned(&self.context, &state.snapshot, age.freshness())?;
        Some(match self.asked_by {
            KeyKind::Server => answer,
            KeyKind::Client => Answer { rule: None, ..answer },
        })
    }

    fn asks_for(&self, key: &str) -> bool {
        let among = |flags: &Arc<[Arc<str>]>| flags.binary_search_by(|flag| (**flag).cmp(key)).is_ok();
        self.flags.as_ref().is_none_or(among)
    }
}

/// Where a stream of answers stands between two batches.
pub(super) struct Follow {
    question: Arc<Question>,
    /// The state that the client's answers are of. `None`: it holds none that are known here.
    held: Option<Arc<State>>,
    /// How old that was. Also of what it showed a token for, and of the first that it is sent.
    age: Age,
    /// What it was answered without the assignments that it depends on.
    unsettled: Unsettled,
}

impl Follow {
    pub(super) fn new(question: Arc<Question>, age: Age) -> Self {
        Self {
            question,
            held: None,
            age,
            unsettled: Unsettled::default(),
        }
    }

    pub(super) fn question_bytes(&self) -> usize {
        self.question.size_bytes()
    }

    /// What its resume tokens are of.
    pub(super) fn holding(&self) -> Holding {
        self.holding_at(&self.age)
    }

    fn holding_at(&self, age: &Age) -> Holding {
        let question = self.unsettled.tell_apart(self.question.fingerprint);
        Holding::Answers(age.tell_apart(question))
    }

    pub(super) fn resume_token(&self, position: &Token) -> Bytes {
        position.write_for(self.holding())
    }

    /// The client holds the answers of this state at this age.
    pub(super) fn hold(&mut self, state: Arc<State>, age: Age) {
        self.held = Some(state);
        self.age = age;
    }

    /// These flags of a part were answered without the assignments that they depend on. Returns where to resume behind the part. `None`:
    /// its batch goes on.
    pub(super) fn answered(&mut self, part: &Part, unsettled: &[Arc<str>], now: Instant) -> Option<Bytes> {
        if part.again {
            self.unsettled.note_again(unsettled, now);
        } else {
            let answered = part.changed.iter().chain(&part.removed);
            self.unsettled.note(answered, unsettled, now);
        }
        let position = &part.state.commit.position;
        part.resume_token.as_ref()?;
        Some(position.write_for(self.holding_at(&part.age)))
    }

    /// Whether all answers that the client holds are settled.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// When to ask again for what is not settled. `None`: everything is.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.unsettled.due()
    }

    /// Answers of the state that the client holds, of this age, that were not settled. `None`: none of them is there any more.
    pub(super) fn again(&mut self, (state, age): (&Arc<State>, &Age), stream: StreamId) -> Option<Batch> {
        let mut gathered = Gathered::default();
        let question = &self.question;
        self.unsettled.take(|key| {
            // One that is gone was removed by the batch that told so, or will be.
            if question.flag(state, key).is_none() {
                return true;
            }
            let size = definition_size(state, key);
            let fits = gathered.has_room_for(size);
            if fits {
                gathered.bytes += size;
                gathered.changed.push(Arc::clone(key));
            }
            fits
        });
        if gathered.is_empty() {
            self.unsettled.note_again(&[], Instant::now());
            return None;
        }
        Some(Batch {
            question: Arc::clone(&self.question),
            state: Arc::clone(state),
            age: age.clone(),
            intent: Intent::Delta,
            rest: Rest::Nothing,
            gathered,
            begun: false,
            paused: false,
            again: true,
            stream,
        })
    }

    /// How old what answered was.
    pub(super) fn age(&self) -> &Age {
        &self.age
    }

    /// The age at which the next batch answers, given what it is. The first answers as the stream began, since that is what tokens
    /// were compared with.
    pub(super) fn age_at<'a>(&'a self, now: &'a Age) -> &'a Age {
        if self.held.is_some() { now } else { &self.age }
    }

    /// What leads the client to a state, from the revision that it is known to stand at, given what it would be sent if it held
    /// items. `None`: it is ahead of the state.
    pub(super) fn batch(
        &self,
        decision: &Decision,
        from: u64,
        (state, age): (&Arc<State>, &Age),
        stream: StreamId,
    ) -> Option<Batch> {
        let held = self.held.as_ref().filter(|held| held.identity == state.identity);
        let everything = Rest::Everything { last: None };
        let differences = |held: &Arc<State>, among| Rest::Different {
            before: (Arc::clone(held), self.age.clone()),
            among,
        };
        let (intent, rest) = match (decision, held) {
            (Decision::Ahead, _) => return None,
            // At another age any flag may be answered differently, its state and rules be what they are.
            (Decision::None | Decision::Delta(_), Some(held)) if *age != self.age => {
                (Intent::Delta, differences(held, Among::Every { last: None }))
            }
            (Decision::None, _) => (Intent::None, Rest::Nothing),
            (Decision::Delta(merged), Some(held)) => {
                let flags = state.touched_since(from, merged);
                (Intent::Delta, differences(held, Among::Touched { flags, next: 0 }))
            }
            (Decision::Delta(merged), None) if self.is_untouched(from, state, merged) => (Intent::None, Rest::Nothing),
            (Decision::Delta(_), None) => (Intent::Snapshot(Reason::MayHaveChanged), everything),
            (Decision::Snapshot(Reason::Compacted | Reason::CheaperAsSnapshot), Some(held)) => {
                (Intent::Delta, differences(held, Among::Every { last: None }))
            }
            (Decision::Snapshot(reason), _) => (Intent::Snapshot(*reason), everything),
        };
        Some(Batch {
            question: Arc::clone(&self.question),
            state: Arc::clone(state),
            age: age.clone(),
            intent,
            rest,
            gathered: Gathered::default(),
            begun: false,
            paused: false,
            again: false,
            stream,
        })
    }

    /// Whether no answer can be another than it was at a revision whose state is gone. A flag that the client may not see, and
    /// whose definition is as it was, could not be seen then either.
    fn is_untouched(&self, from: u64, state: &State, merged: &Merged) -> bool {
        let redefined = |key: &str| {
            let mut changes = merged.changes.iter().map(Change::id);
            changes.any(|id| id.kind == Kind::FlagDefinition && *id.key == *key)
        };
        let touches = |key: &str| {
            let seen = self.question.flag(state, key).is_some();
            seen || (self.question.asks_for(key) && redefined(key))
        };
        !state.touched_since(from, merged).iter().any(|key| touches(key))
    }
}

/// What a client holds of a question that was answered at some age.
fn holding(question: &Question, age: &Age) -> Holding {
    Holding::Answers(age.tell_apart(question.fingerprint))
}

/// A batch that is being sent.
pub(super) struct Batch {
    question: Arc<Question>,
    state: Arc<State>,
    age: Age,
    intent: Intent,
    rest: Rest,
    /// What the next part says so far.
    gathered: Gathered,
    /// A part of it was sent.
    begun: bool,
    /// Others had their turn in the middle of it.
    paused: bool,
    /// It only corrects answers that were not settled.
    again: bool,
    stream: StreamId,
}

/// What is still to be sent. A stream must not keep a list of all flags.
enum Rest {
    /// Nothing.
    Nothing,
    /// Every flag that is asked for, after the last that was looked at.
    Everything { last: Option<Arc<str>> },
    /// Those of these flags that another state, at some age, answers differently.
    Different { before: (Arc<State>, Age), among: Among },
}

/// Which flags to compare.
enum Among {
    /// These, from one of them on.
    Touched { flags: Arc<[Arc<str>]>, next: usize },
    /// Those of either state, after the last that was looked at.
    Every { last: Option<Arc<str>> },
}

/// The flags of a part.
#[derive(Default)]
struct Gathered {
    changed: Vec<Arc<str>>,
    removed: Vec<Arc<str>>,
    bytes: usize,
}

/// What there is of a batch.
pub(super) enum Next {
    /// A part; the last one has a resume token.
    Part(Box<Part>),
    /// Nothing: what the client holds is what the state answers.
    Unchanged,
    /// That is not known yet: others are to have their turn first.
    Later,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    fn has_room_for(&self, size: usize) -> bool {
        let fits = self.bytes == 0 || self.bytes + size <= PART_BYTES;
        fits && self.changed.len() + self.removed.len() < PART_FLAGS
    }
}

impl Batch {
    /// What it leads to, and how old that is.
    pub(super) fn leads_to(&self) -> (&Arc<State>, &Age) {
        (&self.state, &self.age)
    }

    /// Whether a part of it was sent.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether others had their turn in the middle of it, so that there may be something newer by now.
    pub(super) fn was_paused(&self) -> bool {
        self.paused
    }

    /// Goes on with it.
    pub(super) fn next(&mut self) -> Next {
        for _ in 0..COMPARED_AT_ONCE {
            let Some(key) = self.peek() else {
                let is_compared = matches!(self.rest, Rest::Different { .. });
                if is_compared && !self.begun && self.gathered.is_empty() {
                    return Next::Unchanged;
                }
                return Next::Part(Box::new(self.part(Some(self.resume_token()))));
            };
            if self.tells(&key) {
                let size = definition_size(&self.state, &key);
                if !self.gathered.has_room_for(size) {
                    return Next::Part(Box::new(self.part(None)));
                }
                let is_there = self.question.flag(&self.state, &key).is_some();
                self.gathered.bytes += size;
                let Gathered { changed, removed, .. } = &mut self.gathered;
                let place = if is_there { changed } else { removed };
                place.push(Arc::clone(&key));
            }
            self.pass(key);
        }
        self.paused = true;
        Next::Later
    }

    fn part(&mut self, resume_token: Option<Bytes>) -> Part {
        let Gathered { changed, removed, .. } = std::mem::take(&mut self.gathered);
        self.begun = true;
        Part {
            question: Arc::clone(&self.question),
            state: Arc::clone(&self.state),
            age: self.age.clone(),
            intent: self.intent,
            changed,
            removed,
            resume_token,
            again: self.again,
            stream: self.stream,
        }
    }

    fn resume_token(&self) -> Bytes {
        self.state.commit.position.write_for(holding(&self.question, &self.age))
    }

    /// Whether the client is to be told of the flag.
    fn tells(&self, key: &str) -> bool {
        match &self.rest {
            Rest::Nothing | Rest::Everything { .. } => true,
            Rest::Different {
                before: (before, age), ..
            } => self.question.differs((before, age), (&self.state, &self.age), key),
        }
    }

    /// The next flag to look at.
    fn peek(&self) -> Option<Arc<str>> {
        match &self.rest {
            Rest::Nothing => None,
            Rest::Everything { last } => self.peek_everything(last.as_deref()),
            Rest::Different {
                before: (before, _),
                among,
            } => match among {
                Among::Touched { flags, next } => flags.get(*next).cloned(),
                Among::Every { last } => {
                    let next =
                        |state: &State| Some(Arc::from(state.snapshot.flags_after(last.as_deref()).next()?.key()));
                    let (one, other): (Option<Arc<str>>, Option<Arc<str>>) = (next(before), next(&self.state));
                    one.into_iter().chain(other).min()
                }
            },
        }
    }

    fn peek_everything(&self, last: Option<&str>) -> Option<Arc<str>> {
        if let Some(asked) = &self.question.flags {
            let start = last.map_or(0, |last| asked.partition_point(|key| **key <= *last));
            let mut rest = asked.iter().skip(start);
            return rest.find(|key| self.question.flag(&self.state, key).is_some()).cloned();
        }
        let mut rest = self.state.snapshot.flags_after(last);
        let next = rest.find(|flag| flag.visible_to(self.question.asked_by));
        next.map(|flag| Arc::from(flag.key()))
    }

    fn pass(&mut self, key: Arc<str>) {
        match &mut self.rest {
            Rest::Nothing => {}
            Rest::Everything { last }
            | Rest::Different {
                among: Among::Every { last },
                ..
            } => *last = Some(key),
            Rest::Different {
                among: Among::Touched { next, .. },
                ..
            } => *next += 1,
        }
    }
}

/// About what the answer of a flag can take, in bytes.
fn definition_size(state: &State, key: &Arc<str>) -> usize {
    let id = ItemId {
        kind: Kind::FlagDefinition,
        key: Arc::clone(key),
    };
    state.items.get(&id).map_or(0, |item| item.form.len())
}
