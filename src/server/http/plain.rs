//! Plain HTTP: probes, metrics if they are wanted here, and what everything is told that is no gRPC.

use std::sync::Arc;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tonic::body::Body;

use crate::rpc::methods::Methods;
use crate::server::metrics;
use crate::server::probes::{LIVE, Probes, READY, Told};

const METRICS: &str = "/metrics";
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What plain requests are answered from.
pub(super) struct Plain {
    pub methods: Methods,
    pub probes: Probes,
    /// `None`: they are not here.
    pub metrics: Option<Metrics>,
}

/// Metrics that are served here.
pub(super) struct Metrics {
    pub registry: Arc<Registry>,
    /// Where they are put into words: it takes longer than evaluations should wait.
    pub administration: Handle,
}

/// An answer of ours.
struct Page {
    status: StatusCode,
    kind: HeaderValue,
    text: String,
}

impl Plain {
    /// Answers. Nobody is asked who they are: what is told here is for everyone who reaches the server.
    pub async fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let path = request.uri().path();
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return self.refuse(request);
        }
        let page = match (&self.metrics, self.probes.answer(path)) {
            (_, Some(told)) => told.into(),
            (Some(metrics), None) if path == METRICS => metrics.page().await,
            _ => return self.refuse(request),
        };
        page.answer(request.method() == Method::HEAD)
    }

    /// What is asked for is not here, or not in this way.
    pub fn refuse<B>(&self, request: &Request<B>) -> Response<Body> {
        let path = request.uri().path();
        let allowed = match path {
            LIVE | READY => Some("GET, HEAD"),
            METRICS if self.metrics.is_some() => Some("GET, HEAD"),
            _ => self.methods.get(path).map(|_| "POST"),
        };
        match allowed {
            None => Page::text(StatusCode::NOT_FOUND, "there is nothing here").answer(false),
            Some("POST") if request.method() == Method::POST => Page::text(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "this is called by gRPC (application/grpc over HTTP/2) or gRPC-Web (application/grpc-web)",
            )
            .answer(false),
            Some(allowed) => {
                let mut response = Page::text(StatusCode::METHOD_NOT_ALLOWED, "not with this method").answer(false);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                response
            }
        }
    }
}

impl From<Told> for Page {
    fn from(told: Told) -> Self {
        Self::text(told.status(), told.text())
    }
}

impl Metrics {
    async fn page(&self) -> Page {
        let registry = self.registry.clone();
        match self.administration.spawn(async move { metrics::text(&registry) }).await {
            Ok(Some(text)) => Page {
                status: StatusCode::OK,
                kind: metrics::OPEN_METRICS,
                text,
            },
            Ok(None) => Page::text(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written"),
            // The runtime is shutting down.
            Err(_) => Page::text(StatusCode::SERVICE_UNAVAILABLE, "this server is shutting down"),
        }
    }
}

impl Page {
    fn text(status: StatusCode, text: &str) -> Self {
        Self {
            status,
            kind: TEXT,
            text: format!("{text}\n"),
        }
    }

    fn answer(self, only_head: bool) -> Response<Body> {
        let Self { status, kind, text } = self;
        let length = text.len();
        let body = if only_head {
            Body::empty()
        } else {
            Body::new(Full::from(text))
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, kind);
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// What gRPC is told over HTTP/1.1, which has no trailers that clients can be relied on to read.
pub(super) fn grpc_needs_http2() -> Response<Body> {
    Page::text(
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        "gRPC needs HTTP/2; over HTTP/1.1 speak gRPC-Web (application/grpc-web)",
    )
    .answer(false)
}
