//! A connection of the pool while somebody has it, and what is left to do should their future be dropped.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool_postgres::Object;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::connect::Tls;
use super::deadline;
use super::feed::Hint;

/// How long PostgreSQL may take to be told that a statement is not wanted any more.
const CANCELLING: Duration = Duration::from_secs(5);

/// How long a statement that nobody waits for may go on before PostgreSQL is told. Longer than the shortest time that it is given by
/// itself: then a connection, and the log-in to the next one, cost more than the rest of the statement.
const WINDING_UP: Duration = deadline::SHORTEST.saturating_add(Duration::from_millis(150));

/// Holds a connection that is given back only when the operation has returned.
///
/// Whoever asks for a write may go away in the middle of a statement, and the future is dropped. PostgreSQL does not notice: the
/// statement goes on waiting for its lock, and whoever got the connection next would wait behind it. So such a connection is kept
/// from others until its last statement was answered. When that takes long, PostgreSQL is told to cancel what it is at, on a
/// connection that is encrypted as the other was, and the other is closed.
pub(super) struct Lease {
    connection: Option<Object>,
    tls: Tls,
}

impl Lease {
    pub(super) fn new(tls: &Tls) -> Self {
        Self {
            connection: None,
            tls: tls.clone(),
        }
    }

    /// Takes the connection in, and lends it.
    pub(super) fn hold(&mut self, connection: Object) -> &mut Object {
        self.connection.insert(connection)
    }

    /// Gives the connection back to the pool: every statement sent was answered.
    pub(super) fn give_back(mut self) {
        self.connection = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            abandon(connection, &self.tls);
        }
    }
}

/// Gives a connection back to the pool once PostgreSQL is done with what nobody waits for any more. If that takes long, it is
/// cancelled and the connection closed. Until then the connection keeps its place in the pool, so that there are never more of
/// them, and never more cancellations under way, than the pool has places.
fn abandon(connection: Object, tls: &Tls) {
    let Ok(runtime) = Handle::try_current() else {
        drop(Object::take(connection));
        return;
    };
    // A commit is not worth ending: it may wait for a standby, and would be done all the same.
    let patience = if deadline::has_committed() {
        deadline::COMMITTING
    } else {
        WINDING_UP
    };
    let tls = tls.clone();
    runtime.spawn(async move {
        if timeout(patience, deadline::restored(&connection)).await == Ok(true) {
            return;
        }
        // PostgreSQL may accept and not answer.
        match timeout(CANCELLING, connection.cancel_token().cancel_query(tls)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an abandoned statement could not be cancelled"),
            Err(_) => tracing::debug!("an abandoned statement could not be cancelled in time"),
        }
        // The request to cancel may reach it later than we think, and must not hit another's statement.
        drop(Object::take(connection));
    });
}

/// A connection for reading. It goes back to the pool when it is dropped, unless the request that reads is given up: then it goes
/// back later, for the same reason.
pub(super) struct Reader {
    /// `None`: this is being dropped.
    connection: Option<Object>,
    /// Whether PostgreSQL was told to give up sooner than usual.
    short: bool,
    tls: Tls,
}

impl Reader {
    /// Reads with a connection on which statements usually may take so long.
    pub(super) fn new(connection: Object, usual: Duration, tls: &Tls) -> Self {
        let short = deadline::shorten(&connection, usual);
        Self {
            connection: Some(connection),
            short,
            tls: tls.clone(),
        }
    }
}

impl Deref for Reader {
    type Target = Object;

    fn deref(&self) -> &Object {
        let Some(connection) = &self.connection else {
            unreachable!("it has its connection until it is dropped");
        };
        connection
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Object {
        let Some(connection) = &mut self.connection else {
            unreachable!("it has its connection until it is dropped");
        };
        connection
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if deadline::is_given_up() {
            abandon(connection, &self.tls);
        } else if self.short {
            deadline::restore(&connection);
        }
    }
}

/// Hints that are sent when this is dropped. Made before the commit, so that a future dropped after PostgreSQL has committed
/// loses none; one too many only costs a look.
pub(super) struct Announcement<S: FnMut(Hint)> {
    send: S,
    pending: Vec<Hint>,
}

impl<S: FnMut(Hint)> Announcement<S> {
    pub(super) fn new(pending: impl Iterator<Item = Hint>, send: S) -> Self {
        let pending = pending.collect();
        Self { send, pending }
    }
}

impl<S: FnMut(Hint)> Drop for Announcement<S> {
    fn drop(&mut self) {
        self.pending.drain(..).for_each(&mut self.send);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_sent_however_the_commit_ends() {
        let mut sent = Vec::new();
        let hint = Hint::Access { revision: 7 };
        drop(Announcement::new([hint].into_iter(), |hint| sent.push(hint)));
        assert_eq!(sent, [hint]);
    }
}
