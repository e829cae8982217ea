//! Logging: lines on standard error, text on a terminal and JSON otherwise. Standard output is for data.
//!
//! A message is for people, fields are for queries. Tokens, secrets, contexts and bodies are never logged, by libraries neither,
//! whatever the filter says. `docs/logs.md` holds every field, and a test keeps that list.
//!
//! A server never waits for who reads its log: see [`lines`]. Commands that somebody waits for write each line at once.

mod lines;

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::{Level, Metadata, Subscriber, error};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt as _, ParseError, filter_fn};
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{Log, LogFormat};
use lines::Lines;

/// How long an end waits for lines to be written. Whoever reads needs a moment, and whoever does not read must not keep the process.
const LAST: Duration = Duration::from_secs(1);
/// How long a panic waits for its line: it may be the last that happens, and it may be one request's that others wait behind.
const PANIC: Duration = Duration::from_millis(100);

/// The lines of this process, if a thread writes them.
static LINES: OnceLock<Arc<Lines>> = OnceLock::new();

/// Logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("the log filter cannot be read")]
    Filter(#[from] ParseError),
    /// Something in this process logs already.
    #[error("logging was begun twice")]
    Twice(#[from] TryInitError),
    /// There is no thread for it.
    #[error("the thread that writes the log cannot be started")]
    Thread(#[source] std::io::Error),
}

/// Who writes the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// Whoever logs, at once.
    AtOnce,
    /// A thread of its own: whoever logs does not wait, and lines that nobody takes are dropped and counted.
    Aside,
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Colored,
    Plain,
    Json,
}

/// Begins to log. Once per process; panics are logged from then on too.
pub fn init(log: &Log, writing: Writing) -> Result<(), Error> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let style = style(log.format, std::io::stderr().is_terminal(), no_color);
    match writing {
        Writing::AtOnce => subscriber(&log.filter, style, std::io::stderr)?.try_init()?,
        Writing::Aside => {
            let lines = Lines::start(std::io::stderr()).map_err(Error::Thread)?;
            subscriber(&log.filter, style, Arc::clone(&lines))?.try_init()?;
            // Nobody has set it: the subscriber is the first one too.
            let _ = LINES.set(lines);
        }
    }
    log_panics();
    Ok(())
}

/// Says something that is no line of the log, to people: why the process ends. It comes after every line before it.
pub fn say(words: &str) {
    match LINES.get() {
        Some(lines) => lines.push_last(words.as_bytes()),
        None => {
            // Nobody is left to tell that nobody listens.
            let _ = std::io::stderr().lock().write_all(words.as_bytes());
        }
    }
}

/// Waits until what was logged is written, but not for long: to be called when the process is about to end.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(LAST);
    }
}

/// Lines of this process that were dropped since it began.
pub fn dropped_lines() -> u64 {
    LINES.get().map_or(0, |lines| lines.dropped())
}

fn style(format: LogFormat, terminal: bool, no_color: bool) -> Style {
    match format {
        LogFormat::Json => Style::Json,
        LogFormat::Auto if !terminal => Style::Json,
        LogFormat::Auto | LogFormat::Text if terminal && !no_color => Style::Colored,
        LogFormat::Auto | LogFormat::Text => Style::Plain,
    }
}

fn subscriber<W>(filter: &str, style: Style, writer: W) -> Result<Box<dyn Subscriber + Send + Sync>, Error>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)?;
    let filter = filter.and(filter_fn(tells_nothing));
    let lines = layer().with_writer(writer);
    let lines = match style {
        Style::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        Style::Colored => lines.with_ansi(true).boxed(),
        Style::Plain => lines.with_ansi(false).boxed(),
    };
    Ok(Box::new(Registry::default().with(lines.with_filter(filter))))
}

/// Whether a library can be let say this. What these say below `info` holds what they were given: the parameters of statements,
/// password hashes among them, and metadata that callers put a credential into by mistake.
fn tells_nothing(metadata: &Metadata<'_>) -> bool {
    const TELLING: [&str; 2] = ["tokio_postgres", "tonic"];
    *metadata.level() <= Level::INFO || !TELLING.iter().any(|target| metadata.target().starts_with(target))
}

/// Panics are bugs: they belong in the log like every other failure, once, and in one line.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        let location = panic.location().map(ToString::to_string);
        let backtrace = std::backtrace::Backtrace::capture();
        error!(location, %backtrace, "panic: {message}");
        if let Some(lines) = LINES.get() {
            lines.flush(PANIC);
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing::{debug, info, info_span};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, style: Style) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(filter, style, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let _span = info_span!("task", task = "listener").entered();
            info!(revision = 7, "the environment has moved on");
            debug!("not for everyone");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_hold_the_fields() {
        let logged = logged("info", Style::Json);
        assert_eq!(logged.lines().count(), 1, "{logged}");
        let line: Value = serde_json::from_str(&logged).unwrap();
        assert_eq!(line["message"], "the environment has moved on");
        assert_eq!(line["revision"], 7);
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["span"], json!({ "name": "task", "task": "listener" }));
    }

    #[test]
    fn text_lines_are_colored_only_on_request() {
        let plain = logged("info", Style::Plain);
        assert!(plain.contains("the environment has moved on revision=7"), "{plain}");
        assert!(!plain.contains('\u{1b}'), "{plain}");
        assert!(logged("info", Style::Colored).contains('\u{1b}'));
    }

    #[test]
    fn the_filter_decides_what_is_logged() {
        assert_eq!(logged("off", Style::Plain), "");
        assert_eq!(logged("debug", Style::Plain).lines().count(), 2);
        assert!(subscriber("a=b=c", Style::Plain, std::io::sink).is_err());
    }

    #[test]
    fn libraries_do_not_tell_what_they_were_given_whatever_the_filter_says() {
        for filter in [
            "trace",
            "tokio_postgres=trace,tonic=trace",
            "tokio_postgres::query=debug",
        ] {
            let lines = Lines::default();
            let writer = lines.clone();
            let subscriber = subscriber(filter, Style::Plain, move || writer.clone()).unwrap();
            tracing::subscriber::with_default(subscriber, || {
                debug!(target: "tokio_postgres::query", "executing statement s1 with parameters: [secret]");
                tracing::trace!(target: "tonic::transport::service::grpc_timeout", "error parsing secret");
                info!(target: "tokio_postgres::query", "a notice");
            });
            let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            assert!(
                logged.contains("a notice") && !logged.contains("secret"),
                "{filter}: {logged}"
            );
        }
    }

    #[test]
    fn lines_look_as_their_reader_needs_them() {
        for (format, terminal, no_color, expected) in [
            (LogFormat::Auto, true, false, Style::Colored),
            (LogFormat::Auto, true, true, Style::Plain),
            (LogFormat::Auto, false, false, Style::Json),
            (LogFormat::Text, true, false, Style::Colored),
            (LogFormat::Text, false, false, Style::Plain),
            (LogFormat::Json, true, false, Style::Json),
        ] {
            assert_eq!(
                style(format, terminal, no_color),
                expected,
                "{format:?} {terminal} {no_color}"
            );
        }
    }
}
