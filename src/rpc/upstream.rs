//! How a sidecar asks the server that it is fed by, beside the stream that feeds it.

use secrecy::{ExposeSecret as _, SecretString};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::pb::evaluation::v1::evaluation_service_client::EvaluationServiceClient;

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

    /// A request that shows the key.
    pub(super) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }
}
