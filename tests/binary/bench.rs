//! `halyard bench` against a real server: every kind of load, what it prints, how it ends, and that flags are as they were.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::pb::admin::v1::service_token_service_client::ServiceTokenServiceClient;
use halyard::pb::admin::v1::{CreateServiceTokenRequest, LoginRequest, ProjectRole};
use rustix::process::Signal;
use serde_json::{Value, json};
use tonic::transport::Endpoint;

use crate::storm::{bearer, setting};
use crate::support::cluster::Folder;
use crate::support::program::{Ended, Program, dev, run, run_halyard, with_dev_settings};
use crate::support::relay::{Relay, Way};

/// A server with the demo project, and where it is.
struct Served {
    folder: Folder,
    program: Program,
}

impl Served {
    fn new() -> Self {
        let folder = Folder::new();
        let program = dev(&folder.path.join("data"));
        Self { folder, program }
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path.join("data")
    }

    fn run(&self, line: &str) -> Ended {
        run(with_dev_settings(&self.data(), line))
    }

    /// The result of a run that is good enough.
    fn result(&self, line: &str) -> Value {
        json(&self.run(&format!("halyard bench {line} --json")).done())
    }

    /// A program that goes on beside the test.
    fn start(&self, line: &str) -> Program {
        Program::start(with_dev_settings(&self.data(), format!("exec halyard {line}")))
    }

    fn setting(&self, name: &str) -> String {
        setting(&self.data(), name)
    }

    /// A token of somebody who may look, and change nothing.
    async fn viewer(&self) -> String {
        let endpoint = Endpoint::from_shared(self.setting("HALYARD_ENDPOINT")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let login = LoginRequest {
            email: self.setting("HALYARD_EMAIL"),
            password: self.setting("HALYARD_PASSWORD"),
            access_only: true,
        };
        let login = AuthServiceClient::new(channel.clone()).login(login).await.unwrap();
        let create = CreateServiceTokenRequest {
            project: self.setting("HALYARD_PROJECT"),
            role: ProjectRole::Viewer.into(),
            ..Default::default()
        };
        let create = bearer(create, &login.into_inner().access_token);
        let created = ServiceTokenServiceClient::new(channel)
            .create_service_token(create)
            .await;
        created.unwrap().into_inner().secret
    }

    /// Whether the flag is on.
    fn is_on(&self) -> bool {
        let answer = json(&self.run("halyard evaluate new-checkout --json").done());
        answer["reason"] != "DISABLED"
    }

    fn address(&self) -> SocketAddr {
        let url = self.setting("HALYARD_ENDPOINT");
        url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap()
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text:?} is not JSON: {error}"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a count"))
}

/// What is told of some durations, in order.
fn is_spread(spread: &Value) {
    let at = |name: &str| spread[name].as_f64().unwrap_or_else(|| panic!("no {name} in {spread}"));
    let names = ["min", "p50", "p90", "p95", "p99", "p999", "max"];
    assert!(names.windows(2).all(|pair| at(pair[0]) <= at(pair[1])), "{spread}");
    assert!(at("min") <= at("mean") && at("mean") <= at("max"), "{spread}");
}

#[test]
fn evaluations_are_sent_when_they_are_due_or_so_many_at_a_time() {
    let served = Served::new();
    let result = served.result("evaluate new-checkout --rate 200 --duration 500ms --warm-up 100ms --units 10");
    assert_eq!(
        (&result["command"], &result["interrupted"]),
        (&json!("evaluate"), &json!(false))
    );
    assert_eq!(
        (&result["good_enough"], &result["shortfalls"]),
        (&json!(true), &json!([]))
    );
    let evaluate = &result["evaluate"];
    assert_eq!(
        (&evaluate["loop"], &evaluate["latency_from"]),
        (&json!("open"), &json!("due"))
    );
    // Not one more or fewer than were due in half a second.
    assert_eq!((number(&evaluate["due"]), number(&evaluate["answered"])), (100, 100));
    assert_eq!(evaluate["answers"], json!({ "SPLIT": 100 }));
    is_spread(&evaluate["latency_ms"]);
    is_spread(&evaluate["send_delay_ms"]);
    for absent in ["write", "watch", "comparison", "flags_restored"] {
        assert_eq!(result[absent], Value::Null, "{absent}");
    }

    let result = served.result("evaluate --all --concurrency 3 --duration 300ms --warm-up 0s --attribute country=DE");
    let evaluate = &result["evaluate"];
    assert_eq!(
        (&evaluate["loop"], &evaluate["latency_from"]),
        (&json!("closed"), &json!("sent"))
    );
    assert_eq!(
        evaluate["answers"],
        json!({ "NO_ERROR": number(&evaluate["answered"]) })
    );

    let told = served
        .run("halyard bench evaluate new-checkout --duration 100ms --warm-up 0s")
        .done();
    assert!(told.contains("10 answered (100.0/s), 0 failed, 0 missed"), "{told}");
    assert!(told.contains("p99.9"), "{told}");
}

