//! What a server keeps of the past.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::reader::{Noted, Reader};
use super::setting::Setting;
use super::values;

/// What a server keeps of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// How many revisions streams may resume from, at least.
    pub horizon_revisions: NonZeroUsize,
    /// For how long a stream may resume from where it was, at least.
    pub horizon_age: Duration,
    /// How long history is kept, at least. `None`: for ever.
    pub retention: Option<Duration>,
    /// How often the rest is let go.
    pub interval: Duration,
}

pub(super) const RETENTION: Setting = Setting::value(
    "history-retention",
    "DURATION",
    "How long past revisions of flags can be looked at and gone back to, such as 2160h; by default for ever",
);
pub(super) const HORIZON_REVISIONS: Setting = Setting::value(
    "horizon-revisions",
    "COUNT",
    "How many revisions of an environment count as recent, however old they are",
)
.default("10000");
pub(super) const HORIZON_AGE: Setting = Setting::value(
    "horizon-age",
    "DURATION",
    "How long a revision counts as recent, however many there are",
)
.default("24h");
pub(super) const COMPACTION_INTERVAL: Setting = Setting::value(
    "compaction-interval",
    "DURATION",
    "How often it is looked for revisions that are no longer recent, or beyond the retention",
)
.default("10m");

const MOST_REVISIONS: usize = 1_000_000_000;
const HOUR: Duration = Duration::from_hours(1);
/// Longer than anyone keeps anything, and short enough for PostgreSQL to count back.
const CENTURY: Duration = Duration::from_hours(24 * 365 * 100);

pub(super) fn read(reader: &mut Reader<'_>) -> Result<History, Noted> {
    let retention = reader.optional(RETENTION, values::duration(HOUR..=CENTURY));
    let horizon_revisions = reader.required(HORIZON_REVISIONS, values::count(MOST_REVISIONS));
    let horizon_age = reader.required(HORIZON_AGE, values::duration(Duration::ZERO..=CENTURY));
    let interval = reader.required(
        COMPACTION_INTERVAL,
        values::duration(Duration::from_secs(1)..=24 * HOUR),
    );
    Ok(History {
        horizon_revisions: horizon_revisions?,
        horizon_age: horizon_age?,
        retention: retention?,
        interval: interval?,
    })
}
