//! `halyard serve`: what it refuses to start with, and `halyard health` beside it.

use rustix::process::Signal;
use std::net::SocketAddr;
use tokio::io::AsyncReadExt as _;

use crate::support::cluster::database;
use crate::support::plain::http1;
use crate::support::program::{Program, halyard, run_halyard};
use crate::support::{Scrape, eventually, within};

const SIGNING_KEY: (&str, &str) = ("HALYARD_SIGNING_KEY", "a signing key for tests, 32 bytes or more");

/// Refused as a configuration, in words that hold all of these.
fn refused(arguments: &[&str], variables: &[(&str, &str)], words: &[&str]) {
    let said = run_halyard(arguments, variables).refused(64);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn no_database_is_refused_and_both_choices_are_named() {
    refused(
        &["serve"],
        &[SIGNING_KEY],
        &["--database-url", "DATABASE_URL", "--embedded"],
    );
}

#[test]
fn a_missing_signing_key_is_refused() {
    refused(
        &["serve", "--embedded"],
        &[],
        &["HALYARD_SIGNING_KEY", "HALYARD_SIGNING_KEY_FILE"],
    );
}

#[test]
fn a_short_signing_key_is_refused() {
    let words = ["--signing-key is too short", "at least 32"];
    refused(&["serve", "--embedded"], &[("HALYARD_SIGNING_KEY", "short")], &words);
}

#[test]
fn all_bad_values_are_told_at_once() {
    let arguments = ["serve", "--listen", "here", "--worker-threads", "0", "--heartbeat", "4"];
    let variables = [
        ("DATABASE_URL", "mysql://root:hunter2@db"),
        ("HALYARD_SIGNING_KEY", "short"),
    ];
    let words = [
        "--listen",
        "--worker-threads",
        "--heartbeat",
        "--database-url",
        "--signing-key",
    ];
    refused(&arguments, &variables, &words);
    let said = run_halyard(&arguments, &variables).stderr;
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn an_unreachable_database_is_named_without_its_password() {
    let url = "postgres://ada:hunter2@127.0.0.1:1/flags";
    let said = run_halyard(
        &["serve", "--listen", "127.0.0.1:0"],
        &[SIGNING_KEY, ("DATABASE_URL", url)],
    )
    .refused(1);
    for words in ["PostgreSQL at 127.0.0.1:1, database flags, user ada", "refused"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn misspelt_variables_are_warned_of_and_refuse_nothing() {
    let variables = [
        SIGNING_KEY,
        ("DATABASE_URL", "postgres://ada@127.0.0.1:1/flags"),
        ("HALYARD_MAX_CONECTIONS", "a secret value"),
        ("HALYARD_COLOUR_OF_THE_DOOR", "blue"),
        // What Kubernetes says of a Service, and what another command reads.
        ("HALYARD_SERVICE_HOST", "10.0.0.1"),
        ("HALYARD_SERVICE_PORT_GRPC", "50051"),
        ("HALYARD_PORT", "tcp://10.0.0.1:50051"),
        ("HALYARD_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("HALYARD_UPSTREAM", "http://127.0.0.1:1"),
    ];
    let said = run_halyard(&["serve", "--listen", "127.0.0.1:0"], &variables).refused(1);
    let lines: Vec<serde_json::Value> = said
        .lines()
        .map_while(|line| serde_json::from_str(line).ok())
        .filter(|line: &serde_json::Value| line["variable"].is_string())
        .collect();
    let [door, limit] = &lines[..] else {
        panic!("{said}");
    };
    assert_eq!(limit["variable"], "HALYARD_MAX_CONECTIONS");
    assert_eq!(limit["nearest"], "HALYARD_MAX_CONNECTIONS");
    assert_eq!(limit["level"], "WARN");
    assert_eq!(door["variable"], "HALYARD_COLOUR_OF_THE_DOOR");
    assert_eq!(door.get("nearest"), None, "{door}");
    assert!(!said.contains("secret value"), "{said}");
    // Why it ends comes last, and not as a line of the log.
    let (log, end) = said.split_once("\nhalyard: ").unwrap();
    assert!(log.starts_with('{') && end.contains("127.0.0.1:1"), "{said}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let database = database().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let variables = [SIGNING_KEY, ("DATABASE_URL", database.url.as_str())];
    let said = run_halyard(&["serve", "--listen", &address], &variables).refused(1);
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}

#[tokio::test]
async fn metrics_are_served_where_they_are_asked_for_and_nowhere_else() {
    let database = database().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let variables = [SIGNING_KEY, ("DATABASE_URL", database.url.as_str())];
    let (port, taken_address) = (free_address(), address.to_string());
    let arguments = [
        "serve",
        "--drain-window",
        "0s",
        "--listen",
        &port,
        "--metrics-listen",
        &taken_address,
    ];
    let said = run_halyard(&arguments, &variables).refused(1);
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
    drop(taken);

    let mut command = halyard();
    command.args(arguments).envs(variables);
    let mut server = Program::start(command);
    eventually("readiness", async || {
        tokio::net::TcpStream::connect(address).await.ok()?;
        (Scrape::of(address).await.count("halyard_ready") == 1).then_some(())
    })
    .await;
    server.signal(Signal::TERM);
    let (status, log) = server.ends();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn who_has_no_room_for_connections_is_alive_and_ready_where_metrics_are() {
    let database = database().await;
    let (port, metrics) = (free_address(), free_address());
    let mut command = halyard();
    command
        .args(["serve", "--drain-window", "0s", "--shutdown-grace", "1s"])
        .args(["--listen", &port, "--metrics-listen", &metrics])
        .args(["--max-connections", "30", "--opening-timeout", "10m"])
        .envs([SIGNING_KEY, ("DATABASE_URL", database.url.as_str())]);
    let mut server = Program::start(command);
    let (port, metrics): (SocketAddr, SocketAddr) = (port.parse().unwrap(), metrics.parse().unwrap());
    eventually("readiness", async || {
        let scrape = Scrape::attempt(metrics).await?;
        (scrape.count("halyard_ready") == 1).then_some(())
    })
    .await;

    let mut idle = Vec::new();
    for _ in 0..30 {
        idle.push(tokio::net::TcpStream::connect(port).await.unwrap());
    }
    let mut refused = tokio::net::TcpStream::connect(port).await.unwrap();
    // It is closed at once, and so is a probe's.
    let mut nothing = Vec::new();
    let end = refused.read_to_end(&mut nothing);
    assert_eq!(within("the end of what is too much", end).await.unwrap_or(0), 0);
    for (path, said) in [("/healthz", "alive\n"), ("/readyz", "ready\n")] {
        let answer = http1(metrics, &format!("GET {path}"), "", b"").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, said));
    }
    let scrape = Scrape::of(metrics).await;
    assert_eq!(scrape.count("halyard_connections_open"), 30);
    assert!(scrape.count("halyard_connections_refused_total") >= 1);
    drop(idle);
    server.signal(Signal::TERM);
    let (status, log) = server.ends();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn health_tells_by_its_exit_code() {
    let database = database().await;
    let address = free_address();
    let endpoint = format!("http://{address}");
    let mut command = halyard();
    command.args(["serve", "--drain-window", "0s", "--listen", &address]);
    command.envs([SIGNING_KEY, ("DATABASE_URL", &database.url)]);
    let mut server = Program::start(command);
    let health = || run_halyard(&["health", "--endpoint", &endpoint], &[]);
    eventually("SERVING", async || (health().code == Some(0)).then_some(())).await;
    assert_eq!(health().done(), "SERVING\n");

    server.signal(Signal::TERM);
    let (status, log) = server.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    let said = health().refused(69);
    assert!(said.contains(&endpoint) && said.contains("HALYARD_ENDPOINT"), "{said}");
}

/// An address that nobody listens on.
pub fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
