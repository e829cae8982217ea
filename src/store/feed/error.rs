//! Why a read of the feed failed.

use deadpool_postgres::PoolError;

/// Why a read failed: what the feed can do is in [`Error::is_malformed`].
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No connection.
    #[error("no connection from the pool")]
    Pool(#[from] PoolError),
    /// The database refused or went away.
    #[error("the database answered with an error")]
    Database(#[from] tokio_postgres::Error),
    /// No answer in time.
    #[error("the database did not answer in time")]
    TimedOut,
    /// The connection is not to the primary.
    #[error("the database is a standby")]
    Standby,
    /// The listener's notifications do not come back: a pooler stands in between.
    #[error("notifications do not arrive on this connection")]
    Deaf,
    /// The listener and the pool are connected to different servers.
    #[error("the listener is connected to another server than the pool")]
    ElsewhereThanPool,
    /// The connection ended.
    #[error("the connection was closed")]
    Closed,
    /// A row that cannot be: asking again does not help.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

impl Error {
    /// Whether the data is at fault, so that asking again at once is of no use.
    pub(super) fn is_malformed(&self) -> bool {
        matches!(self, Self::Malformed(_))
    }
}

/// The error with its causes, for one log field.
pub(super) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
