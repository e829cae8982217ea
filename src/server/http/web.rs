//! gRPC as browsers speak it, translated on the way in and out. tonic-web does the work; what is here is what it leaves out.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response};
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

/// Whether a content type is gRPC-Web's, in the forms that are translated.
pub(super) fn is_web(kind: &[u8]) -> bool {
    matches!(
        kind,
        b"application/grpc-web"
            | b"application/grpc-web+proto"
            | b"application/grpc-web-text"
            | b"application/grpc-web-text+proto"
    )
}

/// Has the services answer.
pub(super) async fn answer(arrivals: &Arrivals, front: Front<Services>, request: Request<Incoming>) -> Response<Body> {
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
