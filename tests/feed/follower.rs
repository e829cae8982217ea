//! What a hub would know from the events of a feed; it holds every event against what a source promises.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::Pool;
use halyard::domain::access::Directory;
use halyard::domain::change::EnvironmentId;
use halyard::domain::form::ItemId;
use halyard::store::feed::{Feed, Hints, Options};
use halyard::watch::source::{Event, Head, Identity, Quality, StoredChange, StoredItem};
use tokio::sync::mpsc;
use tokio_postgres::Config;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::world::World;

/// Generous: a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A feed and what it has said.
pub struct Follower {
    pub feed: Arc<Feed>,
    pub hints: Hints,
    pub seen: Seen,
    events: mpsc::Receiver<Event>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    _cancels: DropGuard,
}

/// What the events amount to.
#[derive(Debug, Default)]
pub struct Seen {
    pub identity: Option<Identity>,
    pub directory: Arc<Directory>,
    pub environments: HashMap<EnvironmentId, Environment>,
    pub removed: Vec<EnvironmentId>,
    pub complete: bool,
    /// What is old, whatever is confirmed.
    pub behind: BTreeSet<EnvironmentId>,
    pub quality: Option<Quality>,
    /// Every quality that was told, in order.
    pub qualities: Vec<Quality>,
    pub confirmed_at: Option<Instant>,
    /// What came, in a word each.
    pub log: Vec<String>,
    /// Environments that the newest generation has not sent yet.
    stale: Vec<EnvironmentId>,
}

/// One environment.
#[derive(Debug)]
pub struct Environment {
    pub head: Head,
    pub items: BTreeMap<ItemId, StoredItem>,
    /// How many revisions the last reset brought along.
    pub recent: usize,
    pub resets: usize,
    pub advances: usize,
}

impl Follower {
    /// Follows with a pool of its own, as another replica would.
    pub fn start(world: &World, options: Options) -> Self {
        Self::start_with(world.cluster.config(), world.pool(), options)
    }

    pub fn start_with(config: Config, pool: Pool, options: Options) -> Self {
        let (hints, cancel, tracker) = (Hints::new(), CancellationToken::new(), TaskTracker::new());
        let spawn = |_, task| drop(tracker.spawn(task));
        let (feed, events) = Feed::start(config, pool, hints.clone(), options, cancel.clone(), spawn);
        Self {
            feed,
            hints,
            seen: Seen::default(),
            events,
            tracker,
            cancel: cancel.clone(),
            _cancels: cancel.drop_guard(),
        }
    }

    /// Follows until everything was sent and notifications arrive.
    pub async fn ready(world: &World, options: Options) -> Self {
        let mut follower = Self::start(world, options);
        follower
            .until("ready", |seen| seen.complete && seen.quality == Some(Quality::Live))
            .await;
        // Whatever was asked at the start has been answered, so that what follows is for the test alone.
        follower.until("confirmed", |seen| seen.confirmed_at.is_some()).await;
        follower
    }

    /// Takes events until this holds.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Seen) -> bool) {
        let waiting = async {
            while !holds(&self.seen) {
                let event = self.events.recv().await.expect("the feed ended");
                self.seen.apply(event);
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(
            in_time,
            "waited in vain: {what}\n{:#?}\n{:#?}",
            self.seen,
            self.feed.counters()
        );
    }

    /// Takes events until the environment is at this revision.
    pub async fn until_at(&mut self, environment: EnvironmentId, revision: u64) {
        let what = format!("{environment:?} at {revision}");
        self.until(&what, |seen| seen.revision(environment) == Some(revision))
            .await;
    }

    /// Takes events until the feed knows that nothing newer existed at some moment after this call.
    pub async fn until_confirmed(&mut self) {
        let now = Instant::now();
        self.until("confirmed after now", |seen| {
            seen.confirmed_at.is_some_and(|at| at >= now)
        })
        .await;
    }

    /// Terminates the listener's session, and takes events until that was noticed.
    pub async fn break_listener(&mut self, world: &World, listener: i32) {
        let disconnects = |feed: &Feed| feed.counters().disconnects.load(std::sync::atomic::Ordering::Relaxed);
        let (feed, before) = (self.feed.clone(), disconnects(&self.feed));
        let sql = "select pg_terminate_backend($1)";
        world.client.execute(sql, &[&listener]).await.unwrap();
        self.until("the end of the session", |_| disconnects(&feed) > before)
            .await;
    }

    /// Cancels the feed; every task of it must end.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(PATIENCE, self.tracker.wait())
            .await
            .expect("a task outlives its feed");
    }
}

