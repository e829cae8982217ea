//! How long to wait before connecting again: full jitter below a ceiling of 1 s ×1.6 up to 60 s, so that the clients of a server
//! that went away do not all come back at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);
const FACTOR: f64 = 1.6;
/// A stream that lived this long was healthy: the next failure is a first one again.
pub const HEALTHY: Duration = Duration::from_mins(1);

/// Counts the failures in a row.
#[derive(Debug)]
pub struct Backoff {
    ceiling: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Backoff {
    /// None has failed yet.
    pub fn new() -> Self {
        Self { ceiling: FIRST }
    }

    /// The next wait. `random` is drawn evenly from all its values.
    pub fn next(&mut self, random: u32) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = ceiling.mul_f64(FACTOR).min(LONGEST);
        ceiling.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// There was a healthy stream, or the server asked for the end of it.
    pub fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ceiling_grows_to_a_minute() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..11).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(
            waits,
            [
                1_000, 1_600, 2_560, 4_096, 6_553, 10_485, 16_777, 26_843, 42_949, 60_000, 60_000
            ]
        );
        backoff.reset();
        assert_eq!(backoff.next(u32::MAX), FIRST);
    }

    #[test]
    fn a_wait_may_be_none_at_all() {
        assert_eq!(Backoff::new().next(0), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn waits_lie_below_their_ceiling(randoms in proptest::collection::vec(any::<u32>(), 1..30)) {
            let (mut backoff, mut most) = (Backoff::new(), Backoff::new());
            for random in randoms {
                let (wait, ceiling) = (backoff.next(random), most.next(u32::MAX));
                prop_assert!(wait <= ceiling && ceiling <= LONGEST);
                // Even jitter: what is drawn in the middle waits half as long.
                let half = ceiling.mul_f64(f64::from(random) / f64::from(u32::MAX));
                prop_assert_eq!(wait, half);
            }
        }
    }
}
