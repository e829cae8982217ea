//! The hub: applies what the source sends, in order, and holds what everything else reads.
//!
//! One task writes ([`Hub::run`]); readers never wait for it, since whatever they read is an immutable value behind an atomic
//! swap. What is written is visible before anyone is told of it, so that who looks after being told misses nothing.

mod apply;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use imbl::OrdMap;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::age::Age;
use super::counts::Counts;
use super::environment::Environment;
use super::gate::Gate;
use super::open::{Client, OpenStreams, Stream};
use super::options::Options;
use super::propagation::Elsewhere;
use super::request::{Refused, Request};
use super::source::{Event, Identity, Quality, Source, Unreachable};
use super::subscription::Subscription;
use crate::domain::access::Directory;
use crate::domain::change::EnvironmentId;

/// How often to look for streams that are stuck: as often as notices that their credentials have ended within two seconds, and for
/// short limits oftener, within reason.
const ROUND: Duration = Duration::from_secs(1);
const SHORTEST_ROUND: Duration = Duration::from_millis(10);
/// How often to look whether flags have become too old; a stream of answers says so within this time.
const AGE_LOOK: Duration = Duration::from_millis(100);

/// Everything that this replica holds in memory. One per process.
pub struct Hub {
    source: Arc<dyn Source>,
    options: Options,
    identity: ArcSwapOption<Identity>,
    environments: ArcSwap<OrdMap<EnvironmentId, Arc<Environment>>>,
    environment_added: watch::Sender<()>,
    directory: ArcSwap<Directory>,
    /// How many directories there have been. Not their revision: a restored database may repeat one.
    directories: AtomicU64,
    directory_changed: watch::Sender<()>,
    confirmed: watch::Sender<Confirmed>,
    complete: watch::Sender<bool>,
    draining_since: OnceLock<Instant>,
    streams: AtomicUsize,
    open: Arc<OpenStreams>,
    gate: Arc<Gate>,
    elsewhere: Elsewhere,
    /// The age that streams were last told to look at.
    age_told: Mutex<Age>,
    /// What the source cannot read, and when all was last certain before that: some of it may not be held yet.
    behind: Mutex<HashMap<EnvironmentId, Option<std::time::Instant>>>,
}

/// How well the replica is informed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// How the source learns of changes.
    pub quality: Quality,
    /// How long ago it was last certain that this replica held the newest of everything that it can read. `None`: never yet.
    pub staleness: Option<Duration>,
}

/// What the source last said about itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Confirmed {
    pub(super) quality: Quality,
    pub(super) at: Option<std::time::Instant>,
}

impl Hub {
    /// A hub that holds nothing yet. It comes to life with [`Hub::run`].
    pub fn new(source: Arc<dyn Source>, options: Options) -> Arc<Self> {
        Arc::new(Self {
            source,
            gate: Gate::new(options.snapshot_bytes),
            options,
            identity: ArcSwapOption::empty(),
            environments: ArcSwap::default(),
            environment_added: watch::Sender::new(()),
            directory: ArcSwap::default(),
            directories: AtomicU64::new(0),
            directory_changed: watch::Sender::new(()),
            confirmed: watch::Sender::new(Confirmed {
                quality: Quality::Disconnected,
                at: None,
            }),
            complete: watch::Sender::new(false),
            draining_since: OnceLock::new(),
            streams: AtomicUsize::new(0),
            open: Arc::default(),
            elsewhere: Elsewhere::default(),
            age_told: Mutex::default(),
            behind: Mutex::default(),
        })
    }

