//! Two servers that take turns: the median of each one's turns, and of the turns' ratios. Pure.
//!
//! What else a machine does in one minute it does to both; a ratio is taken of two turns beside each other, and the median of those
//! ratios stands where one disturbed turn does not move it.

use super::recorder::{Recorder, share};

/// What is compared of a turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Turn {
    /// In the time that counted.
    pub answered_per_second: f64,
    /// In milliseconds; `None`: nothing was answered. So below.
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub error_rate: f64,
}

/// A turn of the first server, and one of the second.
pub(super) type Round = [Turn; 2];

/// What rounds say, number by number; each as in [`Turn`], and `None` if it is in any round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    pub medians: [Turn; 2],
    /// The median of the rounds' ratios, the second server's number to the first one's. Of shares of errors there is none.
    pub ratio: Ratio,
}

/// The second server's numbers to the first one's. `None`: nothing to divide, or to divide by, in some round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    pub answered_per_second: Option<f64>,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
}

impl Turn {
    /// What was recorded in so many seconds.
    pub fn new(recorded: &Recorder, seconds: f64) -> Self {
        let latency = recorded.latency.percentiles();
        Self {
            answered_per_second: per_second(recorded.in_time, seconds),
            p50: latency.map(|latency| latency.p50),
            p90: latency.map(|latency| latency.p90),
            p99: latency.map(|latency| latency.p99),
            error_rate: recorded.error_rate(),
        }
    }
}

/// So many in so many seconds. Zero in none.
pub(super) fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { share(count, 1) / seconds } else { 0.0 }
}

/// `None` of no rounds.
pub(super) fn verdict(rounds: &[Round]) -> Option<Verdict> {
    if rounds.is_empty() {
        return None;
    }
    let of = |server: fn(&Round) -> &Turn| {
        let middle = |number: fn(&Turn) -> f64| median(rounds.iter().map(|round| number(server(round))).collect());
        let middle_if_any = |number: fn(&Turn) -> Option<f64>| {
            let numbers: Option<_> = rounds.iter().map(|round| number(server(round))).collect();
            numbers.map(median)
        };
        Turn {
            answered_per_second: middle(|turn| turn.answered_per_second),
            p50: middle_if_any(|turn| turn.p50),
            p90: middle_if_any(|turn| turn.p90),
            p99: middle_if_any(|turn| turn.p99),
            error_rate: middle(|turn| turn.error_rate),
        }
    };
    let ratio = |number: fn(&Turn) -> Option<f64>| {
        let of = |[first, second]: &Round| Some(number(second)? / number(first).filter(|first| *first > 0.0)?);
        let ratios: Option<_> = rounds.iter().map(of).collect();
        ratios.map(median)
    };
    Some(Verdict {
        medians: [of(|[first, _]| first), of(|[_, second]| second)],
        ratio: Ratio {
            answered_per_second: ratio(|turn| Some(turn.answered_per_second)),
            p50: ratio(|turn| turn.p50),
            p90: ratio(|turn| turn.p90),
            p99: ratio(|turn| turn.p99),
        },
    })
}

/// The one in the middle, or between the two there.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or_default();
    let lower = values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default();
    f64::midpoint(lower, upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(p50: f64) -> Turn {
        Turn {
            answered_per_second: 100.0,
            p50: Some(p50),
            p90: Some(2.0 * p50),
            p99: Some(3.0 * p50),
            error_rate: 0.0,
        }
    }

    fn check(values: &[f64], expected: f64) {
        let median = median(values.to_vec());
        assert!((median - expected).abs() < 1e-9, "{median} is not {expected}");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        check(&[3.0], 3.0);
        check(&[3.0, 1.0, 2.0], 2.0);
        check(&[4.0, 1.0, 3.0, 2.0], 2.5);
    }

    #[test]
    fn the_ratio_is_that_of_turns_beside_each_other() {
        // The machine was three times as slow in the second round, and something else disturbed the third.
        let rounds = [[turn(1.0), turn(2.0)], [turn(3.0), turn(6.0)], [turn(1.0), turn(9.0)]];
        let verdict = verdict(&rounds).unwrap();
        assert_eq!(verdict.medians, [turn(1.0), turn(6.0)]);
        assert_eq!(verdict.ratio.p50, Some(2.0));
        assert_eq!(verdict.ratio.p99, Some(2.0));
        assert_eq!(verdict.ratio.answered_per_second, Some(1.0));
    }

    #[test]
    fn nothing_has_no_ratio() {
        assert_eq!(verdict(&[]), None);
        let verdict = verdict(&[[turn(0.0), turn(1.0)]]).unwrap();
        assert_eq!(
            (verdict.ratio.p50, verdict.ratio.answered_per_second),
            (None, Some(1.0))
        );
        let silent = Turn::new(&Recorder::default(), 0.0);
        assert!(silent.answered_per_second.abs() < 1e-9 && silent.p99.is_none());
        // One that answers nothing in a single round is no faster for it.
        for rounds in [
            [[turn(1.0), silent], [turn(1.0), turn(2.0)], [turn(1.0), turn(2.0)]],
            [[silent, turn(1.0)], [turn(1.0), turn(2.0)], [turn(1.0), turn(2.0)]],
        ] {
            let verdict = super::verdict(&rounds).unwrap();
            assert_eq!(verdict.ratio.p50, None);
            assert!(verdict.medians.iter().any(|medians| medians.p50.is_none()));
        }
    }
}
