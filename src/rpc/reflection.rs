//! What reflection may take, for which anybody may ask and which says much in answer to little.
//!
//! A tool asks a few questions and goes. So there are few streams of it at a time, of all connections together, and each ends by itself.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, BoxFuture};
use http::{Request, Response};
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

use super::{Refusal, status};

/// Streams at a time.
const STREAMS: usize = 32;
/// How long each may go on.
const LONGEST: Duration = Duration::from_secs(30);

/// The places for streams of reflection. Clones share them.
#[derive(Debug, Clone)]
pub struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STREAMS)))
    }
}

impl Places {
    /// A service whose streams need one of them.
    pub fn bound<S>(&self, service: S) -> Bounded<S> {
        Bounded {
            service,
            places: self.clone(),
        }
    }
}

/// A service of reflection, of which there are so many streams at a time.
#[derive(Debug, Clone)]
pub struct Bounded<S> {
    service: S,
    places: Places,
}

impl<S> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Places(places) = &self.places;
        let Ok(place) = places.clone().try_acquire_owned() else {
            let refused = Status::from(Refusal::reflections_taken());
            return Box::pin(future::ready(Ok(refused.into_http())));
        };
        let answering = self.service.call(request);
        Box::pin(async move {
            let response = answering.await?;
            Ok(response.map(|body| {
                Body::new(Reflected {
                    body,
                    end: Box::pin(sleep(LONGEST)),
                    _place: place,
                })
            }))
        })
    }
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

/// What is answered on a stream, which has its place until it is dropped.
struct Reflected {
    body: Body,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl http_body::Body for Reflected {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.end.as_mut().poll(context).is_ready() && !self.body.is_end_stream() {
            self.body = Body::empty();
            let trailers = status::trailers(Some(Refusal::DeadlineExceeded.into()));
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use tonic::Code;

    use super::*;

    /// A service that has nothing to say, and goes on.
    #[derive(Clone)]
    struct Silent;

    impl Service<Request<Body>> for Silent {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = future::Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let silence = future::pending::<Result<Frame<Bytes>, Status>>();
            let body = StreamBody::new(futures_util::stream::once(silence));
            future::ready(Ok(Response::new(Body::new(body))))
        }
    }

    async fn reflect(service: &mut Bounded<Silent>) -> Result<Body, Code> {
        let response = service.call(Request::new(Body::empty())).await.unwrap();
        match Status::from_header_map(response.headers()) {
            Some(refused) => Err(refused.code()),
            None => Ok(response.into_body()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_at_a_time_and_each_ends_by_itself() {
        let places = Places::default();
        // Both versions of it share them.
        let (mut one, mut other) = (places.bound(Silent), places.bound(Silent));
        let mut open = Vec::new();
        for n in 0..STREAMS {
            let service = if n % 2 == 0 { &mut one } else { &mut other };
            open.push(reflect(service).await.unwrap());
        }
        for service in [&mut one, &mut other] {
            assert_eq!(reflect(service).await.err(), Some(Code::ResourceExhausted));
        }
        let mut first = open.swap_remove(0);
        let trailers = first.frame().await.unwrap().unwrap().into_trailers().unwrap();
        let ended = Status::from_header_map(&trailers).unwrap();
        assert_eq!(ended.code(), Code::DeadlineExceeded);
        assert!(first.frame().await.is_none());
        drop(first);
        open.push(reflect(&mut other).await.unwrap());
        assert!(reflect(&mut one).await.is_err());
        drop(open);
        reflect(&mut one).await.unwrap();
    }
}
