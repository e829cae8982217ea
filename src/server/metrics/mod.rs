//! Metrics: what the rooms have counted, as OpenMetrics text over plain HTTP on a listener of its own.
//!
//! Nothing is counted here. The rooms keep plain numbers, and this reads them when it is scraped; so an unscraped server pays
//! nothing for it. `docs/metrics.md` lists every metric, and a test keeps that list.
//!
//! Architecture invariant: no label names a flag, a targeting key, a client or an environment. All sets of labels are fixed.

mod assignments;
mod endpoint;
mod events;
mod families;
mod feed;
mod opening;
mod upstream;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::listen::Address;
use super::opening::Opening;
use super::{Error, bind, listen};
use crate::store::assignments::Assignments;
use crate::store::events::Intake;
use crate::store::feed::Feed;
use crate::upstream::Upstream;
use crate::watch::Hub;

/// Serves metrics.
pub(super) struct Metrics {
    listener: TcpListener,
    address: SocketAddr,
}

impl Metrics {
    /// Listens.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        let (listener, found) = bind(&Address::Tcp(address))?;
        match (listener, found) {
            (listen::Listener::Tcp(listener), Address::Tcp(address)) => Ok(Self { listener, address }),
            // It was asked for a port.
            _ => Err(Error::Listen {
                address: Address::Tcp(address),
                source: std::io::ErrorKind::Unsupported.into(),
            }),
        }
    }

    /// Where it listens: with the port that it took.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves a server's numbers until it is stopped.
    pub async fn of_server(
        self,
        (hub, opening): (Arc<Hub>, Opening),
        (feed, assignments, intake): (Arc<Feed>, Arc<Assignments>, Arc<Intake>),
        stop: CancellationToken,
    ) {
        let mut registry = of_both(hub, opening);
        registry.register_collector(Box::new(feed::Numbers(feed)));
        registry.register_collector(Box::new(assignments::Numbers(assignments)));
        registry.register_collector(Box::new(events::Numbers(intake)));
        endpoint::serve(self.listener, registry, stop).await;
    }

    /// Serves a sidecar's numbers until it is stopped.
    pub async fn of_sidecar(
        self,
        (hub, opening): (Arc<Hub>, Opening),
        upstream: Arc<Upstream>,
        stop: CancellationToken,
    ) {
        let mut registry = of_both(hub, opening);
        registry.register_collector(Box::new(upstream::Numbers(upstream)));
        endpoint::serve(self.listener, registry, stop).await;
    }
}

fn of_both(hub: Arc<Hub>, opening: Opening) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(watch::Numbers(hub)));
    registry.register_collector(Box::new(opening::Numbers(opening)));
    registry
}
