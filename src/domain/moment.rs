//! Moments, as conditions compare them: RFC 3339, and nothing looser.

use jiff::civil::{Date, date};

/// A moment in time, with nanoseconds.
///
/// Written `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)`, where `T` and `Z` may be lower case. Digits of the fraction beyond nine are
/// cut off. The leap second `:60` is the second before it. Every such text of the years 0000 to 9999 is a moment; `jiff`'s own
/// timestamps end a day before the last, which many write for "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Since 1970 began, in UTC.
    seconds: i64,
    /// Always forward.
    nanoseconds: u32,
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

impl Moment {
    /// Parses a moment. `None`: it is not written so, or there is no such day or time.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut rest = Rest(text.as_bytes());
        let year = rest.number(4)?;
        rest.literal(b'-')?;
        let month = rest.number(2)?;
        rest.literal(b'-')?;
        let day = rest.number(2)?;
        rest.literal(b'T')?;
        let hour = rest.number(2).filter(|hour| *hour < 24)?;
        rest.literal(b':')?;
        let minute = rest.number(2).filter(|minute| *minute < 60)?;
        rest.literal(b':')?;
        let second = rest.number(2).filter(|second| *second <= 60)?.min(59);
        let nanoseconds = rest.fraction()?;
        let offset = rest.offset()?;
        let time = i64::from(hour) * HOUR + i64::from(minute) * MINUTE + i64::from(second);
        let seconds = seconds_to(year, month, day)? + time - offset;
        rest.0.is_empty().then_some(Self { seconds, nanoseconds })
    }
}

/// The seconds from the beginning of 1970 to that of a day. `None`: there is no such day.
fn seconds_to(year: u32, month: u32, day: u32) -> Option<i64> {
    const BEGINNING: Date = date(1970, 1, 1);
    let (year, month, day) = (year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?);
    let day = Date::new(year, month, day).ok()?;
    Some(day.duration_since(BEGINNING).as_secs())
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// So many digits.
    fn number(&mut self, digits: usize) -> Option<u32> {
        let mut number = 0;
        for _ in 0..digits {
            number = number * 10 + digit(self.next()?)?;
        }
        Some(number)
    }

    /// One character; case does not count.
    fn literal(&mut self, wanted: u8) -> Option<()> {
        self.next().filter(|c| c.to_ascii_uppercase() == wanted).map(|_| ())
    }

    /// Nanoseconds: none, or a dot and at least one digit.
    fn fraction(&mut self) -> Option<u32> {
        if self.0.first() != Some(&b'.') {
            return Some(0);
        }
        self.next();
        let (mut nanoseconds, mut unit) = (0, 100_000_000);
        nanoseconds += digit(self.next()?)? * unit;
        while let Some(digit) = self.0.first().copied().and_then(digit) {
            self.next();
            unit /= 10;
            nanoseconds += digit * unit;
        }
        Some(nanoseconds)
    }

    /// How many seconds local time is ahead of UTC.
    fn offset(&mut self) -> Option<i64> {
        let sign = match self.next()? {
            b'Z' | b'z' => return Some(0),
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let hours = self.number(2).filter(|hours| *hours < 24)?;
        self.literal(b':')?;
        let minutes = self.number(2).filter(|minutes| *minutes < 60)?;
        Some(sign * (i64::from(hours) * HOUR + i64::from(minutes) * MINUTE))
    }
}

fn digit(c: u8) -> Option<u32> {
    c.is_ascii_digit().then(|| u32::from(c - b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moment(text: &str) -> Moment {
        Moment::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn moments_are_compared_wherever_they_were_written() {
        let check = |one: &str, same: &str| assert_eq!(moment(one), moment(same), "{one} and {same}");
        check("1970-01-01T00:00:00Z", "1970-01-01t01:30:00.000+01:30");
        check("2026-01-31T09:30:00Z", "2026-01-31t09:30:00z");
        check("2026-01-01T00:00:00+14:00", "2025-12-31T10:00:00-00:00");
        check("2024-02-29T12:00:00Z", "2024-02-28T12:01:00-23:59");
        check("2026-01-31T09:30:00.123456789Z", "2026-01-31T09:30:00.1234567899999Z");
        check("2026-01-31T09:30:00.5Z", "2026-01-31T09:30:00.500000000Z");
        check("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z");
        assert!(moment("2026-01-31T09:30:00.000000001Z") > moment("2026-01-31T09:30:00Z"));
        assert!(moment("1969-12-31T23:59:59.9Z") < moment("1970-01-01T00:00:00Z"));
        assert!(moment("9999-12-31T23:59:59Z") > moment("9999-12-31T23:59:58.999999999Z"));
        assert!(moment("0000-01-01T00:00:00+23:59") < moment("0000-01-01T00:00:00-23:59"));
    }

    #[test]
    fn nothing_looser_is_a_moment() {
        let loose = [
            "",
            "2026-01-31",
            "2026-01-31 09:30:00Z",
            "2026-01-31T09:30:00",
            "2026-01-31T09:30Z",
            "2026-01-31T09:30:00.Z",
            "2026-01-31T09:30:00,5Z",
            "2026-01-31T09:30:00+01",
            "2026-01-31T09:30:00+0100",
            "2026-01-31T09:30:00+24:00",
            "2026-01-31T09:30:00+01:60",
            "2026-01-31T09:30:00+01:00[Europe/Berlin]",
            "2026-01-31T24:00:00Z",
            "2026-01-31T09:60:00Z",
            "2026-01-31T09:30:61Z",
            "2026-02-29T09:30:00Z",
            "2026-13-01T09:30:00Z",
            "2026-00-01T09:30:00Z",
            "2026-01-00T09:30:00Z",
            "+2026-01-31T09:30:00Z",
            "-002026-01-31T09:30:00Z",
            "20260131T093000Z",
            "2026-01-31T09:30:00Z ",
            "2026-01-31T09:30:00−01:00",
            "２０２６-01-31T09:30:00Z",
        ];
        for text in loose {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn moments_are_those_of_the_library(seconds in -62_000_000_000_i64..253_000_000_000, nanoseconds in 0..1_000_000_000_i32) {
            let timestamp = jiff::Timestamp::new(seconds, nanoseconds).unwrap();
            // Before 1970 the library counts both backward.
            let floor = timestamp.as_nanosecond().div_euclid(1_000_000_000);
            let read = moment(&timestamp.to_string());
            prop_assert_eq!(i128::from(read.seconds), floor);
            prop_assert_eq!(i128::from(read.nanoseconds), timestamp.as_nanosecond().rem_euclid(1_000_000_000));
        }

        #[test]
        fn any_text_is_read_to_its_end(text in "\\PC{0,40}") {
            let _ = Moment::parse(&text);
        }
    }
}
