//! What `halyard bench` is configured with: which load to put on which server, for how long, and what is still good enough.

pub(super) mod settings;

use std::num::NonZeroUsize;
use std::time::Duration;

use http::Uri;
use serde_json::{Map, Value};

use super::client::{self, Credential, Output, Server};
use super::reader::{Noted, Reader};
use super::secret::Secret;
use super::{values, who};
use crate::domain::{key, limits};
use settings::{
    ALL, BENCH_FLAGS, COMPARE, COMPARE_KEY, CONCURRENCY, CONNECTIONS, DURATION, HEARTBEAT, MAX_ERROR_RATE,
    MAX_IN_FLIGHT, RATE, ROUNDS, STREAMS, UNITS, WARM_UP, WRITE_FLAG, WRITE_RATE,
};

/// `halyard bench`: load of up to three kinds at once, at least one.
#[derive(Debug)]
pub struct Bench {
    /// What it is called: `evaluate`, `watch`, `write` or `mixed`.
    pub name: &'static str,
    /// Which server.
    pub server: Server,
    /// How long it takes.
    pub window: Window,
    /// The largest share of requests without an answer, or with an error for one, that is still good enough.
    pub max_error_rate: f64,
    /// Evaluations.
    pub evaluate: Option<EvaluateLoad>,
    /// Streams of changes.
    pub watch: Option<WatchLoad>,
    /// Changes.
    pub write: Option<WriteLoad>,
    /// Another server, which takes turns with the first. Only with one kind of load, and not with streams.
    pub compare: Option<Compare>,
    /// For whom the output is.
    pub output: Output,
}

/// How long load is put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How long before anything counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub duration: Duration,
}

/// How much of one kind of request.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// When they are sent.
    pub pace: Pace,
    /// Over how many connections.
    pub connections: NonZeroUsize,
    /// The most requests without an answer at a time. Of those due beyond them none is sent.
    pub max_in_flight: NonZeroUsize,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many a second, whatever becomes of those before: an open loop.
    Rate(f64),
    /// So many at a time, each sent when one is answered: a closed loop.
    Concurrency(NonZeroUsize),
}

/// Evaluations.
#[derive(Debug)]
pub struct EvaluateLoad {
    /// The environment key.
    pub key: Secret,
    /// How much.
    pub load: Load,
    /// The flags asked for in turn. None: all at once, with every request.
    pub flags: Vec<key::Flag>,
    /// How many units ask in turn.
    pub units: NonZeroUsize,
    /// What is known of each.
    pub attributes: Map<String, Value>,
}

/// Streams of changes.
#[derive(Debug)]
pub struct WatchLoad {
    /// The environment key.
    pub key: Secret,
    /// How many.
    pub streams: NonZeroUsize,
    /// Over how many connections.
    pub connections: NonZeroUsize,
    /// How often each asks for a heartbeat.
    pub heartbeat: Duration,
}

/// Changes.
#[derive(Debug)]
pub struct WriteLoad {
    /// Who is asking for it.
    pub credential: Credential,
    /// Whose flags.
    pub project: key::Project,
    /// Where.
    pub environment: key::Environment,
    /// The flags that are turned on and off in turn; at least one, none twice.
    pub flags: Vec<key::Flag>,
    /// How much.
    pub load: Load,
}

/// Another server, which takes turns with the first.
#[derive(Debug)]
pub struct Compare {
    /// Where it is; plain HTTP.
    pub endpoint: Uri,
    /// Its environment key, if it is not the first one's.
    pub key: Option<Secret>,
    /// How many turns each has.
    pub rounds: NonZeroUsize,
}

/// The most flags that are named.
const FLAGS: usize = limits::TOGGLES;
/// For how long an access token surely works, and a request after it.
const LOGIN: Duration = Duration::from_secs(limits::ACCESS_TOKEN_SECONDS as u64 - 60);

pub(super) fn evaluate(reader: &mut Reader<'_>) -> Result<Bench, Noted> {
    let load = load(reader, 100.0);
    let evaluate = evaluations(reader, load);
    let compare = compare(reader);
    let common = common(reader, "evaluate");
    Ok(Bench {
        evaluate: Some(evaluate?),
        compare: compare?,
        ..common?
    })
}

