//! What is known of an environment that cannot be read: whose fault it is, and when to try again.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::error::Error;

/// What a read may have failed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection: the database may be away.
    Connection,
    /// The database refused this read, or did not answer it in time.
    Read,
    /// What was read cannot be understood.
    Rows,
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        match error {
            Error::Malformed(_) => Self::Rows,
            Error::TimedOut => Self::Read,
            Error::Database(error) if error.as_db_error().is_some_and(is_of_the_statement) => Self::Read,
            Error::Database(_)
            | Error::Pool(_)
            | Error::Standby
            | Error::Deaf
            | Error::ElsewhereThanPool
            | Error::Closed => Self::Connection,
        }
    }
}

/// Whether PostgreSQL refused what was asked, and did not end the connection instead: classes 08, 53 and 57P of SQLSTATE.
fn is_of_the_statement(error: &tokio_postgres::error::DbError) -> bool {
    let code = error.code().code();
    !["08", "53", "57P"].iter().any(|class| code.starts_with(class))
}

/// How long to wait before an environment that failed twice is read again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pauses {
    /// At first.
    pub(super) least: Duration,
    /// At most.
    pub(super) most: Duration,
}

/// Reads of an environment that have failed one after the other.
#[derive(Debug)]
pub(super) struct Failures {
    count: u32,
    last: Fault,
    last_at: Instant,
    backoff: Backoff,
}

impl Failures {
    pub(super) fn new(pauses: Pauses) -> Self {
        Self {
            count: 0,
            last: Fault::Connection,
            last_at: Instant::now(),
            backoff: Backoff::new(pauses.least, pauses.most),
        }
    }

    /// One more. Returns how long to wait before the next try. `None`: no longer than until the database answers.
    pub(super) fn add(&mut self, fault: Fault, now: Instant) -> Option<Duration> {
        self.count = self.count.saturating_add(1);
        (self.last, self.last_at) = (fault, now);
        (self.count > 1).then(|| self.backoff.next())
    }

    /// Whether the environment is at fault, given that the database answered what was asked at this time. A connection that broke
    /// once says nothing of the environment; one that breaks whenever it is read does.
    pub(super) fn are_its_own(&self, answered: Instant) -> bool {
        match self.last {
            Fault::Rows => true,
            Fault::Read => answered >= self.last_at,
            Fault::Connection => self.count > 1 && answered >= self.last_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failures(faults: &[Fault]) -> (Failures, Instant) {
        let now = Instant::now();
        let mut failures = Failures::new(Pauses {
            least: SECOND,
            most: 4 * SECOND,
        });
        for fault in faults {
            failures.add(*fault, now);
        }
        (failures, now)
    }

    #[test]
    fn nobody_is_at_fault_while_the_database_has_not_answered_since() {
        for fault in [Fault::Read, Fault::Connection] {
            let (mut failures, before) = failures(&[fault]);
            failures.add(fault, before + SECOND);
            assert!(!failures.are_its_own(before));
            assert!(failures.are_its_own(before + SECOND));
        }
        let (mut failures, before) = failures(&[]);
        failures.add(Fault::Rows, before + SECOND);
        assert!(failures.are_its_own(before));
    }

    #[test]
    fn a_connection_that_broke_once_says_nothing() {
        for (faults, expected) in [
            (&[Fault::Connection][..], false),
            (&[Fault::Read], true),
            (&[Fault::Connection, Fault::Connection], true),
        ] {
            let (failures, now) = failures(faults);
            assert_eq!(failures.are_its_own(now + SECOND), expected, "{faults:?}");
        }
    }

    #[test]
    fn the_first_failure_waits_for_the_database_alone_and_others_longer_and_longer() {
        let (mut failures, now) = failures(&[]);
        assert_eq!(failures.add(Fault::Read, now), None);
        for most in [SECOND, 2 * SECOND, 4 * SECOND, 4 * SECOND] {
            let pause = failures.add(Fault::Read, now).unwrap();
            assert!(pause >= most / 2 && pause <= most, "{pause:?}");
        }
    }
}
