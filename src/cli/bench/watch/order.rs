//! Whether a stream is what its contract says, without keeping what it carries: steps are whole, each follows what is held, nothing goes
//! back, and a heartbeat is never ahead of what was sent. Pure.
//!
//! Hashes of what is held are not checked here, since thousands of streams would each have to hold everything; `halyard watch` checks
//! them.

use std::time::Duration;

use crate::pb::evaluation::v1::watch_response::Message;
use crate::pb::evaluation::v1::{Begin, Commit, Goodbye, Heartbeat, Intent, Item, SnapshotReason, SourceState};

/// What a client knows of where it stands, across its streams.
#[derive(Debug, Default)]
pub(in crate::cli::bench) struct Order {
    /// The generation and revision that are held.
    at: Option<(u64, u64)>,
    /// Where to resume.
    token: Vec<u8>,
    step: Option<(Begin, u32)>,
}

/// What a message was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::bench) enum Received {
    /// A part of a step, or nothing that we know.
    Part,
    /// The end of a step.
    Step {
        /// What the step did.
        intent: Intent,
        /// The revision that was held before, if one was.
        from: Option<u64>,
        /// The revision that is held now.
        to: u64,
    },
    /// A heartbeat.
    Heartbeat {
        /// How the server learns of changes.
        source: SourceState,
        /// How old its own state is. `None`: it does not say.
        staleness: Option<Duration>,
    },
    /// The end of the stream is announced.
    Goodbye {
        /// After which time to come back.
        come_back: Duration,
    },
}

/// How a stream broke its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli::bench) enum Disorder {
    /// A step does not begin where the last one ended: something is missing in between.
    Gap,
    /// A revision, or a generation, went back.
    WentBack,
    /// A step is not what it announced, or is not whole.
    BrokenStep,
    /// A heartbeat says that more has been sent than was.
    HeartbeatAhead,
}

impl Disorder {
    pub const ALL: [Self; 4] = [Self::Gap, Self::WentBack, Self::BrokenStep, Self::HeartbeatAhead];

    pub fn name(self) -> &'static str {
        match self {
            Self::Gap => "GAP",
            Self::WentBack => "WENT_BACK",
            Self::BrokenStep => "BROKEN_STEP",
            Self::HeartbeatAhead => "HEARTBEAT_AHEAD",
        }
    }
}

impl Order {
    /// Where to resume. Empty: nothing is held.
    pub fn token(&self) -> &[u8] {
        &self.token
    }

    /// A stream ended: what had begun is forgotten, what is held stays.
    pub fn disconnected(&mut self) {
        self.step = None;
    }

    /// Takes in a message. After disorder nothing is held any more.
    pub fn receive(&mut self, message: &Message) -> Result<Received, Disorder> {
        let received = match message {
            Message::Begin(begin) => self.begin(begin),
            Message::Item(Item { change: _ }) => self.item(),
            Message::Commit(commit) => self.commit(commit),
            Message::Heartbeat(heartbeat) => self.heartbeat(heartbeat),
            Message::Goodbye(Goodbye {
                reason: _,
                reconnect_after,
            }) => Ok(Received::Goodbye {
                come_back: duration(reconnect_after.as_ref()).unwrap_or_default(),
            }),
        };
        if received.is_err() {
            *self = Self::default();
        }
        received
    }

    fn begin(&mut self, begin: &Begin) -> Result<Received, Disorder> {
        if self.step.is_some() {
            return Err(Disorder::BrokenStep);
        }
        let follows = match begin.intent() {
            Intent::Snapshot => true,
            Intent::Delta | Intent::None => self.at == Some((begin.generation, begin.from_revision)),
            Intent::Unspecified => return Err(Disorder::BrokenStep),
        };
        if !follows {
            return Err(Disorder::Gap);
        }
        self.step = Some((begin.clone(), 0));
        Ok(Received::Part)
    }

    fn item(&mut self) -> Result<Received, Disorder> {
        let (_, received) = self.step.as_mut().ok_or(Disorder::BrokenStep)?;
        *received += 1;
        Ok(Received::Part)
    }

    fn commit(&mut self, commit: &Commit) -> Result<Received, Disorder> {
        let (begin, received) = self.step.take().ok_or(Disorder::BrokenStep)?;
        let to = (commit.generation, commit.revision);
        if begin.item_count != received || (begin.generation, begin.to_revision) != to {
            return Err(Disorder::BrokenStep);
        }
        // What is held was never this history's, or no longer is; these reasons say so.
        let other_history = matches!(
            begin.reason(),
            SnapshotReason::DifferentStore | SnapshotReason::Diverged
        );
        if !other_history && self.at.is_some_and(|held| to < held) {
            return Err(Disorder::WentBack);
        }
        let from = self.at.filter(|_| !other_history).map(|(_, revision)| revision);
        self.at = Some(to);
        self.token.clone_from(&commit.resume_token);
        Ok(Received::Step {
            intent: begin.intent(),
            from,
            to: to.1,
        })
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat) -> Result<Received, Disorder> {
        let says = (heartbeat.generation, heartbeat.head_revision);
        match self.at {
            Some(held) if says > held => return Err(Disorder::HeartbeatAhead),
            Some(held) if says < held => return Err(Disorder::WentBack),
            Some(_) | None => {}
        }
        if self.step.is_none() && !heartbeat.resume_token.is_empty() {
            self.token.clone_from(&heartbeat.resume_token);
        }
        Ok(Received::Heartbeat {
            source: heartbeat.source(),
            staleness: duration(heartbeat.staleness.as_ref()),
        })
    }
}

