//! One line per request: never a body, a token, or a context.

use std::net::IpAddr;
use std::time::Duration;

use tonic::Code;

use crate::rpc::methods::{Method, Place};

/// Logs an answered request: administration at info, evaluations at debug, failures of ours at warn.
pub fn request(method: &Method, code: Code, peer: Option<IpAddr>, took: Duration) {
    let took_ms = took.as_secs_f64() * 1e3;
    let peer = peer.map(tracing::field::display);
    if matches!(code, Code::Internal | Code::Unknown | Code::DataLoss) {
        tracing::warn!(method = method.path, ?code, took_ms, peer, "answered");
    } else if method.place() == Place::Administration {
        tracing::info!(method = method.path, ?code, took_ms, peer, "answered");
    } else {
        tracing::debug!(method = method.path, ?code, took_ms, peer, "answered");
    }
}
