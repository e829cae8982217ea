//! What a server is configured with.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use super::connections::{self, Connections};
use super::database::{self, Database, Embedded};
use super::events::{self, Events};
use super::history::{self, History};
use super::http::{self, Http};
use super::postgres::{self, Migrations};
use super::reader::{Noted, Reader};
use super::requests::{self, Requests};
use super::setting::Setting;
use super::stopping::{self, Shutdown};
use super::streams::{self, Streams};
use super::traces::{self, Traces};
use super::tuning::{self, Tuning};
use super::{openid, signing, values};
use crate::auth::jwt::SigningKey;
use crate::auth::openid::Expectations;

/// `halyard serve`: a server for production.
#[derive(Debug)]
pub struct Serve {
    /// Where everything is stored.
    pub database: Database,
    /// What access tokens are signed with.
    pub signing_key: SigningKey,
    /// How it serves.
    pub service: Service,
}

/// `halyard dev`: a server with everything that it takes, for a developer's machine.
#[derive(Debug)]
pub struct Dev {
    /// Its own PostgreSQL.
    pub embedded: Embedded,
    /// What access tokens are signed with. `None`: make a key and keep it with the data.
    pub signing_key: Option<SigningKey>,
    /// How it serves.
    pub service: Service,
}

/// How a server serves.
#[derive(Debug, Clone)]
pub struct Service {
    /// What access tokens may be signed with besides: what signed before, or will next.
    pub previous_signing_keys: Vec<SigningKey>,
    /// Whether people may open accounts for themselves.
    pub sign_up: bool,
    /// Whose tokens let people in beside our own. `None`: nobody's.
    pub openid: Option<Expectations>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it serves metrics. `None`: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// What it serves over HTTP beside gRPC, and within which bounds.
    pub http: Http,
    /// Where traces go. `None`: nowhere.
    pub traces: Option<Traces>,
    /// How connections are opened.
    pub connections: Connections,
    /// How many threads evaluate, each with a runtime of its own.
    pub worker_threads: NonZeroUsize,
    /// How many connections to PostgreSQL it keeps for requests, beside the four with which it follows the database, the two with
    /// which it writes events, and the three with which it stores assignments.
    pub database_pool_size: NonZeroUsize,
    /// Who brings the schema up to date.
    pub migrations: Migrations,
    /// What is kept of the past.
    pub history: History,
    /// What is kept of events.
    pub events: Events,
    /// How it streams.
    pub streams: Streams,
    /// How requests are bounded.
    pub requests: Requests,
    /// What is right for nearly everybody.
    pub tuning: Tuning,
    /// How it stops.
    pub shutdown: Shutdown,
}

const SIGN_UP: Setting = Setting::switch("sign-up", "Let anyone who can reach the server open an account");
const LISTEN: Setting = Setting::value("listen", "ADDRESS", "The address and port to listen on");
pub(super) const METRICS_LISTEN: Setting = Setting::value(
    "metrics-listen",
    "ADDRESS",
    "The address and port to serve metrics on, at /metrics, and probes, at /healthz and /readyz, over plain HTTP to everyone who \
     reaches it; without it metrics are nowhere, and probes on the port of --listen alone",
);
pub(super) const WORKER_THREADS: Setting = Setting::value(
    "worker-threads",
    "COUNT",
    "How many threads evaluate; by default one per core",
);
const DATABASE_POOL_SIZE: Setting = Setting::value(
    "database-pool-size",
    "COUNT",
    "How many connections to PostgreSQL to keep for requests; four more follow the database, two write events, and three store assignments",
)
.default("8");

