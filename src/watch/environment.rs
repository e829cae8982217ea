//! One environment at this replica: its newest state, and who wants to know when there is a newer one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::answered::Answered;
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
    doubts: Mutex<Doubts>,
    removed: AtomicBool,
    superseded: AtomicBool,
    answered: Answered,
}

/// Why the state may not be the newest, whatever the source confirms.
#[derive(Debug, Clone, Copy, Default)]
struct Doubts {
    /// A revision did not continue the state.
    refused: Option<Stranded>,
    /// The source cannot read the environment.
    behind: Option<Stranded>,
}

/// A state that what the source confirms is not about.
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
            doubts: Mutex::default(),
            removed: AtomicBool::new(false),
            superseded: AtomicBool::new(false),
            answered: Answered::default(),
        })
    }

    /// Which one.
    pub fn id(&self) -> EnvironmentId {
        self.id
    }

    /// What is counted of evaluations in it.
    pub fn answered(&self) -> &Answered {
        &self.answered
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
        let mut doubts = self.lock_doubts();
        if doubts.refused.is_some() {
            return Refusal::Repeated;
        }
        doubts.refused = Some(Stranded {
            certain_at: confirmed_at,
        });
        Refusal::First
    }

    pub(super) fn accept(&self) {
        self.lock_doubts().refused = None;
    }

    /// Whether the state cannot be continued.
    pub(super) fn is_refused(&self) -> bool {
        self.lock_doubts().refused.is_some()
    }

    /// What the source confirms from now on is not about this environment. `confirmed_at` is what it had confirmed until now.
    pub(super) fn fall_behind(&self, confirmed_at: Option<Instant>) {
        let stranded = Stranded {
            certain_at: confirmed_at,
        };
        self.lock_doubts().behind.get_or_insert(stranded);
    }

    /// It is about this environment again.
    pub(super) fn catch_up(&self) {
        self.lock_doubts().behind = None;
    }

    /// When the state was last certain to be the newest, given what the source confirms. Whatever it confirms after a
    /// revision had to be refused, or after the environment fell behind, is not about this state.
    pub(super) fn certain_at(&self, confirmed_at: Option<Instant>) -> Option<Instant> {
        let Doubts { refused, behind } = *self.lock_doubts();
        let doubts = [refused, behind].into_iter().flatten();
        // None is less than any moment: what was never certain is not.
        doubts.fold(confirmed_at, |at, stranded| at.min(stranded.certain_at))
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

    fn lock_doubts(&self) -> std::sync::MutexGuard<'_, Doubts> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a refusal is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    First,
    Repeated,
}
