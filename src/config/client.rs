//! What the commands that ask a server something are configured with.

use std::collections::HashSet;
use std::time::Duration;

use http::Uri;
use serde_json::{Map, Value};

use super::admin::{self, Password};
use super::bench::Bench;
use super::reader::{Noted, Reader};
use super::secret::Secret;
use super::setting::Setting;
use super::{trust, values, who};
use crate::domain::email::Email;
use crate::domain::{key, limits};
use crate::tls::ClientFiles;

/// Ask a server something.
#[derive(Debug)]
pub enum Client {
    /// How it is.
    Health(Health),
    /// What it answers.
    Evaluate(Evaluate),
    /// What changes.
    Watch(Watch),
    /// To turn flags on or off.
    Toggle(ToggleFlags),
    /// How it does under load.
    Bench(Box<Bench>),
}

/// Which server, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where it is: over TLS if the address begins with `https`.
    pub endpoint: Uri,
    /// Whom to trust, and what to show. `None`: nothing is asked over TLS.
    pub tls: Option<Box<ClientFiles>>,
    /// How long an answer may take, connecting included. Streams may take for ever.
    pub timeout: Duration,
}

/// For whom the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// `halyard health`
#[derive(Debug)]
pub struct Health {
    /// Which server.
    pub server: Server,
    /// Which gRPC service. Empty: the server as a whole.
    pub service: String,
    /// For whom the output is.
    pub output: Output,
}

/// `halyard evaluate`
#[derive(Debug)]
pub struct Evaluate {
    /// Which server.
    pub server: Server,
    /// The environment key.
    pub key: Secret,
    /// What to evaluate.
    pub subject: Subject,
    /// Who is asking. Empty: nobody in particular.
    pub targeting_key: String,
    /// What else is known of who is asking.
    pub attributes: Map<String, Value>,
    /// The oldest revision that may answer. Zero: any.
    pub min_revision: u64,
    /// For whom the output is.
    pub output: Output,
}

/// What to evaluate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// One flag.
    Flag(key::Flag),
    /// One flag, and how its answer came about.
    Explained(key::Flag),
    /// Every flag that the key may see.
    All,
}

/// `halyard watch`
#[derive(Debug)]
pub struct Watch {
    /// Which server.
    pub server: Server,
    /// The environment key.
    pub key: Secret,
    /// How much to tell.
    pub detail: WatchDetail,
    /// For whom the output is.
    pub output: Output,
}

/// How much to tell of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchDetail {
    /// Changes.
    Changes,
    /// Heartbeats too.
    Heartbeats,
}

/// `halyard toggle`
#[derive(Debug)]
pub struct ToggleFlags {
    /// Which server.
    pub server: Server,
    /// Who is asking for it.
    pub credential: Credential,
    /// Whose flags.
    pub project: key::Project,
    /// Where.
    pub environment: key::Environment,
    /// Which flags; at least one, none twice.
    pub toggles: Vec<Toggle>,
    /// For whom the output is.
    pub output: Output,
}

/// One flag to turn on or off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toggle {
    /// Which flag.
    pub flag: key::Flag,
    /// Whether it is to be on.
    pub enabled: bool,
}

/// By what an administrator is known.
#[derive(Debug)]
pub enum Credential {
    /// An access token.
    Token(Secret),
    /// What one logs in with.
    Login {
        /// The account.
        email: Email,
        /// Its password.
        password: Password,
    },
}

pub(super) const ENDPOINT: Setting =
    Setting::value("endpoint", "URL", "Where Halyard is").default("http://127.0.0.1:50051");
pub(super) const TIMEOUT: Setting = Setting::value("timeout", "DURATION", "How long an answer may take").default("10s");
pub(super) const JSON: Setting = Setting::switch("json", "Print one JSON object a line").argument_only();
const SERVICE: Setting = Setting::value(
    "service",
    "NAME",
    "Which gRPC service; by default the server as a whole",
)
.argument_only();
pub(super) const KEY: Setting = Setting::secret("key", "KEY", "The environment key");
const MIN_REVISION: Setting =
    Setting::value("min-revision", "NUMBER", "Wait until the server has this revision").argument_only();
const ALL: Setting = Setting::switch("all", "Evaluate every flag that the key may see").argument_only();
const EXPLAIN: Setting =
    Setting::switch("explain", "Print how the answer came about; for server keys only").argument_only();