/// Who comes in, of a server.
pub(super) const PEOPLE: &[Setting] = &[
    signing::KEY,
    signing::PREVIOUS_KEYS,
    SIGN_UP,
    openid::ISSUER,
    openid::AUDIENCE,
    openid::ROLES_CLAIM,
    openid::ROLES,
];
/// What is served beside, from what, and what is kept.
pub(super) const SERVICE: &[Setting] = &[
    METRICS_LISTEN,
    http::METRICS_ON_LISTEN,
    http::CORS_ADMIN,
    http::CORS_EVALUATION,
    http::MAX_CONNECTION_STREAMS,
    http::MAX_REQUEST_BYTES,
    http::MAX_HEADER_BYTES,
    http::REQUEST_TIMEOUT,
    traces::ENDPOINT,
    traces::SHARE,
    traces::CA,
    traces::CERTIFICATE,
    traces::KEY,
    WORKER_THREADS,
    DATABASE_POOL_SIZE,
    postgres::MIGRATE,
    history::RETENTION,
    history::HORIZON_REVISIONS,
    history::HORIZON_AGE,
    history::COMPACTION_INTERVAL,
    events::WINDOW,
    events::RETENTION,
];
/// How much of it there may be.
pub(super) const BOUNDS: &[Setting] = &[
    streams::HEARTBEAT,
    streams::ROTATION,
    streams::MAX_SNAPSHOT_BYTES,
    streams::MAX_STREAMS,
    streams::MAX_KEY_STREAMS,
    requests::MAX_KEY_RATE,
    requests::MAX_REQUESTS,
    requests::MAX_DEADLINE,
];
pub(super) const SERVE_LISTEN: Setting = LISTEN.default("0.0.0.0:50051");
pub(super) const DEV_LISTEN: Setting = LISTEN.default("127.0.0.1:50051");

const MOST_WORKER_THREADS: usize = 1_024;
const MOST_CONNECTIONS: usize = 1_000;

pub(super) fn serve(reader: &mut Reader<'_>) -> Result<Serve, Noted> {
    let database = database::read(reader);
    let signing_key = signing::key(reader).and_then(|key| key.ok_or_else(|| reader.missing(signing::KEY)));
    let service = service(reader, SERVE_LISTEN, stopping::SERVE);
    Ok(Serve {
        database: database?,
        signing_key: signing_key?,
        service: service?,
    })
}

pub(super) fn dev(reader: &mut Reader<'_>) -> Result<Dev, Noted> {
    let embedded = database::embedded(reader);
    let signing_key = signing::key(reader);
    let service = service(reader, DEV_LISTEN, stopping::DEV);
    Ok(Dev {
        embedded: embedded?,
        signing_key: signing_key?,
        service: service?,
    })
}

fn service(reader: &mut Reader<'_>, listen: Setting, stopping: &[Setting; 2]) -> Result<Service, Noted> {
    let previous_signing_keys = signing::previous_keys(reader);
    let sign_up = reader.switch(SIGN_UP);
    let openid = openid::read(reader);
    let listen = reader.required(listen, values::address);
    let metrics_listen = metrics_listen(reader, listen.ok());
    let http = http::serve(reader);
    let traces = traces::read(reader);
    let connections = connections::read(reader);
    let worker_threads = worker_threads(reader);
    let database_pool_size = reader.required(DATABASE_POOL_SIZE, values::count(MOST_CONNECTIONS));
    let migrations = postgres::migrations(reader);
    let history = history::read(reader);
    let events = events::read(reader);
    let streams = streams::read(reader);
    let requests = requests::read(reader);
    let tuning = tuning::serve(reader);
    let shutdown = stopping::read(reader, stopping);
    Ok(Service {
        previous_signing_keys: previous_signing_keys?,
        sign_up: sign_up?,
        openid: openid?,
        listen: listen?,
        metrics_listen: metrics_listen?,
        http: http?,
        traces: traces?,
        connections: connections?,
        worker_threads: worker_threads?,
        database_pool_size: database_pool_size?,
        migrations: migrations?,
        history: history?,
        events: events?,
        streams: streams?,
        requests: requests?,
        tuning: tuning?,
        shutdown: shutdown?,
    })
}

/// Where metrics are served, which cannot be where everything else is. `listen`: where that is, if it is a port.
pub(super) fn metrics_listen(reader: &mut Reader<'_>, listen: Option<SocketAddr>) -> Result<Option<SocketAddr>, Noted> {
    let Some(metrics) = reader.optional(METRICS_LISTEN, values::address)? else {
        return Ok(None);
    };
    if listen.is_some_and(|listen| overlap(listen, metrics)) {
        let description = "takes the port of --listen; to have metrics there, give --metrics-on-listen in its place";
        return Err(reader.refuse(METRICS_LISTEN.argument(), description));
    }
    Ok(Some(metrics))
}

/// Whether two listeners would take the same port. Port 0 is any free one.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    same_host && one.port() == other.port() && one.port() != 0
}

pub(super) fn worker_threads(reader: &mut Reader<'_>) -> Result<NonZeroUsize, Noted> {
    let given = reader.optional(WORKER_THREADS, values::count(MOST_WORKER_THREADS))?;
    let threads = given.unwrap_or_else(cores);
    reader.note(WORKER_THREADS, &threads);
    Ok(threads)
}

fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
