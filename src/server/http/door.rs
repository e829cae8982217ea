//! Tells requests apart by what they say that they are, and sends each where it belongs.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Context, Poll};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::Service;
use tonic::body::Body;
use tower_layer::Layer as _;

use super::cors::Cors;
use super::plain::{self, Plain};
use super::{Counts, House, web};
use crate::rpc::arriving::Arrivals;
use crate::rpc::front::{Front, Peer};
use crate::rpc::leaving::{self, Leaving, Told, Unread};
use crate::rpc::services::Services;

/// What all connections share.
pub(super) struct Desk {
    pub plain: Plain,
    pub cors: Cors,
    pub arrivals: Arrivals,
    pub counts: Arc<Counts>,
}

/// What the requests of one connection come to.
pub(super) struct Door {
    desk: Arc<Desk>,
    front: Front<Services>,
    peer: Peer,
    unread: Unread,
}

/// What a request says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grpc,
    /// gRPC as browsers speak it.
    Web,
    /// A browser asks whether a page may call.
    Preflight,
    Plain,
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A request that is being answered.
pub(super) struct Answering {
    answer: BoxFuture<Result<Response<Body>, Infallible>>,
    /// Where the answer is counted until it is read. `None`: it is not.
    unread: Option<Unread>,
    /// How it is told that there is no room for its answer.
    told: Told,
}

impl Future for Answering {
    type Output = Result<Response<Leaving>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = task::ready!(self.answer.as_mut().poll(context));
        let (unread, told) = (self.unread.take(), self.told);
        Poll::Ready(Ok(response.map(|body| Leaving::new(body, unread, told))))
    }
}

impl Door {
    pub fn new(house: &House, peer: Peer, unread: Unread) -> Self {
        Self {
            desk: house.desk.clone(),
            front: house.front.layer(house.services.clone()),
            peer,
            unread,
        }
    }
}

impl Service<Request<Incoming>> for Door {
    type Response = Response<Leaving>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        // Whatever becomes of it: the connection has asked something.
        self.peer.asks();
        request.extensions_mut().insert(self.peer.clone());
        let desk = &self.desk;
        let unread = leaving::is_counted(request.uri().path()).then(|| self.unread.clone());
        let kind = Kind::of(&request);
        let told = match kind {
            Kind::Grpc => Told::InTrailers,
            Kind::Web | Kind::Preflight | Kind::Plain => Told::ByBreakingOff,
        };
        let answer = match kind {
            Kind::Grpc if request.version() == Version::HTTP_2 => {
                let path = request.uri().path();
                let arrival = desk.arrivals.of(path);
                self.front.answer(request.map(|body| Body::new(arrival.of(body))))
            }
            Kind::Grpc => {
                let rules = desk.cors.rules(request.uri().path(), request.headers());
                let mut response = plain::grpc_needs_http2();
                rules.apply(&mut response);
                ready(response)
            }
            Kind::Web => {
                let (desk, front) = (desk.clone(), self.front.clone());
                Box::pin(async move {
                    let rules = desk.cors.rules(request.uri().path(), request.headers());
                    let mut response = web::answer(&desk.arrivals, front, request).await;
                    rules.apply(&mut response);
                    Ok(response)
                })
            }
            Kind::Preflight => ready(
                desk.cors
                    .preflight(&request)
                    .unwrap_or_else(|| desk.plain.refuse(&request)),
            ),
            Kind::Plain => {
                let desk = desk.clone();
                // What it sends is not read.
                let request = request.map(drop);
                Box::pin(async move {
                    // A page that asks wrongly is told so: without this its browser keeps the refusal from it.
                    let rules = desk.cors.rules(request.uri().path(), request.headers());
                    let mut response = desk.plain.answer(&request).await;
                    rules.apply(&mut response);
                    Ok(response)
                })
            }
        };
        Answering { answer, unread, told }
    }
}

impl Kind {
    fn of<B>(request: &Request<B>) -> Self {
        let kind = content_type(request.headers());
        if kind.is_some_and(web::is_web) {
            Self::Web
        } else if kind.is_some_and(is_grpc) {
            Self::Grpc
        } else if request.method() == Method::OPTIONS {
            Self::Preflight
        } else {
            Self::Plain
        }
    }
}

fn content_type(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes)
}

/// `application/grpc`, with the format of messages behind it or without.
fn is_grpc(kind: &[u8]) -> bool {
    kind.strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn ready(response: Response<Body>) -> BoxFuture<Result<Response<Body>, Infallible>> {
    Box::pin(std::future::ready(Ok(response)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_what_they_say() {
        let kind = |method: Method, kind: Option<&str>| {
            let mut request = Request::builder().method(method);
            if let Some(kind) = kind {
                request = request.header(CONTENT_TYPE, kind);
            }
            Kind::of(&request.body(()).unwrap())
        };
        for (said, expected) in [
            (Some("application/grpc"), Kind::Grpc),
            (Some("application/grpc+proto"), Kind::Grpc),
            (Some("application/grpc;charset=utf-8"), Kind::Grpc),
            (Some("application/grpc-web"), Kind::Web),
            (Some("application/grpc-web+proto"), Kind::Web),
            (Some("application/grpc-web-text"), Kind::Web),
            (Some("application/grpc-web-text+proto"), Kind::Web),
            (Some("application/grpc-web+proto; charset=utf-8"), Kind::Web),
            (Some("application/grpc-web-text;charset=utf-8"), Kind::Web),
            (Some("application/grpc-web ;a=b;c"), Kind::Web),
            (Some("application/grpc-webby"), Kind::Plain),
            (Some("application/grpcs"), Kind::Plain),
            (Some("application/json"), Kind::Plain),
            (None, Kind::Plain),
        ] {
            assert_eq!(kind(Method::POST, said), expected, "{said:?}");
        }
        assert_eq!(kind(Method::OPTIONS, None), Kind::Preflight);
        assert_eq!(kind(Method::GET, None), Kind::Plain);
    }
}
