//! The caller's deadline, from the `grpc-timeout` header.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};

const HEADER: HeaderName = HeaderName::from_static("grpc-timeout");

/// We answer a little earlier than the deadline, a tenth of the time but this much at most: the answer has to travel, and the
/// transport, should its timer fire first, only knows to cancel.
const LONGEST_MARGIN: Duration = Duration::from_millis(20);

/// By when a request must be answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Reads the header; none, or one that is malformed, is no deadline.
    pub fn of(headers: &HeaderMap) -> Self {
        let header = headers.get(HEADER).and_then(|value| value.to_str().ok());
        let timeout = header.and_then(parse);
        Self(
            timeout.and_then(|timeout| {
                Instant::now().checked_add(timeout.saturating_sub((timeout / 10).min(LONGEST_MARGIN)))
            }),
        )
    }

    /// This deadline, or `end` if that is earlier.
    #[must_use]
    pub fn at_most(self, end: Instant) -> Self {
        Self(Some(self.0.map_or(end, |deadline| deadline.min(end))))
    }

    /// The moment, on the monotonic clock. `None`: none.
    pub fn instant(self) -> Option<Instant> {
        self.0
    }

    /// The moment at which to give up waiting for something: `longest` from now, or so early that the caller still learns why.
    pub fn patience(self, longest: Duration) -> Instant {
        const TO_ANSWER: Duration = Duration::from_millis(5);
        let end = Instant::now() + longest;
        match self.0 {
            Some(deadline) => end.min(deadline.checked_sub(TO_ANSWER).unwrap_or(deadline)),
            None => end,
        }
    }
}

/// One to eight digits and a unit, as the gRPC specification of HTTP/2 has it.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_has_them() {
        let check = |text: &str, expected: Option<Duration>| assert_eq!(parse(text), expected, "{text:?}");
        check("1S", Some(Duration::from_secs(1)));
        check("250m", Some(Duration::from_millis(250)));
        check("99999999H", Some(Duration::from_hours(99_999_999)));
        check("3u", Some(Duration::from_micros(3)));
        check("3n", Some(Duration::from_nanos(3)));
        check("", None);
        check("S", None);
        check("1", None);
        check("-1S", None);
        check("123456789S", None);
        check("1ß", None);
    }
}
