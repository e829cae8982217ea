//! Whether memory stays as it is: what is resident in the end against what was once everything had filled up. Pure.

use std::time::Duration;

use serde::Serialize;

/// Of the time: when caches, rings and pools have had the time to fill, and are measured.
const WARM: (f64, f64) = (0.2, 0.3);
/// Of the time: the end.
const LATE: (f64, f64) = (0.9, 1.0);
/// By how much it may be more then: an allocator keeps what it once needed.
const SHARE: f64 = 0.1;
/// And by how much more, of what grows with what is stored: the assignments that are known, for one.
const ALLOWED_KIB: f64 = 8.0 * 1024.0;
/// Fewer say nothing of a span.
const LEAST_SAMPLES: usize = 2;

/// What is resident, in KiB.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    /// The median of the warm span.
    pub warm_kib: f64,
    /// The median of the last.
    pub late_kib: f64,
    /// The slope of the line through the last two thirds.
    pub kib_per_minute: f64,
    /// What the last may be.
    pub bound_kib: f64,
}

impl Memory {
    pub fn is_flat(&self) -> Result<(), String> {
        if self.late_kib <= self.bound_kib {
            return Ok(());
        }
        Err(format!("memory grows: {self:?}"))
    }
}

/// Judges what was resident at moments since the beginning, of one process that lived all the time.
pub fn judge(samples: &[(Duration, f64)], time: Duration) -> Result<Memory, String> {
    let within = |(from, to): (f64, f64)| {
        let span = time.mul_f64(from)..=time.mul_f64(to);
        let within = samples.iter().filter(move |(at, _)| span.contains(at));
        within
            .map(|(at, kib)| (at.as_secs_f64() / 60.0, *kib))
            .collect::<Vec<_>>()
    };
    let median = |span| {
        let mut kib: Vec<_> = within(span).into_iter().map(|(_, kib)| kib).collect();
        kib.sort_by(f64::total_cmp);
        if kib.len() < LEAST_SAMPLES {
            return Err(format!("{} samples between {span:?} of {time:?}", kib.len()));
        }
        Ok(kib[kib.len() / 2])
    };
    let warm_kib = median(WARM)?;
    Ok(Memory {
        warm_kib,
        late_kib: median(LATE)?,
        kib_per_minute: slope(&within((1.0 / 3.0, 1.0))),
        bound_kib: warm_kib * (1.0 + SHARE) + ALLOWED_KIB,
    })
}

/// Of the line that least squares lay through points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = f64::from(u32::try_from(points.len()).unwrap());
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    above / below
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten minutes, sampled every five seconds.
    fn judged(kib: impl Fn(f64) -> f64) -> Memory {
        let samples: Vec<_> = (0..120)
            .map(|n| (Duration::from_secs(5) * n, kib(f64::from(n) / 12.0)))
            .collect();
        judge(&samples, Duration::from_mins(10)).unwrap()
    }

    #[test]
    fn what_fills_up_at_first_and_stays_is_flat() {
        judged(|minutes| 60_000.0 + 20_000.0 * minutes.min(1.5))
            .is_flat()
            .unwrap();
    }

    #[test]
    fn three_mebibytes_a_minute_are_not_flat() {
        let memory = judged(|minutes| 60_000.0 + 3.0 * 1024.0 * minutes);
        assert!((memory.kib_per_minute - 3.0 * 1024.0).abs() < 1.0, "{memory:?}");
        memory.is_flat().unwrap_err();
    }

    #[test]
    fn a_peak_in_between_is_no_growth() {
        judged(|minutes| {
            if (4.0..6.0).contains(&minutes) {
                200_000.0
            } else {
                60_000.0
            }
        })
        .is_flat()
        .unwrap();
    }

    #[test]
    fn too_few_samples_are_no_judgement() {
        judge(&[(Duration::from_secs(1), 1.0)], Duration::from_mins(10)).unwrap_err();
    }
}
