//! What a server is configured with.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::connections::{self, Connections};
use super::events::{self, Events};
use super::http::{self, Http};
use super::openid;
use super::postgres::{self, Migrations};
use super::reader::{Noted, Reader};
use super::requests::{self, Requests};
use super::setting::Setting;
use super::traces::{self, Traces};
use super::tuning::{self, Tuning};
use super::values;
use crate::auth::jwt::SigningKey;
use crate::auth::openid::Expectations;
use crate::store::connect::Target;

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

/// Where everything is stored.
#[derive(Debug)]
pub enum Database {
    /// In this PostgreSQL.
    Url(Target),
    /// In a private PostgreSQL of our own.
    Embedded(Embedded),
}

/// A private PostgreSQL of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedded {
    /// Where its data lies. `None`: in the user's data directory.
    pub data_dir: Option<PathBuf>,
    /// Where PostgreSQL's programs lie. `None`: where the machine keeps them.
    pub postgres_bin_dir: Option<PathBuf>,
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

/// What a server keeps of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// How many revisions streams may resume from, at least.
    pub horizon_revisions: NonZeroUsize,
    /// For how long a stream may resume from where it was, at least.
    pub horizon_age: Duration,
    /// How long history is kept, at least. `None`: for ever.
    pub retention: Option<Duration>,
    /// How often the rest is let go.
    pub interval: Duration,
}

/// How a server streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// How often a client that does not say gets a heartbeat.
    pub heartbeat: Duration,
    /// The shortest and the longest interval of heartbeats that a client may ask for.
    pub heartbeat_bounds: (Duration, Duration),
    /// After how long a stream is asked to move on, so that clients spread over the servers.
    pub rotation: Duration,
    /// How many bytes of snapshots may be on their way at a time.
    pub snapshot_bytes: NonZeroUsize,
    /// How many may be open.
    pub most: NonZeroUsize,
    /// How many of them one environment key may have opened.
    pub most_of_key: NonZeroUsize,
}

/// How a server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// How long it may take; what is still open then is closed by force.
    pub grace: Duration,
    /// Over how long the reconnects of its streams are spread. Shorter than the grace.
    pub drain_window: Duration,
}

