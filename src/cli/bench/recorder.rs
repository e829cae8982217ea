//! What became of requests, in numbers: latencies, kinds of answers, errors. Pure, and bounded however many requests there are.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use tonic::Code;

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// From when it was due; in a closed loop, from when it was sent.
    pub latency: Duration,
    /// From when it was due until it was sent: what this machine is to blame for.
    pub delay: Duration,
    /// It ended before the time was over.
    pub in_time: bool,
    /// The kind of answer, or the error.
    pub result: Result<&'static str, (Code, String)>,
}

/// Errors of one code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failures {
    pub count: u64,
    /// What the first of them said.
    pub first: String,
}

/// What became of requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder {
    /// Of those that were answered.
    pub latency: Latencies,
    /// Of those that failed.
    pub failed_latency: Latencies,
    pub delay: Latencies,
    /// How many were answered before the time was over.
    pub in_time: u64,
    /// By kind.
    pub answers: BTreeMap<&'static str, u64>,
    /// By the number of the code.
    pub failures: BTreeMap<i32, Failures>,
    /// Due, but never sent: too many were without an answer.
    pub missed: u64,
    /// Sent, and given up at the end.
    pub unanswered: u64,
}

impl Recorder {
    pub fn record(&mut self, outcome: Outcome) {
        let Outcome {
            latency,
            delay,
            in_time,
            result,
        } = outcome;
        self.delay.record(delay);
        match result {
            Ok(kind) => {
                self.latency.record(latency);
                self.in_time += u64::from(in_time);
                *self.answers.entry(kind).or_default() += 1;
            }
            Err((code, said)) => {
                self.failed_latency.record(latency);
                let failures = self.failures.entry(code.into());
                failures.or_insert(Failures { count: 0, first: said }).count += 1;
            }
        }
    }

    /// Adds what another has recorded.
    pub fn add(&mut self, other: &Self) {
        let Self {
            latency,
            failed_latency,
            delay,
            in_time,
            answers,
            failures,
            missed,
            unanswered,
        } = other;
        self.latency.add(latency);
        self.failed_latency.add(failed_latency);
        self.delay.add(delay);
        for (kind, count) in answers {
            *self.answers.entry(kind).or_default() += count;
        }
        for (code, Failures { count, first }) in failures {
            let ours = self.failures.entry(*code).or_insert_with(|| Failures {
                count: 0,
                first: first.clone(),
            });
            ours.count += count;
        }
        self.in_time += in_time;
        self.missed += missed;
        self.unanswered += unanswered;
    }

    pub fn answered(&self) -> u64 {
        self.latency.count()
    }

    pub fn failed(&self) -> u64 {
        self.failed_latency.count()
    }

    /// Every request that was due, whatever became of it.
    pub fn due(&self) -> u64 {
        self.answered() + self.failed() + self.missed + self.unanswered
    }

    /// The share of those due that have no answer, or an error for one. Zero of none.
    pub fn error_rate(&self) -> f64 {
        share(self.failed() + self.missed + self.unanswered, self.due())
    }
}

/// So many of so many. Zero of none.
#[expect(clippy::cast_precision_loss, reason = "counts of things that take time")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Durations, each within a thousandth of what it was.
#[derive(Debug, Clone)]
pub(super) struct Latencies {
    /// In microseconds.
    histogram: Histogram<u64>,
}

