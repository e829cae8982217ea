//! The shape of results, and what is good enough.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonic::Code;

use super::super::compare::Turn;
use super::super::recorder::Outcome;
use super::super::watch::{Board, Disorder};
use super::*;

fn recorded(answered: u64, failed: u64) -> Recorder {
    let mut recorder = Recorder::default();
    for n in 0..answered + failed {
        recorder.record(Outcome {
            latency: Duration::from_millis(2),
            delay: Duration::from_micros(100),
            in_time: true,
            result: if n < answered {
                Ok("SPLIT")
            } else {
                Err((Code::Unavailable, "the server is shutting down".to_owned()))
            },
        });
    }
    recorder
}

fn requests(pace: Pace, recorded: Recorder) -> Requests {
    Requests {
        load: Load {
            pace,
            connections: NonZeroUsize::MIN,
            max_in_flight: NonZeroUsize::new(10).unwrap(),
        },
        recorded,
    }
}

fn report() -> Report {
    Report {
        name: "evaluate",
        endpoint: "http://halyard.example/".to_owned(),
        window: Window {
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(2),
        },
        seconds: 2.0,
        interrupted: false,
        max_error_rate: 0.0,
        evaluate: Some(requests(Pace::Rate(50.0), recorded(100, 0))),
        write: None,
        restored: None,
        watch: None,
        comparison: None,
    }
}

fn watched() -> Watched {
    let (board, now) = (Board::new(2), Instant::now());
    board.acknowledged(7, now, now);
    Watched {
        streams: 2,
        connections: 1,
        ready: 2,
        seen: board.seen().0,
        propagation: Some(board.seen().1),
    }
}

fn shortfalls(report: &Report) -> Vec<&'static str> {
    report.shortfalls().into_iter().map(Shortfall::name).collect()
}

#[test]
fn a_result_is_an_object_with_a_unit_in_every_name() {
    let mut report = report();
    report.evaluate = Some(requests(Pace::Rate(50.0), recorded(99, 1)));
    let spread = json!({
        "min": 2, "mean": 2, "p50": 2, "p90": 2, "p95": 2, "p99": 2, "p999": 2, "max": 2,
    });
    let delay = json!({
        "min": 0.1, "mean": 0.1, "p50": 0.1, "p90": 0.1, "p95": 0.1, "p99": 0.1, "p999": 0.1, "max": 0.1,
    });
    let expected = json!({
        "command": "evaluate",
        "version": env!("CARGO_PKG_VERSION"),
        "endpoint": "http://halyard.example/",
        "warm_up_ms": 1000,
        "duration_ms": 2000,
        "measured_ms": 2000,
        "interrupted": false,
        "good_enough": false,
        "shortfalls": ["EVALUATE_ERROR_RATE"],
        "max_error_rate": 0.0,
        "evaluate": {
            "loop": "open",
            "latency_from": "due",
            "rate_per_second": 50,
            "concurrency": null,
            "connections": 1,
            "max_in_flight": 10,
            "due": 100,
            "answered": 99,
            "failed": 1,
            "missed": 0,
            "unanswered": 0,
            "error_rate": 0.01,
            "answered_per_second": 49.5,
            "latency_ms": spread,
            "failed_latency_ms": spread,
            "send_delay_ms": delay,
            "answers": { "SPLIT": 99 },
            "errors": {
                "UNAVAILABLE": { "code": 14, "count": 1, "first_message": "the server is shutting down" },
            },
        },
        "write": null,
        "flags_restored": null,
        "watch": null,
        "comparison": null,
    });
    assert_eq!(object::object(&report), expected);
}

/// The keys of an object and of those in it.
fn keys(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        keys(value, &path, into);
        into.insert(path);
    }
}

/// A result with everything that there may be, which no single run gives.
fn everything() -> Report {
    let mut report = report();
    let turn = Turn::new(&recorded(10, 0), 1.0);
    report.write = Some(requests(Pace::Concurrency(NonZeroUsize::MIN), recorded(10, 0)));
    report.watch = Some(watched());
    report.comparison = Some(Comparison {
        endpoint: "http://other.example/".to_owned(),
        requests: requests(Pace::Rate(50.0), recorded(10, 0)),
        rounds: vec![[turn, turn]],
        seconds: 1.0,
    });
    report
}

