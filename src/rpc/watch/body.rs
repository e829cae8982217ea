//! A stream as the body of its response.
//!
//! Tonic's encoder takes messages one by one, and so a step would be asked for, framed and copied in at least three parts for each of
//! thousands of streams. This body writes what the hub says as it comes, framed beforehand. It travels to where the response is
//! complete beside the empty one that tonic makes, and takes its place there.

use std::convert::Infallible;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

use super::encode::{self, Items};
use super::evaluations::{self, Answered};
use crate::rpc::assignments::{Assignments, Settled};
use crate::rpc::front::Deadline;
use crate::rpc::{Refusal, status};
use crate::watch::{self, Message, Part};

/// Enough to be sent before more is asked for.
const ENOUGH_BYTES: usize = 4 * 1024;

/// A stream's messages.
pub struct Messages {
    /// `None`: it has ended.
    stream: Option<watch::Stream>,
    items: Items,
    /// The caller's deadline. `None`: it set none.
    deadline: Option<Pin<Box<Sleep>>>,
    assignments: Assignments,
    /// Answers whose assignments are being found out; what comes after them waits.
    settling: Option<BoxFuture<'static, (Box<Part>, Answered)>>,
    /// What follows the last message. `None`: there will be one, or it was sent.
    end: Option<HeaderMap>,
}

impl Messages {
    /// Those of a stream, until the deadline, with these assignments.
    pub fn new(
        stream: watch::Stream,
        items: Items,
        deadline: Option<Pin<Box<Sleep>>>,
        assignments: Assignments,
    ) -> Self {
        Self {
            stream: Some(stream),
            items,
            deadline,
            assignments,
            settling: None,
            end: None,
        }
    }

    /// A response that [`Streaming`] completes.
    pub fn into_response<T>(self, empty: T) -> tonic::Response<T> {
        let mut response = tonic::Response::new(empty);
        response
            .extensions_mut()
            .insert(Parcel(Arc::new(Mutex::new(Some(self)))));
        response
    }

    /// Writes what there is to say, until it is enough. Whether that was all for now.
    fn write(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<()> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(());
        };
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.finish(Some(Refusal::DeadlineExceeded.into()));
            return Poll::Ready(());
        }
        while out.len() < ENOUGH_BYTES {
            if let Some(settling) = &mut self.settling {
                let (part, answered) = ready!(settling.as_mut().poll(cx));
                self.settling = None;
                append(stream, &part, answered, out);
                continue;
            }
            match stream.poll_next(cx) {
                Poll::Ready(Ok(message)) => {
                    let is_step = matches!(message, Message::Step(_));
                    if let Some(part) = encode::write(message, self.items, out) {
                        // Nearly always everything is known, and nothing is put aside.
                        match evaluations::write(&part, &Settled::new(&self.assignments, Deadline::default())) {
                            Ok(answered) => append(stream, &part, answered, out),
                            Err(_) => {
                                self.settling = Some(Box::pin(evaluations::settle(part, self.assignments.clone())));
                            }
                        }
                    }
                    // Seldom is there more behind a whole step, and the transport asks anyway.
                    if is_step {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(Err(end)) => {
                    self.finish(status::end_of_stream(&end));
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }

    fn finish(&mut self, status: Option<Status>) {
        self.stream = None;
        self.end = Some(status::trailers(status));
    }
}

/// Appends answers, unless they were to correct some and no more is known than before, or the stream was ended while they were settled.
fn append(stream: &watch::Stream, part: &Part, answered: Answered, out: &mut Vec<u8>) {
    let Answered { mut batch, unsettled } = answered;
    let Ok(resume_token) = stream.answered(part, &unsettled) else {
        return;
    };
    if part.again && batch.evaluations.is_empty() {
        return;
    }
    batch.resume_token = resume_token.unwrap_or_default().to_vec();
    encode::append_answers(batch, out);
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut out = Vec::new();
        let polled = self.write(cx, &mut out);
        if !out.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(out.into()))));
        }
        polled.map(|()| self.end.take().map(|end| Ok(Frame::trailers(end))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none() && self.end.is_none()
    }
}

/// A body on its way to its response.
#[derive(Clone)]
struct Parcel(Arc<Mutex<Option<Messages>>>);

/// A service whose handlers may answer with [`Messages`].
#[derive(Debug, Clone)]
pub struct Streaming<S>(pub S);

impl<S> Service<Request<Body>> for Streaming<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let response = self.0.call(request);
        Box::pin(async {
            let mut response = response.await?;
            if let Some(Parcel(parcel)) = response.extensions_mut().remove() {
                let messages = mem::take(&mut *parcel.lock().unwrap_or_else(PoisonError::into_inner));
                *response.body_mut() = messages.map(Body::new).unwrap_or_default();
            }
            Ok(response)
        })
    }
}

impl<S: NamedService> NamedService for Streaming<S> {
    const NAME: &'static str = S::NAME;
}
