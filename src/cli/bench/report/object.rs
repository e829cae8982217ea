//! A result for programs: one object, whose shape docs/bench.md tells. Keys stay; numbers have their unit in the name.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tonic::Code;

use super::super::super::json::from_number;
use super::super::compare::{Ratio, Turn, Verdict, per_second, verdict};
use super::super::recorder::{Failures, Latencies, Percentiles, Recorder};
use super::super::watch::{Disorder, Propagation, Seen};
use super::{Comparison, Report, Requests, Watched};
use crate::config::{Load, Pace};

pub(super) fn object(report: &Report) -> Value {
    let Report {
        name,
        endpoint,
        window,
        seconds,
        interrupted,
        max_error_rate,
        evaluate,
        write,
        restored,
        watch,
        comparison,
    } = report;
    let shortfalls: Vec<_> = report.shortfalls().iter().map(|shortfall| shortfall.name()).collect();
    let of = |part: &Option<Requests>| part.as_ref().map(|part| requests(part, *seconds));
    json!({
        "command": name,
        "version": env!("CARGO_PKG_VERSION"),
        "endpoint": endpoint,
        "warm_up_ms": milliseconds(window.warm_up),
        "duration_ms": milliseconds(window.duration),
        "measured_ms": rounded(seconds * 1e3),
        "interrupted": interrupted,
        "good_enough": shortfalls.is_empty(),
        "shortfalls": shortfalls,
        "max_error_rate": max_error_rate,
        "evaluate": of(evaluate),
        "write": of(write),
        "flags_restored": restored,
        "watch": watch.as_ref().map(watched),
        "comparison": comparison.as_ref().map(compared),
    })
}

fn requests(requests: &Requests, seconds: f64) -> Value {
    let Requests { load, recorded } = requests;
    let Load {
        pace,
        connections,
        max_in_flight,
    } = load;
    let (rate, concurrency) = match pace {
        Pace::Rate(rate) => (Some(from_number(*rate)), None),
        Pace::Concurrency(concurrency) => (None, Some(concurrency.get())),
    };
    let is_open = requests.is_open_loop();
    let Recorder {
        latency,
        failed_latency,
        delay,
        in_time,
        answers,
        failures,
        missed,
        unanswered,
    } = recorded;
    json!({
        "loop": if is_open { "open" } else { "closed" },
        "latency_from": if is_open { "due" } else { "sent" },
        "rate_per_second": rate,
        "concurrency": concurrency,
        "connections": connections,
        "max_in_flight": is_open.then_some(max_in_flight),
        "due": recorded.due(),
        "answered": recorded.answered(),
        "failed": recorded.failed(),
        "missed": missed,
        "unanswered": unanswered,
        "error_rate": rounded(recorded.error_rate()),
        "answered_per_second": rounded(per_second(*in_time, seconds)),
        "latency_ms": percentiles(latency),
        "failed_latency_ms": percentiles(failed_latency),
        "send_delay_ms": if is_open { percentiles(delay) } else { Value::Null },
        "answers": answers,
        "errors": errors(failures),
    })
}

fn watched(watched: &Watched) -> Value {
    let Watched {
        streams,
        connections,
        ready,
        seen,
        propagation,
    } = watched;
    let Seen {
        first_state,
        steps,
        snapshots,
        heartbeats,
        staleness,
        staleness_unknown,
        sources,
        longest_silence,
        goodbyes,
        closed,
        silent,
        disorders,
        failures,
    } = seen;
    let disorders: Map<String, Value> = Disorder::ALL
        .into_iter()
        .map(|disorder| {
            (
                disorder.name().to_owned(),
                disorders.get(&disorder).copied().unwrap_or(0).into(),
            )
        })
        .collect();
    json!({
        "streams": streams,
        "connections": connections,
        "ready": ready,
        "first_state_ms": percentiles(first_state),
        "steps": steps,
        "snapshots": snapshots,
        "heartbeats": heartbeats,
        "staleness_ms": percentiles(staleness),
        "staleness_unknown": staleness_unknown,
        "sources": sources,
        "longest_silence_ms": milliseconds(*longest_silence),
        "out_of_order": disorders,
        "ended": { "GOODBYE": goodbyes, "CLOSED": closed, "SILENT": silent },
        "errors": errors(failures),
        "error_rate": rounded(watched.error_rate()),
        "propagation": propagation.as_ref().map(propagated),
    })
}

