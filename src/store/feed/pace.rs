//! How often something is asked of PostgreSQL that others wait for.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// At most so much longer than the least is a pause.
const MOST: u32 = 3;

/// Pauses between rounds, so that what comes in close succession shares one: the first round waits for nothing. Where rounds take
/// long, PostgreSQL has much to do, and the pauses become longer: rounds take up to a third of the time and no more.
#[derive(Debug)]
pub(super) struct Pace {
    least: Duration,
    not_before: Instant,
}

impl Pace {
    /// `least` is the time between the beginnings of two rounds; zero: nothing ever pauses.
    pub(super) fn new(least: Duration) -> Self {
        Self {
            least,
            not_before: Instant::now(),
        }
    }

    /// Whether a round may begin. To be asked before [`due`](Self::due): a timer, even one that is due, may take a millisecond or two.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.not_before
    }

    /// Waits until a round may begin.
    pub(super) async fn due(&self) {
        sleep_until(self.not_before).await;
    }

    /// A round begins.
    pub(super) fn began(&mut self) {
        self.not_before = Instant::now() + self.least;
    }

    /// A round has ended that took so long.
    pub(super) fn took(&mut self, time: Duration) {
        let pause = time.saturating_mul(2).min(self.least.saturating_mul(MOST));
        self.not_before = self.not_before.max(Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// How long the next round waits.
    async fn waited(pace: &Pace) -> Duration {
        let began_at = Instant::now();
        if !pace.is_due() {
            pace.due().await;
        }
        began_at.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn only_rounds_in_close_succession_wait_and_longer_where_they_take_long() {
        let mut pace = Pace::new(ms(5));
        assert_eq!(waited(&pace).await, ms(0));
        pace.began();
        pace.took(ms(1));
        assert_eq!(waited(&pace).await, ms(5), "short ones wait for the least");
        pace.began();
        tokio::time::advance(ms(7)).await;
        pace.took(ms(7));
        assert_eq!(waited(&pace).await, ms(14), "twice what the last took");
        pace.began();
        tokio::time::advance(ms(900)).await;
        pace.took(ms(900));
        assert_eq!(waited(&pace).await, ms(15), "and three times the least at most");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_pause_nothing_waits() {
        let mut pace = Pace::new(ms(0));
        pace.began();
        pace.took(ms(900));
        assert_eq!(waited(&pace).await, ms(0));
    }
}
