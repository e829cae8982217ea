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

/// What tries a password.
const LOGIN: &str = "/halyard.admin.v1.AuthService/Login";

/// Whether the line of a request may be logged.
pub(super) fn is_wanted(method: &Method) -> bool {
    method.place() == Place::Administration || tracing::enabled!(Level::DEBUG)
}

/// Logs an answered request: administration at info, failures of ours at warn, and at debug evaluations and who was refused without
/// having been known.
pub fn request(
    method: &Method,
    code: Code,
    peer: Option<IpAddr>,
    who: &Who,
    trace_id: Option<TraceId>,
    took: Duration,
) {
    let level = level(method, code, who);
    let trace_id = trace_id.map(tracing::field::display);
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
    match level {
        Loud::Warn => tracing::warn!(
            method = method.path,
            code,
            user,
            token,
            key,
            elapsed_ms,
            peer,
            trace_id,
            "answered"
        ),
        Loud::Info => tracing::info!(
            method = method.path,
            code,
            user,
            token,
            key,
            elapsed_ms,
            peer,
            trace_id,
            "answered"
        ),
        Loud::Debug => tracing::debug!(
            method = method.path,
            code,
            user,
            token,
            key,
            elapsed_ms,
            peer,
            trace_id,
            "answered"
        ),
    }
}

/// At which level a line is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loud {
    Warn,
    Info,
    Debug,
}

fn level(method: &Method, code: Code, who: &Who) -> Loud {
    if matches!(code, Code::Internal | Code::Unknown | Code::DataLoss) {
        return Loud::Warn;
    }
    if method.place() != Place::Administration {
        return Loud::Debug;
    }
    let is_known = who.principal.is_some() || who.key.is_some();
    // A password was tried: that is throttled, and whoever guards the accounts wants to see it.
    let is_failed_login = code == Code::Unauthenticated && method.path == LOGIN;
    if code == Code::Ok || is_known || is_failed_login {
        Loud::Info
    } else {
        // Anybody can have this as often as they like: the log must not be theirs to fill. The metrics count it.
        Loud::Debug
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::rpc::methods::METHODS;

    #[test]
    fn who_is_not_known_cannot_fill_the_log() {
        let known = Who {
            principal: Some(Principal::User(Uuid::nil())),
            key: None,
        };
        let application = Who {
            principal: None,
            key: Some("k".into()),
        };
        let nobody = Who::default();
        let (list, login) = ("/halyard.admin.v1.FlagService/ListFlags", LOGIN);
        let refresh = "/halyard.admin.v1.AuthService/Refresh";
        let evaluate = "/halyard.evaluation.v1.EvaluationService/Evaluate";
        for (path, code, who, expected) in [
            (list, Code::Ok, &known, Loud::Info),
            (list, Code::PermissionDenied, &known, Loud::Info),
            (list, Code::Unauthenticated, &known, Loud::Info),
            (list, Code::Internal, &known, Loud::Warn),
            (list, Code::Unauthenticated, &nobody, Loud::Debug),
            (list, Code::ResourceExhausted, &nobody, Loud::Debug),
            (list, Code::Unavailable, &nobody, Loud::Debug),
            (list, Code::Internal, &nobody, Loud::Warn),
            (login, Code::Ok, &nobody, Loud::Info),
            (login, Code::Unauthenticated, &nobody, Loud::Info),
            (login, Code::ResourceExhausted, &nobody, Loud::Debug),
            (login, Code::InvalidArgument, &nobody, Loud::Debug),
            (refresh, Code::Unauthenticated, &nobody, Loud::Debug),
            (evaluate, Code::Ok, &application, Loud::Debug),
            (evaluate, Code::Unauthenticated, &nobody, Loud::Debug),
            (evaluate, Code::DataLoss, &application, Loud::Warn),
        ] {
            let method = METHODS.iter().find(|method| method.path == path).unwrap();
            assert_eq!(level(method, code, who), expected, "{path} {code:?} {who:?}");
        }
    }
}
