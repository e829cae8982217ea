//! Durations and sizes that are right for nearly everybody. `docs/tuning.md` lists them; `--help` has them under a heading of their
//! own, `-h` leaves them out.

mod settings;

use std::num::NonZeroUsize;
use std::time::Duration;

use super::reader::{Noted, Reader};
use super::streams::HEARTBEAT;
use super::values;
use settings::{
    AHEAD_WAIT, Bounded, CONFIRM_SPACING, DEAF_RETRY, EVENT_QUEUE_BYTES, FEED_GATHER, HEARTBEAT_LEAST, HEARTBEAT_MOST,
    KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, LISTENER_CONNECT_TIMEOUT, LOAD_TIMEOUT, NOTIFY_COALESCE,
    POLL_INTERVAL, PROBE_INTERVAL, PROBE_TIMEOUT, QUERY_TIMEOUT, RECONNECT_LEAST, RECONNECT_MOST, RESUME_BYTES,
    RESUME_REVISIONS, ROTATION_PAUSE, SCAN_INTERVAL, SIDECAR_AHEAD_WAIT, STATE_NOTE_INTERVAL, STATE_SAVE_INTERVAL,
    STREAM_STALL, UPSTREAM_CONNECT_TIMEOUT, UPSTREAM_HEARTBEAT, UPSTREAM_OPEN_TIMEOUT, UPSTREAM_REFUSED_RETRY,
};

#[cfg(test)]
pub(super) use settings::{COUNTS, DURATIONS};
pub(super) use settings::{SERVE, SIDECAR};

/// What a server can be tuned by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// How it streams.
    pub streams: StreamTuning,
    /// How it follows the database.
    pub following: Following,
    /// How it notices that a peer is gone.
    pub keepalive: Keepalive,
    /// How it takes events in.
    pub events: EventTuning,
}

/// How events of experiments are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTuning {
    /// How many bytes of them may wait to be written.
    pub queue_bytes: NonZeroUsize,
}

/// How streams are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamTuning {
    /// The longest that a client of a rotated stream is asked to wait.
    pub rotation_pause: Duration,
    /// How long a client that is ahead waits for this server to catch up.
    pub ahead_wait: Duration,
    /// How long a client may leave what it was sent unread.
    pub stall: Duration,
    /// How many revisions of an environment are kept for clients to resume from.
    pub resume_revisions: NonZeroUsize,
    /// How many bytes those may take.
    pub resume_bytes: NonZeroUsize,
}

/// How the database is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Following {
    /// Between polls of what has changed.
    pub poll_interval: Duration,
    /// Between polls of everything.
    pub scan_interval: Duration,
    /// Between probes of the listener's connection.
    pub probe_interval: Duration,
    /// Within which a probe comes back. Shorter than the interval.
    pub probe_timeout: Duration,
    /// How long the notifier waits for more to tell.
    pub coalesce: Duration,
    /// Between two readings of what was hinted at.
    pub gather: Duration,
    /// Within which the listener is connected.
    pub connect_timeout: Duration,
    /// Within which a small query is answered.
    pub query_timeout: Duration,
    /// Within which an environment is read.
    pub load_timeout: Duration,
    /// Before the listener connects again, at first.
    pub reconnect_least: Duration,
    /// Before the listener connects again, at most.
    pub reconnect_most: Duration,
    /// Before the listener tries again on a path without notifications.
    pub deaf_retry: Duration,
    /// Between reads made for clients that know more than this server.
    pub confirm_spacing: Duration,
}

/// How a connection that is gone is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// After so much silence it is asked whether it lives.
    pub interval: Duration,
    /// Within which it answers.
    pub timeout: Duration,
    /// How long one over HTTP/1.1 is kept that asks nothing.
    pub idle: Duration,
}

/// What a sidecar can be tuned by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidecarTuning {
    /// How it streams.
    pub streams: StreamTuning,
    /// How it notices that a peer is gone.
    pub keepalive: Keepalive,
    /// How it follows its upstream.
    pub upstream: UpstreamTiming,
}

/// How an upstream is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamTiming {
    /// How often the upstream is to say that it is there.
    pub heartbeat: Duration,
    /// Within which a connection stands.
    pub connect: Duration,
    /// Within which a stream says its first word.
    pub open: Duration,
    /// Before trying again what was refused for good.
    pub refused: Duration,
    /// Between two writes of the state file.
    pub save: Duration,
    /// Between two notes on disk that the state is still the newest.
    pub note: Duration,
}

/// Reads a server's.
pub(super) fn serve(reader: &mut Reader<'_>) -> Result<Tuning, Noted> {
    let streams = streams(reader, AHEAD_WAIT);
    let following = following(reader);
    let keepalive = keepalive(reader);
    let queue_bytes = reader.required(EVENT_QUEUE_BYTES.setting, values::count(EVENT_QUEUE_BYTES.most));
    Ok(Tuning {
        streams: streams?,
        following: following?,
        keepalive: keepalive?,
        events: EventTuning {
            queue_bytes: queue_bytes?,
        },
    })
}

/// Reads a sidecar's.
pub(super) fn sidecar(reader: &mut Reader<'_>) -> Result<SidecarTuning, Noted> {
    let streams = streams(reader, SIDECAR_AHEAD_WAIT);
    let keepalive = keepalive(reader);
    let upstream = upstream(reader);
    Ok(SidecarTuning {
        streams: streams?,
        keepalive: keepalive?,
        upstream: upstream?,
    })
}

