//! Writes the newest state to disk: soon after it has changed, but not all the time, and at the end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::file::StateFile;
use super::held::Held;
use super::{Counters, Timing};

/// What there is to keep.
#[derive(Debug, Clone, Default)]
pub struct Latest {
    /// The newest state.
    pub held: Option<Arc<Held>>,
    /// When it was last known to be the newest, by this machine's clock.
    pub confirmed_at: Option<jiff::Timestamp>,
}

/// Keeps it.
pub struct Keeper {
    pub file: StateFile,
    pub latest: watch::Receiver<Latest>,
    pub timing: Timing,
    pub counters: Arc<Counters>,
    pub cancel: CancellationToken,
}

/// What is on disk.
#[derive(Default)]
struct Saved {
    held: Option<Arc<Held>>,
    confirmed_at: Option<jiff::Timestamp>,
    /// When the file was last touched.
    at: Option<Instant>,
    /// The last attempt has failed: not every one is a line in the log.
    failing: bool,
}

impl Keeper {
    /// Runs until cancelled, and then once more.
    pub async fn run(mut self) {
        let mut saved = Saved::default();
        loop {
            let latest = self.latest.borrow_and_update().clone();
            let started = Instant::now();
            self = self.keep(latest, &mut saved).await;
            // A large state takes long to write; a tenth of the time is enough for that.
            let pause = self.timing.save.max(started.elapsed() * 10);
            let changed = async {
                tokio::time::sleep(pause).await;
                self.latest.changed().await
            };
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                // Who changes it ends with the same token.
                _ = changed => {}
            }
        }
        let latest = self.latest.borrow().clone();
        self.keep(latest, &mut saved).await;
    }

    /// Writes what is not on disk yet, away from the runtime.
    async fn keep(self, latest: Latest, saved: &mut Saved) -> Self {
        let Latest { held, confirmed_at } = latest;
        let Some(held) = held else { return self };
        let is_saved = saved.held.as_ref().is_some_and(|saved| Arc::ptr_eq(saved, &held));
        // An age that is unknown on disk is told as soon as there is one, and the last one before the end is always told.
        let recent = saved.at.is_some_and(|at| at.elapsed() < self.timing.note);
        let may_wait = recent && saved.confirmed_at.is_some() && !self.cancel.is_cancelled();
        let is_noted = may_wait || saved.confirmed_at == confirmed_at;
        if is_saved && is_noted {
            return self;
        }
        let (timing, counters, cancel, receiver) = (self.timing, self.counters, self.cancel, self.latest);
        let mut file = self.file;
        let state = held.clone();
        let write = move || {
            let written = match confirmed_at {
                Some(at) if is_saved => file.note(at),
                Some(_) | None => file.save(&state, confirmed_at),
            };
            (file, written)
        };
        // Only a panic keeps it from coming back, and that is to end the process.
        let (file, written) = match tokio::task::spawn_blocking(write).await {
            Ok(done) => done,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        settle(written, held, confirmed_at, saved, &counters);
        Self {
            file,
            latest: receiver,
            timing,
            counters,
            cancel,
        }
    }
}

fn settle(
    written: io::Result<()>,
    held: Arc<Held>,
    confirmed_at: Option<jiff::Timestamp>,
    saved: &mut Saved,
    counters: &Counters,
) {
    match written {
        Ok(()) => {
            counters.saves.fetch_add(1, Ordering::Relaxed);
            if saved.failing {
                tracing::info!("the state can be written to disk again");
            }
            *saved = Saved {
                held: Some(held),
                confirmed_at,
                at: Some(Instant::now()),
                failing: false,
            };
        }
        Err(error) => {
            if !saved.failing {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the state could not be written to disk; trying on"
                );
            }
            saved.failing = true;
        }
    }
}
