//! What is read whole before anything is done for it: requests to administration, and those that anybody may make.
//!
//! A place among what is answered is taken by what can be answered. Of methods that take a message one is what there is to wait for,
//! and `arriving` has bounded its size and its time.

use std::pin::pin;
use std::task::Poll;

use futures_util::poll;
use http::Request;
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;

use super::bounds::Waiting;
use crate::rpc::Refusal;

/// The request when all of it has come; or how its caller, or the way that its message came, ended it.
pub(super) async fn whole(request: Request<Body>, waiting: &Waiting) -> Result<Result<Request<Body>, Status>, Refusal> {
    let (head, body) = request.into_parts();
    let mut coming = pin!(body.collect());
    let come = match poll!(coming.as_mut()) {
        // Most come with their heads, and nobody can displace them.
        Poll::Ready(come) => come,
        Poll::Pending => waiting.wait(coming).await?,
    };
    Ok(come.map(|come| Request::from_parts(head, Body::new(come))))
}
