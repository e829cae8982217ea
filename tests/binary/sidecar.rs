//! `halyard sidecar` beside `halyard dev`: what it answers, when its server is killed, and when it starts again without one.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::serve::free_address;
use crate::support::cluster::Folder;
use crate::support::eventually;
use crate::support::program::{Ended, Program, dev, halyard, nobody_below, run, run_halyard, with_dev_settings};

/// A setting that `halyard dev` left.
fn setting(data: &Path, name: &str) -> String {
    run(with_dev_settings(data, format!("printf %s \"${name}\""))).done()
}

fn sidecar(address: &str, upstream: &str, key_file: &Path, state_file: &Path) -> Command {
    let mut command = halyard();
    command.args([
        "sidecar",
        "--drain-window",
        "0s",
        "--listen",
        address,
        "--upstream",
        upstream,
    ]);
    command
        .arg("--key-file")
        .arg(key_file)
        .arg("--state-file")
        .arg(state_file);
    command
}

fn evaluate(address: &str, key: &str) -> Ended {
    let endpoint = format!("http://{address}");
    let arguments = [
        "evaluate",
        "new-checkout",
        "--targeting-key",
        "alice",
        "--json",
        "--endpoint",
        &endpoint,
    ];
    run_halyard(&arguments, &[("HALYARD_KEY", key)])
}

fn variant(address: &str, key: &str) -> Option<String> {
    let answer = evaluate(address, key);
    let json: serde_json::Value = serde_json::from_str(&answer.stdout).ok()?;
    Some(json["variant"].as_str()?.to_owned())
}

#[tokio::test]
async fn a_sidecar_outlives_its_server_and_its_own_restart() {
    let folder = Folder::new();
    let (data, state, keys) = (
        folder.path.join("data"),
        folder.path.join("state"),
        folder.path.join("key"),
    );
    let server = dev(&data);
    let (upstream, key) = (setting(&data, "HALYARD_ENDPOINT"), setting(&data, "HALYARD_KEY"));
    fs::write(&keys, format!("{key}\n")).unwrap();
    let address = free_address();
    let mut side = Program::start(sidecar(&address, &upstream, &keys, &state));
    let asked = upstream.strip_prefix("http://").unwrap();
    let before = eventually("an answer", async || variant(&address, &key)).await;
    assert_eq!(variant(asked, &key).as_deref(), Some(&*before));

    run(with_dev_settings(&data, "halyard toggle new-checkout off")).done();
    eventually("the change", async || (variant(&address, &key)? == "off").then_some(())).await;
    // Killed, not asked: its PostgreSQL goes with it.
    drop(server);
    nobody_below(&data);
    assert_eq!(variant(&address, &key).as_deref(), Some("off"));
    side.signal(Signal::TERM);
    let (status, log) = side.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("the upstream answers"), "{log}");

    let mut side = Program::start(sidecar(&address, &upstream, &keys, &state));
    eventually("an answer from disk", async || {
        (variant(&address, &key)? == "off").then_some(())
    })
    .await;
    let health = ["health", "--endpoint", &format!("http://{address}")];
    eventually("health", async || {
        (run_halyard(&health, &[]).code == Some(0)).then_some(())
    })
    .await;
    side.signal(Signal::TERM);
    let (status, log) = side.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("answering from the state on disk"), "{log}");
    assert!(!log.contains(&key), "the key is in the log");
}

#[test]
fn everything_wrong_with_its_configuration_is_told_at_once() {
    let folder = Folder::new();
    let keys = folder.path.join("keys");
    fs::write(&keys, "# ours\nhalyard_client_x\n\nno key\n").unwrap();
    let file = keys.display().to_string();
    let arguments = [
        "sidecar",
        "--upstream",
        "flags:443",
        "--anonymous",
        "client",
        "--socket-mode",
        "rw",
        "--listen",
        "0.0.0.0:1",
        "--max-staleness",
        "5m,x",
        "--client-key-file",
        &file,
    ];
    let said = run_halyard(&arguments, &[("HALYARD_KEY", "halyard_server_hunter2")]).refused(64);
    for words in [
        "--upstream is not an address",
        "--key is not an environment key",
        "--anonymous is for unix sockets only",
        "--socket-mode is not a file's permissions in octal",
        "--max-staleness is not a duration",
        "--client-key-file holds no environment key in line 2, 4",
    ] {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
    let said = run_halyard(&["sidecar"], &[]).refused(64);
    for words in [
        "--upstream is missing (or HALYARD_UPSTREAM)",
        "--key is missing (or HALYARD_KEY, HALYARD_KEY_FILE)",
    ] {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
}

#[test]
fn a_state_file_that_cannot_be_is_named() {
    let folder = Folder::new();
    let (file, key) = (
        folder.path.join("file"),
        halyard::auth::keys::generate(halyard::domain::access::KeyKind::Server),
    );
    fs::write(&file, "").unwrap();
    let key = secrecy::ExposeSecret::expose_secret(&key.unwrap().secret).to_owned();
    let state = file.join("state").display().to_string();
    let arguments = [
        "sidecar",
        "--upstream",
        "http://127.0.0.1:1",
        "--listen",
        "127.0.0.1:0",
        "--state-file",
        &state,
    ];
    let said = run_halyard(&arguments, &[("HALYARD_KEY", &key)]).refused(1);
    assert!(
        said.contains(&format!("the state file {state} cannot be used")),
        "{said}"
    );
}
