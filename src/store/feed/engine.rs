//! The engine: the one task that owns the cursors and sends events.
//!
//! Everything that asks PostgreSQL runs beside it and hands its result back, so that a slow answer delays neither the status nor
//! other environments. A hint, a poll, a new session of the listener: all they do is to make the engine want something. What is
//! wanted is read, a few environments at a time; what was read is judged and sent, in [`apply`](super::apply).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use super::access::Access;
use super::confirmations::Confirmations;
use super::counters::add;
use super::directory;
use super::environments::Environments;
use super::error::Error;
use super::fetch::{self, Fetched, Wish};
use super::generation::{self, Raised};
use super::hint::{Gathering, Hint, Pending};
use super::listen::Link;
use super::poll::{self, Heads, Origin};
use super::together;
use crate::domain::access::Directory;
use crate::domain::change::EnvironmentId;
use crate::trace::{Kind, Span};
use crate::watch::source::{Event, Identity, Quality};

/// The state of the feed.
pub(super) struct Engine {
    pub(super) shared: Shared,
    events: mpsc::Sender<Event>,
    /// How the listener is doing.
    pub(super) link: watch::Receiver<Link>,
    /// Whom the pool is talking to. `None`: to nobody.
    pub(super) pool_origin: watch::Sender<Option<Origin>>,
    jobs: JoinSet<(u64, Done)>,
    /// Rises whenever another history begins. What was asked in an earlier epoch does not count in a later one.
    pub(super) epoch: u64,
    /// Which history is being sent. `None`: none yet.
    pub(super) identity: Option<Identity>,
    pub(super) environments: Environments,
    fetching: usize,
    pub(super) access: Access,
    pub(super) polling: Polling,
    pub(super) confirmations: Confirmations,
    /// Whether the generation is being raised.
    pub(super) raising: bool,
    pub(super) loading: Loading,
    /// The quality that was told last.
    told: Option<Quality>,
}

/// The poll.
#[derive(Debug)]
pub(super) struct Polling {
    pub(super) due: bool,
    pub(super) asking: bool,
    /// From where to ask. `None`: for all heads.
    pub(super) since: Option<u64>,
    /// What the next poll asks for.
    pub(super) next: Scope,
    pub(super) scanned_at: Instant,
    /// Whether the last poll was answered.
    pub(super) answered: bool,
    /// What was found at the other end, as far as is known.
    pub(super) found: Found,
}

/// Who answers where the primary should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Primary,
    Standby,
}

/// What a poll asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The heads written since the last poll.
    Changed,
    /// All heads.
    All,
}

/// The first load.
#[derive(Debug)]
pub(super) enum Loading {
    /// It is not known yet what there is.
    Unknown,
    /// These have not been read yet.
    Awaiting(HashSet<EnvironmentId>),
    /// Everything was sent at least once that can be read.
    Complete,
}

/// What has been read.
pub(super) enum Done {
    Polled(Result<Heads, Error>),
    Fetched(EnvironmentId, Result<Fetched, Error>),
    /// Of one or several environments.
    FetchedTogether(Vec<EnvironmentId>, together::Read),
    Directory(Result<Directory, Error>),
    Raised(Result<Raised, Error>),
}

/// The hub is gone, or the feed is cancelled.
pub(super) struct Stopped;

impl Engine {
    pub(super) fn new(
        shared: Shared,
        events: mpsc::Sender<Event>,
        link: watch::Receiver<Link>,
        pool_origin: watch::Sender<Option<Origin>>,
    ) -> Self {
        Self {
            shared,
            events,
            link,
            pool_origin,
            jobs: JoinSet::new(),
            epoch: 0,
            identity: None,
            environments: Environments::default(),
            fetching: 0,
            access: Access::default(),
            polling: Polling {
                due: true,
                asking: false,
                since: None,
                next: Scope::All,
                scanned_at: Instant::now(),
                answered: false,
                found: Found::Primary,
            },
            confirmations: Confirmations::default(),
            raising: false,
            loading: Loading::Unknown,
            told: None,
        }
    }

