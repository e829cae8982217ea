//! What a stream says. The edge turns these into the messages of `watch_service.proto`, one to one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::answers::Part;
use super::item::{Change, Encoded, EncodedStep};
use super::source::{Head, Identity, Quality};
use super::token::Token;
use crate::domain::change::{EnvironmentId, StateHash};

/// One message of a stream.
#[derive(Debug, Clone)]
pub enum Message {
    /// A step begins.
    Begin(Begin),
    /// One item of the step.
    Item(Change),
    /// The step is complete. The same for every stream that arrives at this revision.
    Commit(Arc<Commit>),
    /// All of that at once.
    Step(Step),
    /// Answers: a batch, or a part of one.
    Answers(Box<Part>),
    /// The stream is alive.
    Heartbeat(Heartbeat),
    /// The stream is about to end; nothing follows.
    Goodbye(Goodbye),
}

/// A step begins.
#[derive(Debug, Clone)]
pub struct Begin {
    /// What the step does with what the client holds.
    pub intent: Intent,
    /// The history that the revisions are of.
    pub generation: u64,
    /// The revision that the client holds; 0 in a snapshot.
    pub from_revision: u64,
    /// The revision that the client will hold at the Commit.
    pub to_revision: u64,
    /// How many items follow.
    pub item_count: u32,
    /// Names the stream.
    pub stream: StreamId,
    /// The encoded step, where other streams make the same.
    pub encoded: Option<Arc<EncodedStep>>,
}

/// A whole step of few bytes, which many streams make.
#[derive(Debug, Clone)]
pub struct Step {
    /// How it begins.
    pub begin: Begin,
    /// Its items.
    pub changes: Arc<[Change]>,
    /// How it ends.
    pub commit: Arc<Commit>,
    /// The encoded step.
    pub encoded: Arc<EncodedStep>,
}

/// What a step does with what the client holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Replaces everything.
    Snapshot(Reason),
    /// Changes some items.
    Delta,
    /// Changes nothing: the Commit that follows confirms what the client already holds. Only ever a stream's first step.
    None,
}

/// Why a step is a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The client showed no token, or an unreadable one.
    NoState,
    /// What the client holds is older than what is kept here.
    Compacted,
    /// What the client holds is not of our history.
    Diverged,
    /// The token is of another installation or another environment.
    DifferentStore,
    /// The token is of another format of items or tokens.
    FormatChanged,
    /// The changes are larger than everything.
    CheaperAsSnapshot,
    /// The token is of the answers to another question.
    OtherQuestion,
    /// Answers may have changed since the token.
    MayHaveChanged,
}

/// Names a stream at this server, for operators; random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(pub u64);

impl StreamId {
    /// One that nobody can guess: whoever knows it and the key acknowledges for its client.
    pub(super) fn random() -> Self {
        let (_, number) = uuid::Uuid::new_v4().as_u64_pair();
        Self(number)
    }

    /// Reads a name. `None`: it is none that a stream can have.
    pub fn read(name: &str) -> Option<Self> {
        let digits = name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u64::from_str_radix(name, 16).ok().map(Self)).flatten()
    }

    /// The name, as it is displayed.
    pub fn digits(self) -> [u8; 16] {
        let mut digits = [0; 16];
        // There is room for all of them, so it cannot fail.
        let _ = hex::encode_to_slice(self.0.to_be_bytes(), &mut digits);
        digits
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A step is complete. Made once per revision.
#[derive(Debug)]
pub struct Commit {
    /// Where the client stands with it.
    pub position: Token,
    /// The same as the bytes to resume with.
    pub resume_token: Bytes,
    /// The hash over all items that the client now holds.
    pub state_hash: StateHash,
    /// When the revision was committed, by the database's clock.
    pub committed_at: jiff::Timestamp,
    /// The message that carries it.
    pub encoded: Encoded,
}

impl Commit {
    pub(super) fn new(identity: Identity, environment: EnvironmentId, head: Head, state_hash: StateHash) -> Arc<Self> {
        let position = Token {
            identity,
            environment,
            revision: head.revision,
            digest: head.digest,
            sealed: false,
        };
        Arc::new(Self {
            position,
            resume_token: position.write(),
            state_hash,
            committed_at: head.committed_at,
            encoded: Encoded::default(),
        })
    }
}

/// The stream is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Where to resume: the last Commit's.
    pub resume_token: Bytes,
    /// The history that revisions are of.
    pub generation: u64,
    /// The newest revision that the server held when this stream last caught up; everything up to it has been sent.
    pub head_revision: u64,
    /// How the server learns of changes.
    pub quality: Quality,
    /// How long ago the server last knew for certain that `head_revision` was the newest. [`UNKNOWN_STALENESS`]: it never knew.
    pub staleness: Duration,
}

/// The staleness of what was never confirmed: a hundred years. It could be arbitrarily old (a sidecar starts from its disk), so
/// the time since this process started would be a lie; and a client may well count in nanoseconds in 64 bits.
pub const UNKNOWN_STALENESS: Duration = Duration::from_hours(24 * 365 * 100);

/// The stream is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goodbye {
    /// Why.
    pub reason: GoodbyeReason,
    /// How long the client should wait before it reconnects; random, so that not all come at once.
    pub reconnect_after: Duration,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GoodbyeReason {
    /// The server is shutting down.
    Draining,
    /// The stream has lived long enough.
    Rotated,
}
