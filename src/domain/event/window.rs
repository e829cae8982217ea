//! For how long events are taken.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

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
    pub fn admit(self, id: Uuid, occurred_at: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Outcome> {
        if made_at(id).is_some_and(|made| made.duration_since(now) > ahead()) {
            return Err(Outcome::Early);
        }
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

/// By how much the clocks of a replica and of the database may differ.
const DIFFERENCE: SignedDuration = SignedDuration::from_mins(55);

/// The first day, in UTC, on which any copy of an event can have been received, if its id says: one of version 7 tells when it was made,
/// and is taken only if that is hardly ahead ([`Window::admit`]). So days before need not be searched for it, whatever else a copy
/// says.
pub fn first_received(id: Uuid) -> Option<Date> {
    made_at(id).map(first_day)
}

/// The first day, in UTC, on which a copy of an event can have been received that happened then.
pub fn first_received_at(id: Uuid, occurred_at: Timestamp) -> Date {
    let first = first_day(occurred_at);
    first_received(id).map_or(first, |made| made.max(first))
}

/// The first day on which something can have been received that is hardly ahead.
fn first_day(of: Timestamp) -> Date {
    let earliest = of.checked_sub(ahead() + DIFFERENCE).unwrap_or(Timestamp::MIN);
    earliest.to_zoned(TimeZone::UTC).date()
}

/// When an id was made, if it says: RFC 9562, section 5.7, has milliseconds since 1970 in the first 48 bits of version 7.
fn made_at(id: Uuid) -> Option<Timestamp> {
    if id.get_version_num() != 7 {
        return None;
    }
    let milliseconds = i64::try_from(id.as_u128() >> 80).unwrap_or(i64::MAX);
    Some(Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX))
}

fn ahead() -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(limits::EVENT_AHEAD_SECONDS).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An id that says nothing.
    const ANY: Uuid = Uuid::from_u128(0x4000_8000_0000_0000_0000);

    /// An id of version 7 that was made then.
    fn made(at: &str) -> Uuid {
        let at: Timestamp = at.parse().unwrap();
        let milliseconds = u128::try_from(at.as_millisecond()).unwrap();
        Uuid::from_u128(milliseconds << 80 | 0x7000_8000_0000_0000_0000)
    }

    #[test]
    fn an_id_that_tells_when_it_was_made_is_not_taken_before() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let admit = |id| Window::default().admit(id, None, now);
        assert_eq!(admit(made("2026-03-01T12:05:00Z")), Ok(now));
        assert_eq!(admit(made("2026-03-01T12:05:00.001Z")), Err(Outcome::Early));
        assert_eq!(admit(made("1970-01-01T00:00:00Z")), Ok(now));
        let last = Uuid::from_u128(u128::MAX << 80 | 0x7000_8000_0000_0000_0000);
        assert_eq!(admit(last), Err(Outcome::Early));
        assert_eq!(admit(ANY), Ok(now));
    }

    #[test]
    fn days_before_an_id_was_made_are_not_searched() {
        let check = |id, expected: Option<&str>| {
            assert_eq!(first_received(id).map(|day| day.to_string()).as_deref(), expected);
        };
        check(made("2026-03-01T12:00:00Z"), Some("2026-03-01"));
        check(made("2026-03-01T01:00:00Z"), Some("2026-03-01"));
        check(made("2026-03-01T00:59:59.999Z"), Some("2026-02-28"));
        check(made("1970-01-01T00:00:00Z"), Some("1969-12-31"));
        check(ANY, None);
    }

    #[test]
    fn no_copy_is_received_before_it_happened_and_its_id_was_made() {
        let check = |id, at: &str, expected: &str| {
            assert_eq!(first_received_at(id, at.parse().unwrap()).to_string(), expected);
        };
        check(ANY, "2026-03-01T01:00:00Z", "2026-03-01");
        check(ANY, "2026-03-01T00:59:59Z", "2026-02-28");
        check(made("2026-03-04T12:00:00Z"), "2026-03-01T12:00:00Z", "2026-03-04");
        check(made("2026-02-01T12:00:00Z"), "2026-03-01T12:00:00Z", "2026-03-01");
    }

    #[test]
    fn events_are_taken_within_the_window() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let window = Window { days: 3 };
        let check = |at: &str, expected: Result<(), Outcome>| {
            let at: Timestamp = at.parse().unwrap();
            assert_eq!(window.admit(ANY, Some(at), now), expected.map(|()| at), "{at}");
        };
        check("2026-02-26T12:00:00Z", Ok(()));
        check("2026-02-26T11:59:59.999Z", Err(Outcome::Late));
        check("0001-01-01T00:00:00Z", Err(Outcome::Late));
        check("2026-03-01T12:05:00Z", Ok(()));
        check("2026-03-01T12:05:00.001Z", Err(Outcome::Early));
        check("9999-01-01T00:00:00Z", Err(Outcome::Early));
        assert_eq!(window.admit(ANY, None, now), Ok(now));
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
            assert_eq!(window.admit(ANY, Some(occurred), received), Ok(occurred));
            let last = occurred + SignedDuration::from_hours(24 * 3);
            assert_eq!(window.admit(ANY, Some(occurred), last), Ok(occurred));
            let days = day(received).until(day(last)).unwrap().get_days();
            assert!(days <= window.remembered_days(), "{received}: {days}");
        }
    }
}
