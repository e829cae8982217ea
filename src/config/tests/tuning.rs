//! What nearly nobody sets: what is accepted, and that the documentation lists it all.

use std::collections::BTreeSet;

use super::*;
use crate::config::setting::Setting;
use crate::config::tuning::{COUNTS, DURATIONS, SERVE as OF_SERVERS, SIDECAR as OF_SIDECARS};

fn tuned(options: &str) -> Tuning {
    serve(&format!("{SERVE} {options}"), &[("HALYARD_SIGNING_KEY", KEY)])
        .service
        .tuning
}

fn wrong(options: &str, expected: &[&str]) {
    refused(&format!("{SERVE} {options}"), &[("HALYARD_SIGNING_KEY", KEY)], expected);
}

#[test]
fn durations_come_from_options_and_variables() {
    let tuning = tuned("--poll-interval 200ms --stream-stall 5s --keepalive-interval 7s");
    assert_eq!(tuning.following.poll_interval, Duration::from_millis(200));
    assert_eq!(tuning.streams.stall, Duration::from_secs(5));
    assert_eq!(tuning.keepalive.interval, Duration::from_secs(7));
    let variables = [("HALYARD_SIGNING_KEY", KEY), ("HALYARD_FEED_QUERY_TIMEOUT", "3s")];
    let query_timeout = serve(SERVE, &variables).service.tuning.following.query_timeout;
    assert_eq!(query_timeout, Duration::from_secs(3));
}

#[test]
fn what_does_not_fit_together_is_said_all_at_once() {
    wrong(
        "--probe-interval 2s --heartbeat 5m --poll-interval 2m",
        &[
            "--probe-timeout must be shorter than --probe-interval",
            "--heartbeat must lie between --heartbeat-least and --heartbeat-most",
            "--poll-interval must lie between 10ms and 1m",
        ],
    );
    wrong(
        "--poll-interval 50s --feed-load-timeout 1s --listener-reconnect-least 10s",
        &[
            "--poll-interval must not be longer than --scan-interval",
            "--feed-query-timeout must not be longer than --feed-load-timeout",
            "--listener-reconnect-least must not be longer than --listener-reconnect-most",
        ],
    );
    wrong(
        "--event-window-days 8 --event-retention-days 7 --event-queue-bytes 0",
        &[
            "--event-retention-days must not be less than --event-window-days",
            "--event-queue-bytes is not a whole number",
        ],
    );
    wrong(
        "--event-window-days 31",
        &["--event-window-days is not a whole number between 1 and 30"],
    );
    wrong("--resume-revisions 0", &["--resume-revisions is not a whole number"]);
}

/// Clients count on it: a sidecar asks for a heartbeat every second, and gives up the server that does not send three.
#[test]
fn a_heartbeat_every_second_can_always_be_had() {
    wrong(
        "--heartbeat-least 2s",
        &["--heartbeat-least must lie between 10ms and 1s"],
    );
}

#[test]
fn the_short_help_is_without_what_nearly_nobody_sets() {
    let [short, long] = ["serve -h", "serve --help"].map(|line| read(line, &[]).unwrap_err().to_string());
    assert!(short.contains("--heartbeat ") && !short.contains("--probe-interval") && !short.contains("Fine tuning"));
    assert!(
        long.contains("Fine tuning:") && long.contains("--probe-interval") && !long.contains("--upstream-heartbeat")
    );
}

/// One row of the table: the option, its default, its bounds, and what it is.
fn row(setting: &Setting) -> String {
    let bounds = DURATIONS
        .iter()
        .find(|bounded| bounded.setting.name == setting.name)
        .map(|bounded| format!("{} to {}", values::plain(bounded.least), values::plain(bounded.most)));
    let counts = || {
        let counted = COUNTS
            .iter()
            .find(|counted| counted.setting.name == setting.name)
            .unwrap();
        format!("1 to {}", counted.most)
    };
    format!(
        "| `--{}` | {} | {} | {} |",
        setting.name,
        setting.default.unwrap(),
        bounds.unwrap_or_else(counts),
        setting.help()
    )
}

/// The table under a heading.
fn table(document: &str, heading: &str) -> Vec<String> {
    let (_, section) = document.split_once(&format!("\n## {heading}\n")).expect(heading);
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `--"));
    rows.map(str::to_owned).collect()
}

#[test]
fn the_documented_options_are_these() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tuning.md");
    let document = fs::read_to_string(path).unwrap();
    for (heading, settings) in [("Servers", OF_SERVERS), ("Sidecars", OF_SIDECARS)] {
        let rows: Vec<_> = settings.iter().map(row).collect();
        let documented = table(&document, heading);
        assert!(
            rows == documented,
            "under {heading} there should be\n{}",
            rows.join("\n")
        );
    }
    // Whatever is declared belongs to one of them.
    let names: BTreeSet<_> = OF_SERVERS
        .iter()
        .chain(OF_SIDECARS)
        .map(|setting| setting.name)
        .collect();
    assert!(DURATIONS.iter().all(|bounded| names.contains(bounded.setting.name)));
}
