//! What a stream is asked for, why there is none, and why it ends.

use std::sync::Arc;
use std::time::Duration;

use super::answers::Question;
use super::credential::StillValid;

/// What a client asks for.
pub struct Request<'a> {
    /// What it showed to resume from; empty if nothing.
    pub token: &'a [u8],
    /// How often it wants to hear that the stream is alive. `None`: as the server likes.
    pub heartbeat: Option<Duration>,
    /// How long its credential opens the stream. Asked at the first message and whenever the directory has changed.
    pub still_valid: StillValid,
    /// What it wants to hear of.
    pub view: View,
}

/// What a stream tells.
#[derive(Debug, Clone)]
pub enum View {
    /// The items, in steps of [`Message::Begin`](super::Message::Begin), [`Message::Item`](super::Message::Item) and
    /// [`Message::Commit`](super::Message::Commit).
    Items,
    /// The answers to a question, in batches of [`Message::Answers`](super::Message::Answers).
    Answers(Arc<Question>),
}

/// Why no stream was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// This replica does not hold the environment.
    #[error("the environment is not known here")]
    UnknownEnvironment,
    /// The server is shutting down: try another.
    #[error("the server is shutting down")]
    Draining,
    /// There are as many streams as there may be: try another, or later.
    #[error("there are too many streams")]
    TooMany,
    /// The key has as many streams here as one may have.
    #[error("the key has too many streams")]
    TooManyOfKey,
    /// The questions of all streams, or those of the key's, take as much memory as they may.
    #[error("the questions of streams take too much memory")]
    TooLarge,
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The credential no longer opens it.
    #[error("the credential was revoked")]
    Revoked,
    /// The credential has expired.
    #[error("the credential has expired")]
    Expired,
    /// The environment was deleted.
    #[error("the environment is gone")]
    EnvironmentGone,
    /// The client is ahead of this replica, and whether it is right cannot be found out now: it should come again.
    #[error("the client is ahead, and the origin cannot be asked")]
    Unreachable,
    /// The client did not read for too long.
    #[error("the client does not read")]
    Stalled,
    /// It said Goodbye.
    #[error("the stream is finished")]
    Finished,
}
