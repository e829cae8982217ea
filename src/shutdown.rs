//! How the process ends: a signal, or a task that died, cancels one token; tracked tasks then have the grace to finish.
//!
//! What is stopped in which order is the server's to say.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, error, info, info_span, warn};

use crate::telemetry;

/// The tasks that live as long as the process: named, tracked, and cancelled together. Clones are handles to the same tasks.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How many tasks of each name are running.
    running: Mutex<BTreeMap<&'static str, usize>>,
    /// The first task that died.
    died: OnceLock<&'static str>,
}

/// The process did not end as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A task ended though nobody had asked it to.
    #[error("the task {task} died")]
    Died {
        /// Its name.
        task: &'static str,
    },
    /// Tasks were still running at the end of the grace.
    #[error("still running at the end of the grace: {}", tasks.join(", "))]
    TimedOut {
        /// Their names.
        tasks: Vec<&'static str>,
    },
}

/// Counts a task as running until it is dropped, however the task ends.
struct Running {
    name: &'static str,
    shared: Arc<Shared>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the process is to end.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs a task on the current runtime until it is asked to stop. If it ends or panics before that, the whole process is
    /// asked to: a process that lacks one of its parts must not look healthy.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let running = Running::new(name, self.shared.clone());
        let stop = self.stop.clone();
        let watched = async move {
            let panicked = AssertUnwindSafe(task).catch_unwind().await.is_err();
            if panicked || !stop.is_cancelled() {
                error!(task = name, panicked, "a task died; shutting down");
                // Only the first counts: the others may have died of it.
                let _ = running.shared.died.set(name);
                stop.cancel();
            }
        };
        self.tracker.spawn(watched.instrument(info_span!("task", task = name)));
    }

    /// Waits until every task has ended, at most for the grace. Call it when they have been asked to stop.
    pub async fn finish(&self, grace: Duration) -> Result<(), Fault> {
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            let tasks: Vec<_> = self.shared.running().keys().copied().collect();
            warn!(?tasks, "the grace is over; ending what still runs by force");
            return Err(Fault::TimedOut { tasks });
        }
        match self.shared.died.get() {
            Some(task) => Err(Fault::Died { task }),
            None => Ok(()),
        }
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        // Nothing is left half done under this lock.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn new(name: &'static str, shared: Arc<Shared>) -> Self {
        *shared.running().entry(name).or_default() += 1;
        Self { name, shared }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.shared.running();
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

/// From now on SIGTERM or SIGINT cancels the token, and a second one ends the process at once. Call it within a runtime.
pub fn listen(stop: CancellationToken) -> std::io::Result<()> {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
    let [mut terminate, mut interrupt] = [signal(kinds[0])?, signal(kinds[1])?];
    let signals = stream::poll_fn(move |context| {
        for (signal, kind) in [&mut terminate, &mut interrupt].into_iter().zip(kinds) {
            if signal.poll_recv(context).is_ready() {
                return Poll::Ready(Some(kind));
            }
        }
        Poll::Pending
    });
    tokio::spawn(async move {
        if let Some(code) = obey(signals, &stop).await {
            telemetry::flush();
            std::process::exit(code);
        }
    });
    Ok(())
}

/// Obeys the first signal in good order; at the second gives the exit code to end with at once.
async fn obey(mut signals: impl Stream<Item = SignalKind> + Unpin, stop: &CancellationToken) -> Option<i32> {
    let first = signals.next().await?;
    info!(signal = first.as_raw_value(), "shutting down; once more to end at once");
    stop.cancel();
    let second = signals.next().await?;
    warn!(signal = second.as_raw_value(), "ending at once");
    Some(128 + second.as_raw_value())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn until_stopped(tasks: &Tasks) -> impl Future<Output = ()> + Send + 'static {
        tasks.stop().clone().cancelled_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_stop_when_asked_are_no_fault() {
        let tasks = Tasks::new();
        tasks.spawn("one", until_stopped(&tasks));
        tasks.spawn("other", until_stopped(&tasks));
        tasks.stop().cancel();
        assert_eq!(tasks.finish(GRACE).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_unasked_brings_the_others_down() {
        let tasks = Tasks::new();
        tasks.spawn("lasting", until_stopped(&tasks));
        tasks.spawn("fleeting", async {});
        tasks.stop().cancelled().await;
        assert_eq!(tasks.finish(GRACE).await, Err(Fault::Died { task: "fleeting" }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_a_death_even_while_stopping() {
        let tasks = Tasks::new();
        let stopped = until_stopped(&tasks);
        tasks.spawn("clumsy", async {
            stopped.await;
            panic!("on purpose");
        });
        tasks.stop().cancel();
        assert_eq!(tasks.finish(GRACE).await, Err(Fault::Died { task: "clumsy" }));
    }

    #[tokio::test(start_paused = true)]
    async fn what_outlives_the_grace_is_named() {
        let tasks = Tasks::new();
        tasks.spawn("stubborn", std::future::pending());
        tasks.spawn("stubborn", std::future::pending());
        tasks.spawn("obedient", until_stopped(&tasks));
        tasks.stop().cancel();
        let started = tokio::time::Instant::now();
        let fault = tasks.finish(GRACE).await.unwrap_err();
        assert_eq!(
            fault,
            Fault::TimedOut {
                tasks: vec!["stubborn"]
            }
        );
        assert_eq!(fault.to_string(), "still running at the end of the grace: stubborn");
        assert_eq!(started.elapsed(), GRACE);
    }

    #[tokio::test]
    async fn the_first_signal_stops_and_the_second_ends() {
        let stop = CancellationToken::new();
        let mut seen = Vec::new();
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
        let signals = stream::iter(kinds).inspect(|_| seen.push(stop.is_cancelled()));
        assert_eq!(obey(signals, &stop).await, Some(128 + 15));
        assert_eq!(seen, [false, true]);
    }

    #[tokio::test]
    async fn a_signal_of_the_system_cancels() {
        let stop = CancellationToken::new();
        listen(stop.clone()).unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
        stop.cancelled().await;
    }
}