const VERBOSE: Setting = Setting::switch("verbose", "Print heartbeats too").argument_only();
pub(super) const PROJECT: Setting = Setting::value("project", "KEY", "Whose flags");
pub(super) const ENVIRONMENT: Setting = Setting::value("environment", "KEY", "Where to turn them on or off");
pub(super) const TOKEN: Setting = Setting::secret("token", "TOKEN", "An access token");
pub(super) const EMAIL: Setting = Setting::value("email", "ADDRESS", "The account to log in with instead of a token");
pub(super) const PASSWORD: Setting = Setting::hidden("password", "the account's password");

/// The positional argument of `evaluate`.
pub(super) const FLAG: &str = "flag";
/// The positional arguments of `toggle`.
pub(super) const TOGGLES: &str = "toggles";

pub(super) const HEALTH: &[Setting] = &[SERVICE, JSON, ENDPOINT, TIMEOUT];
pub(super) const EVALUATE: &[Setting] = &[
    ALL,
    EXPLAIN,
    who::TARGETING_KEY_OPTION,
    who::ATTRIBUTE,
    who::CONTEXT,
    MIN_REVISION,
    JSON,
    KEY,
    ENDPOINT,
    TIMEOUT,
];
pub(super) const WATCH: &[Setting] = &[VERBOSE, JSON, KEY, ENDPOINT, TIMEOUT];
pub(super) const TOGGLE: &[Setting] = &[PROJECT, ENVIRONMENT, TOKEN, EMAIL, PASSWORD, JSON, ENDPOINT, TIMEOUT];

pub(super) fn health(reader: &mut Reader<'_>) -> Result<Health, Noted> {
    let server = server(reader);
    let service = reader.optional(SERVICE, |text| Ok(text.to_owned()));
    let output = output(reader);
    Ok(Health {
        server: server?,
        service: service?.unwrap_or_default(),
        output: output?,
    })
}

pub(super) fn evaluate(reader: &mut Reader<'_>) -> Result<Evaluate, Noted> {
    let server = server(reader);
    let key = environment_key(reader);
    let subject = subject(reader);
    let who = who::read(reader);
    let min_revision = reader.optional(MIN_REVISION, |text| {
        text.parse().map_err(|_| "is not a revision, a whole number".to_owned())
    });
    let output = output(reader);
    let (targeting_key, attributes) = who?;
    Ok(Evaluate {
        server: server?,
        key: key?,
        subject: subject?,
        targeting_key,
        attributes,
        min_revision: min_revision?.unwrap_or(0),
        output: output?,
    })
}

pub(super) fn watch(reader: &mut Reader<'_>) -> Result<Watch, Noted> {
    let server = server(reader);
    let key = environment_key(reader);
    let verbose = reader.switch(VERBOSE);
    let output = output(reader);
    let detail = if verbose? {
        WatchDetail::Heartbeats
    } else {
        WatchDetail::Changes
    };
    Ok(Watch {
        server: server?,
        key: key?,
        detail,
        output: output?,
    })
}

pub(super) fn toggle(reader: &mut Reader<'_>) -> Result<ToggleFlags, Noted> {
    let server = server(reader);
    let credential = credential(reader);
    let project = project(reader);
    let environment = environment(reader);
    let toggles = toggles(reader);
    let output = output(reader);
    Ok(ToggleFlags {
        server: server?,
        credential: credential?,
        project: project?,
        environment: environment?,
        toggles: toggles?,
        output: output?,
    })
}

pub(super) fn server(reader: &mut Reader<'_>) -> Result<Server, Noted> {
    server_beside(reader, None)
}

/// The server of a command that asks another one too, with the same certificates.
pub(super) fn server_beside(reader: &mut Reader<'_>, other: Option<Uri>) -> Result<Server, Noted> {
    let endpoint = reader.required(ENDPOINT, values::endpoint);
    let servers: Vec<Uri> = endpoint.iter().cloned().chain(other).collect();
    let tls = trust::read(reader, &servers);
    let bounds = Duration::from_millis(1)..=Duration::from_hours(1);
    let timeout = reader.required(TIMEOUT, values::duration(bounds));
    Ok(Server {
        endpoint: endpoint?,
        tls: tls?.map(Box::new),
        timeout: timeout?,
    })
}

pub(super) fn output(reader: &mut Reader<'_>) -> Result<Output, Noted> {
    Ok(if reader.switch(JSON)? {
        Output::Json
    } else {
        Output::Text
    })
}

pub(super) fn project(reader: &mut Reader<'_>) -> Result<key::Project, Noted> {
    reader.required(PROJECT, |text| key::Project::new(text).map_err(|v| first(&v)))
}

