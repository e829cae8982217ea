//! Answers scrapes and probes over plain HTTP, one to a connection.
//!
//! Connections are counted apart from those of everything else: who asks here is answered when those are used up. A scraper that is slow, or none at all, costs only itself: what it sends and how long it takes are bounded, and when there are too
//! many the oldest has to go, so that whoever asks properly is answered.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
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

use crate::server::probes::Probes;
use crate::server::seldom::Seldom;

/// Where metrics are.
const METRICS: &str = "/metrics";
/// What they are written in.
pub(in crate::server) const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
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

/// What is answered from. Clones share it.
#[derive(Clone)]
pub(in crate::server) struct Pages {
    registry: Arc<Registry>,
    probes: Probes,
}

/// Answers until it is stopped.
pub(super) async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) {
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
                let answering = tokio::spawn(answer_once(stream, pages.clone()));
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
async fn answer_once(stream: TcpStream, pages: Pages) {
    let service = service_fn(|request| {
        let answer = pages.answer(&request);
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

impl Pages {
    pub fn new(registry: Arc<Registry>, probes: Probes) -> Self {
        Self { registry, probes }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let told = self.probes.answer(path);
        if told.is_none() && path != METRICS {
            return plain(
                StatusCode::NOT_FOUND,
                "metrics are at /metrics, probes at /healthz and /readyz",
            );
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "this can be read only");
            refusal
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        if let Some(told) = told {
            return plain(told.status(), told.text());
        }
        let Some(metrics) = text(&self.registry) else {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written");
        };
        let mut response = Response::new(Full::from(metrics));
        response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
        response
    }
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

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, TEXT);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
