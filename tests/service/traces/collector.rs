//! A collector of traces that keeps what it is sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Identity, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::support::eventually;
use crate::support::tls::Pair;

/// A collector on a port of its own.
pub struct Collector {
    address: SocketAddr,
    scheme: &'static str,
    received: Received,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub async fn start() -> Self {
        Self::serve("http", tonic::transport::Server::builder()).await
    }

    /// One that speaks nothing but TLS, with this certificate and key.
    pub async fn start_with(pair: &Pair) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap();
        let identity = Identity::from_pem(read(&pair.certificate), read(&pair.key));
        let tls = ServerTlsConfig::new().identity(identity);
        Self::serve("https", tonic::transport::Server::builder().tls_config(tls).unwrap()).await
    }

    async fn serve(scheme: &'static str, mut server: tonic::transport::Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Received::default();
        let serving = server
            .add_service(TraceServiceServer::new(received.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            address,
            scheme,
            received,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Everything that it was sent, as it came.
    pub fn received(&self) -> Vec<ExportTraceServiceRequest> {
        self.received.0.lock().unwrap().clone()
    }

    /// Every span.
    pub fn spans(&self) -> Vec<Span> {
        let resources = self.received().into_iter().flat_map(|request| request.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The spans of a trace, once one of them has this name.
    pub async fn trace(&self, trace_id: &str, name: &str) -> Vec<Span> {
        eventually(&format!("{name} in {trace_id}"), async || {
            let spans = self.spans().into_iter();
            let spans: Vec<_> = spans.filter(|span| hex::encode(&span.trace_id) == trace_id).collect();
            spans.iter().any(|span| span.name == name).then_some(spans)
        })
        .await
    }
}

/// What a span says of itself.
pub fn attributes(span: &Span) -> BTreeMap<String, String> {
    let said = span.attributes.iter().map(|attribute| {
        let value = attribute.value.clone().and_then(|value| value.value);
        let value = match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => panic!("{}: {other:?}", attribute.key),
        };
        (attribute.key.clone(), value)
    });
    said.collect()
}
