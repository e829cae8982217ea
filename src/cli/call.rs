//! Calling a server: the connection, the credential, the deadline.

use std::future::Future;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::Error;
use crate::config::{Secret, Server};
use crate::tls::{self, Connector};

/// The most bytes of an answer: those of every flag of a large project at once.
pub(super) const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The name in the `user-agent`.
const USER_AGENT: &str = concat!("halyard-cli/", env!("CARGO_PKG_VERSION"));

/// Calls one server with one credential.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub server: Server,
    pub channel: Channel,
    /// What connects it. `None`: it is in clear.
    tls: Option<Connector>,
    bearer: Option<MetadataValue<Ascii>>,
    credential: &'static str,
}

impl Caller {
    /// One that shows no credential. It connects with the first call.
    pub fn new(server: Server) -> Result<Self, Error> {
        let over_tls = server.endpoint.scheme_str() == Some("https");
        let tls = server.tls.as_deref().filter(|_| over_tls).cloned().map(Connector::new);
        let endpoint = tls::endpoint(server.endpoint.clone(), tls.as_ref())
            .connect_timeout(server.timeout)
            .user_agent(USER_AGENT)
            .map_err(|_| Error::Answer("its address cannot be used"))?;
        Ok(Self {
            channel: match &tls {
                Some(connector) => endpoint.connect_with_connector_lazy(connector.clone()),
                None => endpoint.connect_lazy(),
            },
            tls,
            server,
            bearer: None,
            credential: "the credential",
        })
    }

    /// The same with a key or token. `credential` names the setting that it comes from.
    pub fn with_bearer(self, secret: &str, credential: &'static str) -> Result<Self, Error> {
        let bearer = MetadataValue::try_from(format!("Bearer {secret}"));
        let mut bearer = bearer.map_err(|_| self.failed(Status::unauthenticated("it holds unprintable characters")))?;
        bearer.set_sensitive(true);
        Ok(Self {
            bearer: Some(bearer),
            credential,
            ..self
        })
    }

    /// The same over a connection of its own.
    pub fn again(&self) -> Result<Self, Error> {
        self.towards(self.server.clone())
    }

    /// The same credential, shown to another server.
    pub fn towards(&self, server: Server) -> Result<Self, Error> {
        Ok(Self {
            bearer: self.bearer.clone(),
            credential: self.credential,
            ..Self::new(server)?
        })
    }

    /// The same, whose failures blame these settings.
    pub fn naming(self, credential: &'static str) -> Self {
        Self { credential, ..self }
    }

    /// The same with an environment key.
    pub fn with_key(self, key: &Secret) -> Result<Self, Error> {
        self.with_bearer(key.expose(), "--key, HALYARD_KEY or HALYARD_KEY_FILE")
    }

    /// A request that shows the credential.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        request
    }

    /// A request that shows the credential and tells the server how long we wait.
    pub fn bounded_request<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        request.set_timeout(self.server.timeout);
        request
    }

    /// Waits for an answer, at most as long as was configured.
    pub async fn answer<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Error> {
        self.within_timeout(call).await.map_err(|status| self.failed(status))
    }

    /// The same, for who looks at the status.
    pub async fn within_timeout<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        match tokio::time::timeout(self.server.timeout, call).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }

    /// The failure of a call.
    pub fn failed(&self, status: Status) -> Error {
        // What a server says has details.
        let is_ours = status.details().is_empty();
        let failure = self.tls.as_ref().and_then(Connector::failure);
        let status = match failure.filter(|_| is_ours) {
            // Of a connection that TLS ended a call hears no more than that it is gone.
            Some(failure) => Status::unavailable(failure),
            // So the transport calls a connection that breaks, or that speaks something else.
            None if is_ours && matches!(status.code(), Code::Internal | Code::Unknown) => Status::unavailable(format!(
                "the connection broke, or is none for gRPC: {}",
                status.message()
            )),
            None => status,
        };
        Error::Call {
            endpoint: self.server.endpoint.clone(),
            status: Box::new(status),
            credential: self.credential,
        }
    }
}