pub(super) fn write(reader: &mut Reader<'_>) -> Result<Bench, Noted> {
    let load = load(reader, 10.0);
    let words = reader.all(BENCH_FLAGS);
    let flags = if words.is_empty() {
        Err(reader.refuse("<flag>", "is missing; name what may be turned on and off"))
    } else {
        flags(reader, &words)
    };
    let write = writes(reader, flags, load);
    let compare = compare(reader);
    let common = common(reader, "write");
    let bench = Bench {
        write: Some(write?),
        compare: compare?,
        ..common?
    };
    outlasts_login(reader, bench)
}

pub(super) fn watch(reader: &mut Reader<'_>) -> Result<Bench, Noted> {
    let watch = streams(reader);
    let words = reader.all(WRITE_FLAG.name);
    let write = if words.is_empty() {
        Ok(None)
    } else {
        writes_beside(reader, &words).map(Some)
    };
    let common = common(reader, "watch");
    let bench = Bench {
        watch: Some(watch?),
        write: write?,
        ..common?
    };
    outlasts_login(reader, bench)
}

pub(super) fn mixed(reader: &mut Reader<'_>) -> Result<Bench, Noted> {
    let load = load(reader, 100.0);
    let evaluate = evaluations(reader, load);
    let watch = streams(reader);
    let words = reader.all(WRITE_FLAG.name);
    let write = if words.is_empty() {
        let description = "is missing; name a flag that may be turned on and off";
        Err(reader.refuse(WRITE_FLAG.argument(), description))
    } else {
        writes_beside(reader, &words)
    };
    let common = common(reader, "mixed");
    let bench = Bench {
        evaluate: Some(evaluate?),
        watch: Some(watch?),
        write: Some(write?),
        ..common?
    };
    outlasts_login(reader, bench)
}

/// What every command has, without any load.
fn common(reader: &mut Reader<'_>, name: &'static str) -> Result<Bench, Noted> {
    // What is wrong with it is told where it is read.
    let other = reader.optional(COMPARE, |text| Ok(values::endpoint(text).ok()));
    let server = client::server_beside(reader, other.ok().flatten().flatten());
    let day = Duration::from_hours(24);
    let duration = reader.required(DURATION, values::duration(Duration::from_millis(10)..=day));
    let warm_up = reader.required(WARM_UP, values::duration(Duration::ZERO..=day));
    let max_error_rate = reader.required(MAX_ERROR_RATE, share);
    let output = client::output(reader);
    Ok(Bench {
        name,
        server: server?,
        window: Window {
            warm_up: warm_up?,
            duration: duration?,
        },
        max_error_rate: max_error_rate?,
        evaluate: None,
        watch: None,
        write: None,
        compare: None,
        output: output?,
    })
}

fn load(reader: &mut Reader<'_>, default: f64) -> Result<Load, Noted> {
    let rate = reader.optional(RATE, rate);
    let concurrency = reader.optional(CONCURRENCY, values::count(100_000));
    let connections = connections(reader);
    let max_in_flight = reader.required(MAX_IN_FLIGHT, values::count(1_000_000));
    let pace = match (rate?, concurrency?) {
        (Some(_), Some(_)) => {
            return Err(reader.refuse(RATE.argument(), "and --concurrency are both given; leave one out"));
        }
        (None, Some(concurrency)) => Pace::Concurrency(concurrency),
        (rate, None) => Pace::Rate(rate.unwrap_or(default)),
    };
    Ok(Load {
        pace,
        connections: connections?,
        max_in_flight: max_in_flight?,
    })
}

fn connections(reader: &mut Reader<'_>) -> Result<NonZeroUsize, Noted> {
    reader.required(CONNECTIONS, values::count(10_000))
}

fn evaluations(reader: &mut Reader<'_>, load: Result<Load, Noted>) -> Result<EvaluateLoad, Noted> {
    let key = client::environment_key(reader);
    let all = reader.switch(ALL);
    let words = reader.all(BENCH_FLAGS);
    let flags = match (words.is_empty(), all?) {
        (false, true) => Err(reader.refuse("<flag>", "and --all are both given; leave one out")),
        (true, false) => Err(reader.refuse("<flag>", "is missing; name flags or give --all")),
        (true, true) => Ok(Vec::new()),
        (false, false) => flags(reader, &words),
    };
    let units = reader.required(UNITS, values::count(1_000_000_000));
    let attributes = who::attributes(reader);
    Ok(EvaluateLoad {
        key: key?,
        load: load?,
        flags: flags?,
        units: units?,
        attributes: attributes?,
    })
}

