//! What is served over HTTP beside gRPC, from what it is configured with.

use crate::config::{Http, HttpLimits as Configured};
use crate::server::{HttpLimits, HttpMetrics, HttpOptions};

/// What is served, and within which bounds.
pub fn options(http: &Http) -> HttpOptions {
    let Http {
        cors_admin,
        cors_evaluation,
        metrics,
        limits,
    } = http;
    HttpOptions {
        cors_admin: cors_admin.clone(),
        cors_evaluation: cors_evaluation.clone(),
        metrics: if *metrics {
            HttpMetrics::Here
        } else {
            HttpMetrics::Elsewhere
        },
        limits: bounds(*limits),
    }
}

fn bounds(limits: Configured) -> HttpLimits {
    let Configured {
        connection_streams,
        request_bytes,
        header_bytes,
        request_timeout,
    } = limits;
    // Both were read within far smaller bounds.
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    HttpLimits {
        connection_streams: narrow(connection_streams.get()),
        request_bytes: request_bytes.get(),
        header_bytes: narrow(header_bytes.get()),
        request_timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Command, Environment, parse};

    /// Options are configured in one place and declared in another: what nobody sets is the same in both.
    #[test]
    fn what_is_not_configured_is_what_the_server_takes_by_itself() {
        let variables = [
            ("HALYARD_SIGNING_KEY", "0123456789abcdef0123456789abcdef"),
            ("DATABASE_URL", "postgres://halyard@db/halyard"),
        ];
        let Command::Serve(serve) = parse(["halyard", "serve"], &Environment::with(variables))
            .unwrap()
            .command
        else {
            panic!("not serve");
        };
        assert_eq!(options(&serve.service.http), HttpOptions::default());
    }
}