impl Seen {
    pub fn revision(&self, environment: EnvironmentId) -> Option<u64> {
        self.environments
            .get(&environment)
            .map(|environment| environment.head.revision)
    }

    /// The only form of the kind that tests write.
    pub fn configuration(&self, environment: EnvironmentId) -> Option<String> {
        let items = self.environments[&environment].items.values();
        let mut configurations = items.filter(|item| item.id.kind.name() == "flag_configuration");
        configurations
            .next()
            .map(|item| String::from_utf8(item.form.to_vec()).unwrap())
    }

    fn apply(&mut self, event: Event) {
        assert!(
            self.identity.is_some() || matches!(event, Event::Identity(_)),
            "{event:?} came before the identity"
        );
        match event {
            Event::Identity(identity) => self.identify(identity),
            Event::Access(directory) => {
                self.log.push(format!("access {}", directory.revision));
                self.directory = directory;
            }
            Event::Reset {
                environment,
                head,
                items,
                recent,
            } => {
                self.log.push(format!("reset {} {}", environment.0, head.revision));
                let before = self.environments.get(&environment);
                let is_stale = self.stale.contains(&environment);
                if let Some(before) = before.filter(|_| !is_stale) {
                    assert!(head.revision > before.head.revision, "a reset went back or came twice");
                }
                self.stale.retain(|stale| *stale != environment);
                assert!(recent.last().is_none_or(|last| last.head == head));
                for pair in recent.windows(2) {
                    assert_eq!(pair[0].head.digest, pair[1].previous_digest);
                }
                let (resets, advances) = before.map_or((0, 0), |before| (before.resets, before.advances));
                let items = items.into_iter().map(|item| (item.id.clone(), item)).collect();
                let (recent, resets) = (recent.len(), resets + 1);
                let state = Environment {
                    head,
                    items,
                    recent,
                    resets,
                    advances,
                };
                self.environments.insert(environment, state);
            }
            Event::Advance { environment, delta } => {
                assert!(
                    !self.stale.contains(&environment),
                    "an advance before the reset of a new generation"
                );
                let state = self
                    .environments
                    .get_mut(&environment)
                    .expect("an advance of the unknown");
                assert_eq!(delta.head.revision, state.head.revision + 1);
                assert_eq!(delta.previous_digest, state.head.digest);
                state.head = delta.head;
                state.advances += 1;
                for change in delta.changes {
                    match change {
                        StoredChange::Put(item) => drop(state.items.insert(item.id.clone(), item)),
                        StoredChange::Delete { id, .. } => drop(state.items.remove(&id)),
                    }
                }
            }
            Event::Removed(environment) => {
                self.log.push(format!("removed {}", environment.0));
                self.environments.remove(&environment).expect("the unknown was removed");
                self.stale.retain(|stale| *stale != environment);
                self.behind.remove(&environment);
                self.removed.push(environment);
            }
            Event::Superseded(environment) => panic!("{environment:?} was superseded: PostgreSQL has no such thing"),
            Event::Behind(environment) => {
                assert!(self.behind.insert(environment), "{environment:?} fell behind twice");
                self.log.push(format!("behind {}", environment.0));
            }
            Event::CaughtUp(environment) => {
                assert!(self.behind.remove(&environment), "{environment:?} was not behind");
                self.log.push(format!("caught up {}", environment.0));
            }
            Event::Complete => {
                assert!(!self.complete, "complete twice");
                self.log.push("complete".into());
                self.complete = true;
            }
            Event::Status { quality, confirmed_at } => {
                assert!(confirmed_at >= self.confirmed_at, "certainty went back");
                (self.quality, self.confirmed_at) = (Some(quality), confirmed_at);
                self.qualities.push(quality);
            }
        }
    }

    fn identify(&mut self, identity: Identity) {
        if let Some(before) = self.identity {
            assert!(identity.store != before.store || identity.generation > before.generation);
        }
        self.log.push(format!("generation {}", identity.generation));
        self.identity = Some(identity);
        self.stale = self.environments.keys().copied().collect();
    }

    /// Whether every environment was sent again since the generation rose.
    pub fn is_renewed(&self, generation: u64) -> bool {
        self.identity.is_some_and(|identity| identity.generation == generation) && self.stale.is_empty()
    }
}
