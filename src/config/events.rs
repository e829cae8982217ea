//! How long events of experiments are taken, and kept.

use super::reader::{Noted, Reader};
use super::setting::Setting;
use super::values;

/// How long events of experiments are taken, and kept, in whole days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events {
    /// For how many days after it happened an event is taken, and counts once.
    pub window_days: u16,
    /// For how many days an event is kept.
    pub retention_days: u16,
}

pub(super) const WINDOW: Setting = Setting::value(
    "event-window-days",
    "DAYS",
    "For how many days after it happened an event of an experiment is taken, and counts once however often it is sent",
)
.default("3");
pub(super) const RETENTION: Setting = Setting::value(
    "event-retention-days",
    "DAYS",
    "For how many days events of experiments are kept; results of experiments that began before say that they lack some",
)
.default("400");

/// Every id of the window's days is looked up for each event: a month is enough for any client.
const MOST_WINDOW: usize = 30;
/// A century.
const MOST_RETENTION: usize = 36_500;

pub(super) fn read(reader: &mut Reader<'_>) -> Result<Events, Noted> {
    let window = reader.required(WINDOW, values::count(MOST_WINDOW));
    let retention = reader.required(RETENTION, values::count(MOST_RETENTION));
    let (window, retention) = (window?, retention?);
    if retention < window {
        let description = format!("must not be less than {}", WINDOW.argument());
        return Err(reader.refuse(RETENTION.argument(), description));
    }
    let days = |days: std::num::NonZeroUsize| u16::try_from(days.get()).unwrap_or(u16::MAX);
    Ok(Events {
        window_days: days(window),
        retention_days: days(retention),
    })
}
