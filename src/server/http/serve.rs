//! Keeps connections: what they may take, and how they end.

use std::io;
use std::pin::pin;

use futures_util::{Stream, StreamExt as _};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected as _;

use super::{Door, House, Keepalive, Limits};
use crate::server::connection::Connection;

/// Streams that a peer may open and reset before they are served (rapid reset).
const PENDING_RESETS: usize = 50;
/// Streams of a connection, over its whole life, that we may have to reset for what its peer does wrong. What it sends for a request that
/// was refused meanwhile is counted here too, so a client that is refused often must not come near it.
const LOCAL_RESETS: usize = 10_000;
/// Header lines of a request over HTTP/1.1.
const HEADER_LINES: usize = 100;

/// Serves connections until there are no more or it is to stop; then lets what was begun finish.
pub async fn serve(connections: impl Stream<Item = io::Result<Connection>>, house: House, stopping: CancellationToken) {
    let (builder, open) = (builder(house.limits, house.keepalive), TaskTracker::new());
    {
        // Dropped before waiting: what was not taken over yet is closed at once.
        let mut connections = pin!(connections);
        loop {
            let next = tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                next = connections.next() => next,
            };
            match next {
                Some(Ok(connection)) => {
                    open.spawn(attend(connection, house.clone(), builder.clone(), stopping.clone()));
                }
                Some(Err(error)) => tracing::debug!(%error, "a connection broke before it was served"),
                None => break,
            }
        }
    }
    open.close();
    open.wait().await;
}

/// Serves one connection to its end.
async fn attend(connection: Connection, house: House, builder: Builder<TokioExecutor>, stopping: CancellationToken) {
    let door = Door::new(&house, connection.connect_info(), connection.unread());
    let serving = builder.serve_connection(TokioIo::new(connection), door);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        house.desk.counts.broke(&*error);
    }
}

fn builder(limits: Limits, keepalive: Keepalive) -> Builder<TokioExecutor> {
    let Keepalive {
        interval,
        timeout,
        idle,
    } = keepalive;
    let Limits {
        connection_streams,
        request_bytes: _,
        header_bytes,
        request_timeout: _,
    } = limits;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(interval)
        .keep_alive_timeout(timeout)
        .max_concurrent_streams(connection_streams)
        .max_header_list_size(header_bytes)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS);
    let header_bytes = usize::try_from(header_bytes).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        // From when it could begin: what comes before the first is bounded by how long a connection may take to begin.
        .header_read_timeout(idle)
        .max_headers(HEADER_LINES)
        // Headers have to fit into what is read ahead of their end.
        .max_buf_size(header_bytes);
    builder
}
