//! Notes on its connection that a request has begun, whatever becomes of it.

use std::task::{Context, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use crate::rpc::front::Peer;

/// Before everything else that requests pass through.
#[derive(Debug, Clone, Copy)]
pub struct AskedLayer;

/// The services behind it.
#[derive(Debug, Clone)]
pub struct Asked<S>(S);

impl<S> Layer<S> for AskedLayer {
    type Service = Asked<S>;

    fn layer(&self, services: S) -> Asked<S> {
        Asked(services)
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Asked<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        if let Some(peer) = request.extensions().get::<Peer>() {
            peer.asks();
        }
        self.0.call(request)
    }
}
