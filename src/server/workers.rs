//! The runtimes that serve connections: one thread each, and a connection stays on the one that it was given to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use super::connection::{Connection, Open};
use crate::rpc::front::FrontLayer;

/// Accepted connections that a worker has not taken over yet.
const WAITING: usize = 1024;
/// How long to wait when no file descriptor is left.
const EXHAUSTED: Duration = Duration::from_millis(50);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection: sidecars and proxies carry many.
const STREAMS_PER_CONNECTION: u32 = 2_000;
/// Streams that a peer may open and reset before they are served (rapid reset).
const PENDING_RESETS: usize = 50;

/// The running workers.
pub struct Workers {
    workers: Vec<Worker>,
    stopping: CancellationToken,
}

struct Worker {
    seat: Seat,
    thread: JoinHandle<()>,
}

/// Where connections are handed to a worker.
#[derive(Clone)]
struct Seat {
    connections: mpsc::Sender<std::net::TcpStream>,
    open: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts `count` workers that serve `routes` behind `front`.
    pub fn start(count: usize, routes: &Routes, front: &FrontLayer) -> io::Result<Self> {
        let stopping = CancellationToken::new();
        let workers = (0..count.max(1)).map(|n| Worker::start(n, routes.clone(), front.clone(), stopping.clone()));
        Ok(Self {
            workers: workers.collect::<io::Result<_>>()?,
            stopping,
        })
    }

    /// Accepts connections and gives each to the worker with the fewest, until the workers stop. Ends when cancelled.
    pub fn accept(&self, listener: TcpListener, cancel: CancellationToken) -> impl Future<Output = ()> + use<> {
        let seats: Vec<Seat> = self.workers.iter().map(|worker| worker.seat.clone()).collect();
        let stopping = self.stopping.clone();
        async move {
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = stopping.cancelled() => break,
                    accepted = listener.accept() => accepted,
                };
                match accepted.and_then(|(stream, _)| {
                    stream.set_nodelay(true)?;
                    stream.into_std()
                }) {
                    Ok(stream) => place(&seats, stream),
                    Err(error) => {
                        tracing::debug!(%error, "a connection could not be accepted");
                        tokio::time::sleep(EXHAUSTED).await;
                    }
                }
            }
            drop(listener);
            cancel.cancelled().await;
        }
    }

    /// Accepts no more, lets requests finish within `grace`, and ends the threads.
    pub async fn stop(self, grace: Duration) {
        self.stopping.cancel();
        let deadline = tokio::time::Instant::now() + grace;
        for Worker { seat, thread } in self.workers {
            drop(seat);
            let ended = tokio::task::spawn_blocking(move || thread.join());
            match tokio::time::timeout_at(deadline, ended).await {
                Ok(Ok(Ok(()))) => {}
                Ok(_) => tracing::error!("a worker died"),
                Err(_) => tracing::warn!("requests were still open after the grace"),
            }
        }
    }
}

fn place(seats: &[Seat], stream: std::net::TcpStream) {
    let idlest = seats.iter().min_by_key(|seat| seat.open.load(Ordering::Relaxed));
    if let Some(Err(error)) = idlest.map(|seat| seat.connections.try_send(stream)) {
        tracing::warn!(%error, "a connection was closed: no worker could take it");
    }
}

impl Worker {
    fn start(n: usize, routes: Routes, front: FrontLayer, stopping: CancellationToken) -> io::Result<Self> {
        let (connections, accepted) = mpsc::channel(WAITING);
        let seat = Seat {
            connections,
            open: Arc::new(AtomicUsize::new(0)),
        };
        let open = seat.open.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name(format!("halyard-worker-{n}"))
            .spawn(move || {
                if let Err(error) = runtime.block_on(serve(accepted, open, routes, front, stopping)) {
                    tracing::error!(error = &error as &dyn std::error::Error, "a worker ended");
                }
            })?;
        Ok(Self { seat, thread })
    }
}

async fn serve(
    accepted: mpsc::Receiver<std::net::TcpStream>,
    open: Arc<AtomicUsize>,
    routes: Routes,
    front: FrontLayer,
    stopping: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let connections = ReceiverStream::new(accepted).map(move |stream| Connection::new(stream, Open::new(open.clone())));
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .layer(front)
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, stopping.cancelled_owned())
        .await
}