#[test]
fn the_documentation_names_every_key() {
    let page = include_str!("../../../../docs/bench.md");
    let mut found = BTreeSet::new();
    keys(&object::object(&everything()), "", &mut found);
    assert!(found.len() > 60, "{found:?}");
    for path in found {
        let name = path.rsplit('.').next().unwrap();
        assert!(page.contains(&format!("`{name}`")), "{path} is not in docs/bench.md");
    }
    for shortfall in [
        Shortfall::EvaluateErrorRate,
        Shortfall::WriteErrorRate,
        Shortfall::ComparedErrorRate,
        Shortfall::NothingMeasured,
        Shortfall::StreamsNotReady,
        Shortfall::StreamErrorRate,
        Shortfall::OutOfOrder,
        Shortfall::Undelivered,
        Shortfall::NotRestored,
    ] {
        assert!(
            page.contains(shortfall.name()),
            "{} is not in docs/bench.md",
            shortfall.name()
        );
    }
}

#[test]
fn errors_are_good_enough_up_to_what_is_asked_for() {
    let mut report = report();
    assert_eq!(shortfalls(&report), [""; 0]);
    report.evaluate = Some(requests(Pace::Rate(50.0), recorded(99, 1)));
    assert_eq!(shortfalls(&report), ["EVALUATE_ERROR_RATE"]);
    report.max_error_rate = 0.01;
    assert_eq!(shortfalls(&report), [""; 0]);
    // What was never sent is no better than what failed.
    let mut missed = recorded(99, 1);
    missed.missed = 1;
    report.evaluate = Some(requests(Pace::Rate(50.0), missed));
    assert_eq!(shortfalls(&report), ["EVALUATE_ERROR_RATE"]);
}

#[test]
fn nothing_is_not_good_enough_of_whatever_was_asked() {
    let mut alone = report();
    alone.max_error_rate = 1.0;
    alone.evaluate = Some(requests(Pace::Rate(50.0), recorded(0, 0)));
    assert_eq!(shortfalls(&alone), ["NOTHING_MEASURED"]);
    let mut compared = everything();
    compared.max_error_rate = 1.0;
    if let Some(comparison) = &mut compared.comparison {
        comparison.requests.recorded = recorded(0, 0);
    }
    assert_eq!(shortfalls(&compared), ["NOTHING_MEASURED", "UNDELIVERED"]);
}

#[test]
fn what_must_not_be_is_never_good_enough() {
    let mut report = report();
    report.max_error_rate = 1.0;
    report.restored = Some(false);
    let mut watch = watched();
    watch.ready = 1;
    watch.seen.disorders.insert(Disorder::Gap, 1);
    report.watch = Some(watch);
    assert_eq!(
        shortfalls(&report),
        ["STREAMS_NOT_READY", "OUT_OF_ORDER", "UNDELIVERED", "NOT_RESTORED"]
    );
}

#[test]
fn a_result_that_is_not_good_enough_is_printed_all_the_same() {
    let mut report = report();
    report.evaluate = Some(requests(Pace::Rate(50.0), recorded(99, 1)));
    let mut out = Vec::new();
    let error = report.conclude(Output::Json, &mut out).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not good enough: too many evaluations without a good answer"
    );
    let printed: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(printed["good_enough"], false);
}

#[test]
fn people_are_told_what_latency_means() {
    let told = |pace| {
        let mut report = report();
        report.evaluate = Some(requests(pace, recorded(100, 0)));
        text::lines(&report).join("\n")
    };
    let open = told(Pace::Rate(50.0));
    assert!(
        open.contains("open loop") && open.contains("from when each was due"),
        "{open}"
    );
    assert!(open.contains("100 answered (50.0/s), 0 failed"), "{open}");
    assert!(open.contains("p99 2.00") && open.contains("SPLIT 100"), "{open}");
    let closed = told(Pace::Concurrency(NonZeroUsize::MIN));
    assert!(closed.contains("service time"), "{closed}");
}

#[test]
fn people_are_told_what_latency_does_not_tell() {
    let mut report = report();
    let mut late = recorded(0, 0);
    late.record(Outcome {
        latency: Duration::from_millis(60),
        delay: Duration::from_millis(50),
        in_time: true,
        result: Ok("SPLIT"),
    });
    late.missed = 3;
    report.evaluate = Some(requests(Pace::Rate(50.0), late));
    let told = text::lines(&report).join("\n");
    assert!(told.contains("this machine sent late itself (p99 50.0 ms"), "{told}");
    assert!(told.contains("3 requests were due and not sent"), "{told}");
}

#[test]
fn people_are_told_everything_else_too() {
    let told = text::lines(&everything()).join("\n");
    for words in [
        "changes: closed loop",
        "streams: 2 of 2 over 1 connections",
        "0 arrived on every stream, 1 did not",
        "medians of 1 rounds",
        "B to A 1.000 ×",
    ] {
        assert!(told.contains(words), "{words:?} is not in: {told}");
    }
}