    /// Runs until it is cancelled.
    pub(super) async fn run(mut self) {
        let cancel = self.shared.cancel.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            Stopped = self.keep_running() => {}
        }
    }

    async fn keep_running(&mut self) -> Stopped {
        let mut ticks = interval(self.shared.options.poll_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut gathering = Gathering::new(self.shared.hints.clone(), self.shared.options.gather);
        let mut link = self.link.clone();
        loop {
            self.start_jobs();
            let is_due = tokio::select! {
                biased;
                _ = ticks.tick() => {
                    self.polling.due = true;
                    true
                }
                Ok(()) = link.changed() => {
                    // What was committed before the listener listened was notified to nobody.
                    self.polling.scan_next();
                    false
                }
                Some(done) = self.jobs.join_next() => match self.finish(done).await {
                    Ok(()) => false,
                    Err(stopped) => return stopped,
                },
                pending = gathering.next() => {
                    self.take_hints(&pending);
                    false
                }
            };
            if let Err(stopped) = self.tell(is_due).await {
                return stopped;
            }
        }
    }

    fn take_hints(&mut self, pending: &Pending) {
        add(
            &self.shared.counters.hints,
            pending.environments.len() + usize::from(pending.access.is_some()),
        );
        for (&environment, &revision) in &pending.environments {
            self.environments.hint(environment, revision);
        }
        if let Some(revision) = pending.access {
            self.access.hint(revision);
        }
    }

    fn start_jobs(&mut self) {
        let (pool, options) = (self.shared.pool.clone(), Arc::clone(&self.shared.options));
        if self.polling.due && !self.polling.asking {
            let since = self.polling.start(options.scan_interval);
            self.spawn(async move { Done::Polled(poll::poll(&pool, options.query_timeout, since).await) });
        }
        // Nothing else is read before it is known what history it belongs to, nor while that is in doubt.
        if self.identity.is_none() || self.raising {
            return;
        }
        if self.access.wanted && !self.access.reading && !self.access.parked {
            (self.access.wanted, self.access.reading) = (false, true);
            let (pool, options) = (self.shared.pool.clone(), Arc::clone(&self.shared.options));
            self.spawn(async move { Done::Directory(directory::load(&pool, &options).await) });
        }
        let most = self.shared.options.parallel_fetches.max(1);
        // What cannot be read must not keep what can from being read.
        let retries = most.saturating_sub(1).max(1);
        // Keys before what they open.
        while self.access.is_sent() && self.fetching < most {
            let wishes = self.environments.start_several(retries);
            if wishes.is_empty() {
                break;
            }
            self.fetching += 1;
            self.fetch(wishes);
        }
    }

    fn fetch(&mut self, wishes: Vec<Wish>) {
        let (pool, options) = (self.shared.pool.clone(), Arc::clone(&self.shared.options));
        if let [wish] = wishes[..]
            && !wish.together
        {
            let span = self.read_span(&wishes);
            return self.spawn(async move {
                let read = follow(span, fetch::fetch(&pool, options, wish)).await;
                Done::Fetched(wish.environment, read)
            });
        }
        let environments = wishes.iter().map(|wish| wish.environment).collect();
        let span = self.read_span(&wishes);
        self.spawn(async move {
            let read = follow(span, together::fetch(&pool, options, wishes)).await;
            Done::FetchedTogether(environments, read)
        });
    }

    /// The trace of a reading, if it is to have one.
    fn read_span(&self, wishes: &[Wish]) -> Option<Span> {
        let tracer = self.shared.options.tracer.as_ref()?;
        let span = tracer.begin("feed read", Kind::Internal, None)?;
        if let [wish] = wishes {
            span.set("halyard.environment_id", wish.environment.0);
            let revision = wish.applied.map_or(0, |applied| applied.revision);
            span.set("halyard.after_revision", i64::try_from(revision).unwrap_or(i64::MAX));
        }
        span.set("halyard.environments", i64::try_from(wishes.len()).unwrap_or(i64::MAX));
        Some(span)
    }

    /// Raises the generation, unless that is being done.
    pub(super) fn raise_generation(&mut self, known: Identity) {
        if self.raising {
            return;
        }
        self.raising = true;
        let shared = self.shared.clone();
        self.spawn(async move {
            let raised = generation::raise(&shared.pool, shared.options.query_timeout, known).await;
            let by_us = raised.as_ref().is_ok_and(|raised| raised.by_us);
            // Counted here: a poll may see the new generation before this answer is taken up.
            add(&shared.counters.generations_raised, usize::from(by_us));
            Done::Raised(raised)
        });
    }

    fn spawn(&mut self, job: impl Future<Output = Done> + Send + 'static) {
        let epoch = self.epoch;
        self.jobs.spawn(async move { (epoch, job.await) });
    }

    async fn finish(&mut self, done: Result<(u64, Done), tokio::task::JoinError>) -> Result<(), Stopped> {
        let (epoch, done) = match done {
            Ok(done) => done,
            // A bug must not leave the replica silently stale: the end of this task brings the process down.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(Stopped),
        };
        match &done {
            Done::Fetched(..) | Done::FetchedTogether(..) => self.fetching -= 1,
            Done::Polled(_) => self.polling.asking = false,
            Done::Directory(_) | Done::Raised(_) => {}
        }
        if epoch == self.epoch {
            self.apply(done).await
        } else {
            Ok(())
        }
    }

    /// Tells how the feed is doing, where that has changed or is due.
    async fn tell(&mut self, is_due: bool) -> Result<(), Stopped> {
        self.excuse_the_overdue().await?;
        let (environments, access) = (&self.environments, &self.access);
        let was_sent = |hint: Hint| match hint {
            Hint::Environment { id, revision } => environments.has(id, revision),
            Hint::Access { revision } => access.has(revision),
        };
        let confirmed = matches!(self.loading, Loading::Complete) && self.confirmations.settle(was_sent);
        let quality = self.quality();
        // Which history it is comes first of all events.
        if self.identity.is_none() || !(is_due || confirmed || self.told != Some(quality)) {
            return Ok(());
        }
        self.told = Some(quality);
        let confirmed_at = self.confirmations.confirmed_at();
        self.send(Event::Status { quality, confirmed_at }).await
    }

    /// What takes too long to be sent makes its environment old, and no other.
    async fn excuse_the_overdue(&mut self) -> Result<(), Stopped> {
        if !matches!(self.loading, Loading::Complete) {
            return Ok(());
        }
        let overdue = self
            .confirmations
            .overdue(Instant::now(), self.shared.options.query_timeout);
        let overdue = overdue.filter_map(|hint| match hint {
            Hint::Environment { id, revision } => (!self.environments.has(id, revision)).then_some(id),
            Hint::Access { .. } => None,
        });
        for environment in overdue.collect::<Vec<_>>() {
            self.leave_behind(environment).await?;
        }
        Ok(())
    }

    /// Lets nothing wait for an environment any more, once the hub knows that it may be old.
    pub(super) async fn leave_behind(&mut self, environment: EnvironmentId) -> Result<(), Stopped> {
        if !self.environments.excuse(environment) {
            return Ok(());
        }
        add(&self.shared.counters.left_behind, 1);
        tracing::warn!(
            environment = environment.0,
            "an environment cannot be read, or not quickly enough; what was last read of it is served on, and says how old it is"
        );
        self.send(Event::Behind(environment)).await
    }

    /// A listener that is told of changes which cannot be read is worth nothing.
    fn quality(&self) -> Quality {
        let link = self.link.borrow();
        let pool_origin = self.pool_origin.borrow();
        if !self.polling.answered {
            Quality::Disconnected
        } else if link.origin.is_some() && link.origin == *pool_origin {
            Quality::Live
        } else {
            Quality::Polling
        }
    }

    /// Sends an event, waiting for the hub if it must: nothing is dropped.
    pub(super) async fn send(&self, event: Event) -> Result<(), Stopped> {
        self.events.send(event).await.map_err(|_| Stopped)
    }
}

/// Reads as a part of a trace, if there is one.
async fn follow<F: Future>(span: Option<Span>, read: F) -> F::Output {
    match span {
        Some(span) => span.follow(read).await,
        None => read.await,
    }
}

impl Polling {
    /// Asks for all heads, soon.
    pub(super) fn scan_next(&mut self) {
        (self.due, self.next) = (true, Scope::All);
    }

    /// From where to ask now.
    fn start(&mut self, scan_interval: Duration) -> Option<u64> {
        let all = self.next == Scope::All || self.scanned_at.elapsed() >= scan_interval;
        self.next = Scope::Changed;
        (self.due, self.asking) = (false, true);
        self.since.filter(|_| !all)
    }
}