fn propagated(propagation: &Propagation) -> Value {
    let Propagation {
        delivered,
        undelivered,
        sent_to_first,
        sent_to_last,
        acknowledged_to_first,
        acknowledged_to_last,
        acknowledged_to_each,
        first_to_last,
    } = propagation;
    json!({
        "changes_delivered": delivered,
        "changes_undelivered": undelivered,
        "sent_to_first_stream_ms": percentiles(sent_to_first),
        "sent_to_last_stream_ms": percentiles(sent_to_last),
        "acknowledged_to_first_stream_ms": percentiles(acknowledged_to_first),
        "acknowledged_to_last_stream_ms": percentiles(acknowledged_to_last),
        "acknowledged_to_each_stream_ms": percentiles(acknowledged_to_each),
        "first_to_last_stream_ms": percentiles(first_to_last),
    })
}

fn compared(comparison: &Comparison) -> Value {
    let Comparison {
        endpoint,
        requests: other,
        rounds,
        seconds,
    } = comparison;
    let (medians, ratio) = match verdict(rounds) {
        Some(Verdict { medians, ratio }) => (Some(medians.map(turn)), Some(ratios(ratio))),
        None => (None, None),
    };
    let [a, b] = medians.map_or([Value::Null, Value::Null], |medians| medians);
    let rounds = rounds.iter().map(|[a, b]| json!({ "a": turn(*a), "b": turn(*b) }));
    json!({
        "endpoint_b": endpoint,
        "measured_b_ms": rounded(seconds * 1e3),
        "b": requests(other, *seconds),
        "rounds": rounds.collect::<Vec<_>>(),
        "median_a": a,
        "median_b": b,
        "ratio_b_to_a": ratio,
    })
}

fn turn(turn: Turn) -> Value {
    let Turn {
        answered_per_second,
        p50,
        p90,
        p99,
        error_rate,
    } = turn;
    json!({
        "answered_per_second": rounded(answered_per_second),
        "p50_ms": p50.map(rounded),
        "p90_ms": p90.map(rounded),
        "p99_ms": p99.map(rounded),
        "error_rate": rounded(error_rate),
    })
}

fn ratios(ratio: Ratio) -> Value {
    let Ratio {
        answered_per_second,
        p50,
        p90,
        p99,
    } = ratio;
    json!({
        "answered_per_second": answered_per_second.map(rounded),
        "p50": p50.map(rounded),
        "p90": p90.map(rounded),
        "p99": p99.map(rounded),
    })
}

/// Null of none.
fn percentiles(latencies: &Latencies) -> Value {
    let Some(Percentiles {
        min,
        mean,
        p50,
        p90,
        p95,
        p99,
        p999,
        max,
    }) = latencies.percentiles()
    else {
        return Value::Null;
    };
    json!({
        "min": rounded(min),
        "mean": rounded(mean),
        "p50": rounded(p50),
        "p90": rounded(p90),
        "p95": rounded(p95),
        "p99": rounded(p99),
        "p999": rounded(p999),
        "max": rounded(max),
    })
}

/// By the code's name, as gRPC has it.
fn errors(failures: &BTreeMap<i32, Failures>) -> Value {
    let errors = failures.iter().map(|(code, Failures { count, first })| {
        let error = json!({ "code": code, "count": count, "first_message": first });
        (name(Code::from_i32(*code)).to_owned(), error)
    });
    Value::Object(errors.collect())
}

/// The name of a code, as gRPC has it.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn milliseconds(duration: std::time::Duration) -> Value {
    rounded(duration.as_secs_f64() * 1e3)
}

/// To six places: what comes after them was not measured.
fn rounded(number: f64) -> Value {
    from_number((number * 1e6).round() / 1e6)
}
