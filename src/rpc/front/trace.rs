//! The trace that a request is a part of.

use std::future::Future;

use http::{HeaderMap, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::{Instrument as _, error_span};

use super::Desk;
use crate::rpc::methods::{Method, Place};
use crate::trace::{self, Kind, Parent, Span, TraceId};

/// A request with a trace.
pub(super) enum Traced {
    /// It is recorded.
    Recorded(Span),
    /// Only its lines in the log say so.
    Named(TraceId),
}

/// Looks whether a request is to be traced.
pub(super) fn begin(desk: &Desk, method: Option<&'static Method>, request: &mut Request<Body>) -> Option<Traced> {
    if let Some(tracer) = &desk.tracer {
        // The path of what is no method is whatever the caller wrote.
        let path = method.map_or("unknown/unknown", |method| method.path.trim_start_matches('/'));
        let parent = header(request.headers()).and_then(Parent::read).map(|parent| {
            let mut trusts = || method.is_some_and(|method| desk.authenticator.trusts(method, request));
            // Looked at for those alone who ask to be recorded; they are let in again where everybody is.
            if parent.is_sampled() && !trusts() {
                parent.of_anybody()
            } else {
                parent
            }
        });
        if let Some(span) = tracer.begin(path, Kind::Server, parent) {
            let (service, method) = path.split_once('/').unwrap_or_default();
            span.set("rpc.system", "grpc");
            span.set("rpc.service", service);
            span.set("rpc.method", method);
            return Some(Traced::Recorded(span));
        }
    }
    method.filter(|method| method.place() == Place::Administration)?;
    header(request.headers()).and_then(trace::trace_id).map(Traced::Named)
}

/// The trace of a request whose line is going to be logged.
pub(super) fn id(method: &Method, headers: &HeaderMap) -> Option<TraceId> {
    if !super::log::is_wanted(method) {
        return None;
    }
    trace::current().or_else(|| header(headers).and_then(trace::trace_id))
}

fn header(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(trace::HEADER).map(http::HeaderValue::as_bytes)
}

impl Traced {
    /// Answers a request as a part of its trace.
    pub(super) async fn answer(self, work: impl Future<Output = Response<Body>>) -> Response<Body> {
        let span = match self {
            Self::Recorded(span) => span,
            Self::Named(trace_id) => return work.instrument(error_span!("request", %trace_id)).await,
        };
        let trace_id = span.trace_id();
        let work = work.instrument(error_span!("request", %trace_id));
        let response = span.follow(work).await;
        let status = Status::from_header_map(response.headers());
        let code = status.map_or(Code::Ok, |status| status.code());
        span.set("rpc.grpc.status_code", i64::from(code as i32));
        if is_ours(code) {
            span.fail();
        }
        response
    }
}

/// Whether it is a failure of the server's, and not of what it was asked.
fn is_ours(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tower_service::Service as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_line_of_a_request_names_its_trace_and_code() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || writer.clone())
            .finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let mut front = crate::rpc::front::tests::front(crate::rpc::front::tests::Panics);
        let request = Request::builder()
            .uri("/halyard.admin.v1.AuthService/Login")
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
        front.call(request.body(Body::empty()).unwrap()).await.unwrap();
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let line = text.lines().find(|line| line.contains("answered")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(line["code"], "INTERNAL");
        assert_eq!(line["method"], "/halyard.admin.v1.AuthService/Login");
        assert!(line["elapsed_ms"].is_number());
        // What is logged meanwhile names it too.
        assert_eq!(line["span"]["trace_id"], line["trace_id"]);
    }
}
