//! The runtimes that serve connections: one thread each, and a connection stays on the one that it was given to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::alive::Runtime;
use super::connection::Open;
use super::http::{self, House};
use super::listen::{Accepted, Listener};
use super::opening::Opening;
use super::seldom::Seldom;
use super::within::Within;

/// Accepted connections that a worker has not taken over yet.
const WAITING: usize = 1024;
/// How long to wait when no file descriptor is left.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// How a connection that is gone is noticed: by asking it in its own protocol, or by what it leaves unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// After so much silence it is asked whether it lives.
    pub interval: Duration,
    /// Within which it must answer.
    pub timeout: Duration,
    /// How long one over HTTP/1.1, which cannot be asked, is kept that asks nothing. Longer than balancers keep theirs, which would
    /// otherwise send a request on what is being closed.
    pub idle: Duration,
}

impl Keepalive {
    /// How long a peer may leave what it was sent unacknowledged, or take nothing more: as long as one that is asked may be silent.
    pub(super) fn unacknowledged(&self) -> Duration {
        self.interval + self.timeout
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(20),
            timeout: Duration::from_secs(10),
            idle: Duration::from_secs(75),
        }
    }
}

/// The running workers. Dropping them closes every connection at once.
pub struct Workers {
    all: Vec<Worker>,
    opening: Opening,
    /// Cancelled: take no more connections, finish what was begun.
    stopping: CancellationToken,
    /// Dropped: close what is still open.
    _open: DropGuard,
}

struct Worker {
    seat: Seat,
    /// Cancelled when its thread has ended, however it did.
    ended: CancellationToken,
}

/// Where connections are handed to a worker.
#[derive(Clone)]
pub(super) struct Seat {
    connections: mpsc::Sender<(Accepted, Open)>,
    /// How many connections it has, those included that it has not taken over yet.
    open: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts `count` workers.
    pub fn start(count: usize, house: &House, opening: &Opening) -> io::Result<Self> {
        let (stopping, closing) = (CancellationToken::new(), CancellationToken::new());
        let open = closing.clone().drop_guard();
        let start = |n| {
            let serving = Serving {
                house: house.of_worker(),
                runtime: Runtime::Worker(n),
                opening: opening.clone(),
                stopping: stopping.clone(),
            };
            Worker::start(n, serving, closing.clone())
        };
        Ok(Self {
            all: (0..count.max(1)).map(start).collect::<io::Result<_>>()?,
            opening: opening.clone(),
            stopping,
            _open: open,
        })
    }

    /// Accepts connections and gives each to the worker with the fewest, until the workers stop; ends when cancelled. Ends before
    /// that only if a worker has died.
    pub fn accept(&self, listener: Listener, cancel: CancellationToken) -> impl Future<Output = ()> + use<> {
        let seats: Vec<Seat> = self.all.iter().map(|worker| worker.seat.clone()).collect();
        let ended = self
            .all
            .iter()
            .map(|worker| Box::pin(worker.ended.clone().cancelled_owned()));
        let mut one_ended = select_all(ended);
        let (stopping, opening) = (self.stopping.clone(), self.opening.clone());
        let (mut many, mut none, mut busy) = (Seldom::default(), Seldom::default(), Seldom::default());
        async move {
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = stopping.cancelled() => break,
                    _ = &mut one_ended => return,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok(stream) if opening.has_room() => {
                        if let Err(error) = place(&seats, stream, &opening)
                            && busy.may_tell()
                        {
                            tracing::warn!(%error, "a connection was closed: no worker could take it");
                        }
                    }
                    // Dropped, it is closed.
                    Ok(_) => {
                        if many.may_tell() {
                            tracing::warn!(
                                "a connection was closed: as many are open as may be, see --max-connections"
                            );
                        }
                    }
                    Err(error) => {
                        if none.may_tell() {
                            tracing::warn!(%error, "a connection could not be accepted");
                        }
                        tokio::time::sleep(EXHAUSTED).await;
                    }
                }
            }
            drop(listener);
            cancel.cancelled().await;
        }
    }

    /// Connects to them from within the process.
    pub fn within(&self) -> Within {
        let seats = self.all.iter().map(|worker| worker.seat.clone()).collect();
        Within::new(seats, self.opening.clone())
    }

    /// Accepts no more, lets requests finish until `deadline`, and closes what is then still open.
    pub async fn stop(self, deadline: Instant) {
        let Self {
            all,
            opening: _,
            stopping,
            _open: open,
        } = self;
        stopping.cancel();
        let (seats, ended): (Vec<_>, Vec<_>) = all.into_iter().map(|worker| (worker.seat, worker.ended)).unzip();
        let all_ended = join_all(ended.iter().map(CancellationToken::cancelled));
        if tokio::time::timeout_at(deadline, all_ended).await.is_err() {
            let connections: usize = seats.iter().map(|seat| seat.open.load(Ordering::Relaxed)).sum();
            tracing::warn!(connections, "the grace is over; closing what is still open");
        }
        drop(open);
        join_all(ended.iter().map(CancellationToken::cancelled)).await;
    }
}

/// No worker could take a connection, which is closed then.
#[derive(Debug, thiserror::Error)]
pub(super) enum Busy {
    /// As many wait for the idlest as may.
    #[error("too many wait for the workers already")]
    Waiting,
    /// There is none any more.
    #[error("the workers have ended")]
    Ended,
}

/// Gives a connection to the living worker with the fewest.
pub(super) fn place(seats: &[Seat], stream: Accepted, opening: &Opening) -> Result<(), Busy> {
    let living = seats.iter().filter(|seat| !seat.connections.is_closed());
    let idlest = living.min_by_key(|seat| seat.open.load(Ordering::Relaxed));
    let idlest = idlest.ok_or(Busy::Ended)?;
    let open = Open::new(idlest.open.clone(), opening.clone());
    idlest
        .connections
        .try_send((stream, open))
        .map_err(|unplaced| match unplaced {
            TrySendError::Full(_) => Busy::Waiting,
            TrySendError::Closed(_) => Busy::Ended,
        })
}

impl Worker {
    fn start(n: usize, serving: Serving, closing: CancellationToken) -> io::Result<Self> {
        let (connections, accepted) = mpsc::channel(WAITING);
        let ended = CancellationToken::new();
        let ending = ended.clone().drop_guard();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            let _ending = ending;
            runtime.block_on(async {
                tokio::select! {
                    () = serve(accepted, serving) => {}
                    () = closing.cancelled() => {}
                }
            });
            // What is still open ends with its runtime.
            runtime.shutdown_background();
        };
        std::thread::Builder::new()
            .name(format!("halyard-worker-{n}"))
            .spawn(work)?;
        let seat = Seat {
            connections,
            open: Arc::new(AtomicUsize::new(0)),
        };
        Ok(Self { seat, ended })
    }
}

/// What a worker serves, and how.
struct Serving {
    house: House,
    runtime: Runtime,
    opening: Opening,
    stopping: CancellationToken,
}

async fn serve(accepted: mpsc::Receiver<(Accepted, Open)>, serving: Serving) {
    let Serving {
        house,
        runtime,
        opening,
        stopping,
    } = serving;
    // It ends with the runtime.
    drop(tokio::spawn(house.alive().clone().show(runtime)));
    http::serve(opening.open(accepted), house, stopping).await;
}
