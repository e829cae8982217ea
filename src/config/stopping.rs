//! How a server or a sidecar stops.

use std::time::Duration;

use super::reader::{Noted, Reader};
use super::setting::Setting;
use super::values;

/// How a server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// How long it may take; what is still open then is closed by force.
    pub grace: Duration,
    /// Over how long the reconnects of its streams are spread. Shorter than the grace.
    pub drain_window: Duration,
}

const SHUTDOWN_GRACE: Setting = Setting::value("shutdown-grace", "DURATION", "How long stopping may take");
const DRAIN_WINDOW: Setting = Setting::value(
    "drain-window",
    "DURATION",
    "Over how long the streams' clients are told to spread their reconnects when stopping",
);
/// In production: the grace, and the part of it in which streams are told goodbye.
pub(super) const SERVE: &[Setting; 2] = &[SHUTDOWN_GRACE.default("30s"), DRAIN_WINDOW.default("10s")];
/// On a developer's machine, where nobody wants to wait.
pub(super) const DEV: &[Setting; 2] = &[SHUTDOWN_GRACE.default("5s"), DRAIN_WINDOW.default("0s")];

const HOUR: Duration = Duration::from_hours(1);

pub(super) fn read(reader: &mut Reader<'_>, &[grace, drain]: &[Setting; 2]) -> Result<Shutdown, Noted> {
    let whole = reader.required(grace, values::duration(Duration::ZERO..=HOUR));
    let drain_window = reader.required(drain, values::duration(Duration::ZERO..=HOUR));
    let (whole, drain_window) = (whole?, drain_window?);
    if drain_window > whole {
        let description = format!("must not be longer than {}: it is part of it", grace.argument());
        return Err(reader.refuse(drain.argument(), description));
    }
    Ok(Shutdown {
        grace: whole,
        drain_window,
    })
}
