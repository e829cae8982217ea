//! How a server or a sidecar streams.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::reader::{Noted, Reader};
use super::setting::Setting;
use super::{tuning, values};

/// How a server streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// How often a client that does not say gets a heartbeat.
    pub heartbeat: Duration,
    /// The shortest and the longest interval of heartbeats that a client may ask for.
    pub heartbeat_bounds: (Duration, Duration),
    /// After how long a stream is asked to move on, so that clients spread over the servers.
    pub rotation: Duration,
    /// How many bytes of snapshots may be on their way at a time.
    pub snapshot_bytes: NonZeroUsize,
    /// How many may be open.
    pub most: NonZeroUsize,
    /// How many of them one environment key may have opened.
    pub most_of_key: NonZeroUsize,
}

pub(super) const HEARTBEAT: Setting = Setting::value(
    "heartbeat",
    "DURATION",
    "How often streams whose client does not say carry a heartbeat",
)
.default("10s");
pub(super) const ROTATION: Setting = Setting::value(
    "stream-rotation",
    "DURATION",
    "After how long streams are asked to reconnect, give or take a fifth",
)
.default("30m");
pub(super) const MAX_SNAPSHOT_BYTES: Setting = Setting::value(
    "max-snapshot-bytes",
    "BYTES",
    "How many bytes of whole states may be on their way to streams at a time; other streams wait for their turn",
)
.default("134217728");
pub(super) const MAX_STREAMS: Setting =
    Setting::value("max-streams", "COUNT", "How many streams may be open").default("50000");
pub(super) const MAX_KEY_STREAMS: Setting = Setting::value(
    "max-key-streams",
    "COUNT",
    "How many of the open streams may be of one environment key",
)
.default("25000");

const MOST_STREAMS: usize = 10_000_000;
const MOST_SNAPSHOT_BYTES: usize = u32::MAX as usize;
const DAY: Duration = Duration::from_hours(24);

pub(super) fn read(reader: &mut Reader<'_>) -> Result<Streams, Noted> {
    let heartbeat = tuning::heartbeat(reader);
    let rotation = reader.required(ROTATION, values::duration(Duration::from_secs(1)..=DAY));
    let snapshot_bytes = reader.required(MAX_SNAPSHOT_BYTES, values::count(MOST_SNAPSHOT_BYTES));
    let most = reader.required(MAX_STREAMS, values::count(MOST_STREAMS));
    let most_of_key = reader.required(MAX_KEY_STREAMS, values::count(MOST_STREAMS));
    let (heartbeat, heartbeat_bounds) = heartbeat?;
    Ok(Streams {
        heartbeat,
        heartbeat_bounds,
        rotation: rotation?,
        snapshot_bytes: snapshot_bytes?,
        most: most?,
        most_of_key: most_of_key?,
    })
}
