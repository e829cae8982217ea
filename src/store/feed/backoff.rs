//! How long to wait before trying again.

use std::time::Duration;

/// Waits that double from the least to the most, each drawn at random from its upper half, so that replicas which lost their
/// database together do not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    attempt: u32,
}

impl Backoff {
    pub(super) fn new(least: Duration, most: Duration) -> Self {
        Self {
            least,
            most,
            attempt: 0,
        }
    }

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let delay = delay(self.least, self.most, self.attempt, random());
        self.attempt = self.attempt.saturating_add(1);
        delay
    }

    /// Begins again with the least: it has worked.
    pub(super) fn reset(&mut self) {
        self.attempt = 0;
    }
}

fn delay(least: Duration, most: Duration, attempt: u32, random: u32) -> Duration {
    let ceiling = least
        .saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX))
        .min(most);
    let share = f64::from(random) / f64::from(u32::MAX);
    ceiling.mul_f64(0.5 + share / 2.0)
}

/// Without randomness every wait is the longest, which is also right.
fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEAST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(5);

    #[test]
    fn waits_double_up_to_the_most() {
        let longest = |attempt| delay(LEAST, MOST, attempt, u32::MAX);
        assert_eq!(longest(0), LEAST);
        assert_eq!(longest(1), LEAST * 2);
        assert_eq!(longest(5), LEAST * 32);
        assert_eq!(longest(6), MOST);
    }

    #[test]
    fn a_success_begins_again() {
        let mut backoff = Backoff::new(LEAST, MOST);
        for _ in 0..10 {
            backoff.next();
        }
        backoff.reset();
        assert!(backoff.next() <= LEAST);
    }

    proptest! {
        #[test]
        fn a_wait_is_never_under_half_of_the_least_nor_over_the_most(attempt: u32, random: u32) {
            let wait = delay(LEAST, MOST, attempt, random);
            prop_assert!(wait >= LEAST / 2 && wait <= MOST, "{wait:?}");
        }
    }
}