const EMBEDDED: Setting = Setting::switch("embedded", "Start a private PostgreSQL from the machine's programs");
const DATA_DIR: Setting = Setting::value(
    "data-dir",
    "PATH",
    "Where the private PostgreSQL keeps its data; by default in the user's data directory",
);
const POSTGRES_BIN_DIR: Setting = Setting::value(
    "postgres-bin-dir",
    "PATH",
    "Where PostgreSQL's programs lie; by default where the machine keeps them",
);
const SIGNING_KEY: Setting = Setting::secret(
    "signing-key",
    "KEY",
    "What access tokens are signed with, at least 32 bytes",
);
const PREVIOUS_SIGNING_KEY: Setting = Setting::secret(
    "previous-signing-key",
    "KEYS",
    "Further keys whose access tokens are accepted while keys are changed, one a line",
);
const SIGN_UP: Setting = Setting::switch("sign-up", "Let anyone who can reach the server open an account");
const LISTEN: Setting = Setting::value("listen", "ADDRESS", "The address and port to listen on");
pub(super) const METRICS_LISTEN: Setting = Setting::value(
    "metrics-listen",
    "ADDRESS",
    "The address and port to serve metrics on, at /metrics over plain HTTP to everyone who reaches it; without it nowhere",
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
const HISTORY_RETENTION: Setting = Setting::value(
    "history-retention",
    "DURATION",
    "How long past revisions of flags can be looked at and gone back to, such as 2160h; by default for ever",
);
const HORIZON_REVISIONS: Setting = Setting::value(
    "horizon-revisions",
    "COUNT",
    "How many revisions of an environment count as recent, however old they are",
)
.default("10000");
const HORIZON_AGE: Setting = Setting::value(
    "horizon-age",
    "DURATION",
    "How long a revision counts as recent, however many there are",
)
.default("24h");
const COMPACTION_INTERVAL: Setting = Setting::value(
    "compaction-interval",
    "DURATION",
    "How often it is looked for revisions that are no longer recent, or beyond the retention",
)
.default("10m");
const SHUTDOWN_GRACE: Setting = Setting::value("shutdown-grace", "DURATION", "How long stopping may take");
const DRAIN_WINDOW: Setting = Setting::value(
    "drain-window",
    "DURATION",
    "Over how long the streams' clients are told to spread their reconnects when stopping",
);
pub(super) const HEARTBEAT: Setting = Setting::value(
    "heartbeat",
    "DURATION",
    "How often streams whose client does not say carry a heartbeat",
)
.default("10s");
pub(super) const STREAM_ROTATION: Setting = Setting::value(
    "stream-rotation",
    "DURATION",
    "After how long streams are asked to reconnect, give or take a fifth",
)
.default("30m");

pub(super) const MAX_SNAPSHOT_BYTES: Setting = Setting::value(
    "max-snapshot-bytes",
    "BYTES",
    "How many bytes of whole states may be on their way to streams at a time; other streams wait for their turn",
)
.default("134217728");
pub(super) const MAX_STREAMS: Setting =
    Setting::value("max-streams", "COUNT", "How many streams may be open").default("50000");
pub(super) const MAX_KEY_STREAMS: Setting = Setting::value(
    "max-key-streams",
    "COUNT",
    "How many of the open streams may be of one environment key",
)
.default("25000");

/// The settings that say which database; for every command that opens it.
pub(super) const DATABASE: &[Setting] = &[postgres::URL, postgres::PASSWORD, EMBEDDED, DATA_DIR, POSTGRES_BIN_DIR];
/// The settings of `serve` beside [`DATABASE`].
pub(super) const SERVE: &[Setting] = &[
    SIGNING_KEY,
    PREVIOUS_SIGNING_KEY,
    SIGN_UP,
    openid::ISSUER,
    openid::AUDIENCE,
    openid::ROLES_CLAIM,
    openid::ROLES,
    SERVE_LISTEN,
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
    HISTORY_RETENTION,
    HORIZON_REVISIONS,
    HORIZON_AGE,
    COMPACTION_INTERVAL,
    events::WINDOW,
    events::RETENTION,
    SERVE_GRACE,
    SERVE_DRAIN,
    HEARTBEAT,
    STREAM_ROTATION,
    MAX_SNAPSHOT_BYTES,
    MAX_STREAMS,
    MAX_KEY_STREAMS,
    requests::MAX_KEY_RATE,
    requests::MAX_REQUESTS,
    requests::MAX_DEADLINE,
];
/// The settings of `dev`.
pub(super) const DEV: &[Setting] = &[
    DATA_DIR,
    POSTGRES_BIN_DIR,
    SIGNING_KEY,
    PREVIOUS_SIGNING_KEY,
    SIGN_UP,
    openid::ISSUER,
    openid::AUDIENCE,
    openid::ROLES_CLAIM,
    openid::ROLES,
    DEV_LISTEN,
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
    HISTORY_RETENTION,
    HORIZON_REVISIONS,
    HORIZON_AGE,
    COMPACTION_INTERVAL,
    events::WINDOW,
    events::RETENTION,
    DEV_GRACE,
    DEV_DRAIN,
    HEARTBEAT,
    STREAM_ROTATION,
    MAX_SNAPSHOT_BYTES,
    MAX_STREAMS,
    MAX_KEY_STREAMS,
    requests::MAX_KEY_RATE,
    requests::MAX_REQUESTS,
    requests::MAX_DEADLINE,
];
const SERVE_LISTEN: Setting = LISTEN.default("0.0.0.0:50051");
pub(super) const SERVE_GRACE: Setting = SHUTDOWN_GRACE.default("30s");
pub(super) const SERVE_DRAIN: Setting = DRAIN_WINDOW.default("10s");
const DEV_LISTEN: Setting = LISTEN.default("127.0.0.1:50051");
const DEV_GRACE: Setting = SHUTDOWN_GRACE.default("5s");
const DEV_DRAIN: Setting = DRAIN_WINDOW.default("0s");

const MOST_WORKER_THREADS: usize = 1_024;
const MOST_CONNECTIONS: usize = 1_000;
const MOST_REVISIONS: usize = 1_000_000_000;
const MOST_STREAMS: usize = 10_000_000;
const MOST_SNAPSHOT_BYTES: usize = u32::MAX as usize;
const HOUR: Duration = Duration::from_hours(1);
/// Longer than anyone keeps anything, and short enough for PostgreSQL to count back.
const CENTURY: Duration = Duration::from_hours(24 * 365 * 100);

pub(super) fn serve(reader: &mut Reader<'_>) -> Result<Serve, Noted> {
    let database = database(reader);
    let signing_key = signing_key(reader).and_then(|key| key.ok_or_else(|| reader.missing(SIGNING_KEY)));
    let service = service(reader, SERVE_LISTEN, SERVE_GRACE, SERVE_DRAIN);
    Ok(Serve {
        database: database?,
        signing_key: signing_key?,
        service: service?,
    })
}

pub(super) fn dev(reader: &mut Reader<'_>) -> Result<Dev, Noted> {
    let embedded = embedded(reader);
    let signing_key = signing_key(reader);
    let service = service(reader, DEV_LISTEN, DEV_GRACE, DEV_DRAIN);
    Ok(Dev {
        embedded: embedded?,
        signing_key: signing_key?,
        service: service?,
    })
}

pub(super) fn database(reader: &mut Reader<'_>) -> Result<Database, Noted> {
    let url = postgres::target(reader);
    let switch = reader.switch(EMBEDDED);
    let embedded = embedded(reader);
    let (url, switch, embedded) = (url?, switch?, embedded?);
    match (url, switch) {
        (Some(_), true) => Err(reader.refuse(
            EMBEDDED.argument(),
            "and a database URL are both given: leave out --embedded (HALYARD_EMBEDDED) to use the PostgreSQL of the URL, \
             or --database-url (HALYARD_DATABASE_URL, DATABASE_URL) to use a private one",
        )),
        (None, false) => Err(reader.refuse(
            postgres::URL.argument(),
            "and --embedded are both missing: give --database-url (or DATABASE_URL, HALYARD_DATABASE_URL_FILE) to use your \
             PostgreSQL, or --embedded to have a private one started from the machine's PostgreSQL programs, with its data \
             under --data-dir",
        )),
        (None, true) => {
            if reader.origin(postgres::PASSWORD).is_some() {
                let name = postgres::PASSWORD.argument();
                return Err(reader.refuse(name, "means nothing without --database-url: a private PostgreSQL asks for none"));
            }
            Ok(Database::Embedded(embedded))
        }
        (Some(target), false) => {
            let Embedded {
                data_dir,
                postgres_bin_dir,
            } = embedded;
            for (setting, given) in [(DATA_DIR, data_dir), (POSTGRES_BIN_DIR, postgres_bin_dir)] {
                if given.is_some() {
                    let name = setting.argument();
                    reader.refuse(name, "means nothing without --embedded: the database of the URL keeps its own data");
                }
            }
            Ok(Database::Url(target))
        }
    }
}

fn embedded(reader: &mut Reader<'_>) -> Result<Embedded, Noted> {
    let data_dir = reader.optional(DATA_DIR, values::path);
    let postgres_bin_dir = reader.optional(POSTGRES_BIN_DIR, values::path);
    Ok(Embedded {
        data_dir: data_dir?,
        postgres_bin_dir: postgres_bin_dir?,
    })
}

fn signing_key(reader: &mut Reader<'_>) -> Result<Option<SigningKey>, Noted> {
    let Some(secret) = reader.secret(SIGNING_KEY)? else {
        return Ok(None);
    };
    SigningKey::new(secret.expose().as_bytes()).map(Some).map_err(|error| {
        let description = format!("is too short: {error}; make one with: openssl rand -base64 48");
        reader.refuse(SIGNING_KEY.argument(), description)
    })
}

fn previous_signing_keys(reader: &mut Reader<'_>) -> Result<Vec<SigningKey>, Noted> {
    let Some(secret) = reader.secret(PREVIOUS_SIGNING_KEY)? else {
        return Ok(Vec::new());
    };
    let lines = secret.expose().lines().map(str::trim_end);
    let keys = lines
        .filter(|line| !line.is_empty())
        .map(|line| SigningKey::new(line.as_bytes()));
    keys.collect::<Result<_, _>>().map_err(|error| {
        let description = format!("holds a line that is too short: {error}");
        reader.refuse(PREVIOUS_SIGNING_KEY.argument(), description)
    })
}

fn service(reader: &mut Reader<'_>, listen: Setting, grace: Setting, drain: Setting) -> Result<Service, Noted> {
    let previous_signing_keys = previous_signing_keys(reader);
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
    let history = history(reader);
    let events = events::read(reader);
    let streams = streams(reader);
    let requests = requests::read(reader);
    let tuning = tuning::serve(reader);
    let shutdown = shutdown(reader, grace, drain);
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

fn history(reader: &mut Reader<'_>) -> Result<History, Noted> {
    let retention = reader.optional(HISTORY_RETENTION, values::duration(HOUR..=CENTURY));
    let horizon_revisions = reader.required(HORIZON_REVISIONS, values::count(MOST_REVISIONS));
    let horizon_age = reader.required(HORIZON_AGE, values::duration(Duration::ZERO..=CENTURY));
    let interval = reader.required(
        COMPACTION_INTERVAL,
        values::duration(Duration::from_secs(1)..=24 * HOUR),
    );
    Ok(History {
        horizon_revisions: horizon_revisions?,
        horizon_age: horizon_age?,
        retention: retention?,
        interval: interval?,
    })
}

pub(super) fn streams(reader: &mut Reader<'_>) -> Result<Streams, Noted> {
    let heartbeat = tuning::heartbeat(reader);
    let rotation = reader.required(STREAM_ROTATION, values::duration(Duration::from_secs(1)..=24 * HOUR));
    let snapshot_bytes = reader.required(MAX_SNAPSHOT_BYTES, values::count(MOST_SNAPSHOT_BYTES));
    let most = reader.required(MAX_STREAMS, values::count(MOST_STREAMS));
    let most_of_key = reader.required(MAX_KEY_STREAMS, values::count(MOST_STREAMS));
    let (heartbeat, heartbeat_bounds) = heartbeat?;
    Ok(Streams {
        heartbeat,
        heartbeat_bounds,
        rotation: rotation?,
        snapshot_bytes: snapshot_bytes?,
        most: most?,
        most_of_key: most_of_key?,
    })
}

pub(super) fn shutdown(reader: &mut Reader<'_>, grace: Setting, drain: Setting) -> Result<Shutdown, Noted> {
    let whole = reader.required(grace, values::duration(Duration::ZERO..=HOUR));
    let drain_window = reader.required(drain, values::duration(Duration::ZERO..=HOUR));
    let (whole, drain_window) = (whole?, drain_window?);
    if drain_window > whole {
        let description = format!("must not be longer than {}: it is part of it", grace.argument());
        return Err(reader.refuse(drain.argument(), description));
    }
    Ok(Shutdown {
        grace: whole,
        drain_window,
    })
}

fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
