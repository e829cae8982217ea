//! One environment at this replica: its newest state, and who wants to know when there is a newer one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::bell::Bell;
use super::state::State;
use crate::domain::change::EnvironmentId;

/// An environment that this replica holds.
#[derive(Debug)]
pub struct Environment {
    id: EnvironmentId,
    state: ArcSwap<State>,
    /// The one thing that its streams wait on. It says nothing but "look again": at the state, the directory, the drain.
    bell: Arc<Bell>,
    /// `Some`: a revision did not continue the state.
    refused: Mutex<Option<Stranded>>,
    removed: AtomicBool,
    superseded: AtomicBool,
}

/// A state that cannot be continued.
#[derive(Debug, Clone, Copy)]
struct Stranded {
    /// When it was last certain to be the newest.
    certain_at: Option<Instant>,
}

/// The revision did not come in time, or the environment is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the revision has not been reached")]
pub struct NotReached;

impl Environment {
    pub(super) fn new(id: EnvironmentId, state: State) -> Arc<Self> {
        Arc::new(Self {
            id,
            state: ArcSwap::from_pointee(state),
            bell: Bell::new(),
            refused: Mutex::default(),
            removed: AtomicBool::new(false),
            superseded: AtomicBool::new(false),
        })
    }

    /// Which one.
    pub fn id(&self) -> EnvironmentId {
        self.id
    }

    /// The newest state. Never blocks; do not hold the guard across an `await`.
    pub fn state(&self) -> Guard<Arc<State>> {
        self.state.load()
    }

    /// The newest state as soon as it is of this revision or a later one.
    pub async fn wait_for(&self, revision: u64, deadline: tokio::time::Instant) -> Result<Arc<State>, NotReached> {
        let mut changes = self.changes();
        let reached = async {
            loop {
                if self.is_removed() || self.is_superseded() {
                    return Err(NotReached);
                }
                let state = self.state.load_full();
                if state.head.revision >= revision {
                    return Ok(state);
                }
                changes.changed().await.map_err(|_| NotReached)?;
            }
        };
        tokio::time::timeout_at(deadline, reached)
            .await
            .unwrap_or(Err(NotReached))
    }

    /// Tells of everything that streams have to look at, from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.bell.listen()
    }

    /// The same for streams, of which there may be thousands.
    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    pub(super) fn publish(&self, state: State) {
        self.state.store(Arc::new(state));
        self.wake();
    }

    pub(super) fn wake(&self) {
        self.bell.ring();
    }

    /// Marks the state as one that cannot be continued: only a whole state helps. `confirmed_at` is what the source had
    /// confirmed until now. Says whether the mark is new.
    pub(super) fn refuse(&self, confirmed_at: Option<Instant>) -> Refusal {
        let mut refused = self.lock_refused();
        if refused.is_some() {
            return Refusal::Repeated;
        }
        *refused = Some(Stranded {
            certain_at: confirmed_at,
        });
        Refusal::First
    }

    pub(super) fn accept(&self) {
        *self.lock_refused() = None;
    }

    /// Whether the state cannot be continued.
    pub(super) fn is_refused(&self) -> bool {
        self.lock_refused().is_some()
    }

    /// When the state was last certain to be the newest, given what the source confirms. Whatever it confirms after a
    /// revision had to be refused is not about this state.
    pub(super) fn certain_at(&self, confirmed_at: Option<Instant>) -> Option<Instant> {
        self.lock_refused().map_or(confirmed_at, |stranded| stranded.certain_at)
    }

    pub(super) fn remove(&self) {
        self.removed.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Another environment took its place.
    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    fn lock_refused(&self) -> std::sync::MutexGuard<'_, Option<Stranded>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a refusal is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    First,
    Repeated,
}
