//! Whether the runtimes of this process answer: each shows itself now and then, and one that has not for a while hangs.
//!
//! A worker that has ended is not looked for here: its end brings the process down by itself. One that is caught in an endless loop or
//! behind a lock does not end, and nothing else would notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a runtime shows itself.
const BEAT: Duration = Duration::from_secs(1);
/// After so long without a beat a runtime hangs: much longer than a busy machine keeps one waiting.
const SILENCE: Duration = Duration::from_secs(10);

/// What the runtimes have shown of themselves. Clones share it.
#[derive(Debug, Clone)]
pub struct Alive(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    began: Instant,
    silence: Duration,
    /// When each showed itself last, in milliseconds since the beginning: that of administration, then the workers.
    beats: Vec<AtomicU64>,
}

/// A runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// That of administration, the feed and the hub.
    Administration,
    /// The worker of this number.
    Worker(usize),
}

impl Runtime {
    fn place(self) -> usize {
        match self {
            Self::Administration => 0,
            Self::Worker(n) => n + 1,
        }
    }
}

impl Alive {
    /// Of so many workers, and the runtime of administration.
    pub fn new(workers: usize) -> Self {
        Self::patient(workers, SILENCE)
    }

    /// The same, of which one hangs after so long without a beat.
    pub(super) fn patient(workers: usize, silence: Duration) -> Self {
        Self(Arc::new(Shown {
            began: Instant::now(),
            silence,
            beats: (0..=workers).map(|_| AtomicU64::new(0)).collect(),
        }))
    }

    /// Shows a runtime for as long as it is polled there.
    pub async fn show(self, runtime: Runtime) {
        let mut beats = tokio::time::interval(BEAT.min(self.0.silence / 4));
        loop {
            beats.tick().await;
            if let Some(beat) = self.0.beats.get(runtime.place()) {
                beat.store(self.now(), Ordering::Relaxed);
            }
        }
    }

    /// A runtime that hangs. `None`: all of them answer.
    pub fn hanging(&self) -> Option<Runtime> {
        let silence = u64::try_from(self.0.silence.as_millis()).unwrap_or(u64::MAX);
        let now = self.now();
        let hangs = |beat: &AtomicU64| now.saturating_sub(beat.load(Ordering::Relaxed)) > silence;
        let place = self.0.beats.iter().position(hangs)?;
        Some(place.checked_sub(1).map_or(Runtime::Administration, Runtime::Worker))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Waits until it is so: a look now and then, on the test's own runtime, which does not hang.
    async fn until(alive: &Alive, expected: Option<Runtime>) {
        let looks = async {
            while alive.hanging() != expected {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), looks).await.unwrap();
    }

    #[tokio::test]
    async fn a_worker_that_hangs_is_told_from_those_that_answer_and_forgiven_when_it_answers_again() {
        let alive = Alive::patient(2, Duration::from_millis(500));
        tokio::spawn(alive.clone().show(Runtime::Administration));
        tokio::spawn(alive.clone().show(Runtime::Worker(0)));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(alive.clone().show(Runtime::Worker(1)));
        assert_eq!(alive.hanging(), None);
        let (release, held) = mpsc::channel::<()>();
        runtime.spawn(async move { held.recv() });
        until(&alive, Some(Runtime::Worker(1))).await;
        release.send(()).unwrap();
        until(&alive, None).await;
        runtime.shutdown_background();
    }

    #[tokio::test]
    async fn administration_can_hang_too() {
        let alive = Alive::patient(1, Duration::from_millis(100));
        tokio::spawn(alive.clone().show(Runtime::Worker(0)));
        until(&alive, Some(Runtime::Administration)).await;
    }
}