/// What is said of durations, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Percentiles {
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// The longest that is told apart, in microseconds.
const LONGEST_MICROSECONDS: u64 = 24 * 3_600 * 1_000_000;

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new(3);
        #[expect(clippy::expect_used, reason = "it fails for more than five digits only")]
        let histogram = histogram.expect("three digits");
        Self { histogram }
    }
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        // It grows as far as this, which takes half a megabyte.
        self.histogram += microseconds.min(LONGEST_MICROSECONDS);
    }

    pub fn add(&mut self, other: &Self) {
        self.histogram += &other.histogram;
    }

    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// In milliseconds, the value that this share of all is not above. Zero of none.
    pub fn quantile(&self, share: f64) -> f64 {
        milliseconds(self.histogram.value_at_quantile(share).min(self.histogram.max()))
    }

    pub fn max(&self) -> f64 {
        milliseconds(self.histogram.max())
    }

    /// `None` of none.
    pub fn percentiles(&self) -> Option<Percentiles> {
        (self.count() > 0).then(|| Percentiles {
            min: milliseconds(self.histogram.min()),
            mean: self.histogram.mean() / 1e3,
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.max(),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "days in microseconds are exact")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::super::schedule::Schedule;
    use super::*;

    fn answered(milliseconds: u64) -> Outcome {
        Outcome {
            latency: Duration::from_millis(milliseconds),
            delay: Duration::ZERO,
            in_time: true,
            result: Ok("STATIC"),
        }
    }

    fn failed(code: Code, said: &str) -> Outcome {
        Outcome {
            result: Err((code, said.to_owned())),
            ..answered(5)
        }
    }

    /// A server that answers one request at a time, each in a millisecond, and does nothing for the sixth second of ten. It tells
    /// when it answers what reaches it at a time.
    fn stalling() -> impl FnMut(Duration) -> Duration {
        let mut free = Duration::ZERO;
        let stall = Duration::from_secs(5)..Duration::from_secs(6);
        move |reached: Duration| {
            let mut begins = reached.max(free);
            if stall.contains(&begins) {
                begins = stall.end;
            }
            free = begins + Duration::from_millis(1);
            free
        }
    }

    #[test]
    fn a_stall_of_a_second_is_seen_by_every_request_that_was_due_in_it() {
        let (schedule, mut server, mut recorder) = (Schedule::new(100.0), stalling(), Recorder::default());
        for n in 0..1_000 {
            let due = schedule.due(n);
            recorder.record(Outcome {
                latency: server(due).saturating_sub(due),
                ..answered(0)
            });
        }
        let seen = recorder.latency.percentiles().unwrap();
        // A hundred of a thousand requests waited, the first of them for the whole second.
        assert!(seen.p99 > 850.0 && seen.max > 1_000.0, "{seen:?}");
        assert!(seen.p95 > 450.0 && seen.p50 < 2.0, "{seen:?}");
    }

    #[test]
    fn one_who_waits_for_each_answer_hardly_sees_the_same_stall() {
        let (mut server, mut recorder) = (stalling(), Recorder::default());
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(10) {
            let answer = server(now);
            recorder.record(Outcome {
                latency: answer.saturating_sub(now),
                ..answered(0)
            });
            // As often as the open loop, when it may.
            now = answer.max(now + Duration::from_millis(10));
        }
        let seen = recorder.latency.percentiles().unwrap();
        assert!(seen.p99 < 2.0 && seen.max > 990.0, "{seen:?}");
    }

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let mut recorder = Recorder::default();
        (1..=1_000).for_each(|n| recorder.record(answered(n)));
        let seen = recorder.latency.percentiles().unwrap();
        let within = |value: f64, expected: f64| (value - expected).abs() <= expected / 1e3;
        for (value, expected) in [
            (seen.min, 1.0),
            (seen.mean, 500.5),
            (seen.p50, 500.0),
            (seen.p90, 900.0),
            (seen.p95, 950.0),
            (seen.p99, 990.0),
            (seen.p999, 999.0),
            (seen.max, 1_000.0),
        ] {
            assert!(within(value, expected), "{value} is not {expected}: {seen:?}");
        }
        assert_eq!(Latencies::default().percentiles(), None);
    }

    #[test]
    fn what_takes_for_ever_takes_a_day() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::MAX);
        assert!(
            (latencies.max() / 86_400_000.0 - 1.0).abs() < 1e-3,
            "{}",
            latencies.max()
        );
    }

    #[test]
    fn errors_are_counted_by_code_and_the_first_is_kept() {
        let mut one = Recorder::default();
        one.record(failed(Code::Unavailable, "first"));
        one.record(answered(1));
        let mut other = Recorder::default();
        other.record(failed(Code::Unavailable, "second"));
        other.record(failed(Code::NotFound, "no flag"));
        other.missed = 3;
        other.unanswered = 1;
        one.add(&other);
        let failures = |count, first: &str| Failures {
            count,
            first: first.to_owned(),
        };
        assert_eq!(one.failures[&14], failures(2, "first"));
        assert_eq!(one.failures[&5], failures(1, "no flag"));
        assert_eq!((one.answered(), one.failed(), one.due()), (1, 3, 8));
        assert!((one.error_rate() - 7.0 / 8.0).abs() < 1e-9);
        assert_eq!(one.answers, BTreeMap::from([("STATIC", 1)]));
        assert!(Recorder::default().error_rate().abs() < 1e-9);
    }
}
