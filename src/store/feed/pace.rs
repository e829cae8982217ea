//! How often something is asked of PostgreSQL that others wait for.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// So much longer than the least a pause becomes.
const MOST: u32 = 4;

/// Pauses between rounds, so that what comes in close succession shares one: the first round waits for nothing. While more keeps coming
/// within the pauses they become longer, each twice as long as the one before: who writes much is not slowed down by being followed.
#[derive(Debug)]
pub(super) struct Pace {
    least: Duration,
    pause: Duration,
    not_before: Instant,
    /// Something waits for the next round.
    held: bool,
}

impl Pace {
    /// `least` is the time between the beginnings of two rounds; zero: nothing ever pauses.
    pub(super) fn new(least: Duration) -> Self {
        Self {
            least,
            pause: least,
            not_before: Instant::now(),
            held: false,
        }
    }

    /// Whether a round may begin, for which there is something. To be asked before [`due`](Self::due): a timer, even one that is due, may
    /// take a millisecond or two.
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = Instant::now() >= self.not_before;
        self.held |= !is_due;
        is_due
    }

    /// Waits until a round may begin.
    pub(super) async fn due(&self) {
        sleep_until(self.not_before).await;
    }

    /// A round begins.
    pub(super) fn began(&mut self) {
        let longer = self.pause.saturating_mul(2).min(self.least.saturating_mul(MOST));
        self.pause = if std::mem::take(&mut self.held) {
            longer
        } else {
            self.least
        };
        self.not_before = Instant::now() + self.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// How long a round waits that there is something for now.
    async fn waited(pace: &mut Pace) -> Duration {
        let began_at = Instant::now();
        if !pace.is_due() {
            pace.due().await;
        }
        pace.began();
        began_at.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn only_rounds_in_close_succession_wait_and_longer_the_more_there_are() {
        let mut pace = Pace::new(ms(5));
        for expected in [0, 5, 10, 20, 20] {
            assert_eq!(waited(&mut pace).await, ms(expected));
        }
        tokio::time::advance(ms(20)).await;
        assert_eq!(waited(&mut pace).await, ms(0), "nothing came in the pause");
        tokio::time::advance(ms(3)).await;
        assert_eq!(waited(&mut pace).await, ms(2), "the least again");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_pause_nothing_waits() {
        let mut pace = Pace::new(ms(0));
        for _ in 0..3 {
            assert_eq!(waited(&mut pace).await, ms(0));
        }
    }
}
