//! What a sidecar is configured with.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ::http::Uri;

use super::connections::{self, Connections};
use super::http::{self, Http};
use super::reader::{Noted, Reader};
use super::requests::{self, Requests};
use super::secret::Secret;
use super::service::{self, METRICS_LISTEN, WORKER_THREADS};
use super::setting::Setting;
use super::stopping::{self, Shutdown};
use super::streams::{self, Streams};
use super::traces::{self, Traces};
use super::tuning::{self, SidecarTuning};
use super::{trust, values};
use crate::auth::keys;
use crate::domain::access::{AcceptedKey, KeyKind};
use crate::domain::key;
use crate::domain::staleness::Limits;
use crate::tls::ClientFiles;

/// `halyard sidecar`: a server that is fed by another one.
#[derive(Debug)]
pub struct Sidecar {
    /// The server that it is fed by.
    pub upstream: Uri,
    /// Whom to trust there, and what to show. `None`: it is not asked over TLS.
    pub tls: Option<ClientFiles>,
    /// The key to show it.
    pub key: Secret,
    /// That key's id.
    pub key_id: String,
    /// Which keys callers may show: that one, and further ones.
    pub callers: Vec<AcceptedKey>,
    /// What callers without a credential may do. `None`: they are refused.
    pub anonymous: Option<KeyKind>,
    /// Where it listens.
    pub listen: Listen,
    /// Where it serves metrics. `None`: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// What it serves over HTTP beside gRPC, and within which bounds.
    pub http: Http,
    /// Where traces go. `None`: nowhere.
    pub traces: Option<Traces>,
    /// How connections are opened.
    pub connections: Connections,
    /// Where the last state is kept. `None`: nowhere.
    pub state_file: Option<PathBuf>,
    /// How old the state may be that answers.
    pub staleness: Limits,
    /// How many threads evaluate, each with a runtime of its own.
    pub worker_threads: NonZeroUsize,
    /// How it streams.
    pub streams: Streams,
    /// How requests are bounded.
    pub requests: Requests,
    /// What is right for nearly everybody.
    pub tuning: SidecarTuning,
    /// How it stops.
    pub shutdown: Shutdown,
}

