//! Sends requests of one kind: when they are due, or one when another is answered.
//!
//! An open loop is paced by a thread of its own that does nothing else: the runtime's timers are exact to a millisecond, which is more
//! than many an answer takes. Latency counts from the moment at which a request was due, so that neither a server that stalls nor a
//! machine that sends late hides what a caller would have waited.
//!
//! In an open loop a request counts if it was due while it counts; in a closed one if it ended then or later: a server that stalls while
//! nothing counts yet is asked nothing else.
//!
//! What is in flight is bounded, so that a server that is stuck does not fill this machine's memory.

use std::future::Future;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

use super::recorder::Outcome;
use super::schedule::Schedule;
use super::tally::Tally;
use crate::config::{Load, Pace, Window};

/// How long answers are waited for after an interrupt, and what else is on its way.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// How long the pacing thread sleeps at most before it looks whether it is to stop.
const NAP: Duration = Duration::from_millis(50);
/// How long one of a closed loop waits after a failure: who is refused at once would else do nothing but be refused.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// What is asked.
pub(super) trait Work: Send + Sync + 'static {
    /// Asks, for the nth time. Gives the kind of answer.
    fn ask(&self, n: u64, counts: bool) -> impl Future<Output = Result<&'static str, Status>> + Send;
}

/// Requests of one kind, to be sent.
pub(super) struct Drive<W> {
    pub work: Arc<W>,
    pub load: Load,
    /// How long one may take.
    pub timeout: Duration,
    pub tally: Arc<Tally>,
}

impl<W> Clone for Drive<W> {
    fn clone(&self) -> Self {
        Self {
            work: self.work.clone(),
            load: self.load,
            timeout: self.timeout,
            tally: self.tally.clone(),
        }
    }
}

impl<W: Work> Drive<W> {
    /// Sends them until the window is over or it is stopped, and waits for the answers: as long as they may take, or for a short while
    /// after it was stopped. Afterwards none is in flight.
    pub async fn run(&self, window: Window, stop: &CancellationToken) {
        let begun = Instant::now();
        let flight = Flight {
            tracker: TaskTracker::new(),
            give_up: CancellationToken::new(),
            stop: stop.clone(),
            ends: begun + window.end(),
        };
        match self.load.pace {
            Pace::Rate(per_second) => self.open(Schedule::new(per_second), begun, window, &flight).await,
            Pace::Concurrency(count) => self.closed(count.get(), begun, window, &flight),
        }
        flight.land().await;
    }

    /// Until the last has been sent.
    async fn open(&self, schedule: Schedule, begun: Instant, window: Window, flight: &Flight) {
        let (drive, flight, runtime) = (self.clone(), flight.clone(), Handle::current());
        let pacing = tokio::task::spawn_blocking(move || {
            for n in 0.. {
                let due = schedule.due(n);
                if due >= window.end() || !sleep_until(begun + due, &flight.stop) {
                    return;
                }
                let counts = window.counts(due);
                if drive.tally.begin(drive.load.max_in_flight.get()) {
                    let counts = if counts { Counts::Yes } else { Counts::No };
                    let asked = drive.clone().ask(n, counts, begun + due, flight.clone());
                    flight.tracker.spawn_on(asked, &runtime);
                } else {
                    drive.tally.miss(n, counts);
                }
            }
        });
        // It has nothing that could panic, and if it did there would be fewer requests than were due.
        let _ = pacing.await;
    }

    /// Starts as many tasks as ask at a time.
    fn closed(&self, count: usize, begun: Instant, window: Window, flight: &Flight) {
        for first in 0..count as u64 {
            let (drive, asking) = (self.clone(), flight.clone());
            flight.tracker.spawn(async move {
                let flight = asking;
                for n in (first..).step_by(count) {
                    let now = Instant::now();
                    if flight.stop.is_cancelled() || now >= flight.ends || !drive.tally.begin(count) {
                        return;
                    }
                    let counts = Counts::IfItEndsFrom(begun + window.warm_up);
                    if !drive.clone().ask(n, counts, now, flight.clone()).await {
                        tokio::select! {
                            () = flight.stop.cancelled() => return,
                            () = tokio::time::sleep(AFTER_FAILURE) => {}
                        }
                    }
                }
            });
        }
    }

