//! The fault suite: real processes are broken under load, and what every client saw is held against the change log.
//!
//! `docs/faults.md` says how to run it and how to add a fault.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and the long pass reports"
)]
#![allow(missing_docs, reason = "tests are named by what they show")]

#[path = "../support/mod.rs"]
mod support;

mod checker;
mod evidence;
mod harness;
mod nemesis;
mod run;
mod table;

mod answers;
mod backends;
mod clients;
mod copies;
mod crowds;
mod keys;
mod locks;
mod notifications;
mod postgres;
mod replicas;
mod sidecars;
mod tables;
mod tokens;
mod wires;

table::faults! {
    postgres::killed_under_writes: Back, busy;
    postgres::stopped: Back;
    postgres::shut_down_and_started: Back, busy;
    postgres::disk_full: Back, busy;
    backends::listeners_terminated: HintLost, one_writes;
    backends::pools_terminated: HintLost;
    backends::listens_late: HintLost, few_polls;
    backends::listener_stopped: HintLost, one_writes;
    backends::requests_stopped: HintLost;
    backends::feeds_stopped: HintLost;
    backends::notifiers_ended: HintLost, one_writes;
    backends::connections_used_up: Back, few_connections;
    backends::keys_revoked: HintLost;
    wires::one_silent: Back;
    wires::all_silent: Back;
    wires::replicas_unheard: Back;
    wires::postgres_unheard: Back;
    wires::reset_before_commits: HintLost, busy;
    wires::reset_after_commits: HintLost, busy;
    wires::delayed_both_ways: HintLost;
    wires::pooler_between: HintLost;
    copies::older_one_restored: Back;
    copies::standby_takes_over: Back;
    copies::standby_taken_for_primary: Back;
    locks::head_locked: HintLost, hasty;
    locks::old_transaction: HintLost, one_writes;
    tables::edited_by_hand: Back;
    tables::horizon_moves: Back, near_horizon;
    tables::horizon_raced: Back, unhurried;
    notifications::dropped: HintLost, one_writes;
    notifications::delayed: HintLost, one_writes;
    notifications::doubled: HintArrives, one_writes;
    replicas::killed_and_replaced: Back;
    replicas::frozen: Back;
    replicas::drained: Back, draining;
    replicas::rolled: Back, draining;
    replicas::rotated: HintLost, rotating;
    replicas::ahead_of_one_that_is_cut_off: Back, wandering;
    clients::reset_within_steps: HintLost;
    clients::silent: Back, slow_roads;
    clients::slow: Back, slow_roads;
    clients::flood: HintLost;
    crowds::with_tokens: Back, quiet;
    crowds::without_tokens: Back, quiet;
    crowds::with_old_tokens: Back, quiet;
    crowds::unread: Back, impatient;
    tokens::fuzzed: HintLost;
    keys::ended: HintLost;
    keys::revoked_out_of_reach: Back;
    sidecars::upstream_replaced: Back, one_environment;
    sidecars::upstream_frozen: Back, one_environment;
    sidecars::killed_while_writing: Back, one_environment;
    answers::pushed: Back;
    answers::never_more_than_is_known: Back, cut_off;
}

/// Every fault for longer, with several seeds: `make test-faults`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes up to an hour; make test-faults runs it"]
async fn long_pass() {
    run::long().await;
}
