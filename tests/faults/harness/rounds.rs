//! The time that a fault has.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::support::eventually::PATIENCE;

/// Ticks until the fault's time is over. The waiting is the fault: the load goes on meanwhile.
pub struct Rounds {
    ticks: Interval,
    end: Instant,
}

impl Rounds {
    pub fn new(every: Duration, end: Instant) -> Self {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, end }
    }

    /// Whether there is another round; returns when it begins.
    pub async fn next(&mut self) -> bool {
        self.ticks.tick().await;
        Instant::now() < self.end
    }

    /// The same, and for longer while nothing is shown yet: where everything is slow a fault's time may be over first.
    pub async fn next_until(&mut self, is_shown: bool) -> bool {
        self.next().await || (!is_shown && Instant::now() < self.end + PATIENCE)
    }
}