    /// Asks once. Gives whether there was a good answer.
    async fn ask(self, n: u64, counts: Counts, due: Instant, flight: Flight) -> bool {
        let sent = Instant::now();
        let answered = tokio::select! {
            biased;
            answer = tokio::time::timeout(self.timeout, self.work.ask(n, counts.is_due())) => answer.ok(),
            () = flight.give_up.cancelled() => {
                self.tally.give_up(n, counts.at(Instant::now()));
                return false;
            }
        };
        let result = match answered {
            Some(Ok(kind)) => Ok(kind),
            // tonic's own timer says Cancelled.
            Some(Err(status)) if status.code() == Code::Cancelled && sent.elapsed() >= self.timeout => Err(late()),
            Some(Err(status)) => Err((status.code(), status.message().to_owned())),
            None => Err(late()),
        };
        let (good, now) = (result.is_ok(), Instant::now());
        let outcome = Outcome {
            latency: now.saturating_duration_since(due),
            delay: sent.saturating_duration_since(due),
            in_time: now < flight.ends && !flight.stop.is_cancelled(),
            result,
        };
        self.tally.end(n, counts.at(now), outcome);
        good
    }
}

fn late() -> (Code, String) {
    (Code::DeadlineExceeded, "no answer in time".to_owned())
}

/// Whether a request counts.
#[derive(Debug, Clone, Copy)]
enum Counts {
    Yes,
    No,
    IfItEndsFrom(Instant),
}

impl Counts {
    /// Whether it does as it is sent.
    fn is_due(self) -> bool {
        self.at(Instant::now())
    }

    /// Whether it does if it ends now.
    fn at(self, now: Instant) -> bool {
        match self {
            Self::Yes => true,
            Self::No => false,
            Self::IfItEndsFrom(from) => now >= from,
        }
    }
}

/// The requests in flight.
#[derive(Clone)]
struct Flight {
    tracker: TaskTracker,
    give_up: CancellationToken,
    stop: CancellationToken,
    /// When the last is sent, if it is not stopped before.
    ends: Instant,
}

impl Flight {
    /// Waits until none is left. Each ends by itself in time; after a stop they are soon given up.
    async fn land(&self) {
        self.tracker.close();
        tokio::select! {
            biased;
            () = self.tracker.wait() => return,
            () = after(&self.stop, GRACE) => {}
        }
        self.give_up.cancel();
        self.tracker.wait().await;
    }
}

/// So long after it was stopped.
pub(super) async fn after(stop: &CancellationToken, grace: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(grace).await;
}

