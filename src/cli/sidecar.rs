//! `halyard sidecar`: serves what another server holds.

use tokio_util::sync::CancellationToken;

use super::serve::unless_stopped;
use super::tuning;
use crate::config::{Listen, Shutdown, Sidecar as Configuration, Streams};
use crate::server::{Address, Sidecar, SidecarOptions};
use crate::upstream::{Callers, Options};
use crate::watch;

/// Serves until asked to stop.
pub async fn run(configuration: Configuration, stop: &CancellationToken) -> anyhow::Result<()> {
    let upstream = configuration.upstream.clone();
    let starting = async { Ok(Sidecar::start(options(configuration)).await?) };
    let Some(sidecar) = unless_stopped(stop, starting).await? else {
        return Ok(());
    };
    let metrics = sidecar.metrics_address().map(tracing::field::display);
    tracing::info!(address = %sidecar.address(), metrics, %upstream, "listening");
    tokio::select! {
        () = stop.cancelled() => {}
        () = sidecar.failed() => {}
    }
    Ok(sidecar.stop().await?)
}

/// What a sidecar is made of, from what it is configured with.
fn options(configuration: Configuration) -> SidecarOptions {
    let Configuration {
        upstream,
        tls,
        key,
        key_id,
        callers,
        anonymous,
        listen,
        metrics_listen,
        connections,
        state_file,
        staleness,
        worker_threads,
        streams:
            Streams {
                heartbeat,
                heartbeat_bounds: (shortest, longest),
                rotation,
                snapshot_bytes,
                most,
                most_of_key,
            },
        tuning,
        shutdown: Shutdown { grace, drain_window },
    } = configuration;
    SidecarOptions {
        listen: match listen {
            Listen::Tcp(address) => Address::Tcp(address),
            Listen::Unix { path, mode } => Address::Unix { path, mode },
        },
        metrics: metrics_listen,
        connections: tuning::connections(&connections),
        upstream: Options {
            endpoint: upstream,
            tls,
            key: key.into(),
            key_id,
            callers: Callers {
                keys: callers,
                anonymous,
            },
            state_file,
            timing: tuning::upstream(tuning.upstream),
        },
        staleness,
        watch: watch::Options {
            heartbeat,
            heartbeat_bounds: shortest..=longest,
            rotation,
            snapshot_bytes: snapshot_bytes.get(),
            streams: most.get(),
            key_streams: most_of_key.get(),
            drain_window,
            ..tuning::streams(&tuning.streams)
        },
        keepalive: tuning::keepalive(tuning.keepalive),
        workers: worker_threads.get(),
        drain_window,
        grace: grace.saturating_sub(drain_window),
    }
}
