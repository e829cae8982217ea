//! For how long events are taken.

use jiff::{SignedDuration, Timestamp};

use super::Outcome;
use crate::domain::limits;

/// For how long events are taken, and their ids remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How long ago an event may have happened, in days.
    pub days: u16,
}

impl Default for Window {
    fn default() -> Self {
        Self { days: 3 }
    }
}

impl Window {
    /// When an event happened that is received now, or why it is not taken.
    ///
    /// An event that is taken at all was received at most [`limits::EVENT_AHEAD_SECONDS`] before it happened, and every copy of it
    /// at most the window's days after. So ids that are remembered for [`Window::remembered_days`] are remembered for as long as
    /// anybody can send the event again.
    pub fn admit(self, occurred_at: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Outcome> {
        let Some(at) = occurred_at else { return Ok(now) };
        let age = now.duration_since(at);
        if age > SignedDuration::from_hours(24 * i64::from(self.days)) {
            Err(Outcome::Late)
        } else if age < -ahead() {
            Err(Outcome::Early)
        } else {
            Ok(at)
        }
    }

    /// How many days before the day of the receipt ids are remembered: one more than the window, since days begin at midnight and
    /// clocks differ.
    pub fn remembered_days(self) -> i32 {
        i32::from(self.days) + 1
    }
}

fn ahead() -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(limits::EVENT_AHEAD_SECONDS).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_within_the_window() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let window = Window { days: 3 };
        let check = |at: &str, expected: Result<(), Outcome>| {
            let at: Timestamp = at.parse().unwrap();
            assert_eq!(window.admit(Some(at), now), expected.map(|()| at), "{at}");
        };
        check("2026-02-26T12:00:00Z", Ok(()));
        check("2026-02-26T11:59:59.999Z", Err(Outcome::Late));
        check("0001-01-01T00:00:00Z", Err(Outcome::Late));
        check("2026-03-01T12:05:00Z", Ok(()));
        check("2026-03-01T12:05:00.001Z", Err(Outcome::Early));
        check("9999-01-01T00:00:00Z", Err(Outcome::Early));
        assert_eq!(window.admit(None, now), Ok(now));
    }

    /// The last moment at which a copy of an event is taken lies on a day whose look back includes the day of its first receipt,
    /// whenever that was.
    #[test]
    fn ids_are_remembered_for_as_long_as_their_events_are_taken() {
        let window = Window { days: 3 };
        let day = |at: Timestamp| at.to_zoned(jiff::tz::TimeZone::UTC).date();
        let ahead = SignedDuration::from_secs(i64::try_from(limits::EVENT_AHEAD_SECONDS).unwrap());
        for received in [
            "2026-03-01T00:00:00Z",
            "2026-03-01T12:00:00Z",
            "2026-03-01T23:59:59.999Z",
        ] {
            let received: Timestamp = received.parse().unwrap();
            let occurred = received + ahead;
            assert_eq!(window.admit(Some(occurred), received), Ok(occurred));
            let last = occurred + SignedDuration::from_hours(24 * 3);
            assert_eq!(window.admit(Some(occurred), last), Ok(occurred));
            let days = day(received).until(day(last)).unwrap().get_days();
            assert!(days <= window.remembered_days(), "{received}: {days}");
        }
    }
}
