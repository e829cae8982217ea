//! What anybody may ask for on the connection itself, without a credential: health and reflection.
//!
//! Whether a server lives is told whatever its load, so that takes no place. A stream goes on for as long as its caller likes. Clients
//! that follow the service config open one on each connection, to learn whether to use it, and must not be kept out by others: so
//! a connection has a few places of its own, as many as connections may have, and only what goes beyond them is of a common share.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::bounds::OpenStream;
use super::caller::Peer;
use super::{Desk, whole};
use crate::rpc::Refusal;
use crate::rpc::methods::Method;

impl Desk {
    /// Answers whoever shows nothing.
    pub(super) async fn answer_anybody<S>(
        &self,
        method: &'static Method,
        mut services: S,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Refusal>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        let place = if method.streams {
            Some(self.bounds.open_stream(&Peer::of(request.extensions()))?)
        } else {
            request = match whole::whole(request, &self.bounds.arriving_open).await? {
                Ok(request) => request,
                Err(status) => return Ok(status.into_http()),
            };
            None
        };
        let work = AssertUnwindSafe(async move { services.call(request).await }).catch_unwind();
        let Ok(response) = work.await.map_err(|_| Refusal::Internal)?;
        Ok(match place {
            Some(place) => response.map(|body| Body::new(Placed { body, _place: place })),
            None => response,
        })
    }
}

/// The body of a stream, which has a place until it is dropped.
struct Placed {
    body: Body,
    _place: OpenStream,
}

impl http_body::Body for Placed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
