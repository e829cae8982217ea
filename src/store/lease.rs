//! A connection of the pool while a mutation has it, and what is left to do should the mutation's future be dropped.

use deadpool_postgres::Object;
use tokio::runtime::Handle;
use tokio_postgres::NoTls;

use super::feed::{Hint, Hints};

/// Holds a connection that is given back only when the operation has returned.
///
/// Whoever asks for a write may go away in the middle of a statement, and the future is dropped. PostgreSQL does not notice: the
/// statement goes on waiting for its lock, and whoever got the connection next would wait behind it. So such a connection is
/// closed, and PostgreSQL is told to cancel what it is at.
#[derive(Default)]
pub(super) struct Lease(Option<Object>);

impl Lease {
    /// Takes the connection in, and lends it.
    pub(super) fn hold(&mut self, connection: Object) -> &mut Object {
        self.0.insert(connection)
    }

    /// Gives the connection back to the pool: every statement sent was answered.
    pub(super) fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.0.take() else { return };
        let cancel = Object::take(connection).cancel_token();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = cancel.cancel_query(NoTls).await {
                    tracing::debug!(%error, "an abandoned statement could not be cancelled");
                }
            });
        }
    }
}

/// Hints that are sent when this is dropped. Made before the commit, so that a future dropped after PostgreSQL has committed
/// loses none; one too many only costs a look.
pub(super) struct Announcement<'a> {
    hints: &'a Hints,
    pending: Vec<Hint>,
}

impl<'a> Announcement<'a> {
    pub(super) fn new(hints: &'a Hints, pending: impl Iterator<Item = Hint>) -> Self {
        let pending = pending.collect();
        Self { hints, pending }
    }
}

impl Drop for Announcement<'_> {
    fn drop(&mut self) {
        self.pending.drain(..).for_each(|hint| self.hints.send(hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_sent_however_the_commit_ends() {
        let hints = Hints::new();
        let announcement = Announcement::new(&hints, [Hint::Access { revision: 7 }].into_iter());
        assert_eq!(hints.outbox().take().access, None);
        drop(announcement);
        assert_eq!(hints.outbox().take().access, Some(7));
    }
}
