//! How a sidecar asks the server that it is fed by, beside the stream that feeds it: on behalf of a caller, with the sidecar's key, and
//! as a part of the caller's trace.

use secrecy::{ExposeSecret as _, SecretString};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::pb::evaluation::v1::evaluation_service_client::EvaluationServiceClient;
use crate::trace::{self, Kind, Span};

const SERVICE: &str = "halyard.evaluation.v1.EvaluationService";

/// A connection of its own, made when it is needed, with the key to show on it.
#[derive(Clone)]
pub(super) struct Line {
    client: EvaluationServiceClient<Channel>,
    bearer: MetadataValue<Ascii>,
}

impl Line {
    /// Over this channel, with this key. `None`: the key cannot be shown.
    pub(super) fn new(channel: Channel, key: &SecretString) -> Option<Self> {
        let mut bearer: MetadataValue<Ascii> = format!("Bearer {}", key.expose_secret()).parse().ok()?;
        bearer.set_sensitive(true);
        Some(Self {
            client: EvaluationServiceClient::new(channel),
            bearer,
        })
    }

    pub(super) fn client(&self) -> EvaluationServiceClient<Channel> {
        self.client.clone()
    }

    /// A question by this method that shows the key, on behalf of a caller who sent this metadata.
    pub(super) fn ask<M>(&self, method: &'static str, message: M, caller: &MetadataMap) -> (Request<M>, Asking) {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.bearer.clone());
        let asking = Asking::of(method);
        if let Some(parent) = asking.parent(caller) {
            metadata.insert(trace::HEADER, parent);
        }
        (request, asking)
    }
}

/// A question while it is asked.
pub(super) struct Asking(Option<Span>);

impl Asking {
    fn of(method: &'static str) -> Self {
        let span = trace::start(Kind::Client, || format!("{SERVICE}/{method}"));
        if let Some(span) = &span {
            span.set("rpc.system", "grpc");
            span.set("rpc.service", SERVICE);
            span.set("rpc.method", method);
        }
        Self(span)
    }

    /// What the server is told of the trace: this question, or if it is not recorded here, what the caller said, his choice included.
    fn parent(&self, caller: &MetadataMap) -> Option<MetadataValue<Ascii>> {
        if let Some(span) = &self.0 {
            return span.header().parse().ok();
        }
        let parent = caller.get(trace::HEADER)?;
        // Whatever else somebody puts there is not for others to read.
        trace::trace_id(parent.as_bytes())?;
        Some(parent.clone())
    }

    /// It is over, and this was the answer.
    pub(super) fn answered<M>(self, answer: &Result<Response<M>, Status>) {
        let Some(span) = self.0 else {
            return;
        };
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        span.set("rpc.grpc.status_code", i64::from(code as i32));
        if code != Code::Ok {
            span.fail();
        }
    }
}
