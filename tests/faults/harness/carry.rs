//! One connection over a wire: frames of PostgreSQL's protocol, each passed on as the way is at that moment.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::wire::{Commits, Counts, Flow, Notifications, Notifier, Sessions, Way};

/// What the replica's notifier says, and nobody else.
const NOTIFIES: &[u8] = b"select pg_notify($1, payload)";
/// How a listener begins.
const LISTENS: &[u8] = b"listen ";
/// What a listener says to itself.
const PROBES: &[u8] = b"\0probe ";

/// Whoever is at the other end gets RST instead of an orderly end.
pub(super) fn reset(stream: &TcpStream) {
    let _gone = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// What both directions of a connection share.
struct Connection {
    counts: Arc<Counts>,
    sessions: Sessions,
    /// What it calls itself.
    name: OnceLock<String>,
    /// The process that serves it.
    process: OnceLock<u32>,
    /// Whether it began while the way was pooled.
    pooled: bool,
    /// Whether it commits, and the answer must not come back.
    committing: watch::Sender<bool>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(process) = self.process.get() {
            self.sessions.lock().unwrap().remove(process);
        }
    }
}

pub(super) async fn carry(mut client: TcpStream, way: watch::Receiver<Way>, counts: Arc<Counts>, sessions: Sessions) {
    let (epoch, server, pooled) = {
        let way = way.borrow();
        (way.epoch, way.server.clone(), way.pooled)
    };
    let Ok(mut server) = UnixStream::connect(server).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let connection = Connection {
        counts,
        sessions,
        name: OnceLock::new(),
        process: OnceLock::new(),
        pooled,
        committing: watch::Sender::new(false),
    };
    let (from_replica, to_replica) = client.split();
    let (from_server, to_server) = server.split();
    let mut ended = way.clone();
    let is_reset = tokio::select! {
        is_reset = questions(from_replica, to_server, way.clone(), &connection) => is_reset.unwrap_or(false),
        is_reset = answers(from_server, to_replica, way, &connection) => is_reset.unwrap_or(false),
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
    connection: &Connection,
) -> std::io::Result<bool> {
    let (frames, mut read) = mpsc::channel(64);
    let (ways, counts) = (way.clone(), &connection.counts);
    let reading = async move {
        let (mut message, mut due) = (Vec::new(), Instant::now());
        body(&mut from, &mut message).await?;
        let _first = connection.name.set(name(&message));
        loop {
            due = later(due, &ways, counts);
            if frames.send((due, message)).await.is_err() {
                return Ok::<_, std::io::Error>(());
            }
            message = vec![from.read_u8().await?];
            body(&mut from, &mut message).await?;
        }
    };
    let writing = async {
        while let Some((due, message)) = read.recv().await {
            sleep_until(due).await;
            if !passes(&mut way, |way| way.to_server, &counts.held).await {
                return Ok(false);
            }
            if is_listen(&message) && !passes(&mut way, |way| way.listens, &counts.listens).await {
                return Ok(false);
            }
            let (commits, notifier) = {
                let way = way.borrow();
                (way.commits, way.notifier)
            };
            if notifier == Notifier::Reset && message.windows(NOTIFIES.len()).any(|part| part == NOTIFIES) {
                counts.notifiers.fetch_add(1, Ordering::Relaxed);
                return Ok(true);
            }
            if commits != Commits::Pass && is_commit(&message) {
                counts.commits.fetch_add(1, Ordering::Relaxed);
                if commits == Commits::ResetBefore {
                    return Ok(true);
                }
                connection.committing.send_replace(true);
            }
            to.write_all(&message).await?;
        }
        Ok(false)
    };
    tokio::pin!(writing);
    tokio::select! {
        ended = &mut writing => ended,
        // What was on its way when the replica closed the connection still arrives.
        _closed = reading => writing.await,
    }
}

/// From PostgreSQL to the replica. Returns whether the connection is to be reset.
async fn answers(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
    connection: &Connection,
) -> std::io::Result<bool> {
    let (frames, mut read) = mpsc::channel(64);
    let (ways, counts) = (way.clone(), &connection.counts);
    let reading = async move {
        let mut due = Instant::now();
        loop {
            let mut message = vec![from.read_u8().await?];
            body(&mut from, &mut message).await?;
            connection.serves(&message);
            due = later(due, &ways, counts);
            if frames.send((due, message)).await.is_err() {
                return Ok::<_, std::io::Error>(());
            }
        }
    };
    let writing = async {
        let mut late = VecDeque::<(Instant, Vec<u8>)>::new();
        loop {
            let due = late.front().map(|(due, _)| *due);
            let (message, is_late) = tokio::select! {
                message = read.recv() => (message, false),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => (late.pop_front(), true),
            };
            let Some((due, message)) = message else {
                return Ok::<_, std::io::Error>(false);
            };
            sleep_until(due).await;
            if !passes(&mut way, |way| way.to_replica, &counts.held).await {
                return Ok(false);
            }
            if *connection.committing.borrow() {
                return Ok(true);
            }
            let notifications = if connection.pooled {
                Notifications::Drop
            } else {
                way.borrow().notifications
            };
            let touched = message[0] == b'A' && !is_late && touches(notifications, &message);
            if touched {
                counts.notifications.fetch_add(1, Ordering::Relaxed);
            }
            match notifications {
                Notifications::Drop | Notifications::DropHints if touched => {}
                Notifications::Delay(delay) if touched => late.push_back((Instant::now() + delay, message)),
                Notifications::Twice if touched => {
                    to.write_all(&message).await?;
                    to.write_all(&message).await?;
                }
                Notifications::Pass
                | Notifications::Drop
                | Notifications::DropHints
                | Notifications::Delay(_)
                | Notifications::Twice => {
                    to.write_all(&message).await?;
                }
            }
        }
    };
    tokio::pin!(writing);
    tokio::select! {
        ended = &mut writing => ended,
        _closed = reading => writing.await,
    }
}

impl Connection {
    /// Learns from a message of PostgreSQL which process serves it.
    fn serves(&self, message: &[u8]) {
        let Some(process) = message.get(5..9).filter(|_| message[0] == b'K') else {
            return;
        };
        let process = u32::from_be_bytes(process.try_into().unwrap());
        let name = self.name.get().cloned().unwrap_or_default();
        if self.process.set(process).is_ok() {
            self.sessions.lock().unwrap().insert(process, name);
        }
    }
}

/// Whether this happens to a notification.
fn touches(notifications: Notifications, message: &[u8]) -> bool {
    match notifications {
        Notifications::Pass => false,
        Notifications::DropHints => !message.windows(PROBES.len()).any(|part| part == PROBES),
        Notifications::Drop | Notifications::Delay(_) | Notifications::Twice => true,
    }
}

/// When a message arrives that was sent now, behind those before it.
fn later(before: Instant, way: &watch::Receiver<Way>, counts: &Counts) -> Instant {
    let now = Instant::now();
    let Some((least, most)) = way.borrow().delay else {
        return now;
    };
    counts.delayed.fetch_add(1, Ordering::Relaxed);
    let jitter = fastrand::u64(0..=u64::try_from(most.saturating_sub(least).as_micros()).unwrap());
    before.max(now + least + Duration::from_micros(jitter))
}

/// Waits until this direction passes. Returns whether it ever does.
async fn passes(way: &mut watch::Receiver<Way>, flow: impl Fn(&Way) -> Flow, held: &AtomicUsize) -> bool {
    if flow(&way.borrow()) == Flow::Hold {
        held.fetch_add(1, Ordering::Relaxed);
    }
    way.wait_for(|way| flow(way) == Flow::Pass).await.is_ok()
}

/// What a connection calls itself in its first message.
fn name(message: &[u8]) -> String {
    let mut words = message.split(|byte| *byte == 0);
    words.find(|word| *word == b"application_name");
    String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned()
}

fn is_commit(message: &[u8]) -> bool {
    message.first() == Some(&b'Q')
        && message
            .get(5..11)
            .is_some_and(|text| text.eq_ignore_ascii_case(b"commit"))
}

fn is_listen(message: &[u8]) -> bool {
    message.first() == Some(&b'Q') && message.get(5..).is_some_and(|text| text.starts_with(LISTENS))
}

/// Appends a length, which counts itself, and what it is the length of.
async fn body(from: &mut (impl AsyncRead + Unpin), message: &mut Vec<u8>) -> std::io::Result<()> {
    let length = from.read_u32().await?;
    message.extend(length.to_be_bytes());
    let start = message.len();
    message.resize(start + length as usize - 4, 0);
    from.read_exact(&mut message[start..]).await.map(drop)
}
