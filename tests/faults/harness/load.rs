//! Who uses a world while it is broken, and what they noted that is gone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ages::Ages;
use super::recorder::Recorder;
use super::road::Road;
use super::sidecar::Sidecar;
use super::spans::Spans;
use super::stalls::Stalls;
use super::writer::Ledger;
use crate::evidence::{Answer, Era, Recording};

/// Who uses the world.
pub struct Load {
    pub ledger: Ledger,
    pub recorders: Vec<Recorder>,
    pub answers: Arc<Mutex<Vec<Answer>>>,
    pub writers: Vec<JoinHandle<()>>,
    pub evaluators: Vec<JoinHandle<()>>,
    /// Over each replica, by its metrics.
    pub ages: Vec<Ages>,
    /// Over the test itself.
    pub stalls: Stalls,
    /// That clients use to the end.
    pub roads: Vec<Road>,
    /// Sidecars, and the roads between them, to the end.
    pub sidecars: Vec<Sidecar>,
    pub sidecar_roads: Vec<Road>,
    /// Of clients that the fault itself has been, and that are gone.
    pub recordings: Vec<Recording>,
    /// When others than the replicas could not answer, by the number that they answer under.
    pub absences: Vec<(usize, Spans)>,
    pub stop_writing: CancellationToken,
    pub stop_evaluating: CancellationToken,
    pub eras: Vec<Era>,
    /// The longest that clients took to catch up during the fault.
    pub worst: Duration,
    /// Who did not.
    pub unfinished: Vec<String>,
    /// What each replica had resident before the fault, in KiB, and which process that was.
    pub resident: Vec<(u32, u64)>,
    /// Held by every writer while it writes.
    pub gate: Arc<RwLock<()>>,
    /// Held while nobody may.
    pub closed: Option<OwnedRwLockWriteGuard<()>>,
}

impl Load {
    pub fn none() -> Self {
        Self {
            ledger: Ledger::new(),
            recorders: Vec::new(),
            answers: Arc::default(),
            writers: Vec::new(),
            evaluators: Vec::new(),
            ages: Vec::new(),
            stalls: Stalls::watch(),
            roads: Vec::new(),
            sidecars: Vec::new(),
            sidecar_roads: Vec::new(),
            recordings: Vec::new(),
            absences: Vec::new(),
            stop_writing: CancellationToken::new(),
            stop_evaluating: CancellationToken::new(),
            eras: Vec::new(),
            worst: Duration::ZERO,
            unfinished: Vec::new(),
            resident: Vec::new(),
            gate: Arc::default(),
            closed: None,
        }
    }
}