/// Where a sidecar listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On a port.
    Tcp(SocketAddr),
    /// On a socket in the file system.
    Unix {
        /// The socket's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

const UPSTREAM: Setting = Setting::value("upstream", "URL", "The server, or another sidecar, to follow");
const KEY: Setting = Setting::secret("key", "KEY", "The server key to show it, which callers may show too");
const CLIENT_KEYS: Setting = Setting::hidden(
    "client-key",
    "further keys that callers may show, one a line; a key's prefix says whether it may see rules",
);
const ANONYMOUS: Setting = Setting::value(
    "anonymous",
    "KIND",
    "Answer callers that show no key as if theirs was a client or a server key; on a unix socket only",
);
const LISTEN: Setting = Setting::value(
    "listen",
    "ADDRESS",
    "The address and port to listen on, or unix:PATH for a socket",
)
.default("127.0.0.1:50051");
const SOCKET_MODE: Setting = Setting::value(
    "socket-mode",
    "OCTAL",
    "The permissions of the unix socket: 600 for this user, 660 for the group too; by default 600",
);
const STATE_FILE: Setting = Setting::value(
    "state-file",
    "PATH",
    "Where to keep the last state, to answer from it when the upstream is away at the start",
);
const MAX_STALENESS: Setting = Setting::value(
    "max-staleness",
    "DURATIONS",
    "How old the state may be before flags answer their off variant: 5m for all, checkout=30s for one, separated by commas",
);

/// The settings of `sidecar` alone.
pub(super) const SIDECAR: &[Setting] = &[
    UPSTREAM,
    KEY,
    CLIENT_KEYS,
    ANONYMOUS,
    LISTEN,
    SOCKET_MODE,
    METRICS_LISTEN,
    http::METRICS_ON_LISTEN,
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
    STATE_FILE,
    MAX_STALENESS,
    WORKER_THREADS,
];

const LONGEST_STALENESS: Duration = Duration::from_hours(24 * 365);

pub(super) fn sidecar(reader: &mut Reader<'_>) -> Result<Sidecar, Noted> {
    let upstream = upstream(reader);
    let tls = trust::read(reader, upstream.as_ref().map(std::slice::from_ref).unwrap_or_default());
    let key = own_key(reader);
    let further = client_keys(reader);
    let address = address(reader);
    let anonymous = anonymous(reader, &address);
    let port = match &address {
        Ok(Listen::Tcp(address)) => Some(*address),
        Ok(Listen::Unix { .. }) | Err(Noted) => None,
    };
    let metrics_listen = service::metrics_listen(reader, port);
    let traces = traces::read(reader);
    let listen = listen(reader, address);
    let http = http::sidecar(reader);
    let connections = connections::of_sidecar(reader, &listen);
    let state_file = reader.optional(STATE_FILE, values::path);
    let staleness = reader.optional(MAX_STALENESS, limits);
    let worker_threads = service::worker_threads(reader);
    let streams = streams::read(reader);
    let requests = requests::read(reader);
    let tuning = tuning::sidecar(reader);
    let shutdown = stopping::read(reader, stopping::SERVE);
    let (key, own) = key?;
    let key_id = own.id.to_string();
    let mut callers = vec![own];
    callers.extend(further?);
    most_two_secrets(reader, &callers)?;
    Ok(Sidecar {
        upstream: upstream?,
        tls: tls?,
        key,
        key_id,
        callers,
        anonymous: anonymous?,
        listen: listen?,
        metrics_listen: metrics_listen?,
        http: http?,
        traces: traces?,
        connections: connections?,
        state_file: state_file?,
        staleness: staleness?.unwrap_or_default(),
        worker_threads: worker_threads?,
        streams: streams?,
        requests: requests?,
        tuning: tuning?,
        shutdown: shutdown?,
    })
}

fn upstream(reader: &mut Reader<'_>) -> Result<Uri, Noted> {
    let upstream = reader.optional(UPSTREAM, values::endpoint)?;
    upstream.ok_or_else(|| reader.missing(UPSTREAM))
}

fn own_key(reader: &mut Reader<'_>) -> Result<(Secret, AcceptedKey), Noted> {
    let Some(secret) = reader.secret(KEY)? else {
        return Err(reader.missing(KEY));
    };
    // What is wrong with it is not shown: it may be right but for a character.
    match accepted(secret.expose()) {
        Some(key) if key.kind == KeyKind::Server => Ok((secret, key)),
        Some(_) => Err(reader.refuse(
            KEY.argument(),
            "is a client key, which may not see rules; a sidecar needs a server key",
        )),
        None => Err(reader.refuse(
            KEY.argument(),
            "is not an environment key; it begins with halyard_server_, copy it again",
        )),
    }
}

fn client_keys(reader: &mut Reader<'_>) -> Result<Vec<AcceptedKey>, Noted> {
    let Some(secret) = reader.secret(CLIENT_KEYS)? else {
        return Ok(Vec::new());
    };
    let mut keys = Vec::new();
    let mut wrong = Vec::new();
    let lines = secret.expose().lines().map(str::trim).enumerate();
    for (n, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        match accepted(line) {
            Some(key) => keys.push(key),
            None => wrong.push((n + 1).to_string()),
        }
    }
    if wrong.is_empty() {
        return Ok(keys);
    }
    let description = format!("holds no environment key in line {}", wrong.join(", "));
    Err(reader.refuse(CLIENT_KEYS.argument(), description))
}

fn accepted(text: &str) -> Option<AcceptedKey> {
    let keys::Presented { kind, id, hash } = keys::parse(text)?;
    Some(AcceptedKey {
        id: id.into(),
        kind,
        secret_hash: hash,
    })
}

/// A key that is being rotated has two secrets; a third is a mistake.
fn most_two_secrets(reader: &mut Reader<'_>, callers: &[AcceptedKey]) -> Result<(), Noted> {
    let mut secrets: HashMap<&str, BTreeSet<_>> = HashMap::new();
    for key in callers {
        secrets
            .entry(&key.id)
            .or_default()
            .insert((key.kind.name(), key.secret_hash));
    }
    let mut outcome = Ok(());
    for (id, _) in secrets.iter().filter(|(_, secrets)| secrets.len() > 2) {
        let description = format!("holds more than two secrets of the key {id}; leave out the old ones");
        outcome = Err(reader.refuse(CLIENT_KEYS.argument(), description));
    }
    outcome
}

fn address(reader: &mut Reader<'_>) -> Result<Listen, Noted> {
    reader.required(LISTEN, |text| match text.strip_prefix("unix:") {
        Some(path) => values::path(path).map(|path| Listen::Unix { path, mode: 0o600 }),
        None => values::address(text).map(Listen::Tcp),
    })
}

fn listen(reader: &mut Reader<'_>, address: Result<Listen, Noted>) -> Result<Listen, Noted> {
    let mode = reader.optional(SOCKET_MODE, |text| {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.ok_or_else(|| "is not a file's permissions in octal, such as 600 or 660".to_owned())
    });
    match (address?, mode?) {
        (Listen::Unix { path, .. }, Some(mode)) => Ok(Listen::Unix { path, mode }),
        (Listen::Tcp(_), Some(_)) => {
            Err(reader.refuse(SOCKET_MODE.argument(), "means nothing without --listen unix:PATH"))
        }
        (address, None) => Ok(address),
    }
}

fn anonymous(reader: &mut Reader<'_>, address: &Result<Listen, Noted>) -> Result<Option<KeyKind>, Noted> {
    let kind = reader.optional(ANONYMOUS, |text| {
        KeyKind::from_name(text).ok_or_else(|| "is neither client nor server".to_owned())
    })?;
    if kind.is_some() && matches!(address, Ok(Listen::Tcp(_))) {
        return Err(reader.refuse(
            ANONYMOUS.argument(),
            "is for unix sockets only, where the file's permissions say who may ask; give --listen unix:PATH",
        ));
    }
    Ok(kind)
}

/// `5m,checkout=30s`: a duration for all flags, or with a flag's key for that one.
fn limits(text: &str) -> Result<Limits, String> {
    let duration = values::duration(Duration::ZERO..=LONGEST_STALENESS);
    let read = |text: &str| duration(text).map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let mut limits = Limits::default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let twice = match part.split_once('=') {
            None => limits.all_ms.replace(read(part)?).is_some(),
            Some((flag, age)) => {
                let key = key::Flag::new(flag).map_err(|_| format!("names {flag:?}, which is no flag's key, in"))?;
                limits.flags_ms.insert(key, read(age)?).is_some()
            }
        };
        if twice {
            return Err("says two things about the same flags".to_owned());
        }
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::config::{Command, Environment, Refusal, parse};

    /// What a configuration comes to that has these client keys.
    fn read(client_keys: &[&str], arguments: &[&str]) -> Result<Sidecar, Refusal> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        std::fs::write(&file, client_keys.join("\n")).unwrap();
        let own = keys::generate(KeyKind::Server).unwrap();
        let variables = [("HALYARD_KEY", own.secret.expose_secret())];
        let line = ["halyard", "sidecar", "--upstream", "http://flags", "--client-key-file"];
        let line = line
            .into_iter()
            .chain([file.to_str().unwrap()])
            .chain(arguments.iter().copied());
        let Command::Sidecar(sidecar) = parse(line, &Environment::with(variables))?.command else {
            panic!("not a sidecar");
        };
        Ok(*sidecar)
    }

    #[test]
    fn callers_are_those_of_the_file_and_whoever_has_the_sidecars_own_key() {
        let client = keys::generate(KeyKind::Client).unwrap();
        let renewed = keys::renew(KeyKind::Client, &client.id).unwrap();
        let lines = [
            "# the shop's",
            "",
            client.secret.expose_secret(),
            renewed.secret.expose_secret(),
        ];
        let arguments = [
            "--listen",
            "unix:/run/flags.sock",
            "--socket-mode",
            "660",
            "--anonymous",
            "client",
        ];
        let sidecar = read(&lines, &arguments).unwrap();
        let kinds: Vec<_> = sidecar.callers.iter().map(|key| (key.kind, &*key.id)).collect();
        let (own, theirs) = (sidecar.key_id.as_str(), client.id.as_str());
        let expected = [
            (KeyKind::Server, own),
            (KeyKind::Client, theirs),
            (KeyKind::Client, theirs),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(sidecar.anonymous, Some(KeyKind::Client));
        let path = "/run/flags.sock".into();
        assert_eq!(sidecar.listen, Listen::Unix { path, mode: 0o660 });
        assert!(!format!("{sidecar:?}").contains(client.secret.expose_secret()));
    }

    #[test]
    fn a_third_secret_of_a_key_is_a_mistake() {
        let client = keys::generate(KeyKind::Client).unwrap();
        let others = [1, 2].map(|_| keys::renew(KeyKind::Client, &client.id).unwrap());
        let lines: Vec<_> = others
            .iter()
            .chain([&client])
            .map(|key| key.secret.expose_secret())
            .collect();
        let refusal = read(&lines, &[]).unwrap_err().to_string();
        let words = format!("--client-key-file holds more than two secrets of the key {}", client.id);
        assert!(refusal.contains(&words), "{refusal}");
    }

    #[test]
    fn limits_are_for_all_flags_and_for_some() {
        let limits = limits("5m, checkout=30s,search=500ms").unwrap();
        assert_eq!(limits.all_ms, Some(300_000));
        assert_eq!(limits.flags_ms[&key::Flag::new("checkout").unwrap()], 30_000);
        assert_eq!(limits.flags_ms.len(), 2);
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        for text in [
            "5",
            "checkout",
            "checkout=",
            "=5s",
            "a b=5s",
            "5s,6s",
            "a=1s,a=2s",
            "-5s",
        ] {
            assert!(limits(text).is_err(), "{text}");
        }
    }
}
