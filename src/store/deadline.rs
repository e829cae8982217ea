//! By when what a request asks of the store must be done, and how its work is given up.
//!
//! [`by`] runs a request's work, and is the one place that says so; `docs/decisions/deadlines.md` says why it is no argument. Whoever
//! asks the store inside, however deep, asks with that deadline:
//!
//! - A connection is lent with what is left of the time as its `statement_timeout`, so that PostgreSQL itself gives up, and the
//!   connection goes on. Where nothing is left, nothing is asked.
//! - A transaction is not committed after the deadline. One whose commit was sent is waited for, so that nobody is told that nothing
//!   was done when it was; and PostgreSQL does not give it up, which looks at no `statement_timeout` any more when it commits.
//! - When the work is dropped, by the deadline or since the caller has gone, connections in its hands go back to their pool once
//!   PostgreSQL is done with them, which it is soon or has to be told: see [`super::lease`].
//!
//! Tasks of the server itself have no deadline, and are not touched by any of this. What is spawned inside a request's work has
//! none either, and has to be given one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join;
use tokio::time::timeout_at;
use tokio_postgres::Client;

use super::error::Error;

/// How long after the deadline a commit that was sent before it is waited for. What becomes of it later nobody is told.
pub(super) const COMMITTING: Duration = Duration::from_secs(5);

/// PostgreSQL gives up a little before we do, a tenth of the time but this much at most: then the connection need not be closed.
const LONGEST_MARGIN: Duration = Duration::from_millis(10);

tokio::task_local! {
    static WORK: Arc<Work>;
}

/// The deadline came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nothing was committed.
    Undone,
    /// A commit was sent, and PostgreSQL has not said what became of it.
    Unanswered,
}

/// What a request has the store do.
#[derive(Debug)]
struct Work {
    /// `None`: it may take as long as it likes, but is given up when it is dropped.
    end: Option<Instant>,
    /// False while it waits, and so while it is dropped before its end.
    running: AtomicBool,
    /// Whether something of it was committed, or is about to be.
    committed: AtomicBool,
}

/// Runs a request's work until its deadline. Dropping it gives up the work.
pub async fn by<T>(end: Option<Instant>, work: impl Future<Output = T> + Send) -> Result<T, Over> {
    let of = Arc::new(Work {
        end,
        running: AtomicBool::new(false),
        committed: AtomicBool::new(false),
    });
    let watched = Watched {
        of: of.clone(),
        work: Box::pin(work),
    };
    let mut work = Box::pin(WORK.scope(of.clone(), watched));
    let Some(end) = end else {
        return Ok(work.await);
    };
    match timeout_at(end.into(), &mut work).await {
        Ok(done) => Ok(done),
        Err(_) if of.committed.load(Ordering::Relaxed) => tokio::time::timeout(COMMITTING, work)
            .await
            .map_err(|_| Over::Unanswered),
        Err(_) => Err(Over::Undone),
    }
}

/// Notes when its work is running, which is when it is polled.
struct Watched<F> {
    of: Arc<Work>,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.of.running.store(true, Ordering::Relaxed);
        let polled = self.work.as_mut().poll(context);
        self.of.running.store(false, Ordering::Relaxed);
        polled
    }
}

/// Whether a request asks, rather than a task of our own.
pub(super) fn is_request() -> bool {
    WORK.try_with(|_| ()).is_ok()
}

/// Whether what happens now happens since a request's work is being dropped before its end.
pub(super) fn is_given_up() -> bool {
    WORK.try_with(|work| !work.running.load(Ordering::Relaxed))
        .unwrap_or(false)
}

/// Whether a commit was sent of the work that is being done, or dropped.
pub(super) fn has_committed() -> bool {
    WORK.try_with(|work| work.committed.load(Ordering::Relaxed))
        .unwrap_or(false)
}

/// To be asked before PostgreSQL is.
pub(super) fn in_time() -> Result<(), Error> {
    let end = WORK.try_with(|work| work.end).ok().flatten();
    if end.is_none_or(|end| Instant::now() < end) {
        Ok(())
    } else {
        Err(Error::Late)
    }
}

