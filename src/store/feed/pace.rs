//! How often something is asked of PostgreSQL that others wait for.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// So much longer than the least a pause becomes.
const MOST: u32 = 10;

/// Pauses between rounds, so that changes in close succession share one: the first waits for nothing. A pause is the longer the more
/// changes the round before had. So changes one after another hardly wait, and who writes very much is not slowed down by being
/// followed.
#[derive(Debug)]
pub(super) struct Pace {
    least: Duration,
    not_before: Instant,
}

impl Pace {
    /// `least` is the time from the beginning of a round with one change to that of the next; zero: nothing ever pauses.
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

    /// A round begins that has so many changes.
    pub(super) fn began(&mut self, changes: usize) {
        let times = u32::try_from(changes).unwrap_or(MOST).clamp(1, MOST);
        self.not_before = Instant::now() + self.least.saturating_mul(times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// How long a round of so many changes waits.
    async fn waited(pace: &mut Pace, changes: usize) -> Duration {
        let began_at = Instant::now();
        if !pace.is_due() {
            pace.due().await;
        }
        pace.began(changes);
        began_at.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn only_rounds_in_close_succession_wait_and_longer_after_many_changes() {
        let mut pace = Pace::new(ms(2));
        assert_eq!(waited(&mut pace, 1).await, ms(0));
        assert_eq!(waited(&mut pace, 3).await, ms(2));
        assert_eq!(waited(&mut pace, 0).await, ms(6));
        assert_eq!(waited(&mut pace, 1_000).await, ms(2));
        assert_eq!(waited(&mut pace, 1).await, ms(20));
        tokio::time::advance(ms(2)).await;
        assert_eq!(waited(&mut pace, 1).await, ms(0));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_pause_nothing_waits() {
        let mut pace = Pace::new(ms(0));
        for changes in [1, 100, 1] {
            assert_eq!(waited(&mut pace, changes).await, ms(0));
        }
    }
}
