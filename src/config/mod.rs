//! Typed configuration: from arguments, environment variables and files of secrets, with all errors at once.
//!
//! Every [`Setting`] is declared once. From that come the argument `--<option>`, the variable
//! `HALYARD_<OPTION>`, for secrets `--<option>-file` and `HALYARD_<OPTION>_FILE`, and the help. An argument beats a variable; a
//! variable that is empty counts as unset.
//!
//! clap stops at the first value that it cannot read, and reads the process's own environment. So it only splits the arguments
//! here; the values are read by [`Reader`], which notes every problem, and from an environment that is an
//! argument.
//!
//! Kubernetes puts `HALYARD_PORT` and `HALYARD_SERVICE_HOST` into pods beside a Service named halyard: no option may be called
//! that.

mod admin;
mod audit;
mod bench;
mod client;
mod connections;
mod database;
mod environment;
mod events;
mod history;
mod http;
mod openid;
mod postgres;
mod print;
mod reader;
mod requests;
mod secret;
mod service;
mod setting;
mod sidecar;
mod signing;
mod stopping;
mod streams;
mod subcommand;
mod traces;
mod trust;
mod tuning;
mod unknown;
mod values;
mod who;

use std::ffi::OsString;
use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

pub use admin::{CreateAdmin, Migrate, Password};
pub use audit::{Audit, Chain, Chains};
pub use bench::{Bench, Compare, EvaluateLoad, Load, Pace, WatchLoad, Window, WriteLoad};
pub use client::{
    Client, Credential, Evaluate, Health, Output, Server, Subject, Toggle, ToggleFlags, Watch, WatchDetail,
};
pub use connections::Connections;
pub use database::{Database, Embedded};
pub use environment::Environment;
pub use events::Events;
pub use history::History;
pub use http::{Http, HttpLimits, Origins};
pub use postgres::Migrations;
pub use requests::Requests;
pub use secret::Secret;
pub use service::{Dev, Serve, Service};
pub use sidecar::{Listen, Sidecar};
pub use stopping::Shutdown;
pub use streams::Streams;
pub use traces::Traces;
pub use tuning::{EventTuning, Following, Keepalive, SidecarTuning, StreamTuning, Tuning, UpstreamTiming};
pub use unknown::Unknown;

use clap::error::ErrorKind;

use crate::domain::invalid::Violations;
use reader::{Noted, Reader};
use setting::Setting;
use subcommand::Subcommand;

/// The exit code for a configuration that is refused: EX_USAGE of sysexits.h.
pub const USAGE: u8 = 64;

/// What to do, and how to log meanwhile.
#[derive(Debug)]
pub struct Configuration {
    /// How to log.
    pub log: Log,
    /// What to do.
    pub command: Command,
    /// Variables that nothing reads, and that somebody may believe in.
    pub unknown: Vec<Unknown>,
}

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Serve, in production.
    Serve(Box<Serve>),
    /// Serve on a developer's machine, with everything that takes.
    Dev(Box<Dev>),
    /// Serve what another server holds.
    Sidecar(Box<Sidecar>),
    /// Bring the database's schema up to date.
    Migrate(Migrate),
    /// Create the first administrator.
    CreateAdmin(CreateAdmin),
    /// Prove the audit log, or hand it out.
    Audit(Audit),
    /// Ask a server something.
    Client(Client),
    /// Print this: what it is configured with.
    Print(String),
}

impl Command {
    /// Whether it serves others, until it is stopped.
    pub fn is_server(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Dev(_) | Self::Sidecar(_))
    }
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// What to log, as tracing's filters are written (`info,halyard::watch=debug`). It can be read.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// There is no configuration: help was asked for, or something is wrong.
#[derive(Debug)]
pub enum Refusal {
    /// What clap says: help, the version, or arguments that do not fit together.
    Arguments(Box<clap::Error>),
    /// Everything wrong with the values, under the names by which they were given.
    Values(Violations),
}

const LOG: Setting =
    Setting::value("log", "FILTER", "What to log, such as info,halyard::watch=debug").default("warn,halyard=info");
const LOG_FORMAT: Setting = Setting::value(
    "log-format",
    "FORMAT",
    "How log lines look: text, json, or auto for text on a terminal and JSON otherwise",
)
.default("auto");

/// Reads the configuration. `arguments` begin with the program's name.
pub fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    environment: &Environment,
) -> Result<Configuration, Refusal> {
    let mut line = subcommand::command_line();
    let matches = line
        .try_get_matches_from_mut(arguments)
        .map_err(|error| Refusal::Arguments(Box::new(error)))?;
    let Some((subcommand, matches)) = Subcommand::of(&matches) else {
        let error = line.error(ErrorKind::MissingSubcommand, "a command is missing; see halyard --help");
        return Err(Refusal::Arguments(Box::new(error)));
    };
    let mut reader = Reader::new(matches, environment);
    let log = read_log(&mut reader, subcommand.log);
    let command = (subcommand.read)(&mut reader);
    let command = match (reader.switch(print::PRINT), command) {
        (Ok(true), Ok(_)) => Ok(Command::Print(print::text(&mut reader, subcommand.settings()))),
        (_, command) => command,
    };
    let problems = reader.finish();
    match (log, command) {
        (Ok(log), Ok(command)) if problems.is_empty() => Ok(Configuration {
            log,
            command,
            unknown: unknown::of(environment),
        }),
        _ => Err(Refusal::Values(problems)),
    }
}

fn read_log(reader: &mut Reader<'_>, filter: Setting) -> Result<Log, Noted> {
    let filter = reader.required(filter, values::log_filter);
    let format = reader.required(LOG_FORMAT, |text| match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is none of auto, text and json".to_owned()),
    });
    Ok(Log {
        filter: filter?,
        format: format?,
    })
}

impl Refusal {
    /// Tells it: help on standard output, everything else on standard error. Gives the exit code.
    pub fn report(&self) -> ExitCode {
        // Where the reader of our output has gone there is nobody left to tell.
        let _ = match self {
            Self::Arguments(error) => error.print(),
            Self::Values(_) => write!(std::io::stderr().lock(), "{self}"),
        };
        self.code().into()
    }

    /// The exit code: 0 for help, [`USAGE`] for everything else.
    pub fn code(&self) -> u8 {
        match self {
            Self::Arguments(error) if !error.use_stderr() => 0,
            Self::Arguments(_) | Self::Values(_) => USAGE,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let violations = match self {
            Self::Arguments(error) => return error.fmt(f),
            Self::Values(violations) => violations,
        };
        writeln!(f, "halyard: these arguments, variables or files are wrong:")?;
        for violation in violations.iter() {
            writeln!(f, "  {} {}", violation.field, violation.description)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests;
