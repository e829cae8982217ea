//! Metrics: what the rooms have counted, as OpenMetrics text over plain HTTP on a listener of its own, or where everything else is. That
//! listener answers probes too.
//!
//! Nothing is counted here. The rooms keep plain numbers, and this reads them when it is scraped; so an unscraped server pays
//! nothing for it. `docs/metrics.md` lists every metric, and a test keeps that list.
//!
//! Architecture invariant: no label names a flag, a targeting key, a client, a person or a credential. Labels are those of fixed
//! sets, and the keys of the environments that there are.

mod assignments;
mod bounds;
mod endpoint;
mod evaluations;
mod events;
mod families;
mod feed;
mod http;
mod opening;
mod pools;
mod process;
mod requests;
mod traces;
mod upstream;
mod watch;

pub(super) use endpoint::{OPEN_METRICS, Pages, text};

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::http::Counts;
use super::listen::Address;
use super::opening::Opening;
use super::{Error, Keepalive, bind, listen};
use crate::rpc::front::{Bounds, Tallies};
use crate::store::Queue;
use crate::store::assignments::Assignments;
use crate::store::events::Intake;
use crate::store::feed::Feed;
use crate::store::pool::Pools;
use crate::trace::Tracer;
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
        let (listener, found) = bind(&Address::Tcp(address), Keepalive::default())?;
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

    /// Serves pages until it is stopped.
    pub async fn serve(self, pages: Pages, stop: CancellationToken) {
        endpoint::serve(self.listener, pages, stop).await;
    }
}

/// What all servers count.
pub(super) struct Counted {
    /// What goes wrong over HTTP.
    pub http: Arc<Counts>,
    /// Requests, by method.
    pub tallies: Arc<Tallies>,
    /// What bounds them.
    pub bounds: Arc<Bounds>,
    /// Whoever traces them. `None`: nobody.
    pub tracer: Option<Tracer>,
    /// How connections are opened.
    pub opening: Opening,
}

/// A server's numbers.
pub(super) fn of_server(
    hub: Arc<Hub>,
    (feed, assignments, intake): (Arc<Feed>, Arc<Assignments>, Arc<Intake>),
    (queue, pools): (Arc<Queue>, Pools),
    counted: Counted,
) -> Registry {
    let mut registry = of_hub(hub, counted, Some(queue));
    registry.register_collector(Box::new(pools::Numbers(pools)));
    registry.register_collector(Box::new(feed::Numbers(feed)));
    registry.register_collector(Box::new(assignments::Numbers(assignments)));
    registry.register_collector(Box::new(events::Numbers(intake)));
    registry
}

/// A sidecar's numbers.
pub(super) fn of_sidecar(hub: Arc<Hub>, upstream: Arc<Upstream>, counted: Counted) -> Registry {
    let mut registry = of_hub(hub, counted, None);
    registry.register_collector(Box::new(upstream::Numbers(upstream)));
    registry
}

fn of_hub(hub: Arc<Hub>, counted: Counted, queue: Option<Arc<Queue>>) -> Registry {
    let Counted {
        http: broken,
        tallies,
        bounds,
        tracer,
        opening,
    } = counted;
    // Nobody traces: nothing is counted.
    let spans = tracer.map(|tracer| tracer.counts().clone()).unwrap_or_default();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(process::Numbers));
    registry.register_collector(Box::new(requests::Numbers(tallies)));
    registry.register_collector(Box::new(traces::Numbers(spans)));
    registry.register_collector(Box::new(evaluations::Numbers(hub.clone())));
    registry.register_collector(Box::new(watch::Numbers(hub)));
    registry.register_collector(Box::new(http::Numbers(broken)));
    registry.register_collector(Box::new(opening::Numbers(opening)));
    registry.register_collector(Box::new(bounds::Numbers { bounds, queue }));
    registry
}