    /// Applies the source's events until cancelled or until the source ends. Run it once: it is the only writer.
    pub async fn run(self: Arc<Self>, mut events: mpsc::Receiver<Event>, cancel: CancellationToken) {
        loop {
            let event = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                event = events.recv() => event,
            };
            match event {
                Some(event) => self.apply(event),
                None => return,
            }
        }
    }

    /// The environment, if this replica holds it. Never blocks.
    pub fn environment(&self, id: EnvironmentId) -> Option<Arc<Environment>> {
        self.environments.load().get(&id).cloned()
    }

    /// The environment as soon as this replica holds it. A key can be known a moment before the state that it opens. `None`: it
    /// did not come in time.
    pub async fn await_environment(&self, id: EnvironmentId, deadline: Instant) -> Option<Arc<Environment>> {
        let mut added = self.environment_added.subscribe();
        loop {
            if let Some(environment) = self.environment(id) {
                return Some(environment);
            }
            tokio::time::timeout_at(deadline, added.changed()).await.ok()?.ok()?;
        }
    }

    /// What access depends on. Never blocks; do not hold the guard across an `await`.
    pub fn directory(&self) -> Guard<Arc<Directory>> {
        self.directory.load()
    }

    /// Which history this replica follows. `None`: the source has not said yet.
    pub fn identity(&self) -> Option<Identity> {
        self.identity.load().as_deref().copied()
    }

    /// How well the replica is informed, on a monotonic clock.
    pub fn status(&self) -> Status {
        let Confirmed { quality, at } = *self.confirmed.borrow();
        let now = Instant::now().into_std();
        Status {
            quality,
            staleness: at.map(|at| now.saturating_duration_since(at)),
        }
    }

    /// Returns once every environment was seen at least once.
    pub async fn ready(&self) {
        // The sender lives in `self`, so waiting cannot fail before it succeeds.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// Whether every environment was seen at least once and no drain has begun.
    pub fn is_ready(&self) -> bool {
        *self.complete.borrow() && self.draining_since().is_none()
    }

    /// The directory, at least as new as the origin's at the time of the call. For a key that is well-formed but unknown.
    ///
    /// Waits for [`Options::ahead_wait`] at most.
    pub async fn confirm_access(&self) -> Result<Arc<Directory>, Unreachable> {
        let mut changed = self.directory_changed.subscribe();
        let newest = async {
            let revision = self.source.confirm_access().await?;
            loop {
                let directory = self.directory.load_full();
                if directory.revision >= revision {
                    return Ok(directory);
                }
                changed.changed().await.map_err(|_| Unreachable)?;
            }
        };
        let in_time = tokio::time::timeout(self.options.ahead_wait, newest).await;
        in_time.unwrap_or(Err(Unreachable))
    }

    /// Begins to shut down: no new streams, and those that there are say Goodbye and end, each at a random moment of
    /// [`Options::drain_window`].
    pub fn drain(&self) {
        self.draining_since.get_or_init(Instant::now);
        self.wake_all();
    }

    /// Whether a shutdown has begun.
    pub fn is_draining(&self) -> bool {
        self.draining_since().is_some()
    }

    /// How many environments this replica holds.
    pub fn environments(&self) -> usize {
        self.environments.load().len()
    }

    /// The environments that this replica holds.
    pub fn held(&self) -> Vec<Arc<Environment>> {
        self.environments.load().values().cloned().collect()
    }

    /// What has been counted of the streams and of what they follow.
    pub fn counts(&self) -> &Counts {
        &self.open.counts
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Opens a stream over an environment. Its first step is decided when it is first polled.
    pub fn subscribe(
        self: &Arc<Self>,
        environment: EnvironmentId,
        request: Request<'_>,
    ) -> Result<Subscription, Refused> {
        if self.draining_since().is_some() {
            return Err(Refused::Draining);
        }
        let environment = self.environment(environment).ok_or(Refused::UnknownEnvironment)?;
        Ok(Subscription::new(Arc::clone(self), environment, request))
    }

    /// Opens a stream for a transport, which is taken away from it if it gets stuck.
    pub fn open(
        self: &Arc<Self>,
        environment: EnvironmentId,
        request: Request<'_>,
        client: Client,
    ) -> Result<Stream, Refused> {
        let subscription = self.subscribe(environment, request);
        let opened =
            subscription.and_then(|subscription| self.open.open(environment, subscription, client, &self.options));
        opened.inspect_err(|refused| self.counts().refuse(*refused))
    }

    /// Takes away streams that are stuck, or whose credentials have ended while they are, until cancelled. See [`Options::stall`].
    pub async fn release_stalled(self: Arc<Self>, cancel: CancellationToken) {
        let mut rounds = interval((self.options.stall / 10).clamp(SHORTEST_ROUND, ROUND));
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while cancel.run_until_cancelled(rounds.tick()).await.is_some() {
            let streams = self.open.release(self.options.stall);
            if streams > 0 {
                tracing::info!(streams, "clients did not read for too long; their streams have ended");
            }
        }
    }

    /// Lets others come before streams whose clients do not read their snapshots, until cancelled. See
    /// [`Options::snapshot_patience`].
    pub async fn take_turns(self: Arc<Self>, cancel: CancellationToken) {
        let patience = self.options.snapshot_patience;
        let mut rounds = interval((patience / 10).max(SHORTEST_ROUND));
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while cancel.run_until_cancelled(rounds.tick()).await.is_some() {
            self.gate.take_back(patience);
        }
    }

    /// Where streams wait for their snapshots.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// How old what is held is, as far as that makes a difference to an answer.
    pub fn age(&self) -> Age {
        let limits = &self.options.staleness;
        if limits.is_empty() {
            // Nothing to ask a lock and the clock for.
            return Age::default();
        }
        Age::new(limits, self.status().staleness)
    }

    /// Lets streams look whenever flags have become too old to be answered for, or no longer are, until cancelled.
    pub async fn tell_age(self: Arc<Self>, cancel: CancellationToken) {
        if self.options.staleness.is_empty() {
            return cancel.cancelled().await;
        }
        let mut looks = interval(AGE_LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while cancel.run_until_cancelled(looks.tick()).await.is_some() {
            self.look_at_age();
        }
    }

    /// Lets streams look if the age is another than it was the last time. Only time makes it worse and only the source better, so
    /// that looking around each of the source's words misses nothing that a stream can have seen.
    fn look_at_age(&self) {
        if self.options.staleness.is_empty() {
            return;
        }
        let mut told = self.age_told.lock().unwrap_or_else(PoisonError::into_inner);
        let age = self.age();
        if *told != age {
            *told = age;
            drop(told);
            self.wake_all();
        }
    }

    fn wake_all(&self) {
        for environment in self.environments.load().values() {
            environment.wake();
        }
    }

    pub(super) fn open_streams(&self) -> &OpenStreams {
        &self.open
    }

    pub(super) fn elsewhere(&self) -> &Elsewhere {
        &self.elsewhere
    }

    pub(super) fn source(&self) -> &dyn Source {
        &*self.source
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// What the source last said about itself. Read it before a state: the state is then at least as new as what it is about.
    pub(super) fn confirmed(&self) -> Confirmed {
        *self.confirmed.borrow()
    }

    pub(super) fn confirmations(&self) -> watch::Receiver<Confirmed> {
        self.confirmed.subscribe()
    }

    /// How many directories there have been. Read it before the directory.
    pub(super) fn directories(&self) -> u64 {
        self.directories.load(Ordering::Acquire)
    }

    pub(super) fn draining_since(&self) -> Option<Instant> {
        self.draining_since.get().copied()
    }
}

/// Counts a stream for as long as it is held.
pub(super) struct Registration(Arc<Hub>);

impl Registration {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        hub.streams.fetch_add(1, Ordering::Relaxed);
        Self(hub)
    }

    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.0
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