fn streams(reader: &mut Reader<'_>) -> Result<WatchLoad, Noted> {
    let key = client::environment_key(reader);
    let streams = reader.required(STREAMS, values::count(1_000_000));
    let connections = connections(reader);
    let bounds = Duration::from_secs(1)..=Duration::from_mins(1);
    let heartbeat = reader.required(HEARTBEAT, values::duration(bounds));
    Ok(WatchLoad {
        key: key?,
        streams: streams?,
        connections: connections?,
        heartbeat: heartbeat?,
    })
}

/// Writes beside something else: few, over a connection of their own.
fn writes_beside(reader: &mut Reader<'_>, words: &[String]) -> Result<WriteLoad, Noted> {
    let flags = flags(reader, words);
    let rate = reader.required(WRITE_RATE, rate);
    let load = rate.map(|rate| Load {
        pace: Pace::Rate(rate),
        connections: NonZeroUsize::MIN,
        max_in_flight: NonZeroUsize::MIN.saturating_add(999),
    });
    writes(reader, flags, load)
}

fn writes(
    reader: &mut Reader<'_>,
    flags: Result<Vec<key::Flag>, Noted>,
    load: Result<Load, Noted>,
) -> Result<WriteLoad, Noted> {
    let credential = client::credential(reader);
    let project = client::project(reader);
    let environment = client::environment(reader);
    Ok(WriteLoad {
        credential: credential?,
        project: project?,
        environment: environment?,
        flags: flags?,
        load: load?,
    })
}

fn compare(reader: &mut Reader<'_>) -> Result<Option<Compare>, Noted> {
    let endpoint = reader.optional(COMPARE, values::endpoint);
    let key = client::bearer(reader, COMPARE_KEY);
    let rounds = reader.required(ROUNDS, values::count(1000));
    let (endpoint, key, rounds) = (endpoint?, key?, rounds?);
    Ok(endpoint.map(|endpoint| Compare { endpoint, key, rounds }))
}

fn flags(reader: &mut Reader<'_>, words: &[String]) -> Result<Vec<key::Flag>, Noted> {
    let mut flags = Vec::new();
    let mut outcome = Ok(());
    for word in words {
        match client::read_flag(reader, word) {
            Ok(flag) if flags.contains(&flag) => {
                outcome = Err(reader.refuse("<flag>", format!("is given twice: {flag}")));
            }
            Ok(flag) => flags.push(flag),
            Err(noted) => outcome = Err(noted),
        }
    }
    if flags.len() > FLAGS {
        return Err(reader.refuse("<flag>", format!("is given {} times; at most {FLAGS}", flags.len())));
    }
    outcome.map(|()| flags)
}

/// Whoever logs in has an access token for a while only, and must be able to put the flags back at the end.
fn outlasts_login(reader: &mut Reader<'_>, bench: Bench) -> Result<Bench, Noted> {
    let Window { warm_up, duration } = bench.window;
    let rounds = bench.compare.as_ref().map(|compare| compare.rounds.get());
    let rounds = rounds.map_or(1, |rounds| u32::try_from(rounds).unwrap_or(u32::MAX));
    let servers = 1 + u32::from(bench.compare.is_some());
    // Each turn of a comparison warms up for up to a tenth of it, and after each what is in flight may take as long as it may.
    let turns = rounds.saturating_mul(servers);
    let between = bench.server.timeout.saturating_mul(turns.saturating_add(2));
    let lasts = ((warm_up + duration + duration / 10) * servers).saturating_add(between);
    match &bench.write {
        Some(WriteLoad {
            credential: Credential::Login { .. },
            ..
        }) if lasts > LOGIN => {
            let description = format!(
                "and --warm-up may take {} with what may be waited for (--timeout), and a login works for {}; give a service token \
                 with --token instead",
                values::plain(lasts),
                values::plain(LOGIN)
            );
            Err(reader.refuse(DURATION.argument(), description))
        }
        Some(_) | None => Ok(bench),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1_000_000.0).contains(rate));
    rate.ok_or_else(|| "is not a number between 0.001 and 1000000".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "is not a share between 0 and 1, such as 0.01".to_owned())
}
