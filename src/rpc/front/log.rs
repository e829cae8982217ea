//! One line per request: never a body, a token, or a context.

use std::net::IpAddr;
use std::time::Duration;

use tonic::Code;
use tracing::Level;

use super::admit::Who;
use super::tally;
use crate::domain::access::Principal;
use crate::rpc::methods::{Method, Place};
use crate::trace::TraceId;

/// Whether the line of a request may be logged.
pub(super) fn is_wanted(method: &Method) -> bool {
    method.place() == Place::Administration || tracing::enabled!(Level::DEBUG)
}

/// Logs an answered request: administration at info, evaluations at debug, failures of ours at warn.
pub fn request(
    method: &Method,
    code: Code,
    peer: Option<IpAddr>,
    who: &Who,
    trace_id: Option<TraceId>,
    took: Duration,
) {
    let trace_id = trace_id.map(tracing::field::display);
    let is_ours = matches!(code, Code::Internal | Code::Unknown | Code::DataLoss);
    let code = tally::name(code);
    let elapsed_ms = took.as_secs_f64() * 1e3;
    let peer = peer.map(tracing::field::display);
    let Who { principal, key } = who;
    let (user, token) = match *principal {
        Some(Principal::User(id)) => (Some(tracing::field::display(id)), None),
        Some(Principal::ServiceToken(id)) => (None, Some(tracing::field::display(id))),
        None => (None, None),
    };
    let key = key.as_deref();
    if is_ours {
        tracing::warn!(
            method = method.path,
            code,
            user,
            token,
            key,
            elapsed_ms,
            peer,
            trace_id,
            "answered"
        );
    } else if method.place() == Place::Administration {
        tracing::info!(
            method = method.path,
            code,
            user,
            token,
            key,
            elapsed_ms,
            peer,
            trace_id,
            "answered"
        );
    } else {
        tracing::debug!(
            method = method.path,
            code,
            user,
            token,
            key,
            elapsed_ms,
            peer,
            trace_id,
            "answered"
        );
    }
}
