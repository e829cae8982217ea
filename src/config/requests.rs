//! How requests are bounded.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::reader::{Noted, Reader};
use super::setting::Setting;
use super::values;

/// How requests are bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requests {
    /// Requests a second of one credential. `None`: as many as it likes.
    pub key_rate: Option<NonZeroU32>,
    /// Calls in flight; streams are not among them.
    pub most: NonZeroUsize,
    /// The longest that a call may take.
    pub longest: Duration,
}

pub(super) const MAX_KEY_RATE: Setting = Setting::value(
    "max-key-rate",
    "COUNT",
    "How many requests a second one environment key, service token or person may make, and as many at once; by default any number",
);
pub(super) const MAX_REQUESTS: Setting = Setting::value(
    "max-requests",
    "COUNT",
    "How many calls may be in flight, streams not among them: six tenths evaluations, a tenth each events, administration, logins, \
     and callers who are still being looked up",
)
.default("10000");
pub(super) const MAX_DEADLINE: Setting = Setting::value(
    "max-deadline",
    "DURATION",
    "How long a call may take whose client sets no deadline or a longer one; deletes, activations of uploads, results of experiments \
     and verifications of chains may take 6 minutes also if this is less, and streams as long as they like",
)
.default("1m");

const MOST_RATE: usize = 1_000_000_000;
const MOST_REQUESTS: usize = 10_000_000;
const DEADLINES: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);

pub(super) fn read(reader: &mut Reader<'_>) -> Result<Requests, Noted> {
    let key_rate = reader.optional(MAX_KEY_RATE, values::count(MOST_RATE));
    let most = reader.required(MAX_REQUESTS, values::count(MOST_REQUESTS));
    let longest = reader.required(MAX_DEADLINE, values::duration(DEADLINES));
    Ok(Requests {
        key_rate: key_rate?.and_then(|rate| NonZeroU32::try_from(rate).ok()),
        most: most?,
        longest: longest?,
    })
}
