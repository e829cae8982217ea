//! The wire between one replica and PostgreSQL: it knows the frames of the protocol, and can be broken in many ways.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// How the wire is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Whether connections are accepted.
    pub open: bool,
    pub to_server: Flow,
    pub to_replica: Flow,
    pub notifications: Notifications,
    pub commits: Commits,
    /// Where it leads.
    pub server: PathBuf,
    /// Connections of another epoch than when they began are reset.
    epoch: u64,
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

/// How often the wire did something.
#[derive(Debug, Default)]
pub struct Counts {
    /// Notifications that were dropped, delayed or doubled.
    pub notifications: AtomicUsize,
    /// Connections that were reset at a commit.
    pub commits: AtomicUsize,
}

/// The wire; gone when dropped.
pub struct Wire {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
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
            notifications: Notifications::Pass,
            commits: Commits::Pass,
            server,
            epoch: 0,
        });
        let counts = Arc::default();
        tokio::spawn(accept(listener, ways, Arc::clone(&counts)));
        Self { address, counts, way }
    }

    /// What a replica is given to connect with.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address)
    }

    /// Changes how it is, for what is connected too.
    pub fn set(&self, change: impl FnOnce(&mut Way)) {
        self.way.send_modify(change);
    }

    /// Makes it whole again.
    pub fn heal(&self) {
        self.set(|way| {
            (way.open, way.to_server, way.to_replica) = (true, Flow::Pass, Flow::Pass);
            (way.notifications, way.commits) = (Notifications::Pass, Commits::Pass);
        });
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

async fn accept(listener: TcpListener, way: watch::Receiver<Way>, counts: Arc<Counts>) {
    let mut closing = way.clone();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            closed = closing.wait_for(|_| false) => { assert!(closed.is_err()); return }
        };
        if way.borrow().open {
            tokio::spawn(carry(client, way.clone(), Arc::clone(&counts)));
        } else {
            reset(&client);
        }
    }
}

/// Whoever is at the other end gets RST instead of an orderly end.
fn reset(stream: &TcpStream) {
    let _gone = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

async fn carry(mut client: TcpStream, way: watch::Receiver<Way>, counts: Arc<Counts>) {
    let (epoch, server) = {
        let way = way.borrow();
        (way.epoch, way.server.clone())
    };
    let Ok(mut server) = UnixStream::connect(server).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let (from_replica, to_replica) = client.split();
    let (from_server, to_server) = server.split();
    // Set by the way there, when the answer to a commit must not come back.
    let (committing, committed) = watch::channel(false);
    let mut ended = way.clone();
    let is_reset = tokio::select! {
        is_reset = questions(from_replica, to_server, way.clone(), &committing, &counts) => is_reset.unwrap_or(false),
        is_reset = answers(from_server, to_replica, way, committed, &counts) => is_reset.unwrap_or(false),
        _ = ended.wait_for(|way| way.epoch != epoch) => true,
    };
    if is_reset {
        reset(&client);
    }
}

/// From the replica to PostgreSQL. The first message has no type. Returns whether the connection is to be reset.
async fn questions(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
    committing: &watch::Sender<bool>,
    counts: &Counts,
) -> std::io::Result<bool> {
    let mut message = Vec::new();
    body(&mut from, &mut message).await?;
    loop {
        if way.wait_for(|way| way.to_server == Flow::Pass).await.is_err() {
            return Ok(false);
        }
        let commits = way.borrow().commits;
        if commits != Commits::Pass && is_commit(&message) {
            counts.commits.fetch_add(1, Ordering::Relaxed);
            if commits == Commits::ResetBefore {
                return Ok(true);
            }
            committing.send_replace(true);
        }
        to.write_all(&message).await?;
        message.clear();
        message.push(from.read_u8().await?);
        body(&mut from, &mut message).await?;
    }
}

fn is_commit(message: &[u8]) -> bool {
    message.first() == Some(&b'Q')
        && message
            .get(5..11)
            .is_some_and(|text| text.eq_ignore_ascii_case(b"commit"))
}

/// Appends a length, which counts itself, and what it is the length of.
async fn body(from: &mut (impl AsyncRead + Unpin), message: &mut Vec<u8>) -> std::io::Result<()> {
    let length = from.read_u32().await?;
    message.extend(length.to_be_bytes());
    let start = message.len();
    message.resize(start + length as usize - 4, 0);
    from.read_exact(&mut message[start..]).await.map(drop)
}

/// From PostgreSQL to the replica. Returns whether the connection is to be reset.
async fn answers(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
    committed: watch::Receiver<bool>,
    counts: &Counts,
) -> std::io::Result<bool> {
    let (frames, mut read) = mpsc::channel(64);
    let reading = async {
        loop {
            let mut message = vec![from.read_u8().await?];
            body(&mut from, &mut message).await?;
            if frames.send(message).await.is_err() {
                return Ok::<_, std::io::Error>(false);
            }
        }
    };
    let writing = async {
        let mut late = std::collections::VecDeque::<(Instant, Vec<u8>)>::new();
        loop {
            let due = late.front().map(|(due, _)| *due);
            let message = tokio::select! {
                message = read.recv() => message,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    late.pop_front().map(|(_, message)| message)
                }
            };
            let Some(message) = message else {
                return Ok::<_, std::io::Error>(false);
            };
            if way.wait_for(|way| way.to_replica == Flow::Pass).await.is_err() {
                return Ok(false);
            }
            if *committed.borrow() {
                return Ok(true);
            }
            let is_late = due.is_some_and(|due| due <= Instant::now());
            let notifications = way.borrow().notifications;
            let touched = message[0] == b'A' && notifications != Notifications::Pass && !is_late;
            if touched {
                counts.notifications.fetch_add(1, Ordering::Relaxed);
            }
            match notifications {
                Notifications::Drop if touched => {}
                Notifications::Delay(delay) if touched => late.push_back((Instant::now() + delay, message)),
                Notifications::Twice if touched => {
                    to.write_all(&message).await?;
                    to.write_all(&message).await?;
                }
                Notifications::Pass | Notifications::Drop | Notifications::Delay(_) | Notifications::Twice => {
                    to.write_all(&message).await?;
                }
            }
        }
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}