/// Sleeps until then, as exactly as the system does. Gives whether it may go on.
fn sleep_until(then: Instant, stop: &CancellationToken) -> bool {
    loop {
        if stop.is_cancelled() {
            return false;
        }
        let left = then.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(NAP));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use tokio::sync::{Barrier, watch};

    use super::*;

    const WINDOW: Window = Window {
        warm_up: Duration::ZERO,
        duration: Duration::from_millis(300),
    };

    fn drive<W>(work: W, pace: Pace, most: usize) -> Drive<W> {
        Drive {
            work: Arc::new(work),
            load: Load {
                pace,
                connections: NonZeroUsize::MIN,
                max_in_flight: NonZeroUsize::new(most).unwrap(),
            },
            timeout: Duration::from_mins(5),
            tally: Arc::new(Tally::new()),
        }
    }

    /// A server that answers nothing until so many have asked.
    struct Stalled(Barrier);

    impl Work for Stalled {
        async fn ask(&self, _: u64, _: bool) -> Result<&'static str, Status> {
            self.0.wait().await;
            Ok("STATIC")
        }
    }

    #[tokio::test]
    async fn latency_counts_from_when_a_request_was_due() {
        let work = drive(Stalled(Barrier::new(300)), Pace::Rate(1_000.0), 300);
        work.run(WINDOW, &CancellationToken::new()).await;
        let total = work.tally.total();
        assert_eq!((total.answered(), total.due()), (300, 300));
        // None is answered before the last is due, after 299 ms; half were due before 150 ms.
        let seen = total.latency.percentiles().unwrap();
        assert!(seen.max >= 298.0 && seen.p50 >= 148.0, "{seen:?}");
    }

    /// A server that answers nothing until it is told to.
    struct Stuck(watch::Receiver<bool>);

    impl Work for Stuck {
        async fn ask(&self, _: u64, _: bool) -> Result<&'static str, Status> {
            let mut told = self.0.clone();
            told.wait_for(|told| *told)
                .await
                .map_err(|_| Status::unavailable("gone"))?;
            Ok("STATIC")
        }
    }

    #[tokio::test]
    async fn what_a_stuck_server_cannot_be_sent_is_missed_and_counted() {
        let (_never, told) = watch::channel(false);
        let work = drive(Stuck(told), Pace::Rate(1_000.0), 5);
        let stop = CancellationToken::new();
        let (tally, seen) = (work.tally.clone(), stop.clone());
        let stopped = async {
            while tally.total().missed < 295 {
                tokio::task::yield_now().await;
            }
            seen.cancel();
        };
        tokio::join!(work.run(WINDOW, &stop), stopped);
        let total = work.tally.total();
        assert_eq!((total.missed, total.unanswered, total.answered()), (295, 5, 0));
        assert!((total.error_rate() - 1.0).abs() < 1e-9);
        assert_eq!(work.tally.lately().in_flight, 0);
    }

    #[tokio::test]
    async fn no_answer_in_time_is_an_error_of_its_name() {
        let (_never, told) = watch::channel(false);
        let mut work = drive(Stuck(told), Pace::Rate(100.0), 100);
        work.timeout = Duration::from_millis(1);
        work.run(WINDOW, &CancellationToken::new()).await;
        let total = work.tally.total();
        assert_eq!((total.failed(), total.due()), (30, 30));
        assert_eq!(total.failures[&Code::DeadlineExceeded.into()].count, 30);
    }

    #[tokio::test]
    async fn warming_up_does_not_count() {
        let window = Window {
            warm_up: Duration::from_millis(100),
            duration: Duration::from_millis(200),
        };
        let work = drive(Stalled(Barrier::new(1)), Pace::Rate(100.0), 100);
        work.run(window, &CancellationToken::new()).await;
        assert_eq!(
            (work.tally.total().due(), work.tally.lately().latency.count()),
            (20, 30)
        );
    }

    #[tokio::test]
    async fn a_server_that_stands_still_since_the_warming_up_counts_in_a_closed_loop() {
        let (_never, told) = watch::channel(false);
        let mut work = drive(Stuck(told), Pace::Concurrency(NonZeroUsize::new(7).unwrap()), 1);
        work.timeout = Duration::from_millis(500);
        let window = Window {
            warm_up: Duration::from_millis(200),
            duration: Duration::from_millis(100),
        };
        work.run(window, &CancellationToken::new()).await;
        assert_eq!((work.tally.total().failed(), work.tally.total().due()), (7, 7));
    }

    #[tokio::test]
    async fn answers_that_come_after_the_end_are_not_of_its_rate() {
        let (tell, told) = watch::channel(false);
        let work = drive(Stuck(told), Pace::Rate(100.0), 100);
        let tally = work.tally.clone();
        let told = async {
            while tally.lately().in_flight < 30 {
                tokio::task::yield_now().await;
            }
            // The answers are to come after the window, which is over by the clock alone.
            tokio::time::sleep(WINDOW.duration).await;
            tell.send_replace(true);
        };
        let stop = CancellationToken::new();
        tokio::join!(work.run(WINDOW, &stop), told);
        let total = work.tally.total();
        assert_eq!((total.answered(), total.in_time), (30, 0));
    }

    #[tokio::test]
    async fn a_closed_loop_has_so_many_in_flight_at_a_time() {
        let (tell, told) = watch::channel(false);
        let work = drive(Stuck(told), Pace::Concurrency(NonZeroUsize::new(7).unwrap()), 1);
        let tally = work.tally.clone();
        let told = async {
            while tally.lately().in_flight < 7 {
                tokio::task::yield_now().await;
            }
            tell.send_replace(true);
        };
        let stop = CancellationToken::new();
        tokio::join!(work.run(WINDOW, &stop), told);
        let total = work.tally.total();
        assert!(total.answered() >= 7, "{}", total.answered());
        assert_eq!((total.failed(), total.missed), (0, 0));
    }
}
