//! The other composition: a server that is fed by another server's Watch, and has neither a database nor administration.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use super::alive::Alive;
use super::ending::Ending;
use super::http::{self, House};
use super::listen::Address;
use super::metrics::{self, Metrics};
use super::opening::{Connections, Opening};
use super::probes::Probes;
use super::workers::{Keepalive, Workers};
use super::{Error, HttpOptions, bind, compressed, lives, pulse, traces};
use crate::domain::limits;
use crate::domain::staleness::Limits;
use crate::pb;
use crate::pb::evaluation::v1::evaluation_service_server::EvaluationServiceServer;
use crate::rpc::assignments::{Assignments, Forwarding};
use crate::rpc::front::{self, Authenticator, Bounds, FrontLayer};
use crate::rpc::methods::Methods;
use crate::rpc::reflection::Places;
use crate::rpc::services::Services;
use crate::rpc::track::{self, Destination};
use crate::rpc::watch::{Streaming, Watch, WatchServiceServer};
use crate::rpc::{evaluation::Evaluation, health};
use crate::shutdown::{Fault, Tasks};
use crate::trace;
use crate::upstream::{self, Road, Upstream};
use crate::watch::{self, Hub};

/// The services that reflection tells of.
const SERVICES: [&str; 3] = [
    "halyard.evaluation.v1.EvaluationService",
    "halyard.evaluation.v1.WatchService",
    "grpc.health.v1.Health",
];

/// What a sidecar is made of.
pub struct Options {
    /// Where to listen.
    pub listen: Address,
    /// Where to serve metrics. `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Where to send traces. `None`: nowhere.
    pub trace: Option<trace::Options>,
    /// How connections are opened.
    pub connections: Connections,
    /// Whom to follow, and for whom.
    pub upstream: upstream::Options,
    /// How old the state may be that answers.
    pub staleness: Limits,
    /// How to stream.
    pub watch: watch::Options,
    /// How requests are bounded.
    pub requests: front::Limits,
    /// How to notice that a connection is gone.
    pub keepalive: Keepalive,
    /// What is served beside gRPC, and within which bounds. It administrates nothing, whatever the origins for that.
    pub http: HttpOptions,
    /// How many runtimes serve connections. At least one.
    pub workers: usize,
    /// Over how long streams are told goodbye when the sidecar stops.
    pub drain_window: Duration,
    /// How long requests may take to finish after that.
    pub grace: Duration,
}

/// A running sidecar. Dropping it ends it without ceremony: connections are closed at once. [`Sidecar::stop`] says goodbye.
pub struct Sidecar {
    address: Address,
    metrics_address: Option<SocketAddr>,
    hub: Arc<Hub>,
    upstream: Arc<Upstream>,
    workers: Workers,
    draining: CancellationToken,
    leaving: CancellationToken,
    tasks: Tasks,
    /// Ends the tasks when the sidecar is dropped.
    _running: DropGuard,
    drain_window: Duration,
    grace: Duration,
}