/// To be asked before a commit is sent: from then on it is waited for.
pub(super) fn commit() -> Result<(), Error> {
    in_time()?;
    // Without a request there is nobody to be told.
    let _ = WORK.try_with(|work| work.committed.store(true, Ordering::Relaxed));
    Ok(())
}

/// PostgreSQL is never told to give up sooner than this: what takes it back must not be given up too. Whoever has less time left is
/// answered in time all the same, and the statement cancelled.
pub(super) const SHORTEST: Duration = Duration::from_millis(100);

/// Has PostgreSQL give up statements of this connection in time, and says whether it had to be told: not where statements usually
/// may take no longer anyway. It is told for the session, since the time is to hold for what is asked outside of transactions too; and
/// together with whatever is sent next, which it comes before.
pub(super) fn shorten(client: &Client, usual: Duration) -> bool {
    let Some(left) = left().filter(|left| *left < usual) else {
        return false;
    };
    send(
        client,
        &format!("set statement_timeout = {}", left.max(SHORTEST).as_millis()),
    );
    true
}

const RESET: &str = "reset statement_timeout";

/// Takes back what [`shorten`] has told PostgreSQL.
pub(super) fn restore(client: &Client) {
    // The first holds to the short time itself, and may fail where the machine stands still for so long; then the second remains.
    send(client, RESET);
    send(client, RESET);
}

/// The same, waiting for what was sent before to be answered. False: the connection is of no more use.
pub(super) async fn restored(client: &Client) -> bool {
    let (_, second) = join(client.batch_execute(RESET), client.batch_execute(RESET)).await;
    second.is_ok()
}

/// Sends what is answered in due course, and by nothing of interest. It is sent when it is polled for the first time.
fn send(client: &Client, sql: &str) {
    let _unanswered = client.batch_execute(sql).now_or_never();
}

/// What is left for PostgreSQL. `None`: there is no deadline.
fn left() -> Option<Duration> {
    let end = WORK.try_with(|work| work.end).ok().flatten()?;
    let left = end.saturating_duration_since(Instant::now());
    Some(left.saturating_sub((left / 10).min(LONGEST_MARGIN)))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn soon() -> Instant {
        tokio::time::Instant::now().into_std() + Duration::from_millis(100)
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_takes_too_long_is_given_up() {
        assert_eq!(by(Some(soon()), pending::<()>()).await, Err(Over::Undone));
        assert_eq!(by(Some(soon()), async { 7 }).await, Ok(7));
        assert_eq!(by(None, async { 7 }).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_being_committed_is_waited_for_but_not_for_ever() {
        let late = async {
            commit().unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            7
        };
        assert_eq!(by(Some(soon()), late).await, Ok(7));
        let never = async {
            commit().unwrap();
            pending::<()>().await;
        };
        assert_eq!(by(Some(soon()), never).await, Err(Over::Unanswered));
    }

    #[tokio::test]
    async fn nothing_is_committed_after_the_deadline() {
        let refused = by(Some(Instant::now()), async { commit() }).await.unwrap();
        assert!(matches!(refused, Err(Error::Late)), "{refused:?}");
        let refused = by(Some(Instant::now()), async { in_time() }).await.unwrap();
        assert!(matches!(refused, Err(Error::Late)), "nor asked: {refused:?}");
        // Without a deadline there is none to miss.
        assert!(commit().is_ok());
        assert!(by(None, async { commit() }).await.unwrap().is_ok());
    }

    /// Notes whether it was dropped since the work was given up.
    struct Held<'a>(&'a AtomicBool);

    impl Drop for Held<'_> {
        fn drop(&mut self) {
            self.0.store(is_given_up(), Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_at_the_end_is_told_from_what_is_given_up() {
        let given_up = AtomicBool::new(true);
        let held = Held(&given_up);
        by(Some(soon()), async move {
            tokio::task::yield_now().await;
            drop(held);
        })
        .await
        .unwrap();
        assert!(!given_up.load(Ordering::Relaxed));

        let held = Held(&given_up);
        let waits = async move {
            let _held = held;
            pending::<()>().await;
        };
        by(Some(soon()), waits).await.unwrap_err();
        assert!(given_up.load(Ordering::Relaxed));
        assert!(!is_given_up(), "nothing is, where nobody asks");
    }
}
