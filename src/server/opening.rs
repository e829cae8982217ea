//! How connections are opened: how many there may be, what TLS they speak, and how long they may take until they ask something.
//!
//! Nobody waits for a connection that is being opened. TLS handshakes run beside each other on the worker that has the connection; what
//! costs time in them, the signature, is one worker's one at a time, with everything else in between, so that a fleet which connects at
//! once does not stand before requests that are being answered. There are never more than connections may be open.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, future};
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use super::Error;
use super::connection::{Connection, Open};
use super::listen::Accepted;
use crate::rpc::leaving::Pot;
use crate::shutdown::Tasks;
use crate::tls::{Certificates, Holder, ServerFiles};

/// Connections that are open to the worker, and that it does not serve yet.
const WAITING: usize = 64;
/// How long a peer whose handshake failed may take to read why.
const PARTING: Duration = Duration::from_secs(1);

/// How connections are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connections {
    /// How many may be open.
    pub most: NonZeroUsize,
    /// How long one may take until its first request has begun.
    pub opening: Duration,
    /// What it shows and takes. `None`: connections are in clear.
    pub tls: Option<ServerFiles>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            most: NonZeroUsize::MAX,
            opening: Duration::from_secs(10),
            tls: None,
        }
    }
}

/// What all workers share of it.
#[derive(Clone)]
pub(super) struct Opening(Arc<Shared>);

struct Shared {
    most: u64,
    within: Duration,
    stall: Duration,
    unread: Pot,
    /// `None`: connections are in clear.
    certificates: Option<Arc<Certificates>>,
    counters: Counters,
}

/// What is counted of connections.
#[derive(Default)]
pub(super) struct Counters {
    /// Connections that are open.
    pub open: AtomicU64,
    /// Connections that were too many.
    pub refused: AtomicU64,
    /// Connections that asked nothing in time.
    pub unasked: AtomicU64,
    /// Connections whose peers did not read.
    pub unread: AtomicU64,
    /// Handshakes that were completed.
    pub handshakes: AtomicU64,
    /// Handshakes that were not.
    pub failed_handshakes: AtomicU64,
}

impl Opening {
    /// Reads the certificates, and keeps looking at them. `stall`: how long what is sent may stay unread.
    pub fn new(connections: Connections, stall: Duration, tasks: &Tasks) -> Result<Self, Error> {
        let Connections { most, opening, tls } = connections;
        let certificates = tls.map(Certificates::load).transpose()?;
        let certificates = certificates.map(|(certificates, following)| {
            let stop = tasks.stop().clone();
            tasks.spawn("certificates", async move {
                stop.run_until_cancelled(following).await;
            });
            certificates
        });
        Ok(Self(Arc::new(Shared {
            most: most.get() as u64,
            within: opening,
            stall,
            unread: Pot::default(),
            certificates,
            counters: Counters::default(),
        })))
    }

    /// What is counted.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// What is served over TLS. `None`: nothing is.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.0.certificates.as_deref()
    }

    /// Whether there may be one more connection; counts the one that may not be.
    pub fn has_room(&self) -> bool {
        let has_room = self.0.counters.open.load(Ordering::Relaxed) < self.0.most;
        if !has_room {
            self.0.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// Counts that a connection was closed since it asked nothing.
    pub fn gave_up(&self) {
        self.0.counters.unasked.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts that a connection was closed since its peer did not read.
    pub fn left_unread(&self) {
        self.0.counters.unread.fetch_add(1, Ordering::Relaxed);
    }

    /// How long what is sent may stay unread, at least.
    pub fn stall(&self) -> Duration {
        self.0.stall
    }

    /// What all connections have unread.
    pub fn unread(&self) -> &Pot {
        &self.0.unread
    }

    /// By when a connection that begins now must have asked something.
    fn end(&self) -> Instant {
        Instant::now() + self.0.within
    }

    /// The connections that a worker was given, each as soon as it can be served. On the worker's runtime.
    pub fn open(
        self,
        accepted: mpsc::Receiver<(Accepted, Open)>,
    ) -> impl Stream<Item = io::Result<Connection>> + Send + use<> {
        match self.0.certificates.clone() {
            None => {
                let opened = ReceiverStream::new(accepted).map(move |(stream, open)| {
                    let end = self.end();
                    Connection::in_clear(stream, open, self.clone(), end)
                });
                future::Either::Left(opened)
            }
            Some(certificates) => {
                let (ready, opened) = mpsc::channel(WAITING);
                tokio::spawn(self.secure(certificates, accepted, ready));
                future::Either::Right(ReceiverStream::new(opened))
            }
        }
    }

    /// Begins handshakes as connections come, and hands over what came of them. Ends when nobody takes them any more.
    async fn secure(
        self,
        certificates: Arc<Certificates>,
        mut accepted: mpsc::Receiver<(Accepted, Open)>,
        ready: mpsc::Sender<io::Result<Connection>>,
    ) {
        let turns = Arc::new(Semaphore::new(1));
        loop {
            let next = tokio::select! {
                biased;
                () = ready.closed() => return,
                next = accepted.recv() => next,
            };
            let Some((stream, open)) = next else {
                return;
            };
            let end = self.end();
            let (this, ready, certificates, turns) = (self.clone(), ready.clone(), certificates.clone(), turns.clone());
            tokio::spawn(async move {
                let secured = match stream {
                    Accepted::Tcp(stream) => this.handshake(stream, open, (&certificates, &turns), end).await,
                    // The file's permissions say who may connect, and nobody can listen in.
                    Accepted::Unix(_) => Connection::in_clear(stream, open, this, end).ok(),
                };
                if let Some(connection) = secured {
                    // Nobody takes it any more: the server stops.
                    let _ = ready.send(Ok(connection)).await;
                }
            });
        }
    }

    async fn handshake(
        self,
        stream: std::net::TcpStream,
        open: Open,
        (certificates, turns): (&Certificates, &Semaphore),
        end: Instant,
    ) -> Option<Connection> {
        let address = stream.peer_addr().ok().map(|address| address.ip());
        let secured = tokio::time::timeout_at(end, secure(stream, certificates, turns)).await;
        let counters = &self.0.counters;
        match secured {
            Ok(Ok(stream)) => {
                counters.handshakes.fetch_add(1, Ordering::Relaxed);
                let shown = stream.get_ref().1.peer_certificates();
                let holder = shown.and_then(<[_]>::first).map(|shown| Holder::of(shown).to_string());
                return Some(Connection::over_tls(stream, open, (address, holder), self, end));
            }
            Ok(Err(error)) => tracing::debug!(%error, peer = ?address, "a TLS handshake failed"),
            Err(_) => {
                self.gave_up();
                tracing::debug!(peer = ?address, "a TLS handshake was not completed in time");
            }
        }
        counters.failed_handshakes.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Makes a handshake.
async fn secure(
    stream: std::net::TcpStream,
    certificates: &Certificates,
    turns: &Semaphore,
) -> io::Result<TlsStream<TcpStream>> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), TcpStream::from_std(stream)?).await?;
    let turn = turns.acquire().await.map_err(io::Error::other)?;
    // Here our answer is signed. It is sent, and the peer waited for, when it is the next one's turn already.
    let answered = hello.into_stream(certificates.config()).into_fallible();
    tokio::task::yield_now().await;
    drop(turn);
    match answered.await {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            let _ = tokio::time::timeout(PARTING, part(stream)).await;
            Err(error)
        }
    }
}

/// Ends a connection so that its peer learns why: closed with something unread, it would be reset, and what was sent last be lost.
async fn part(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}