impl Sidecar {
    /// Reads what is on disk, starts everything, and listens. Ready once [`Sidecar::ready`] says so.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let Options {
            listen,
            metrics,
            trace,
            connections,
            upstream,
            staleness,
            watch,
            requests,
            keepalive,
            http,
            workers,
            drain_window,
            grace,
        } = options;
        let (listener, address) = bind(&listen, keepalive)?;
        let metrics = metrics.map(Metrics::bind).transpose()?;
        let (draining, leaving, tasks) = (CancellationToken::new(), CancellationToken::new(), Tasks::new());
        // Whatever was begun ends if the rest cannot be.
        let running = tasks.stop().clone().drop_guard();
        let tracer = trace.map(|options| traces(&options, &tasks)).transpose()?;
        let opening = Opening::new(connections, watch.stall, &tasks)?;
        let anonymous = upstream.callers.anonymous.map(|_| upstream::ANONYMOUS);
        let road = Road::new(upstream.endpoint.clone(), upstream.tls.clone(), &upstream.timing);
        let forwarding = Forwarding::new(road.channel(), &upstream.key);
        // A connection of its own: no evaluation waits behind events.
        let taking = track::Forwarding::new(road.channel(), &upstream.key);
        let taking = taking.map_or(Destination::Nowhere, |it| Destination::Forwarded(Arc::new(it)));
        let spawn = |name, task| tasks.spawn(name, task);
        let (upstream, events) = Upstream::start(upstream, tasks.stop().clone(), spawn).await?;
        let watch = watch::Options {
            staleness: Arc::new(staleness),
            ..watch
        };
        let hub = Hub::new(upstream.clone(), watch);
        let forwarded = |it| Assignments::Forwarded(Arc::new(it), hub.clone());
        let assignments = forwarding.map_or(Assignments::Nowhere, forwarded);
        tasks.spawn("hub", hub.clone().run(events, tasks.stop().clone()));
        tasks.spawn("age", hub.clone().tell_age(tasks.stop().clone()));
        tasks.spawn("stalled streams", hub.clone().release_stalled(tasks.stop().clone()));
        tasks.spawn("snapshots", hub.clone().take_turns(tasks.stop().clone()));

        let bounds = Arc::new(Bounds::new(requests));
        let alive = Alive::new(workers.max(1));
        tasks.spawn("pulse", pulse(alive.clone(), tasks.stop().clone()));

        let (reporter, health) = health::service(lives(&alive));
        let ends = health::Ends {
            draining: draining.clone(),
            leaving: leaving.clone(),
            stop: tasks.stop().clone(),
        };
        let report = health::report(reporter, hub.clone(), health::Services::Evaluation, ends);
        tasks.spawn("health", report);
        let services = services(&hub, (assignments, taking), health, http.limits.request_bytes)?;
        let authenticator = Authenticator::for_applications(hub.clone(), anonymous);
        let front =
            FrontLayer::for_applications(authenticator, Handle::current(), bounds.clone()).traced(tracer.clone());
        let counts = Arc::<http::Counts>::default();
        let counted = metrics::Counted {
            http: counts.clone(),
            tallies: front.tallies(),
            bounds,
            tracer,
            opening: opening.clone(),
        };
        let registry = Arc::new(metrics::of_sidecar(hub.clone(), upstream.clone(), counted));
        let metrics_address = metrics.as_ref().map(Metrics::address);
        let probes = Probes::new(hub.clone(), alive);
        if let Some(metrics) = metrics {
            let pages = metrics::Pages::new(registry.clone(), probes.clone());
            tasks.spawn("metrics", metrics.serve(pages, tasks.stop().clone()));
        }
        let parts = http::Parts {
            services,
            front,
            methods: Methods::of_applications(),
            probes,
            registry,
            administration: Handle::current(),
            counts,
            keepalive,
        };
        let house = House::new(parts, http);
        let workers = Workers::start(workers, &house, &opening).map_err(Error::Thread)?;
        tasks.spawn("acceptor", workers.accept(listener, tasks.stop().clone()));
        Ok(Self {
            address,
            metrics_address,
            hub,
            upstream,
            workers,
            draining,
            leaving,
            tasks,
            _running: running,
            drain_window,
            grace,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Where it serves metrics. `None`: nowhere.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// What it streams from.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// What it follows.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Waits until there is a state, from disk or from the upstream.
    pub async fn ready(&self) {
        self.hub.ready().await;
    }

    /// Returns when a part of the sidecar has died unasked; then only [`Sidecar::stop`] makes sense.
    pub async fn failed(&self) {
        self.tasks.stop().cancelled().await;
    }

    /// As a server stops; the last state is on disk then, if it is kept there.
    pub async fn stop(self) -> Result<(), Fault> {
        let Self {
            address: _,
            metrics_address: _,
            hub,
            upstream: _,
            workers,
            draining,
            leaving,
            tasks,
            _running,
            drain_window,
            grace,
        } = self;
        let ending = Ending {
            hub,
            workers,
            draining,
            leaving,
            tasks,
            drain_window,
            grace,
        };
        ending.run().await
    }
}

/// What applications call.
fn services(
    hub: &Arc<Hub>,
    (assignments, events): (Assignments, Destination),
    health: HealthServer<health::Probed>,
    most: usize,
) -> Result<Services, tonic_reflection::server::Error> {
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        SERVICES
            .into_iter()
            .fold(builder, tonic_reflection::server::Builder::with_service_name)
    };
    let evaluation = Evaluation::new(hub.clone(), assignments.clone(), events);
    let watch = Watch::new(hub.clone(), assignments);
    let places = Places::default();
    let open = limits::OPEN_REQUEST_BYTES;
    let others = Routes::new(Streaming(compressed!(WatchServiceServer::new(watch), most)))
        .add_service(health.max_decoding_message_size(open))
        .add_service(places.bound(reflection().build_v1()?.max_decoding_message_size(open)))
        .add_service(places.bound(reflection().build_v1alpha()?.max_decoding_message_size(open)));
    let evaluation = compressed!(EvaluationServiceServer::new(evaluation), most);
    Ok(Services::new(evaluation, others))
}
