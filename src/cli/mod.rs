//! The commands that ask a server something. Data goes to standard output, for people or as one JSON object a line; everything
//! else goes to standard error.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done; also when the reader of the output went away |
//! | 1 | anything else |
//! | 64 | the arguments, variables or files are wrong |
//! | 69 | the server cannot be reached, does not answer in time, or is not ready |
//! | 77 | the credential is not accepted, or not sufficient |

pub mod audit;
mod bench;
mod call;
pub mod create_admin;
mod database;
pub mod dev;
mod error;
mod evaluate;
mod explanation;
mod health;
mod http;
mod identify;
mod json;
pub mod migrate;
pub mod prompt;
pub mod serve;
pub mod sidecar;
mod toggle;
mod tuning;
mod watch;

use std::io::Write;
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::config::{Client, USAGE};
pub use error::Error;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Something that has no code of its own.
    Failed,
    /// The arguments, variables or files are wrong.
    Usage,
    /// The server cannot be reached, does not answer in time, or is not ready.
    Unavailable,
    /// The credential is not accepted, or not sufficient.
    Denied,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // Unavailable and Denied are EX_UNAVAILABLE and EX_NOPERM of sysexits.h.
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => USAGE,
            Exit::Unavailable => 69,
            Exit::Denied => 77,
        })
    }
}

/// Runs a command until it is done or asked to stop, and says what went wrong.
pub async fn run(client: Client, stop: &CancellationToken) -> Exit {
    let mut out = std::io::stdout();
    let outcome = match client {
        // It ends in good order by itself.
        Client::Watch(watch) => watch::run(watch, stop, &mut out).await,
        Client::Health(health) => unless_stopped(stop, health::run(health, &mut out)).await,
        Client::Evaluate(evaluate) => unless_stopped(stop, evaluate::run(evaluate, &mut out)).await,
        Client::Toggle(toggle) => unless_stopped(stop, toggle::run(toggle, &mut out)).await,
        // It ends with what it has measured.
        Client::Bench(bench) => bench::run(*bench, stop, &mut out).await,
    };
    let Err(error) = outcome else {
        return Exit::Done;
    };
    let exit = error.exit();
    if exit != Exit::Done {
        say(&format!("halyard: {error}"));
    }
    exit
}

async fn unless_stopped<T>(
    stop: &CancellationToken,
    command: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Error::Interrupted),
        outcome = command => outcome,
    }
}

/// Tells the person at the terminal; not data.
fn say(message: &str) {
    // Nobody is left to tell that nobody listens.
    let _ = writeln!(std::io::stderr().lock(), "{message}");
}

/// Prints data.
pub fn print(text: &str) -> std::io::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever read the output has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Tells why something failed, with everything that led to it.
fn complain(error: &(dyn std::error::Error + 'static)) {
    say(complaint(error).trim_end());
}

/// Why a command failed, with everything that led to it.
pub fn complaint(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("halyard: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str("\n  because ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.push('\n');
    text
}
