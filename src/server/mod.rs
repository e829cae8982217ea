//! The composition root: what is started in which order, and in which order it stops.
//!
//! Connections live on one single-threaded runtime per core (see `docs/decisions/runtimes.md`); administration, the feed and the
//! hub live on the multi-threaded runtime that calls [`Server::start`].

mod alive;
mod compaction;
mod connection;
mod denials;
mod ending;
mod events;
mod hand_edits;
mod http;
mod listen;
mod metrics;
mod opening;
mod probes;
mod propagation;
mod seldom;
mod sidecar;
mod uses;
mod within;
mod workers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_server::HealthServer;

use crate::auth::{jwt, openid};
use crate::config::Migrations;
use crate::domain::limits;
use crate::issuer::{self, Issuer};
use crate::pb;
use crate::pb::admin::v1::audit_service_server::AuditServiceServer;
use crate::pb::admin::v1::auth_service_server::AuthServiceServer;
use crate::pb::admin::v1::environment_service_server::EnvironmentServiceServer;
use crate::pb::admin::v1::experiment_service_server::ExperimentServiceServer;
use crate::pb::admin::v1::flag_service_server::FlagServiceServer;
use crate::pb::admin::v1::project_service_server::ProjectServiceServer;
use crate::pb::admin::v1::segment_service_server::SegmentServiceServer;
use crate::pb::admin::v1::service_token_service_server::ServiceTokenServiceServer;
use crate::pb::admin::v1::user_service_server::UserServiceServer;
use crate::pb::evaluation::v1::evaluation_service_server::EvaluationServiceServer;
use crate::rpc::admin::accounts::{self, Accounts};
use crate::rpc::assignments::Assignments;
use crate::rpc::front::{self, Authenticator, Bounds, Denials, FrontLayer, OpenId};
use crate::rpc::methods::Methods;
use crate::rpc::reflection::Places;
use crate::rpc::services::Services;
use crate::rpc::track::Destination;
use crate::rpc::watch::{Streaming, Watch, WatchServiceServer};
use crate::rpc::{admin, evaluation::Evaluation, health};
use crate::shutdown::{Fault, Tasks};
use crate::store::events::Intake;
use crate::store::feed::{Feed, Hints};
use crate::store::{self, Store};
use crate::tls;
use crate::trace::{self, Tracer};
use crate::upstream;
use crate::watch::Hub;
use alive::{Alive, Runtime};
use ending::Ending;
use http::House;
use listen::Listener;
use metrics::Metrics;
use opening::Opening;
use probes::Probes;
use workers::Workers;

pub use compaction::Compaction;
pub use denials::DENIALS_EVERY;
pub use events::Events;
pub use http::{Limits as HttpLimits, Metrics as HttpMetrics, Options as HttpOptions};
pub use listen::Address;
pub use opening::Connections;
pub use sidecar::{Options as SidecarOptions, Sidecar};
pub use workers::Keepalive;

/// How often old request records and uploads are deleted.
const HOUSEKEEPING: Duration = Duration::from_hours(1);

