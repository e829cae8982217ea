//! gRPC as browsers speak it, translated on the way in and out. tonic-web does the work; what is here is what it leaves out.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower_layer::Layer as _;
use tower_service::Service;

use crate::rpc::arriving::{Arrival, Arrivals};
use crate::rpc::front::Front;
use crate::rpc::services::Services;

/// What a status consists of.
const STATUS: [HeaderName; 3] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
];

/// The content types that are translated.
const KINDS: [&str; 4] = [
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];

/// Whether a content type is gRPC-Web's, in the forms that are translated.
pub(super) fn is_web(said: &[u8]) -> bool {
    kind(said).is_some()
}

/// Which of them it is, whatever parameters stand behind it: clients add `charset=utf-8` to what is text to them.
fn kind(said: &[u8]) -> Option<&'static str> {
    let said = said.split(|&byte| byte == b';').next()?.trim_ascii_end();
    KINDS.into_iter().find(|kind| kind.as_bytes() == said)
}

/// Has the services answer.
pub(super) async fn answer(
    arrivals: &Arrivals,
    front: Front<Services>,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let headers = request.headers_mut();
    if let Some(kind) = headers.get(CONTENT_TYPE).and_then(|said| kind(said.as_bytes())) {
        // The translation knows no parameters.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    let arrival = arrivals.of(request.uri().path());
    let inside = Inside {
        front,
        arrival: Some(arrival),
    };
    let mut services = GrpcWebLayer::new().layer(inside);
    let Ok(()) = poll_fn(|context| Service::<Request<Incoming>>::poll_ready(&mut services, context)).await;
    let Ok(response) = services.call(request).await;
    response
}

/// Between the translation and the front.
struct Inside {
    front: Front<Services>,
    arrival: Option<Arrival>,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Service<Request<Body>> for Inside {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.front.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Here and not before the translation, which hands on what went wrong as a text.
        let request = match self.arrival.take() {
            Some(arrival) => request.map(|body| Body::new(arrival.of(body))),
            None => request,
        };
        let answering = self.front.call(request);
        Box::pin(async move { answering.await.map(refusal_in_trailers) })
    }
}

/// Moves the status of what was refused before it began from the headers to the trailers: a page is not shown headers that it has not
/// asked for, while trailers become part of what it reads.
fn refusal_in_trailers(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    let mut trailers = HeaderMap::new();
    for name in STATUS {
        if let Some(value) = headers.remove(&name) {
            trailers.insert(name, value);
        }
    }
    if trailers.is_empty() {
        return response;
    }
    response.map(|_| Body::new(Trailers(Some(trailers))))
}

/// A body that is nothing but trailers.
struct Trailers(Option<HeaderMap>);

impl http_body::Body for Trailers {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
