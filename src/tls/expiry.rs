//! When it is time to say that a certificate ends: while it can still be renewed, when it has ended, and again every day.

/// How much time has to be left for nothing to be said, in seconds. As much as the alert of `docs/tls.md` leaves.
const SOON_SECONDS: i64 = 14 * 24 * 3_600;
/// Between two times that the same is said, in seconds.
const AGAIN_SECONDS: i64 = 24 * 3_600;

/// What there is to say of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It ends soon.
    Soon,
    /// It has ended.
    Past,
}

/// What was said of a certificate, and when. All times are in seconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Reminder {
    said: Option<(Ending, i64)>,
}

impl Reminder {
    /// What is to be said now of a certificate that ends then.
    pub fn due(&mut self, expires: i64, now: i64) -> Option<Ending> {
        let ending = if expires <= now {
            Ending::Past
        } else if expires - now <= SOON_SECONDS {
            Ending::Soon
        } else {
            return None;
        };
        let is_known = self
            .said
            .is_some_and(|(said, when)| said == ending && now < when.saturating_add(AGAIN_SECONDS));
        if is_known {
            return None;
        }
        self.said = Some((ending, now));
        Some(ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600;
    const NOW: i64 = 1_800_000_000;

    #[test]
    fn nothing_is_said_while_there_is_time() {
        let mut reminder = Reminder::default();
        assert_eq!(reminder.due(NOW + 14 * DAY + 1, NOW), None);
        assert_eq!(reminder.due(i64::MAX, NOW), None);
    }

    #[test]
    fn it_is_said_once_a_day_and_when_it_ends() {
        let mut reminder = Reminder::default();
        let expires = NOW + 30 * DAY;
        let mut said = Vec::new();
        for now in (NOW..expires + 2 * DAY).step_by(60) {
            said.extend(reminder.due(expires, now));
        }
        assert_eq!(said, [[Ending::Soon; 14].as_slice(), &[Ending::Past; 2]].concat());
    }

    #[test]
    fn the_end_is_said_at_once_however_lately_it_was_said_to_be_near() {
        let mut reminder = Reminder::default();
        assert_eq!(reminder.due(NOW + 2, NOW), Some(Ending::Soon));
        assert_eq!(reminder.due(NOW + 2, NOW + 1), None);
        assert_eq!(reminder.due(NOW + 2, NOW + 2), Some(Ending::Past));
        assert_eq!(reminder.due(NOW + 2, NOW + 3), None);
    }

    #[test]
    fn a_certificate_that_was_renewed_is_passed_over() {
        let mut reminder = Reminder::default();
        assert_eq!(reminder.due(NOW, NOW), Some(Ending::Past));
        assert_eq!(reminder.due(NOW + 90 * DAY, NOW + 1), None);
    }
}
