//! When requests are due, and which of them count. Pure: times are given, none is read.

use std::time::Duration;

use crate::config::Window;

/// Requests that are due evenly, from the first moment on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    per_second: f64,
}

impl Schedule {
    /// So many a second; more than none.
    pub fn new(per_second: f64) -> Self {
        Self { per_second }
    }

    /// When a request is due, from the beginning.
    #[expect(
        clippy::cast_precision_loss,
        reason = "so many requests that doubles do not count them take thousands of years"
    )]
    pub fn due(self, n: u64) -> Duration {
        Duration::try_from_secs_f64(n as f64 / self.per_second).unwrap_or(Duration::MAX)
    }
}

impl Window {
    /// Whether what was due at this time from the beginning counts.
    pub(super) fn counts(&self, due: Duration) -> bool {
        (self.warm_up..self.end()).contains(&due)
    }

    /// When it is over, from the beginning.
    pub(super) fn end(&self) -> Duration {
        self.warm_up + self.duration
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_evenly() {
        let schedule = Schedule::new(4.0);
        let due: Vec<_> = (0..4).map(|n| schedule.due(n).as_millis()).collect();
        assert_eq!(due, [0, 250, 500, 750]);
        assert_eq!(Schedule::new(0.001).due(1), Duration::from_secs(1_000));
        assert_eq!(Schedule::new(0.001).due(u64::MAX).as_secs(), 18_446_744_073_709_551_615);
    }

    #[test]
    fn what_is_due_while_warming_up_or_at_the_end_does_not_count() {
        let window = Window {
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(2),
        };
        for (milliseconds, counts) in [(0, false), (999, false), (1_000, true), (2_999, true), (3_000, false)] {
            assert_eq!(
                window.counts(Duration::from_millis(milliseconds)),
                counts,
                "{milliseconds}"
            );
        }
    }
}
