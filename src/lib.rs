//! Halyard: feature flags and experiments, stored in PostgreSQL, evaluated from memory, pushed to every client.
//!
//! # The map
//!
//! One change's way through the house, top to bottom: an administrator's request enters at [`rpc`], is checked in [`domain`], and
//! becomes one transaction in [`store`], which writes the new revision with its digest and audit entry. After the commit a hint
//! goes out; every replica's `store::feed` re-reads what is new and hands it as events (`watch::source`) to the hub in [`watch`].
//! The hub swaps the environment's immutable state, from which [`evaluate`] answers, and wakes the streams, each of which follows
//! with a cursor and sends what [`rpc`] encoded once for all.
//!
//! | room | what lives there | may import of ours |
//! |---|---|---|
//! | [`domain`] | what a flag is: keys, values, rules, the stored form, changes and their hashes, the permission matrix | nothing |
//! | [`evaluate`] | how a flag is answered; pure, cannot fail | `domain` |
//! | [`auth`] | verifying who is calling: keys, tokens, passwords; pure | `domain` |
//! | [`watch`] | from events to streams: the hub, states, rings, tokens, subscriptions | `domain`, `evaluate` |
//! | [`store`] | PostgreSQL: all the SQL, transactions, the change log, the audit log, the feed | `domain`, `evaluate`, `watch::source`, `trace` |
//! | [`issuer`] | the OpenID Connect issuer: its keys, asked for and kept in memory | `domain`, `auth` |
//! | [`rpc`] | the edge: proto, status codes, who may call what | all above |
//! | [`upstream`] | the other source: another server's Watch, for sidecars, and the last state on disk | `domain`, `watch::source` and its tokens, the generated client |
//! | [`embedded`] | a private PostgreSQL made from the machine's binaries | nothing |
//! | [`trace`] | spans for a collector, within a request, through the store and on to another server | `tls` |
//! | [`tls`] | certificates and keys: read, checked, read again when they change; how a client connects over TLS | nothing |
//! | [`config`], [`telemetry`], [`shutdown`] | options, logs, signals | little |
//! | [`server`] | the composition root: what starts and stops in which order, and the one port (`server::http`) | everything |
//! | [`cli`] | the subcommands | everything |
//!
//! `tests/architecture.rs` keeps this table. What it says is deliberately absent:
//!
//! - **Architecture invariant:** `domain` and `evaluate` do no IO, read no clock, draw no random number, and know neither proto nor
//!   SQL. So evaluation cannot fail, wait, or differ between two replicas.
//! - **Architecture invariant:** nothing outside `store` writes SQL, nothing outside `rpc` chooses a status code.
//! - **Architecture invariant:** no request for an evaluation asks PostgreSQL, but for the arm of a unit that a sticky experiment meets
//!   for the first time, and for 50 ms at most.

pub mod auth;
pub mod cli;
pub mod config;
pub mod domain;
pub mod embedded;
pub mod evaluate;
pub mod issuer;
pub mod pb;
pub mod rpc;
pub mod server;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod upstream;
pub mod watch;
