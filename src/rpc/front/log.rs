//! One line per request: never a body, a token, or a context.

use std::net::IpAddr;
use std::time::Duration;

use tonic::Code;

use super::admit::Who;
use crate::domain::access::Principal;
use crate::rpc::methods::{Method, Place};

/// Logs an answered request: administration at info, evaluations at debug, failures of ours at warn.
pub fn request(method: &Method, code: Code, peer: Option<IpAddr>, who: &Who, took: Duration) {
    let elapsed_ms = took.as_secs_f64() * 1e3;
    let peer = peer.map(tracing::field::display);
    let Who { principal, key } = who;
    let (user, token) = match *principal {
        Some(Principal::User(id)) => (Some(tracing::field::display(id)), None),
        Some(Principal::ServiceToken(id)) => (None, Some(tracing::field::display(id))),
        None => (None, None),
    };
    let key = key.as_deref();
    if matches!(code, Code::Internal | Code::Unknown | Code::DataLoss) {
        tracing::warn!(
            method = method.path,
            ?code,
            user,
            token,
            key,
            elapsed_ms,
            peer,
            "answered"
        );
    } else if method.place() == Place::Administration {
        tracing::info!(
            method = method.path,
            ?code,
            user,
            token,
            key,
            elapsed_ms,
            peer,
            "answered"
        );
    } else {
        tracing::debug!(
            method = method.path,
            ?code,
            user,
            token,
            key,
            elapsed_ms,
            peer,
            "answered"
        );
    }
}
