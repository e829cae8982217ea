//! Metrics: what the rooms have counted, as OpenMetrics text over plain HTTP on a listener of its own.
//!
//! Nothing is counted here. The rooms keep plain numbers, and this reads them when it is scraped; so an unscraped server pays
//! nothing for it. `docs/metrics.md` lists every metric, and a test keeps that list.
//!
//! Architecture invariant: no label names a flag, a targeting key, a client, a person or a credential. Labels are those of fixed
//! sets, and the keys of the environments that there are.

mod assignments;
mod endpoint;
mod evaluations;
mod events;
mod families;
mod feed;
mod pools;
mod process;
mod requests;
mod traces;
mod upstream;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::listen::Address;
use super::{Error, bind, listen};
use crate::rpc::front::Tallies;
use crate::store::assignments::Assignments;
use crate::store::events::Intake;
use crate::store::feed::Feed;
use crate::store::pool::Pools;
use crate::trace::{Counts, Tracer};
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
        hub: Arc<Hub>,
        (feed, assignments, intake): (Arc<Feed>, Arc<Assignments>, Arc<Intake>),
        (tallies, pools, spans): (Arc<Tallies>, Pools, Arc<Counts>),
        stop: CancellationToken,
    ) {
        let mut registry = of_hub(hub, tallies, spans);
        registry.register_collector(Box::new(pools::Numbers(pools)));
        registry.register_collector(Box::new(feed::Numbers(feed)));
        registry.register_collector(Box::new(assignments::Numbers(assignments)));
        registry.register_collector(Box::new(events::Numbers(intake)));
        endpoint::serve(self.listener, registry, stop).await;
    }

    /// Serves a sidecar's numbers until it is stopped.
    pub async fn of_sidecar(
        self,
        hub: Arc<Hub>,
        upstream: Arc<Upstream>,
        (tallies, spans): (Arc<Tallies>, Arc<Counts>),
        stop: CancellationToken,
    ) {
        let mut registry = of_hub(hub, tallies, spans);
        registry.register_collector(Box::new(upstream::Numbers(upstream)));
        endpoint::serve(self.listener, registry, stop).await;
    }
}

/// What is counted of spans, by nobody if there are none.
pub(super) fn spans(tracer: Option<&Tracer>) -> Arc<Counts> {
    tracer.map(|tracer| tracer.counts().clone()).unwrap_or_default()
}

fn of_hub(hub: Arc<Hub>, tallies: Arc<Tallies>, spans: Arc<Counts>) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(process::Numbers));
    registry.register_collector(Box::new(requests::Numbers(tallies)));
    registry.register_collector(Box::new(traces::Numbers(spans)));
    registry.register_collector(Box::new(evaluations::Numbers(hub.clone())));
    registry.register_collector(Box::new(watch::Numbers(hub)));
    registry
}
