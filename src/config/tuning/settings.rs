//! The declarations: names, defaults, bounds and what they say of themselves.

use std::time::Duration;

use crate::config::setting::Setting;

/// A duration within bounds.
#[derive(Debug, Clone, Copy)]
pub struct Bounded {
    pub setting: Setting,
    pub least: Duration,
    pub most: Duration,
}

/// A count within bounds.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    pub setting: Setting,
    pub most: usize,
}

const fn bounded(
    name: &'static str,
    default: &'static str,
    (least, most): (Duration, Duration),
    help: &'static str,
) -> Bounded {
    Bounded {
        setting: Setting::value(name, "DURATION", help).default(default).fine(),
        least,
        most,
    }
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub const HEARTBEAT_LEAST: Bounded = bounded(
    "heartbeat-least",
    "1s",
    (ms(10), s(1)),
    "The shortest interval of heartbeats that a client may ask for",
);
pub const HEARTBEAT_MOST: Bounded = bounded(
    "heartbeat-most",
    "1m",
    (s(1), s(600)),
    "The longest interval of heartbeats that a client may ask for",
);
pub const ROTATION_PAUSE: Bounded = bounded(
    "rotation-pause",
    "1s",
    (s(0), s(60)),
    "The longest that the client of a rotated stream is asked to wait",
);
pub const AHEAD_WAIT: Bounded = bounded(
    "ahead-wait",
    "3s",
    (ms(100), s(60)),
    "How long a client that has seen more than this server waits for it, and one with an unknown key",
);
/// What such a client asks a sidecar for comes with the upstream's heartbeats, which may come with those of another upstream.
pub const SIDECAR_AHEAD_WAIT: Bounded = Bounded {
    setting: AHEAD_WAIT.setting.default("8s"),
    ..AHEAD_WAIT
};
pub const STREAM_STALL: Bounded = bounded(
    "stream-stall",
    "30s",
    (s(1), s(3600)),
    "How long a client may leave what it was sent unread before its stream ends; answers to calls: before its connection ends, at twice that at the latest",
);
pub const RESUME_REVISIONS: Counted = Counted {
    setting: Setting::value(
        "resume-revisions",
        "COUNT",
        "How many revisions of an environment are kept for clients to resume from",
    )
    .default("1000")
    .fine(),
    most: 1_000_000,
};
pub const RESUME_BYTES: Counted = Counted {
    setting: Setting::value("resume-bytes", "BYTES", "How many bytes those revisions may take")
        .default("16777216")
        .fine(),
    most: 1 << 32,
};
pub const KEEPALIVE_INTERVAL: Bounded = bounded(
    "keepalive-interval",
    "20s",
    (s(1), s(3600)),
    "After how much silence a connection is asked whether it lives",
);
pub const KEEPALIVE_TIMEOUT: Bounded = bounded(
    "keepalive-timeout",
    "10s",
    (s(1), s(600)),
    "Within which it must answer",
);
pub const KEEPALIVE_IDLE: Bounded = bounded(
    "keepalive-idle",
    "75s",
    (s(1), s(3600)),
    "How long a connection over HTTP/1.1 is kept that asks nothing; longer than a balancer before it keeps one",
);

pub const POLL_INTERVAL: Bounded = bounded(
    "poll-interval",
    "1s",
    (ms(10), s(60)),
    "How often the database is asked what has changed, whatever it notifies of",
);
pub const SCAN_INTERVAL: Bounded = bounded(
    "scan-interval",
    "30s",
    (ms(10), s(3600)),
    "How often it is asked about every environment, changed or not",
);
pub const PROBE_INTERVAL: Bounded = bounded(
    "probe-interval",
    "5s",
    (ms(100), s(60)),
    "How often the connection that hears notifications is probed",
);
pub const PROBE_TIMEOUT: Bounded = bounded(
    "probe-timeout",
    "2s",
    (ms(50), s(60)),
    "Within which a probe must come back; shorter than the interval",
);
pub const NOTIFY_COALESCE: Bounded = bounded(
    "notify-coalesce",
    "2ms",
    (s(0), s(1)),
    "How long what follows a change closely waits to be notified together; up to ten times as long after as many changes",
);
pub const FEED_GATHER: Bounded = bounded(
    "feed-gather",
    "2ms",
    (s(0), s(1)),
    "How long what follows a change closely waits to be read together; up to ten times as long after as many changes",
);
pub const LISTENER_CONNECT_TIMEOUT: Bounded = bounded(
    "listener-connect-timeout",
    "5s",
    (ms(100), s(60)),
    "Within which the connection that hears notifications must stand",
);
pub const QUERY_TIMEOUT: Bounded = bounded(
    "feed-query-timeout",
    "2s",
    (ms(50), s(60)),
    "Within which the database must answer a small query of the feed, and begin to answer a large one; after as long an \
     environment that is still being read is old alone",
);
pub const LOAD_TIMEOUT: Bounded = bounded(
    "feed-load-timeout",
    "15s",
    (ms(50), s(600)),
    "Within which a whole environment, or what access depends on, must be read",
);
pub const RECONNECT_LEAST: Bounded = bounded(
    "listener-reconnect-least",
    "100ms",
    (ms(1), s(60)),
    "How long to wait before the connection that hears notifications is made again, at first",
);
pub const RECONNECT_MOST: Bounded = bounded("listener-reconnect-most", "5s", (ms(1), s(600)), "The same, at most");
pub const DEAF_RETRY: Bounded = bounded(
    "deaf-retry",
    "10s",
    (ms(10), s(3600)),
    "How long to wait before listening again where notifications do not arrive, as behind a transaction pooler",
);
pub const CONFIRM_SPACING: Bounded = bounded(
    "confirm-spacing",
    "10ms",
    (s(0), s(1)),
    "Between two reads made for clients that have seen more than this server, at least",
);

pub const UPSTREAM_HEARTBEAT: Bounded = bounded(
    "upstream-heartbeat",
    "1s",
    (ms(100), s(60)),
    "How often the upstream is to say that it is there; three missed, and it is not",
);
pub const UPSTREAM_CONNECT_TIMEOUT: Bounded = bounded(
    "upstream-connect-timeout",
    "5s",
    (ms(100), s(60)),
    "Within which a connection to the upstream must stand",
);
pub const UPSTREAM_OPEN_TIMEOUT: Bounded = bounded(
    "upstream-open-timeout",
    "10s",
    (ms(100), s(600)),
    "Within which the upstream must say the first word of a stream",
);
pub const UPSTREAM_REFUSED_RETRY: Bounded = bounded(
    "upstream-refused-retry",
    "5m",
    (s(1), s(86_400)),
    "Before trying again what the upstream refused for good, such as a key that it does not know",
);
pub const STATE_SAVE_INTERVAL: Bounded = bounded(
    "state-save-interval",
    "1s",
    (s(0), s(3600)),
    "Between two writes of the state file, at least",
);
pub const STATE_NOTE_INTERVAL: Bounded = bounded(
    "state-note-interval",
    "5s",
    (ms(100), s(3600)),
    "Between two notes on disk that the state is still the newest",
);

/// A batch takes a few megabytes at most. One that is larger than all the room is taken when nothing else waits.
pub const EVENT_QUEUE_BYTES: Counted = Counted {
    setting: Setting::value(
        "event-queue-bytes",
        "BYTES",
        "How many bytes of experiments' events may wait to be stored; who brings more is told to come again",
    )
    .default("67108864")
    .fine(),
    most: 1 << 32,
};

/// The settings of `serve` and `dev`.
pub const SERVE: &[Setting] = &[
    HEARTBEAT_LEAST.setting,
    HEARTBEAT_MOST.setting,
    ROTATION_PAUSE.setting,
    AHEAD_WAIT.setting,
    STREAM_STALL.setting,
    RESUME_REVISIONS.setting,
    RESUME_BYTES.setting,
    KEEPALIVE_INTERVAL.setting,
    KEEPALIVE_TIMEOUT.setting,
    KEEPALIVE_IDLE.setting,
    POLL_INTERVAL.setting,
    SCAN_INTERVAL.setting,
    PROBE_INTERVAL.setting,
    PROBE_TIMEOUT.setting,
    NOTIFY_COALESCE.setting,
    FEED_GATHER.setting,
    LISTENER_CONNECT_TIMEOUT.setting,
    QUERY_TIMEOUT.setting,
    LOAD_TIMEOUT.setting,
    RECONNECT_LEAST.setting,
    RECONNECT_MOST.setting,
    DEAF_RETRY.setting,
    CONFIRM_SPACING.setting,
    EVENT_QUEUE_BYTES.setting,
];
/// The settings of `sidecar`.
pub const SIDECAR: &[Setting] = &[
    HEARTBEAT_LEAST.setting,
    HEARTBEAT_MOST.setting,
    ROTATION_PAUSE.setting,
    SIDECAR_AHEAD_WAIT.setting,
    STREAM_STALL.setting,
    RESUME_REVISIONS.setting,
    RESUME_BYTES.setting,
    KEEPALIVE_INTERVAL.setting,
    KEEPALIVE_TIMEOUT.setting,
    KEEPALIVE_IDLE.setting,
    UPSTREAM_HEARTBEAT.setting,
    UPSTREAM_CONNECT_TIMEOUT.setting,
    UPSTREAM_OPEN_TIMEOUT.setting,
    UPSTREAM_REFUSED_RETRY.setting,
    STATE_SAVE_INTERVAL.setting,
    STATE_NOTE_INTERVAL.setting,
];
/// Every duration, with its bounds.
#[cfg(test)]
pub const DURATIONS: &[Bounded] = &[
    HEARTBEAT_LEAST,
    HEARTBEAT_MOST,
    ROTATION_PAUSE,
    AHEAD_WAIT,
    SIDECAR_AHEAD_WAIT,
    STREAM_STALL,
    KEEPALIVE_INTERVAL,
    KEEPALIVE_TIMEOUT,
    KEEPALIVE_IDLE,
    POLL_INTERVAL,
    SCAN_INTERVAL,
    PROBE_INTERVAL,
    PROBE_TIMEOUT,
    NOTIFY_COALESCE,
    FEED_GATHER,
    LISTENER_CONNECT_TIMEOUT,
    QUERY_TIMEOUT,
    LOAD_TIMEOUT,
    RECONNECT_LEAST,
    RECONNECT_MOST,
    DEAF_RETRY,
    CONFIRM_SPACING,
    UPSTREAM_HEARTBEAT,
    UPSTREAM_CONNECT_TIMEOUT,
    UPSTREAM_OPEN_TIMEOUT,
    UPSTREAM_REFUSED_RETRY,
    STATE_SAVE_INTERVAL,
    STATE_NOTE_INTERVAL,
];

/// Every count, with its bound.
#[cfg(test)]
pub const COUNTS: &[Counted] = &[RESUME_REVISIONS, RESUME_BYTES, EVENT_QUEUE_BYTES];