#[test]
fn changes_reach_every_stream_and_are_taken_back() {
    let served = Served::new();
    assert!(served.is_on());
    let line = "watch --streams 6 --connections 2 --heartbeat 1s --duration 2s --warm-up 200ms --write-flag new-checkout \
                --write-rate 5";
    let result = served.result(line);
    assert_eq!(result["flags_restored"], true);
    assert!(served.is_on());
    let (write, watch) = (&result["write"], &result["watch"]);
    assert_eq!((number(&write["due"]), number(&write["answered"])), (10, 10));
    assert_eq!(
        (
            number(&watch["streams"]),
            number(&watch["ready"]),
            number(&watch["connections"])
        ),
        (6, 6, 2)
    );
    assert_eq!(
        watch["out_of_order"],
        json!({ "GAP": 0, "WENT_BACK": 0, "BROKEN_STEP": 0, "HEARTBEAT_AHEAD": 0 })
    );
    assert_eq!(watch["ended"], json!({ "GOODBYE": 0, "CLOSED": 0, "SILENT": 0 }));
    assert!(number(&watch["heartbeats"]) >= 6, "{watch}");
    is_spread(&watch["first_state_ms"]);
    is_spread(&watch["staleness_ms"]);
    let propagation = &watch["propagation"];
    assert_eq!(propagation["changes_delivered"], write["answers"]["CHANGED"]);
    assert_eq!(number(&propagation["changes_undelivered"]), 0);
    for spread in [
        "sent_to_last_stream_ms",
        "acknowledged_to_each_stream_ms",
        "first_to_last_stream_ms",
    ] {
        is_spread(&propagation[spread]);
    }

    let result = served.result("watch --streams 2 --duration 100ms --warm-up 0s");
    assert_eq!(
        (&result["write"], &result["watch"]["propagation"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn all_kinds_of_load_go_together() {
    let served = Served::new();
    let line =
        "mixed new-checkout --rate 50 --streams 3 --write-flag new-checkout --write-rate 10 --duration 1s --warm-up 0s";
    let result = served.result(line);
    assert_eq!(number(&result["evaluate"]["answered"]), 50);
    assert_eq!(number(&result["write"]["answered"]), 10);
    assert_eq!(number(&result["watch"]["ready"]), 3);
    assert_eq!(
        result["watch"]["propagation"]["changes_delivered"],
        result["write"]["answers"]["CHANGED"]
    );
    assert!(served.is_on());
}

#[test]
fn an_interrupt_ends_with_a_result_and_the_flags_as_they_were() {
    let served = Served::new();
    let mut watch = served.start("watch");
    watch.says("snapshot of revision");
    let mut bench = served.start("bench write new-checkout --rate 20 --duration 10m --warm-up 0s --json");
    watch.says("new-checkout: on → off");
    bench.signal(Signal::INT);
    let result = json(&bench.says("\"command\""));
    let (status, log) = bench.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(
        (&result["interrupted"], &result["flags_restored"]),
        (&json!(true), &json!(true))
    );
    assert!(number(&result["write"]["answered"]) >= 1, "{result}");
    assert!(
        result["measured_ms"].as_f64() < result["duration_ms"].as_f64(),
        "{result}"
    );
    assert!(served.is_on());
}

/// A run through a relay that carries nothing for a while once the first change is there, until requests are missed; and then again.
fn held_up(served: &Served, relay: &Relay, line: &str) -> (Value, Option<i32>, String) {
    let mut watch = served.start("watch");
    watch.says("snapshot of revision");
    let mut bench = served.start(&format!(
        "bench {line} --endpoint {} --duration 10m --warm-up 0s --json 2>&1",
        relay.url()
    ));
    watch.says("new-checkout: on → off");
    relay.set(Way::HeldUp);
    bench.says("missed");
    relay.set(Way::To(served.address()));
    bench.signal(Signal::INT);
    let result = json(&bench.says("\"command\""));
    let (status, log) = bench.ends();
    assert!(served.is_on(), "{result}");
    assert_eq!(result["flags_restored"], true, "{result}");
    (result, status.code(), log)
}

/// The relay, on a thread of its own: the tests here wait with theirs.
fn relayed(served: &Served, test: impl FnOnce(&Relay)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let relay = runtime.block_on(Relay::to(served.address()));
    test(&relay);
}

#[test]
fn a_server_that_is_stuck_is_not_good_enough_and_what_was_not_sent_is_counted() {
    let served = Served::new();
    relayed(&served, |relay| {
        let line =
            "mixed new-checkout --rate 200 --max-in-flight 10 --streams 2 --write-flag new-checkout --write-rate 10";
        let (result, code, log) = held_up(&served, relay, line);
        assert_eq!(code, Some(1), "{log}");
        let evaluate = &result["evaluate"];
        assert!(number(&evaluate["missed"]) > 0, "{result}");
        let sum: u64 = ["answered", "failed", "missed", "unanswered"]
            .map(|name| number(&evaluate[name]))
            .iter()
            .sum();
        assert_eq!(number(&evaluate["due"]), sum, "{result}");
        let shortfalls = result["shortfalls"].as_array().unwrap();
        assert!(shortfalls.contains(&json!("EVALUATE_ERROR_RATE")), "{result}");
        assert_eq!(result["good_enough"], false);
    });
}

#[test]
fn errors_may_be_asked_to_be_good_enough() {
    let served = Served::new();
    relayed(&served, |relay| {
        let line = "write new-checkout --rate 50 --max-in-flight 5 --timeout 2s --max-error-rate 1";
        let (result, code, log) = held_up(&served, relay, line);
        assert_eq!(code, Some(0), "{log}");
        assert!(number(&result["write"]["missed"]) > 0, "{result}");
        assert_eq!(result["good_enough"], true);
    });
}

#[test]
fn errors_are_told_by_name() {
    let served = Served::new();
    let mut watch = served.start("watch");
    watch.says("snapshot of revision");
    let line = "bench mixed new-checkout --rate 50 --streams 1 --write-flag new-checkout --duration 10m --warm-up 0s --json 2>&1";
    let mut bench = served.start(line);
    watch.says("new-checkout: on → off");
    let Served { folder, mut program } = served;
    // What is killed says no goodbye.
    program.signal(Signal::KILL);
    program.ends();
    bench.says("failed");
    bench.signal(Signal::INT);
    let result = json(&bench.says("\"command\""));
    assert_eq!(bench.ends().0.code(), Some(1));
    let error = &result["evaluate"]["errors"]["UNAVAILABLE"];
    assert_eq!(number(&error["code"]), 14, "{result}");
    assert!(
        number(&error["count"]) > 0 && error["first_message"].is_string(),
        "{result}"
    );
    assert_eq!(result["flags_restored"], false);
    let shortfalls = result["shortfalls"].as_array().unwrap();
    for shortfall in ["EVALUATE_ERROR_RATE", "STREAM_ERROR_RATE", "NOT_RESTORED"] {
        assert!(shortfalls.contains(&json!(shortfall)), "{shortfall}: {result}");
    }
    drop(folder);
}

#[test]
fn two_servers_take_turns() {
    let served = Served::new();
    let endpoint = format!("http://{}", served.address());
    for load in ["evaluate new-checkout --rate 100", "write new-checkout --rate 20"] {
        let line = format!("{load} --duration 500ms --warm-up 0s --rounds 2 --compare {endpoint}");
        let result = served.result(&line);
        let comparison = &result["comparison"];
        assert_eq!(comparison["rounds"].as_array().unwrap().len(), 2, "{result}");
        for turn in [
            &comparison["rounds"][0]["a"],
            &comparison["rounds"][1]["b"],
            &comparison["median_b"],
        ] {
            assert!(turn["p99_ms"].as_f64().unwrap() > 0.0, "{result}");
        }
        assert!(comparison["ratio_b_to_a"]["p50"].as_f64().unwrap() > 0.0, "{result}");
        let first = if load.starts_with("evaluate") {
            &result["evaluate"]
        } else {
            &result["write"]
        };
        // Each has half of its time in either round.
        assert_eq!(first["due"], comparison["b"]["due"]);
        assert_eq!(
            number(&first["due"]),
            if load.starts_with("evaluate") { 50 } else { 10 }
        );
    }
    assert!(served.is_on());
    let line = format!(
        "halyard bench evaluate new-checkout --compare http://{}",
        crate::serve::free_address()
    );
    let said = served.run(&line).refused(69);
    assert!(said.contains("cannot answer now"), "{said}");
}

#[test]
fn what_cannot_work_is_said_before_anything_is_measured() {
    let served = Served::new();
    let refused = |line: &str, code, words: &str| {
        let ended = served.run(&format!("halyard bench {line}"));
        assert_eq!(
            (ended.stdout.as_str(), ended.code),
            ("", Some(code)),
            "{line}: {ended:?}"
        );
        assert!(ended.stderr.contains(words), "{line}: {ended:?}");
    };
    refused("evaluate no-such-flag", 1, "there is no such flag");
    refused(
        "evaluate new-checkout --key nonsense",
        77,
        "does not accept this credential",
    );
    refused("watch --key nonsense", 77, "does not accept this credential");
    // Streams of rules are for server keys.
    refused("watch --key \"$HALYARD_CLIENT_KEY\"", 77, "may not do that");
    refused("write no-such-flag", 1, "not found");
    refused("write new-checkout --email \"\" --token nonsense", 64, "--email");
    let away = format!("--endpoint http://{}", crate::serve::free_address());
    refused(&format!("evaluate new-checkout {away}"), 69, "cannot answer now");
    refused(&format!("watch {away}"), 69, "cannot answer now");
    refused(&format!("write new-checkout {away}"), 69, "cannot answer now");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let viewer = runtime.block_on(served.viewer());
    let nobody = "env -u HALYARD_EMAIL -u HALYARD_PASSWORD";
    let looking = served.run(&format!("{nobody} halyard bench write new-checkout --token {viewer}"));
    let said = looking.refused(77);
    assert!(said.contains("may not do that"), "{said}");
    assert!(served.is_on());
}

#[test]
fn wrong_options_are_refused() {
    for line in [
        "bench evaluate",
        "bench evaluate a --rate 0",
        "bench evaluate a --rate 1 --concurrency 1",
        "bench write a --duration 20m --email ada@example.com",
        "bench nonsense",
    ] {
        let arguments: Vec<_> = line.split(' ').collect();
        let ended = run_halyard(&arguments, &[("HALYARD_KEY", "key")]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(64), ""), "{line}: {ended:?}");
    }
}

#[test]
fn help_names_every_kind_of_load() {
    let help = run_halyard(&["bench", "--help"], &[]).done();
    for name in ["evaluate", "watch", "write", "mixed"] {
        assert!(help.contains(name), "{help}");
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/bench.md");
    let page = fs::read_to_string(page).unwrap();
    for name in ["evaluate", "watch", "write", "mixed"] {
        let help = run_halyard(&["bench", name, "--help"], &[]).done();
        for option in ["--duration", "--warm-up", "--connections", "--max-error-rate", "--json"] {
            assert!(help.contains(option) && page.contains(option), "{option} of {name}");
        }
    }
}
