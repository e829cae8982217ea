//! Answers scrapes over plain HTTP, one to a connection.
//!
//! A scraper that is slow, or none at all, costs only itself: what it sends and how long it takes are bounded, and when there are too
//! many the oldest has to go, so that whoever asks properly is answered.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::encoding;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::server::seldom::Seldom;

/// Where metrics are.
const PATH: &str = "/metrics";
/// What they are written in.
pub(in crate::server) const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
/// Connections at a time.
const CONNECTIONS: usize = 16;
/// From the first byte of a connection to its last.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is read of a request; its body is not.
const REQUEST_BYTES: usize = 16 * 1024;
/// Headers of a request.
const HEADERS: usize = 64;
/// How long to wait when no file descriptor is left.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// Answers until it is stopped.
pub(super) async fn serve(listener: TcpListener, registry: Arc<Registry>, stop: CancellationToken) {
    let mut none = Seldom::default();
    // Connections end with this.
    let mut open: VecDeque<AbortOnDropHandle<()>> = VecDeque::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                while open.len() >= CONNECTIONS {
                    open.pop_front();
                }
                let answering = tokio::spawn(answer_once(stream, Arc::clone(&registry)));
                open.push_back(AbortOnDropHandle::new(answering));
            }
            Err(error) => {
                if none.may_tell() {
                    tracing::warn!(%error, "a connection for metrics could not be accepted");
                }
                sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Whatever becomes of the connection is the scraper's affair.
async fn answer_once(stream: TcpStream, registry: Arc<Registry>) {
    let service = service_fn(|request| {
        let answer = answer(&request, &registry);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics broke"),
        Err(_) => tracing::debug!("a connection for metrics took too long"),
    }
}

fn answer(request: &Request<Incoming>, registry: &Registry) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "metrics can be read only\n");
        refusal
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let Some(metrics) = text(registry) else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n");
    };
    let mut response = Response::new(Full::from(metrics));
    response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
    response
}

/// Metrics in words. `None`: they cannot be put into any.
pub(in crate::server) fn text(registry: &Registry) -> Option<String> {
    let mut metrics = String::new();
    match encoding::text::encode(&mut metrics, registry) {
        Ok(()) => Some(metrics),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            None
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
