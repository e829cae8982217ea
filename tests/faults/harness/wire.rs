//! The wire between one replica and PostgreSQL: it knows the frames of the protocol, and can be broken in many ways.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::carry::{carry, reset};
use super::spans::Spans;

/// How the wire is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Whether connections are accepted.
    pub open: bool,
    pub to_server: Flow,
    pub to_replica: Flow,
    /// What becomes of a connection that begins to listen.
    pub listens: Flow,
    pub notifications: Notifications,
    pub commits: Commits,
    pub notifier: Notifier,
    /// How long every message takes, at least and at most. `None`: no longer than it must.
    pub delay: Option<(Duration, Duration)>,
    /// Whether connections that begin now never hear a notification, as behind a transaction pooler.
    pub pooled: bool,
    /// Where it leads.
    pub server: PathBuf,
    /// Connections of another epoch than when they began are reset.
    pub(super) epoch: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Pass,
    /// Nothing passes and nobody is told, until it passes again.
    Hold,
}

/// What becomes of notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notifications {
    Pass,
    Drop,
    /// Those of changes are dropped; the listener still hears itself.
    DropHints,
    /// Each comes so much later, behind what was sent meanwhile.
    Delay(Duration),
    /// Each comes twice.
    Twice,
}

/// What becomes of a connection that commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    Pass,
    /// It is reset, and PostgreSQL never hears of the commit.
    ResetBefore,
    /// It is reset once PostgreSQL has answered, before the replica hears of it.
    ResetAfter,
}

/// What becomes of the connection on which the replica tells others of its writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notifier {
    Pass,
    /// It is reset at the moment that it tells them, so that they do not hear of it.
    Reset,
}

/// How often the wire did something.
#[derive(Debug, Default)]
pub struct Counts {
    /// Notifications that were dropped, delayed or doubled.
    pub notifications: AtomicUsize,
    /// Connections that were reset at a commit.
    pub commits: AtomicUsize,
    /// Connections that were reset as they told others of writes.
    pub notifiers: AtomicUsize,
    /// Messages that came while the way was held.
    pub held: AtomicUsize,
    /// Connections that had to wait before they listened.
    pub listens: AtomicUsize,
    /// Messages that were delayed.
    pub delayed: AtomicUsize,
}

/// The connections that there are: the process that serves each, and the name that it was opened under.
pub(super) type Sessions = Arc<Mutex<HashMap<u32, String>>>;

/// The wire; gone when dropped.
pub struct Wire {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
    /// When nothing could be learnt over it.
    pub silences: Spans,
    sessions: Sessions,
    way: watch::Sender<Way>,
}

impl Wire {
    pub async fn to(server: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, ways) = watch::channel(Way {
            open: true,
            to_server: Flow::Pass,
            to_replica: Flow::Pass,
            listens: Flow::Pass,
            notifications: Notifications::Pass,
            commits: Commits::Pass,
            notifier: Notifier::Pass,
            delay: None,
            pooled: false,
            server,
            epoch: 0,
        });
        let (counts, sessions) = (Arc::default(), Sessions::default());
        tokio::spawn(accept(listener, ways, Arc::clone(&counts), Arc::clone(&sessions)));
        Self {
            address,
            counts,
            silences: Spans::default(),
            sessions,
            way,
        }
    }

    /// What a replica is given to connect with: in clear, since the wire reads what passes and would not understand being asked for TLS.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres?sslmode=disable", self.address)
    }

    /// Changes how it is, for what is connected too.
    pub fn set(&self, change: impl FnOnce(&mut Way)) {
        let mut is_silent = false;
        // From the change on something may pass, whenever whoever made it goes on.
        let before = Instant::now();
        self.way.send_modify(|way| {
            change(way);
            is_silent = way.to_server == Flow::Hold || way.to_replica == Flow::Hold;
        });
        if is_silent {
            self.silences.open();
        } else {
            self.silences.close(before);
        }
    }

    /// Makes it whole again.
    pub fn heal(&self) {
        self.set(|way| {
            (way.open, way.to_server, way.to_replica) = (true, Flow::Pass, Flow::Pass);
            (way.notifications, way.commits) = (Notifications::Pass, Commits::Pass);
            (way.notifier, way.delay, way.pooled) = (Notifier::Pass, None, false);
            way.listens = Flow::Pass;
        });
    }

    /// Leads elsewhere from now on; what is connected is reset.
    pub fn lead(&self, server: &Path) {
        self.set(|way| {
            server.clone_into(&mut way.server);
            way.epoch += 1;
        });
    }

    /// The processes of PostgreSQL that serve the replica's connections of this name.
    pub fn backends(&self, name: &str) -> Vec<u32> {
        let sessions = self.sessions.lock().unwrap();
        let of_name = sessions.iter().filter(|(_, session)| *session == name);
        of_name.map(|(process, _)| *process).collect()
    }

    /// Resets everything that is connected.
    pub fn reset(&self) {
        self.set(|way| way.epoch += 1);
    }

    /// How many notifications were dropped, delayed or doubled.
    pub fn notifications(&self) -> usize {
        self.counts.notifications.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, way: watch::Receiver<Way>, counts: Arc<Counts>, sessions: Sessions) {
    let mut closing = way.clone();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            closed = closing.wait_for(|_| false) => { assert!(closed.is_err()); return }
        };
        if way.borrow().open {
            tokio::spawn(carry(client, way.clone(), Arc::clone(&counts), Arc::clone(&sessions)));
        } else {
            reset(&client);
        }
    }
}