/// What a server is made of.
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where to serve metrics. `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Where to send traces. `None`: nowhere.
    pub trace: Option<trace::Options>,
    /// How connections are opened.
    pub connections: Connections,
    /// The database, and how to use it.
    pub store: store::Settings,
    /// Who brings the schema up to date.
    pub migrations: Migrations,
    /// How to follow the database.
    pub feed: store::feed::Options,
    /// What is kept of the change log.
    pub compaction: Compaction,
    /// How to take in and keep events of experiments.
    pub events: Events,
    /// How to stream.
    pub watch: crate::watch::Options,
    /// How requests are bounded.
    pub requests: front::Limits,
    /// How to notice that a connection is gone.
    pub keepalive: Keepalive,
    /// What is served beside gRPC, and within which bounds.
    pub http: HttpOptions,
    /// What signs access tokens.
    pub tokens: jwt::Tokens,
    /// Between two entries of the audit log about denials of one caller, method and project.
    pub denials_every: Duration,
    /// How people come in.
    pub accounts: accounts::Options,
    /// Whose tokens let people in beside our own. `None`: nobody's.
    pub openid: Option<openid::Expectations>,
    /// How many runtimes serve connections. At least one.
    pub workers: usize,
    /// Over how long streams are told goodbye when the server stops.
    pub drain_window: Duration,
    /// How long requests may take to finish after that.
    pub grace: Duration,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused, is away, or its schema cannot be used.
    #[error("the database cannot be used")]
    Store(#[from] store::Error),
    /// The schema cannot be brought up to date.
    #[error(transparent)]
    Migrate(#[from] store::migrate::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; is another server running there?")]
    Listen {
        /// The address.
        address: Address,
        /// Why not.
        source: std::io::Error,
    },
    /// What a sidecar needs to follow its upstream cannot be used.
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
    /// The certificates cannot be used.
    #[error("TLS cannot be served: {0}")]
    Tls(#[from] tls::Refused),
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// What asks the OpenID Connect issuer cannot be made.
    #[error("the OpenID Connect issuer cannot be asked")]
    Issuer(#[from] issuer::Error),
    /// Traces cannot be sent.
    #[error(transparent)]
    Trace(#[from] trace::Error),
    /// The descriptor set cannot be served.
    #[error("the reflection service cannot be made")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A running server. Dropping it ends it without ceremony: connections are closed at once. [`Server::stop`] says goodbye.
pub struct Server {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    hub: Arc<Hub>,
    store: Store,
    accounts: Arc<Accounts>,
    opening: Opening,
    workers: Workers,
    draining: CancellationToken,
    leaving: CancellationToken,
    tasks: Tasks,
    /// Ends the tasks when the server is dropped.
    _running: DropGuard,
    drain_window: Duration,
    grace: Duration,
}

impl Server {
    /// Migrates the database, starts everything, and listens. Ready once [`Server::ready`] says so.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let Options {
            listen,
            metrics,
            trace,
            connections,
            store: settings,
            migrations,
            mut feed,
            compaction,
            events: keeping,
            watch,
            requests,
            keepalive,
            http,
            tokens,
            denials_every,
            accounts,
            openid,
            workers,
            drain_window,
            grace,
        } = options;
        match migrations {
            Migrations::AtStart => {
                let migrations = store::migrate::run(&settings.target).await?;
                if !migrations.is_empty() {
                    tracing::info!(?migrations, "the schema is up to date now");
                }
            }
            Migrations::Never => store::migrate::check(&settings.target).await?,
        }

        let (listener, address) = bind(&Address::Tcp(listen), keepalive)?;
        let address = match address {
            Address::Tcp(address) => address,
            Address::Unix { .. } => listen,
        };
        let metrics = metrics.map(Metrics::bind).transpose()?;

        let (draining, leaving, tasks) = (CancellationToken::new(), CancellationToken::new(), Tasks::new());
        // Whatever was begun ends if the rest cannot be.
        let running = tasks.stop().clone().drop_guard();
        let tracer = trace.map(|options| traces(&options, &tasks)).transpose()?;
        feed.tracer = tracer.clone();
        let opening = Opening::new(connections, watch.stall, &tasks)?;
        let hints = Hints::new();
        let target = settings.target.clone();
        let store = Store::connect(&settings, hints.clone()).await?;
        let spawn = |name, task| tasks.spawn(name, task);
        let pool = store::connect::feed_pool(&settings, feed.load_timeout)?;
        let (feed, events) = Feed::start(target, pool, hints, feed, tasks.stop().clone(), spawn);
        let hub = Hub::new(feed.clone(), watch);
        tasks.spawn("hub", hub.clone().run(events, tasks.stop().clone()));
        tasks.spawn("stalled streams", hub.clone().release_stalled(tasks.stop().clone()));
        tasks.spawn("snapshots", hub.clone().take_turns(tasks.stop().clone()));

        let (assignments, writer) = store::assignments::Assignments::new(&settings)?;
        tasks.spawn("assignments", writer.run(tasks.stop().clone()));
        let assignments = Arc::new(assignments);
        let taking = store::events::Options {
            window: keeping.kept.window,
            queue_bytes: keeping.queue_bytes,
        };
        let (intake, writer) = Intake::new(&settings, taking)?;
        tasks.spawn("events", writer.run(tasks.stop().clone()));
        tasks.spawn(
            "event days",
            events::keep_days(store.clone(), keeping.kept, tasks.stop().clone()),
        );

        let bounds = Arc::new(Bounds::new(requests));
        let alive = Alive::new(workers.max(1));
        tasks.spawn("pulse", pulse(alive.clone(), tasks.stop().clone()));

        let tokens = Arc::new(tokens);
        let (reporter, health) = health::service(lives(&alive));
        tasks.spawn(
            "health",
            health::report(
                reporter,
                hub.clone(),
                health::Services::All,
                health::Ends {
                    draining: draining.clone(),
                    leaving: leaving.clone(),
                    stop: tasks.stop().clone(),
                },
            ),
        );
        let accounts = Accounts::new(store.clone(), tokens.clone(), accounts);
        tasks.spawn("login failures", accounts.clone().record_failures(tasks.stop().clone()));
        let request_bytes = http.limits.request_bytes;
        let services = services(
            &store,
            &hub,
            &accounts,
            (&assignments, &intake),
            (health, request_bytes),
        )?;
        let openid = openid
            .map(|expectations| people(expectations, &store, &tasks))
            .transpose()?;
        let authenticator = Authenticator::new(hub.clone(), tokens).with_openid(openid);
        let uses = uses::keep(store.clone(), hub.clone(), authenticator.uses(), tasks.stop().clone());
        tasks.spawn("uses", uses);
        tasks.spawn(
            "propagation",
            propagation::keep(store.clone(), hub.clone(), tasks.stop().clone()),
        );
        tasks.spawn("hand edits", hand_edits::adopt(store.clone(), tasks.stop().clone()));
        tasks.spawn(
            "compaction",
            compaction::compact(store.clone(), compaction, tasks.stop().clone()),
        );
        let denied = Arc::new(Denials::default());
        tasks.spawn(
            "denials",
            denials::keep(store.clone(), denied.clone(), denials_every, tasks.stop().clone()),
        );
        let front = FrontLayer::new(authenticator, Handle::current(), denied, bounds.clone()).traced(tracer.clone());

        let counts = Arc::<http::Counts>::default();
        let registry = Arc::new(metrics::of_server(
            hub.clone(),
            (feed, assignments, intake),
            (store.queue().clone(), settings.pools),
            metrics::Counted {
                http: counts.clone(),
                tallies: front.tallies(),
                bounds,
                tracer,
                opening: opening.clone(),
            },
        ));
        let metrics_address = metrics.as_ref().map(Metrics::address);
        let probes = Probes::new(hub.clone(), alive);
        if let Some(metrics) = metrics {
            let pages = metrics::Pages::new(registry.clone(), probes.clone());
            tasks.spawn("metrics", metrics.serve(pages, tasks.stop().clone()));
        }

        let parts = http::Parts {
            services,
            front,
            methods: Methods::default(),
            probes,
            registry,
            administration: Handle::current(),
            counts,
            keepalive,
        };
        let house = House::new(parts, http);
        let workers = Workers::start(workers, &house, &opening).map_err(Error::Thread)?;
        tasks.spawn("acceptor", workers.accept(listener, tasks.stop().clone()));
        tasks.spawn("housekeeper", housekeep(store.clone(), tasks.stop().clone()));
        Ok(Self {
            address,
            metrics_address,
            hub,
            store,
            accounts,
            opening,
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
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is asked there: `http` or, over TLS, `https`.
    pub fn scheme(&self) -> &'static str {
        match self.opening.certificates() {
            Some(_) => "https",
            None => "http",
        }
    }

    /// A channel from within the process, which needs no certificate. It ends with the server.
    pub async fn channel(&self) -> Result<Channel, tonic::transport::Error> {
        // Nobody resolves the name.
        let endpoint = Endpoint::from_static("http://within");
        endpoint.connect_with_connector(self.workers.within()).await
    }

    /// Where it serves metrics. `None`: nowhere.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// What it streams from.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// What it writes to.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Who may come in.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Waits until every environment is loaded.
    pub async fn ready(&self) {
        self.hub.ready().await;
    }

    /// Returns when a part of the server has died unasked; then only [`Server::stop`] makes sense.
    pub async fn failed(&self) {
        self.tasks.stop().cancelled().await;
    }

    /// Not ready; goodbye on the streams, spread out; requests finish within the grace; everything stops. Takes the drain window
    /// and the grace at most, and a moment.
    pub async fn stop(self) -> Result<(), Fault> {
        let Self {
            address: _,
            metrics_address: _,
            hub,
            store,
            accounts: _,
            opening: _,
            workers,
            draining,
            leaving,
            tasks,
            _running: _,
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
        let finished = ending.run().await;
        store.pool().close();
        finished
    }
}

/// Deletes what nobody asks for any more, now and then: nothing depends on it but the size of tables.
async fn housekeep(store: Store, stop: CancellationToken) {
    let mut rounds = tokio::time::interval(HOUSEKEEPING);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = rounds.tick() => {}
        }
        for (what, purged) in [
            ("request records", store.purge_request_records().await),
            ("sessions", store.purge_sessions().await),
            ("uses of credentials", store.purge_uses().await),
            ("reports of replicas that are gone", store.purge_propagation().await),
        ] {
            if let Err(error) = purged {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, what, "what is old could not be deleted; next time");
            }
        }
        // There may be gigabytes of them; that must not keep the server from stopping.
        if let Some(Err(error)) = stop.run_until_cancelled(store.drop_old_segment_uploads()).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "old uploads could not be deleted; next time"
            );
        }
    }
}

/// Whoever lets an issuer's people in, and the task that asks for its keys.
fn people(expectations: openid::Expectations, store: &Store, tasks: &Tasks) -> Result<OpenId, issuer::Error> {
    let (issuer, refresher) = Issuer::new(expectations)?;
    tasks.spawn("openid connect", refresher.run(tasks.stop().clone()));
    Ok(OpenId::new(issuer, store.clone(), Handle::current()))
}

/// Shows that this runtime answers until `stop`.
async fn pulse(alive: Alive, stop: CancellationToken) {
    let _stopped = stop.run_until_cancelled(alive.show(Runtime::Administration)).await;
}

/// What says whether all runtimes answer.
fn lives(alive: &Alive) -> health::Lives {
    let alive = alive.clone();
    Arc::new(move || alive.hanging().is_none())
}

/// Whoever traces, and the task that sends it.
fn traces(options: &trace::Options, tasks: &Tasks) -> Result<Tracer, trace::Error> {
    let (tracer, exporter) = Tracer::new(options)?;
    tasks.spawn("traces", exporter.run(tasks.stop().clone()));
    Ok(tracer)
}

/// Listens, and says where.
fn bind(address: &Address, keepalive: Keepalive) -> Result<(Listener, Address), Error> {
    let failed = |source| Error::Listen {
        address: address.clone(),
        source,
    };
    let listener = Listener::bind(address, keepalive.unacknowledged()).map_err(failed)?;
    let address = listener.address(address).map_err(failed)?;
    Ok((listener, address))
}

/// A service as all are served.
macro_rules! compressed {
    ($service:expr, $request_bytes:expr) => {
        $service
            .max_decoding_message_size($request_bytes)
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip)
            .accept_compressed(tonic::codec::CompressionEncoding::Zstd)
    };
}
use compressed;

/// Every service.
fn services(
    store: &Store,
    hub: &Arc<Hub>,
    accounts: &Arc<Accounts>,
    (assignments, intake): (&Arc<store::assignments::Assignments>, &Arc<Intake>),
    (health, most): (HealthServer<health::Probed>, usize),
) -> Result<Services, tonic_reflection::server::Error> {
    let reflection = || {
        let descriptors = [pb::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
        descriptors
            .into_iter()
            .fold(tonic_reflection::server::Builder::configure(), |builder, set| {
                builder.register_encoded_file_descriptor_set(set)
            })
    };
    let projects = admin::Projects::new(store.clone(), accounts.clone());
    let service_tokens = admin::ServiceTokens::new(store.clone());
    let environments = admin::Environments::new(store.clone());
    let flags = admin::Flags::new(store.clone(), hub.clone());
    let audit = admin::Audit::new(store.clone());
    let segments = admin::Segments::new(store.clone());
    let experiments = admin::Experiments::new(store.clone(), assignments.clone());
    let assignments = Assignments::Stored(assignments.clone(), hub.clone());
    let evaluation = Evaluation::new(hub.clone(), assignments.clone(), Destination::Stored(intake.clone()));
    let watch = Watch::new(hub.clone(), assignments);
    let auth = admin::Auth::new(accounts.clone());
    let users = admin::Users::new(accounts.clone());
    let places = Places::default();
    let open = limits::OPEN_REQUEST_BYTES;
    let others = Routes::new(compressed!(AuthServiceServer::new(auth), open))
        .add_service(compressed!(UserServiceServer::new(users), most))
        .add_service(compressed!(ProjectServiceServer::new(projects), most))
        .add_service(compressed!(ServiceTokenServiceServer::new(service_tokens), most))
        .add_service(compressed!(EnvironmentServiceServer::new(environments), most))
        .add_service(compressed!(FlagServiceServer::new(flags), most))
        .add_service(compressed!(SegmentServiceServer::new(segments), most))
        .add_service(compressed!(ExperimentServiceServer::new(experiments), most))
        .add_service(compressed!(AuditServiceServer::new(audit), most))
        .add_service(Streaming(compressed!(WatchServiceServer::new(watch), most)))
        .add_service(health.max_decoding_message_size(open))
        .add_service(places.bound(reflection().build_v1()?.max_decoding_message_size(open)))
        .add_service(places.bound(reflection().build_v1alpha()?.max_decoding_message_size(open)));
    let evaluation = compressed!(EvaluationServiceServer::new(evaluation), most);
    Ok(Services::new(evaluation, others))
}
