//! How to connect to the upstream: in clear or over TLS, and so that it is noticed when it has gone without a word.

use std::time::Duration;

use http::Uri;
use tonic::transport::{Channel, Endpoint, Error};

use super::Timing;
use crate::tls::{self, ClientFiles, Connector};

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The way to the upstream.
#[derive(Clone)]
pub struct Road {
    endpoint: Endpoint,
    /// `None`: in clear.
    tls: Option<Connector>,
}

impl Road {
    /// Connects to nothing yet.
    pub fn new(endpoint: Uri, tls: Option<ClientFiles>, timing: &Timing) -> Self {
        let tls = tls.map(Connector::new);
        let endpoint = tls::endpoint(endpoint, tls.as_ref())
            .connect_timeout(timing.connect)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            // Whoever asks it and gives up soon leaves nothing open that would be asked after.
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        Self { endpoint, tls }
    }

    /// A connection that is made when it is needed, and made again when it has gone.
    pub fn channel(&self) -> Channel {
        match &self.tls {
            Some(connector) => self.endpoint.connect_with_connector_lazy(connector.clone()),
            None => self.endpoint.connect_lazy(),
        }
    }

    /// What TLS failed for last. `None`: nothing, or there is none.
    pub(super) fn failure(&self) -> Option<String> {
        self.tls.as_ref().and_then(Connector::failure)
    }

    /// A connection, now.
    pub(super) async fn connect(&self) -> Result<Channel, Error> {
        match &self.tls {
            Some(connector) => self.endpoint.connect_with_connector(connector.clone()).await,
            None => self.endpoint.connect().await,
        }
    }
}
