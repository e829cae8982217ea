//! `halyard dev`, from its first start to its end.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::cluster::Folder;
use crate::support::program::{Program, dev, nobody_below, processes_below, run, with_dev_settings};

const EVALUATE: &str = "halyard evaluate new-checkout --targeting-key alice";
const WATCH: &str = "halyard watch";
const TOGGLE: &str = "halyard toggle new-checkout off";

/// What a command prints, run by a shell that has read dev.env.
fn shell(data: &Path, line: &str) -> String {
    run(with_dev_settings(data, line)).done()
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is not JSON: {error}"))
}

#[test]
fn the_commands_that_it_prints_work_as_printed() {
    let folder = Folder::new();
    // A space, since folders have them.
    let data = folder.path.join("its data");
    let mut command = crate::support::program::halyard();
    command
        .args(["dev", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data);
    let mut server = Program::start(command);
    let settings = server.says("dev.env");
    assert_eq!(settings.trim(), format!(". '{}/dev.env'", data.display()));
    for line in [EVALUATE, WATCH, TOGGLE] {
        assert_eq!(server.says("  halyard ").trim(), line);
    }

    let answer = shell(&data, EVALUATE);
    assert!(answer.starts_with("new-checkout = "), "{answer}");
    let mut watch = Program::start(with_dev_settings(&data, format!("exec {WATCH}")));
    watch.says("snapshot of revision");
    assert!(shell(&data, TOGGLE).contains("new-checkout: off in dev"));
    assert!(watch.says("new-checkout: on → off").contains("revision "));
    let answer = shell(&data, EVALUATE);
    assert!(
        answer.starts_with("new-checkout = false  (variant off, DISABLED"),
        "{answer}"
    );
    watch.signal(Signal::INT);
    assert_eq!(watch.ends().0.code(), Some(0));
}

#[test]
fn every_command_speaks_json_on_request() {
    let folder = Folder::new();
    let data = folder.path.join("data");
    let _server = dev(&data);
    let mut watch = Program::start(with_dev_settings(&data, "exec halyard watch --json"));
    json(&watch.says("\"revision\""));

    let toggled = json(&shell(&data, "halyard toggle new-checkout off --json"));
    assert_eq!(
        (&toggled["flag"], &toggled["enabled"]),
        (&json!("new-checkout"), &json!(false))
    );
    let revision = toggled["revision"].as_u64().unwrap();
    json(&watch.says(&format!("\"revision\":{revision}")));
    let line = format!("halyard evaluate new-checkout --min-revision {revision} --json");
    let answer = json(&shell(&data, &line));
    assert_eq!(
        (&answer["value"], &answer["reason"]),
        (&json!(false), &json!("DISABLED"))
    );
    assert_eq!(
        shell(&data, "halyard evaluate --all --json").lines().map(json).count(),
        5
    );
    assert_eq!(json(&shell(&data, "halyard health --json"))["status"], "SERVING");
}

#[test]
fn a_restart_keeps_data_and_keys_and_signals_end_it_in_good_order() {
    let folder = Folder::new();
    let data = folder.path.join("data");
    let kept = |data: &Path| {
        let settings = fs::read_to_string(data.join("dev.env")).unwrap();
        let same = settings.lines().filter(|line| !line.contains("HALYARD_ENDPOINT"));
        same.map(str::to_owned).collect::<Vec<_>>()
    };

    let mut cold = dev(&data);
    shell(&data, TOGGLE);
    let first = kept(&data);
    cold.signal(Signal::TERM);
    let (status, log) = cold.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(processes_below(&data), [0; 0]);
    // On a machine that does other things too PostgreSQL may be slow to answer, and that is said; that it is away would be odd.
    let slow = "the database did not answer in time";
    let odd = |line: &&str| line.contains("ERROR") || (line.contains("WARN") && !line.contains(slow));
    assert_eq!(log.lines().find(odd), None, "{log}");
    // The demo project is made quietly.
    assert!(!log.contains("CreateFlag"), "{log}");

    let mut warm = dev(&data);
    assert_eq!(kept(&data), first);
    let answer = shell(&data, EVALUATE);
    assert!(answer.contains("DISABLED"), "{answer}");
    warm.signal(Signal::INT);
    let (status, log) = warm.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(processes_below(&data), [0; 0]);
}

#[test]
fn a_kill_leaves_no_postgres_behind() {
    let folder = Folder::new();
    let data = folder.path.join("data");
    let mut server = dev(&data);
    assert_ne!(processes_below(&data), [0; 0]);
    server.signal(Signal::KILL);
    assert_eq!(server.ends().0.code(), None);
    nobody_below(&data);

    let _again = dev(&data);
    assert!(shell(&data, EVALUATE).starts_with("new-checkout = "));
}
