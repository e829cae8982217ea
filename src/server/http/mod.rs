//! The one port: gRPC, what browsers speak in its place, and plain HTTP for probes and scrapers, over HTTP/1.1 and HTTP/2.
//!
//! [`mod@serve`] keeps the connections and their limits, [`door`] tells requests apart. What each kind is answered is next door: native gRPC
//! goes to the front and the services as it is, [`web`] translates for browsers, [`cors`] says from which pages, [`plain`] has the rest.

mod cors;
mod counts;
mod door;
mod plain;
mod serve;
mod web;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use super::alive::Alive;
use super::probes::Probes;
use super::workers::Keepalive;
use crate::config::Origins;
use crate::domain::limits;
use crate::rpc::arriving::{Arrivals, Terms};
use crate::rpc::front::FrontLayer;
use crate::rpc::methods::Methods;
use crate::rpc::services::Services;
pub use counts::{Broken, Counts};
use door::{Desk, Door};
pub use serve::serve;

/// What is served over HTTP beside gRPC, to whom, and within which bounds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Pages of which origins may call the administrative services.
    pub cors_admin: Origins,
    /// Pages of which origins may call the services of applications.
    pub cors_evaluation: Origins,
    /// Whether metrics are here too.
    pub metrics: Metrics,
    /// What one connection and one request may take.
    pub limits: Limits,
}

/// Whether metrics are served beside everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metrics {
    /// To everyone who reaches the server.
    Here,
    /// At an address of their own, or not at all.
    #[default]
    Elsewhere,
}

/// What one connection and one request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Streams of one connection at a time; further ones wait in the client.
    pub connection_streams: u32,
    /// The largest message of a request.
    pub request_bytes: usize,
    /// What the headers of a request may take.
    pub header_bytes: u32,
    /// How long the message of a request may take to arrive.
    pub request_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Sidecars and proxies carry many.
            connection_streams: 2_000,
            request_bytes: limits::REQUEST_BYTES,
            // The longest token, and as much again for everything else.
            header_bytes: 2 * limits::OPENID_TOKEN_BYTES,
            request_timeout: Duration::from_secs(30),
        }
    }
}

/// Everything that a worker serves, and how. Clones share it.
#[derive(Clone)]
pub struct House {
    services: Services,
    front: FrontLayer,
    desk: Arc<Desk>,
    limits: Limits,
    keepalive: Keepalive,
}

/// What a house is made of.
pub struct Parts {
    /// The services.
    pub services: Services,
    /// What is before them.
    pub front: FrontLayer,
    /// Which methods there are.
    pub methods: Methods,
    /// What knows whether this server lives and is ready.
    pub probes: Probes,
    /// Its numbers.
    pub registry: Arc<Registry>,
    /// Where they are put into words.
    pub administration: Handle,
    /// What goes wrong is counted here.
    pub counts: Arc<Counts>,
    /// How to notice that a connection is gone.
    pub keepalive: Keepalive,
}

impl House {
    /// Puts it together.
    pub fn new(parts: Parts, options: Options) -> Self {
        let Parts {
            services,
            front,
            methods,
            probes,
            registry,
            administration,
            counts,
            keepalive,
        } = parts;
        let Options {
            cors_admin,
            cors_evaluation,
            metrics,
            limits,
        } = options;
        let terms = Terms {
            patience: limits.request_timeout,
            message_bytes: limits.request_bytes,
        };
        let plain = plain::Plain {
            methods,
            probes,
            metrics: match metrics {
                Metrics::Here => Some(plain::Metrics {
                    registry,
                    administration,
                }),
                Metrics::Elsewhere => None,
            },
        };
        let desk = Desk {
            plain,
            cors: cors::Cors::new(cors_admin, cors_evaluation),
            arrivals: Arrivals::new(terms, &counts.requests),
            counts,
        };
        Self {
            services,
            front,
            desk: Arc::new(desk),
            limits,
            keepalive,
        }
    }

    /// The same house, whose front counts in cells of its own: one for each worker.
    #[must_use]
    pub fn of_worker(&self) -> Self {
        Self {
            front: self.front.of_worker(),
            ..self.clone()
        }
    }

    /// What knows whether the runtimes answer.
    pub fn alive(&self) -> &Alive {
        self.desk.plain.probes.alive()
    }
}
