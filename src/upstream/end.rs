//! Why a stream from the upstream ended.

use std::time::Duration;

use tonic::{Code, Status};

use super::publish::Unheard;
use super::step::Broken;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// No connection came about.
    #[error("the upstream cannot be reached")]
    Unreachable(#[from] tonic::transport::Error),
    /// It did not answer in time.
    #[error("the upstream does not answer")]
    Unanswered,
    /// It asked us to come back.
    #[error("the upstream said goodbye")]
    Goodbye(Duration),
    /// It failed, or was refused.
    #[error("the upstream's stream failed")]
    Failed(#[from] Status),
    /// It was closed without a word.
    #[error("the upstream closed the stream")]
    Closed,
    /// Nothing came for three heartbeats.
    #[error("the upstream has been silent for three heartbeats")]
    Silent,
    /// It was not what its contract says.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The hub is gone: this process ends.
    #[error("nobody listens")]
    Unheard,
}

impl From<Unheard> for End {
    fn from(Unheard: Unheard) -> Self {
        Self::Unheard
    }
}

/// Whether trying again soon cannot help: a refused credential stays refused, a deleted environment stays deleted.
pub fn is_final(code: Code) -> bool {
    match code {
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::NotFound
        | Code::InvalidArgument
        | Code::Unimplemented => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}
