//! The floor of large answers: tonic, a method that reads its request and sends the same bytes for each, encoded once.
//!
//! `constant <shape> <bytes>` answers every `EvaluateAll`. The bytes are hexadecimal digits. The first line that it writes is where it
//! listens.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes};
use futures_util::future::BoxFuture;
use halyard::pb::evaluation::v1 as pb;
use halyard::rpc::codec::Reader;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::service::Routes;
use tower_service::Service;

use super::{Result, floor};

/// Serves until the process is stopped.
pub fn run(arguments: &[String]) -> Result<()> {
    let [shape, bytes] = arguments else {
        return Err("constant <shape> <bytes>".into());
    };
    let answer = Constant(hex::decode(bytes)?.into());
    floor::serve_on(floor::Shape::parse(shape)?, &Routes::new(answer))
}

/// What is answered.
#[derive(Clone)]
struct Constant(Bytes);

impl NamedService for Constant {
    const NAME: &'static str = "halyard.evaluation.v1.EvaluationService";
}

impl Service<Request<Body>> for Constant {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, std::result::Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.clone();
        Box::pin(async move { Ok(Grpc::new(Encoded::default()).unary(answer, request).await) })
    }
}

impl UnaryService<pb::EvaluateAllRequest> for Constant {
    type Response = Bytes;
    type Future = std::future::Ready<std::result::Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, _: tonic::Request<pb::EvaluateAllRequest>) -> Self::Future {
        std::future::ready(Ok(tonic::Response::new(self.0.clone())))
    }
}

/// Reads requests, and sends what is encoded.
#[derive(Default)]
struct Encoded(PhantomData<pb::EvaluateAllRequest>);

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = pb::EvaluateAllRequest;
    type Encoder = Self;
    type Decoder = Reader<pb::EvaluateAllRequest>;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader::new()
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> std::result::Result<(), Status> {
        buffer.reserve(message.len());
        buffer.put(message);
        Ok(())
    }
}