fn duration(said: Option<&prost_types::Duration>) -> Option<Duration> {
    Duration::try_from(*said?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(intent: Intent, from_revision: u64, to_revision: u64, item_count: u32) -> Message {
        Message::Begin(Begin {
            intent: intent.into(),
            generation: 1,
            from_revision,
            to_revision,
            item_count,
            ..Begin::default()
        })
    }

    fn commit(revision: u64) -> Message {
        Message::Commit(Commit {
            resume_token: vec![1],
            generation: 1,
            revision,
            ..Commit::default()
        })
    }

    fn heartbeat(head_revision: u64) -> Message {
        Message::Heartbeat(Heartbeat {
            generation: 1,
            head_revision,
            resume_token: vec![2],
            source: SourceState::Live.into(),
            staleness: Some(prost_types::Duration {
                seconds: 1,
                nanos: 5_000_000,
            }),
        })
    }

    /// A stream that holds a revision.
    fn at(revision: u64) -> Order {
        let mut order = Order::default();
        order.receive(&begin(Intent::Snapshot, 0, revision, 0)).unwrap();
        order.receive(&commit(revision)).unwrap();
        order
    }

    fn item() -> Message {
        Message::Item(Item::default())
    }

    /// The first disorder in messages to a stream that holds revision 5.
    fn disorder(messages: &[Message]) -> Option<Disorder> {
        let mut order = at(5);
        let found = messages.iter().find_map(|message| order.receive(message).err());
        assert_eq!(found.is_some(), order.token().is_empty());
        found
    }

    #[test]
    fn steps_that_follow_each_other_are_in_order() {
        let mut order = at(5);
        assert_eq!(order.receive(&begin(Intent::Delta, 5, 7, 1)), Ok(Received::Part));
        assert_eq!(order.receive(&item()), Ok(Received::Part));
        let step = Received::Step {
            intent: Intent::Delta,
            from: Some(5),
            to: 7,
        };
        assert_eq!(order.receive(&commit(7)), Ok(step));
        let beat = Received::Heartbeat {
            source: SourceState::Live,
            staleness: Some(Duration::from_millis(1_005)),
        };
        assert_eq!(order.receive(&heartbeat(7)), Ok(beat));
        assert_eq!(order.token(), [2]);
    }

    #[test]
    fn what_is_missing_is_a_gap() {
        assert_eq!(disorder(&[begin(Intent::Delta, 6, 7, 0)]), Some(Disorder::Gap));
        assert_eq!(disorder(&[begin(Intent::None, 4, 4, 0)]), Some(Disorder::Gap));
        assert_eq!(disorder(&[heartbeat(6)]), Some(Disorder::HeartbeatAhead));
    }

    #[test]
    fn nothing_goes_back() {
        assert_eq!(
            disorder(&[begin(Intent::Snapshot, 0, 4, 0), commit(4)]),
            Some(Disorder::WentBack)
        );
        assert_eq!(disorder(&[heartbeat(4)]), Some(Disorder::WentBack));
        let mut other = begin(Intent::Snapshot, 0, 4, 0);
        if let Message::Begin(begin) = &mut other {
            begin.reason = SnapshotReason::Diverged.into();
        }
        assert_eq!(disorder(&[other, commit(4)]), None);
    }

    #[test]
    fn a_step_is_what_it_announced() {
        let delta = || begin(Intent::Delta, 5, 6, 1);
        for messages in [
            vec![delta(), delta()],
            vec![delta(), commit(6)],
            vec![delta(), item(), commit(7)],
            vec![item()],
            vec![commit(6)],
            vec![begin(Intent::Unspecified, 5, 6, 0)],
        ] {
            assert_eq!(disorder(&messages), Some(Disorder::BrokenStep), "{messages:?}");
        }
    }

    #[test]
    fn a_stream_that_ends_within_a_step_is_resumed_before_it() {
        let mut order = at(5);
        order.receive(&begin(Intent::Delta, 5, 6, 1)).unwrap();
        order.disconnected();
        assert_eq!(order.token(), [1]);
        assert_eq!(order.receive(&begin(Intent::Delta, 5, 6, 0)), Ok(Received::Part));
    }
}
