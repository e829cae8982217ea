//! What is tuned, from what it is configured with.

use crate::config::{
    Connections, Events, Following, Keepalive as Configured, Requests, StreamTuning, Traces, Tuning, UpstreamTiming,
};
use crate::domain::event::Window;
use crate::rpc::front;
use crate::server::{self, Keepalive};
use crate::store::events::Kept;
use crate::store::feed;
use crate::trace;
use crate::upstream::Timing;
use crate::watch;

/// Where traces go.
pub fn traces(traces: Option<&Traces>) -> Option<trace::Options> {
    traces.map(|Traces { endpoint, tls, share }| trace::Options {
        endpoint: endpoint.clone(),
        tls: tls.clone(),
        share: *share,
    })
}

/// How connections are opened.
pub fn connections(configured: &Connections) -> server::Connections {
    let Connections { most, opening, tls } = configured.clone();
    server::Connections { most, opening, tls }
}

/// How the database is followed.
pub fn feed(tuning: &Tuning) -> feed::Options {
    let Following {
        poll_interval,
        scan_interval,
        probe_interval,
        probe_timeout,
        coalesce,
        gather,
        connect_timeout,
        query_timeout,
        load_timeout,
        reconnect_least,
        reconnect_most,
        deaf_retry,
        confirm_spacing,
    } = tuning.following;
    let StreamTuning {
        resume_revisions,
        resume_bytes,
        ..
    } = tuning.streams;
    feed::Options {
        poll_interval,
        scan_interval,
        probe_interval,
        probe_timeout,
        coalesce,
        gather,
        connect_timeout,
        query_timeout,
        load_timeout,
        reconnect_least,
        reconnect_most,
        deaf_retry,
        confirm_spacing,
        // What is read to be kept is what is kept.
        recent_revisions: u32::try_from(resume_revisions.get()).unwrap_or(u32::MAX),
        recent_bytes: u64::try_from(resume_bytes.get()).unwrap_or(u64::MAX),
        ..feed::Options::default()
    }
}

/// How streams are served.
pub fn streams(tuning: &StreamTuning) -> watch::Options {
    let StreamTuning {
        rotation_pause,
        ahead_wait,
        stall,
        resume_revisions,
        resume_bytes,
    } = *tuning;
    watch::Options {
        rotation_pause,
        ahead_wait,
        stall,
        ring_revisions: resume_revisions.get(),
        ring_bytes: resume_bytes.get(),
        ..watch::Options::default()
    }
}

/// How events are taken in and kept.
pub fn events(events: Events, tuning: &Tuning) -> server::Events {
    let Events {
        window_days,
        retention_days,
    } = events;
    server::Events {
        kept: Kept {
            window: Window { days: window_days },
            days: Some(retention_days),
        },
        queue_bytes: tuning.events.queue_bytes.get(),
    }
}

/// How requests are bounded.
pub fn requests(
    Requests {
        key_rate,
        most,
        longest,
    }: Requests,
) -> front::Limits {
    front::Limits {
        key_rate,
        requests: most.get(),
        deadline: longest,
    }
}

/// How a connection that is gone is noticed.
pub fn keepalive(configured: Configured) -> Keepalive {
    let Configured {
        interval,
        timeout,
        idle,
    } = configured;
    Keepalive {
        interval,
        timeout,
        idle,
    }
}

/// How an upstream is followed.
pub fn upstream(
    UpstreamTiming {
        heartbeat,
        connect,
        open,
        refused,
        save,
        note,
    }: UpstreamTiming,
) -> Timing {
    Timing {
        heartbeat,
        connect,
        open,
        refused,
        save,
        note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Command, Environment, Service, Sidecar, parse};

    fn service() -> Service {
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
        serve.service
    }

    /// Options are configured in one place and declared in another: what nobody sets is the same in both.
    #[test]
    fn what_is_not_configured_is_what_the_parts_take_by_themselves() {
        let Service {
            tuning,
            events: configured,
            requests: bounded,
            ..
        } = service();
        assert_eq!(
            format!("{:?}", feed(&tuning)),
            format!("{:?}", feed::Options::default())
        );
        assert_eq!(streams(&tuning.streams), watch::Options::default());
        assert_eq!(keepalive(tuning.keepalive), Keepalive::default());
        assert_eq!(events(configured, &tuning), server::Events::default());
        assert_eq!(requests(bounded), front::Limits::default());
    }

    #[test]
    fn a_sidecar_waits_longer_for_its_upstream() {
        let key = crate::auth::keys::generate(crate::domain::access::KeyKind::Server).unwrap();
        let variables = [("HALYARD_KEY", secrecy::ExposeSecret::expose_secret(&key.secret))];
        let line = "halyard sidecar --upstream http://flags".split_whitespace();
        let Command::Sidecar(sidecar) = parse(line, &Environment::with(variables)).unwrap().command else {
            panic!("not sidecar");
        };
        let Sidecar { tuning, .. } = *sidecar;
        let expected = watch::Options {
            ahead_wait: std::time::Duration::from_secs(8),
            ..watch::Options::default()
        };
        assert_eq!(streams(&tuning.streams), expected);
        assert_eq!(
            format!("{:?}", upstream(tuning.upstream)),
            format!("{:?}", Timing::default())
        );
    }
}
