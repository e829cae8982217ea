//! The settings of `halyard bench`, and which command has which.

use super::super::setting::Setting;
use super::super::{client, who};

pub(super) const RATE: Setting = Setting::value(
    "rate",
    "NUMBER",
    "Requests a second, sent when they are due whatever becomes of those before (an open loop); by default 100, of writes 10",
)
.argument_only();
pub(super) const CONCURRENCY: Setting = Setting::value(
    "concurrency",
    "NUMBER",
    "Requests at a time instead, each sent when one is answered (a closed loop)",
)
.argument_only();
pub(super) const CONNECTIONS: Setting = Setting::value("connections", "NUMBER", "Over how many connections")
    .default("4")
    .argument_only();
pub(super) const MAX_IN_FLIGHT: Setting = Setting::value(
    "max-in-flight",
    "NUMBER",
    "The most requests without an answer at a time; those due beyond them are missed, and counted",
)
.default("10000")
.argument_only();
pub(super) const DURATION: Setting = Setting::value(
    "duration",
    "DURATION",
    "How long it counts; with --compare, for each server",
)
.default("10s")
.argument_only();
pub(super) const WARM_UP: Setting = Setting::value("warm-up", "DURATION", "How long before anything counts")
    .default("1s")
    .argument_only();
pub(super) const MAX_ERROR_RATE: Setting = Setting::value(
    "max-error-rate",
    "SHARE",
    "The largest share of errors, from 0 to 1, that still exits with 0",
)
.default("0")
.argument_only();
pub(super) const ALL: Setting =
    Setting::switch("all", "Ask for every flag at once, with every request").argument_only();
pub(super) const UNITS: Setting = Setting::value(
    "units",
    "NUMBER",
    "How many targeting keys ask in turn: bench-0, bench-1 …",
)
.default("1000")
.argument_only();
pub(super) const COMPARE: Setting = Setting::value(
    "compare",
    "URL",
    "Another server, which takes turns with that of --endpoint",
)
.argument_only();
pub(super) const COMPARE_KEY: Setting = Setting::secret("compare-key", "KEY", "Its environment key, if it is another");
pub(super) const ROUNDS: Setting = Setting::value("rounds", "NUMBER", "How many turns each server has")
    .default("5")
    .argument_only();
pub(super) const STREAMS: Setting = Setting::value("streams", "NUMBER", "How many streams are open")
    .default("100")
    .argument_only();
pub(super) const HEARTBEAT: Setting =
    Setting::value("heartbeat", "DURATION", "How often each stream asks for a heartbeat")
        .default("2s")
        .argument_only();
pub(super) const WRITE_FLAG: Setting = Setting::values(
    "write-flag",
    "FLAG",
    "A flag to turn on and off meanwhile, for the time that changes take; may be repeated",
);
pub(super) const WRITE_RATE: Setting = Setting::value("write-rate", "NUMBER", "How many changes a second")
    .default("1")
    .argument_only();

/// The positional argument.
pub(in crate::config) const BENCH_FLAGS: &str = "flags";

/// Settings of every command of the group.
pub(in crate::config) const COMMON: &[Setting] = &[
    CONNECTIONS,
    DURATION,
    WARM_UP,
    MAX_ERROR_RATE,
    client::JSON,
    client::ENDPOINT,
    client::TIMEOUT,
];
pub(in crate::config) const EVALUATE: &[Setting] = &[ALL, UNITS, who::ATTRIBUTE, client::KEY];
pub(in crate::config) const PACE: &[Setting] = &[RATE, CONCURRENCY, MAX_IN_FLIGHT];
pub(in crate::config) const TURNS: &[Setting] = &[COMPARE, ROUNDS];
pub(in crate::config) const TURNS_KEY: &[Setting] = &[COMPARE_KEY];
pub(in crate::config) const WATCH: &[Setting] = &[STREAMS, HEARTBEAT];
pub(in crate::config) const WATCH_KEY: &[Setting] = &[client::KEY];
pub(in crate::config) const WRITE: &[Setting] = &[
    client::PROJECT,
    client::ENVIRONMENT,
    client::TOKEN,
    client::EMAIL,
    client::PASSWORD,
];
pub(in crate::config) const BESIDE: &[Setting] = &[WRITE_FLAG, WRITE_RATE];
