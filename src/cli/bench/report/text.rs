//! A result for people.

use std::collections::BTreeMap;

use tonic::Code;

use super::super::compare::{Ratio, Turn, Verdict, per_second, verdict};
use super::super::recorder::{Failures, Latencies, Percentiles};
use super::super::watch::Propagation;
use super::object::name;
use super::{Comparison, Report, Requests, Watched};
use crate::config::Pace;

/// Sent later than this after it was due, at the 99th percentile, this machine had a share in what was measured.
const LATE_MS: f64 = 5.0;

pub(super) fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "{} at {}: {:.1} s after {:.1} s of warming up{}",
        report.name,
        report.endpoint,
        report.seconds,
        report.window.warm_up.as_secs_f64(),
        if report.interrupted { ", interrupted" } else { "" }
    )];
    if let Some(evaluate) = &report.evaluate {
        lines.extend(requests("evaluations", evaluate, report.seconds));
    }
    if let Some(write) = &report.write {
        lines.extend(requests("changes", write, report.seconds));
    }
    if let Some(watch) = &report.watch {
        lines.extend(watched(watch));
    }
    if let Some(comparison) = &report.comparison {
        lines.extend(compared(comparison));
    }
    lines
}

fn requests(what: &str, requests: &Requests, seconds: f64) -> Vec<String> {
    let (recorded, connections) = (&requests.recorded, requests.load.connections);
    let pace = match requests.load.pace {
        Pace::Rate(rate) => format!(
            "{what}: open loop, {rate} due a second over {connections} connections; latency from when each was due"
        ),
        Pace::Concurrency(count) => format!(
            "{what}: closed loop, {count} at a time over {connections} connections; service time from when each was sent, \
             which hides what others would have waited"
        ),
    };
    let answered = recorded.answered();
    let counts = format!(
        "  {answered} answered ({:.1}/s), {} failed, {} missed, {} unanswered: {:.3} % errors",
        per_second(recorded.in_time, seconds),
        recorded.failed(),
        recorded.missed,
        recorded.unanswered,
        recorded.error_rate() * 100.0
    );
    let mut lines = vec![pace, counts];
    if !recorded.answers.is_empty() {
        let kinds = recorded.answers.iter().map(|(kind, count)| format!("{kind} {count}"));
        lines.push(format!("  answers  {}", kinds.collect::<Vec<_>>().join(", ")));
    }
    lines.extend(spread("latency", &recorded.latency));
    lines.extend(spread("latency of failures", &recorded.failed_latency));
    lines.extend(errors(&recorded.failures));
    let late = recorded.delay.quantile(0.99);
    if requests.is_open_loop() && late > LATE_MS {
        lines.push(format!(
            "  note: this machine sent late itself (p99 {late:.1} ms after requests were due), which the latency includes"
        ));
    }
    if recorded.missed > 0 {
        lines.push(format!(
            "  note: {} requests were due and not sent, since {} had no answer (--max-in-flight); no latency tells of them",
            recorded.missed, requests.load.max_in_flight
        ));
    }
    lines
}

fn watched(watched: &Watched) -> Vec<String> {
    let Watched {
        streams,
        connections,
        ready,
        seen,
        propagation,
    } = watched;
    let mut lines = vec![
        format!("streams: {ready} of {streams} over {connections} connections had their first state in time"),
        format!(
            "  {} steps, {} of them snapshots; {} heartbeats; longest silence {:.1} s",
            seen.steps,
            seen.snapshots,
            seen.heartbeats,
            seen.longest_silence.as_secs_f64()
        ),
        format!(
            "  {} out of order; {} broken off, {} ended by goodbye",
            seen.disordered(),
            seen.broken(),
            seen.goodbyes
        ),
    ];
    for (disorder, count) in &seen.disorders {
        lines.push(format!("  {} {count} times", disorder.name()));
    }
    lines.extend(spread("first state", &seen.first_state));
    lines.extend(spread("staleness of the server", &seen.staleness));
    lines.extend(errors(&seen.failures));
    if let Some(propagation) = propagation {
        lines.extend(propagated(propagation));
    }
    lines
}

fn propagated(propagation: &Propagation) -> Vec<String> {
    let mut lines = vec![format!(
        "changes to streams: {} arrived on every stream, {} did not",
        propagation.delivered, propagation.undelivered
    )];
    for (what, latencies) in [
        ("sent → first stream", &propagation.sent_to_first),
        ("sent → last stream", &propagation.sent_to_last),
        ("acknowledged → first stream", &propagation.acknowledged_to_first),
        ("acknowledged → last stream", &propagation.acknowledged_to_last),
        ("acknowledged → each stream", &propagation.acknowledged_to_each),
        ("first → last stream", &propagation.first_to_last),
    ] {
        lines.extend(spread(what, latencies));
    }
    lines
}

fn compared(comparison: &Comparison) -> Vec<String> {
    let Comparison {
        endpoint,
        requests: other,
        rounds,
        seconds,
    } = comparison;
    let mut lines = vec![format!("B, {endpoint}: {seconds:.1} s in turns with A")];
    lines.extend(requests("requests", other, *seconds));
    let Some(Verdict { medians: [a, b], ratio }) = verdict(rounds) else {
        lines.push("no round was completed, so there is nothing to compare".to_owned());
        return lines;
    };
    let Ratio {
        answered_per_second,
        p50,
        p90,
        p99,
    } = ratio;
    lines.push(format!(
        "medians of {} rounds, and the median of their ratios:",
        rounds.len()
    ));
    let row = |what: &str, number: fn(&Turn) -> Option<f64>, ratio: Option<f64>| {
        let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3} ×"));
        let [a, b] = [a, b].map(|turn| number(&turn).map_or_else(|| "–".to_owned(), |number| format!("{number:.2}")));
        format!("  {what:<12} A {a:>10}   B {b:>10}   B to A {ratio}")
    };
    lines.push(row(
        "answered/s",
        |turn| Some(turn.answered_per_second),
        answered_per_second,
    ));
    lines.push(row("p50 ms", |turn| turn.p50, p50));
    lines.push(row("p90 ms", |turn| turn.p90, p90));
    lines.push(row("p99 ms", |turn| turn.p99, p99));
    lines
}

/// Nothing of none.
fn spread(what: &str, latencies: &Latencies) -> Option<String> {
    let Percentiles {
        min,
        mean,
        p50,
        p90,
        p95,
        p99,
        p999,
        max,
    } = latencies.percentiles()?;
    Some(format!(
        "  {what} ms  min {min:.2}  mean {mean:.2}  p50 {p50:.2}  p90 {p90:.2}  p95 {p95:.2}  p99 {p99:.2}  p99.9 {p999:.2}  \
         max {max:.2}"
    ))
}

fn errors(failures: &BTreeMap<i32, Failures>) -> Vec<String> {
    let line = |(code, Failures { count, first }): (&i32, &Failures)| {
        format!(
            "  {} ({code}) {count} times, the first: {first}",
            name(Code::from_i32(*code))
        )
    };
    failures.iter().map(line).collect()
}