pub(super) fn environment(reader: &mut Reader<'_>) -> Result<key::Environment, Noted> {
    reader.required(ENVIRONMENT, |text| key::Environment::new(text).map_err(|v| first(&v)))
}

pub(super) fn environment_key(reader: &mut Reader<'_>) -> Result<Secret, Noted> {
    match bearer(reader, KEY)? {
        Some(key) => Ok(key),
        None => Err(reader.missing(KEY)),
    }
}

/// A secret that is sent as metadata, which holds printable ASCII only.
pub(super) fn bearer(reader: &mut Reader<'_>, setting: Setting) -> Result<Option<Secret>, Noted> {
    let Some(secret) = reader.secret(setting)? else {
        return Ok(None);
    };
    if secret.expose().bytes().all(|c| c.is_ascii_graphic()) {
        return Ok(Some(secret));
    }
    Err(reader.refuse(
        setting.argument(),
        "holds characters that no key or token has; copy it again",
    ))
}

pub(super) fn credential(reader: &mut Reader<'_>) -> Result<Credential, Noted> {
    let token = bearer(reader, TOKEN);
    let email = reader.optional(EMAIL, admin::email);
    match (token?, email?) {
        (Some(token), None) => Ok(Credential::Token(token)),
        (None, Some(email)) => Ok(Credential::Login {
            email,
            password: admin::password(reader, PASSWORD)?,
        }),
        (None, None) => Err(reader.refuse(
            TOKEN.argument(),
            "and --email are both missing: give a token (HALYARD_TOKEN, HALYARD_TOKEN_FILE) or log in with --email",
        )),
        (Some(_), Some(_)) => Err(reader.refuse(TOKEN.argument(), "and --email are both given; leave one out")),
    }
}

fn subject(reader: &mut Reader<'_>) -> Result<Subject, Noted> {
    let (all, explain) = (reader.switch(ALL)?, reader.switch(EXPLAIN)?);
    match (reader.all(FLAG).first(), all) {
        (Some(flag), false) if explain => read_flag(reader, flag).map(Subject::Explained),
        (Some(flag), false) => read_flag(reader, flag).map(Subject::Flag),
        (None, true) if explain => Err(reader.refuse("--explain", "explains one flag; name it instead of --all")),
        (None, true) => Ok(Subject::All),
        (Some(_), true) => Err(reader.refuse("<flag>", "and --all are both given; leave one out")),
        (None, false) => Err(reader.refuse("<flag>", "is missing; name a flag or give --all")),
    }
}

fn toggles(reader: &mut Reader<'_>) -> Result<Vec<Toggle>, Noted> {
    let words = reader.all(TOGGLES);
    if words.is_empty() || !words.len().is_multiple_of(2) || words.len() / 2 > limits::TOGGLES {
        let most = limits::TOGGLES;
        let description = format!("must be pairs of a flag and on or off, as in: new-checkout on; at most {most}");
        return Err(reader.refuse("<flag> <on|off>", description));
    }
    let mut seen = HashSet::new();
    let mut toggles = Vec::new();
    let mut outcome = Ok(());
    for pair in words.chunks_exact(2) {
        match toggle_of(reader, pair) {
            Ok(toggle) if !seen.insert(toggle.flag.clone()) => {
                outcome = Err(reader.refuse("<flag>", format!("is given twice: {}", toggle.flag)));
            }
            Ok(toggle) => toggles.push(toggle),
            Err(noted) => outcome = Err(noted),
        }
    }
    outcome.map(|()| toggles)
}

fn toggle_of(reader: &mut Reader<'_>, pair: &[String]) -> Result<Toggle, Noted> {
    let [flag, state] = pair else {
        return Err(reader.refuse("<flag> <on|off>", "must be pairs"));
    };
    let flag = read_flag(reader, flag);
    let enabled = match state.as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(reader.refuse("<on|off>", format!("is neither on nor off: {state:?}"))),
    };
    Ok(Toggle {
        flag: flag?,
        enabled: enabled?,
    })
}

pub(super) fn read_flag(reader: &mut Reader<'_>, text: &str) -> Result<key::Flag, Noted> {
    key::Flag::new(text).map_err(|violations| reader.refuse("<flag>", format!("{}: {text:?}", first(&violations))))
}

fn first(violations: &crate::domain::invalid::Violations) -> String {
    let first = violations.iter().next();
    first.map_or_else(|| "is not valid".to_owned(), |violation| violation.description.clone())
}