/// Reads how often a client gets a heartbeat that does not say, and what others may ask for.
pub(super) fn heartbeat(reader: &mut Reader<'_>) -> Result<(Duration, (Duration, Duration)), Noted> {
    let least = read(reader, HEARTBEAT_LEAST);
    let most = read(reader, HEARTBEAT_MOST);
    let heartbeat = reader.required(HEARTBEAT, values::duration(HEARTBEAT_LEAST.least..=HEARTBEAT_MOST.most));
    let (heartbeat, least, most) = (heartbeat?, least?, most?);
    if heartbeat < least || heartbeat > most {
        let (least, most) = (HEARTBEAT_LEAST.setting.argument(), HEARTBEAT_MOST.setting.argument());
        let description = format!("must lie between {least} and {most}");
        return Err(reader.refuse(HEARTBEAT.argument(), description));
    }
    Ok((heartbeat, (least, most)))
}

fn streams(reader: &mut Reader<'_>, ahead_wait: Bounded) -> Result<StreamTuning, Noted> {
    let rotation_pause = read(reader, ROTATION_PAUSE);
    let ahead_wait = read(reader, ahead_wait);
    let stall = read(reader, STREAM_STALL);
    let resume_revisions = reader.required(RESUME_REVISIONS.setting, values::count(RESUME_REVISIONS.most));
    let resume_bytes = reader.required(RESUME_BYTES.setting, values::count(RESUME_BYTES.most));
    Ok(StreamTuning {
        rotation_pause: rotation_pause?,
        ahead_wait: ahead_wait?,
        stall: stall?,
        resume_revisions: resume_revisions?,
        resume_bytes: resume_bytes?,
    })
}

fn following(reader: &mut Reader<'_>) -> Result<Following, Noted> {
    let polls = ordered(reader, POLL_INTERVAL, SCAN_INTERVAL);
    let probe_timeout = read(reader, PROBE_TIMEOUT);
    let probe_interval = read(reader, PROBE_INTERVAL);
    let coalesce = read(reader, NOTIFY_COALESCE);
    let gather = read(reader, FEED_GATHER);
    let connect_timeout = read(reader, LISTENER_CONNECT_TIMEOUT);
    let timeouts = ordered(reader, QUERY_TIMEOUT, LOAD_TIMEOUT);
    let reconnects = ordered(reader, RECONNECT_LEAST, RECONNECT_MOST);
    let deaf_retry = read(reader, DEAF_RETRY);
    let confirm_spacing = read(reader, CONFIRM_SPACING);
    let (probe_timeout, probe_interval) = (probe_timeout?, probe_interval?);
    if probe_timeout >= probe_interval {
        let description = format!("must be shorter than {}", PROBE_INTERVAL.setting.argument());
        return Err(reader.refuse(PROBE_TIMEOUT.setting.argument(), description));
    }
    let (poll_interval, scan_interval) = polls?;
    let (query_timeout, load_timeout) = timeouts?;
    let (reconnect_least, reconnect_most) = reconnects?;
    Ok(Following {
        poll_interval,
        scan_interval,
        probe_interval,
        probe_timeout,
        coalesce: coalesce?,
        gather: gather?,
        connect_timeout: connect_timeout?,
        query_timeout,
        load_timeout,
        reconnect_least,
        reconnect_most,
        deaf_retry: deaf_retry?,
        confirm_spacing: confirm_spacing?,
    })
}

fn keepalive(reader: &mut Reader<'_>) -> Result<Keepalive, Noted> {
    let interval = read(reader, KEEPALIVE_INTERVAL);
    let timeout = read(reader, KEEPALIVE_TIMEOUT);
    let idle = read(reader, KEEPALIVE_IDLE);
    Ok(Keepalive {
        interval: interval?,
        timeout: timeout?,
        idle: idle?,
    })
}

fn upstream(reader: &mut Reader<'_>) -> Result<UpstreamTiming, Noted> {
    let heartbeat = read(reader, UPSTREAM_HEARTBEAT);
    let connect = read(reader, UPSTREAM_CONNECT_TIMEOUT);
    let open = read(reader, UPSTREAM_OPEN_TIMEOUT);
    let refused = read(reader, UPSTREAM_REFUSED_RETRY);
    let save = read(reader, STATE_SAVE_INTERVAL);
    let note = read(reader, STATE_NOTE_INTERVAL);
    Ok(UpstreamTiming {
        heartbeat: heartbeat?,
        connect: connect?,
        open: open?,
        refused: refused?,
        save: save?,
        note: note?,
    })
}

fn read(reader: &mut Reader<'_>, Bounded { setting, least, most }: Bounded) -> Result<Duration, Noted> {
    reader.required(setting, values::duration(least..=most))
}

/// Two durations of which the first must not be longer than the second.
fn ordered(reader: &mut Reader<'_>, shorter: Bounded, longer: Bounded) -> Result<(Duration, Duration), Noted> {
    let (least, most) = (read(reader, shorter), read(reader, longer));
    let (least, most) = (least?, most?);
    if least > most {
        let description = format!("must not be longer than {}", longer.setting.argument());
        return Err(reader.refuse(shorter.setting.argument(), description));
    }
    Ok((least, most))
}
