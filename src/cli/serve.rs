//! `halyard serve`: a server for production.

use tokio_util::sync::CancellationToken;

use super::database::Opened;
use super::{http, tuning};
use crate::auth::jwt::{SigningKey, Tokens};
use crate::config::{Serve, Service, Shutdown, Streams};
use crate::rpc::admin::accounts::{self, SignUp};
use crate::server::{self, Options, Server};
use crate::store::compaction::Kept;
use crate::{store, watch};

/// Serves until asked to stop.
pub async fn run(serve: Serve, stop: &CancellationToken) -> anyhow::Result<()> {
    let Serve {
        database,
        signing_key,
        service,
    } = serve;
    let Some(database) = unless_stopped(stop, Opened::open(database)).await? else {
        return Ok(());
    };
    let served = async {
        // Boxed: much is done while a server starts, and all that waits for it would have its size.
        let starting = async { Ok(Box::pin(Server::start(options(&service, &database, &signing_key))).await?) };
        let Some(server) = unless_stopped(stop, starting).await? else {
            return Ok(());
        };
        let metrics = server.metrics_address().map(tracing::field::display);
        tracing::info!(address = %server.address(), metrics, "listening");
        until_stopped(server, stop).await
    };
    let served = served.await;
    database.close().await?;
    served
}

/// What `work` comes to. `None`: it was asked to stop before that.
pub async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<Option<T>> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(None),
        outcome = work => outcome.map(Some),
    }
}

/// Serves until asked to stop, or until a part of the server dies.
pub async fn until_stopped(server: Server, stop: &CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => {}
        () = server.failed() => {}
    }
    Ok(server.stop().await?)
}

/// What a server is made of, from what it is configured with.
pub fn options(service: &Service, database: &Opened, signing_key: &SigningKey) -> Options {
    let Service {
        ref previous_signing_keys,
        sign_up,
        ref openid,
        listen,
        metrics_listen,
        ref http,
        ref traces,
        ref connections,
        worker_threads,
        database_pool_size,
        migrations,
        history,
        events,
        streams:
            Streams {
                heartbeat,
                heartbeat_bounds: (shortest, longest),
                rotation,
                snapshot_bytes,
                most,
                most_of_key,
            },
        requests,
        tuning,
        shutdown: Shutdown { grace, drain_window },
    } = *service;
    let mut settings = store::Settings::new(&database.target);
    settings.pool_size = database_pool_size.get();
    Options {
        listen,
        metrics: metrics_listen,
        trace: tuning::traces(traces.as_ref()),
        connections: tuning::connections(connections),
        store: settings,
        migrations,
        feed: tuning::feed(&tuning),
        compaction: server::Compaction {
            kept: Kept {
                revisions: history.horizon_revisions.get() as u64,
                age: history.horizon_age,
                history: history.retention,
            },
            interval: history.interval,
        },
        events: tuning::events(events, &tuning),
        watch: watch::Options {
            heartbeat,
            heartbeat_bounds: shortest..=longest,
            rotation,
            snapshot_bytes: snapshot_bytes.get(),
            drain_window,
            streams: most.get(),
            key_streams: most_of_key.get(),
            ..tuning::streams(&tuning.streams)
        },
        requests: tuning::requests(requests),
        keepalive: tuning::keepalive(tuning.keepalive),
        http: http::options(http),
        tokens: Tokens::new(signing_key, previous_signing_keys),
        denials_every: server::DENIALS_EVERY,
        accounts: accounts::Options {
            sign_up: if sign_up { SignUp::On } else { SignUp::Off },
            ..accounts::Options::default()
        },
        openid: openid.clone(),
        workers: worker_threads.get(),
        drain_window,
        grace: grace.saturating_sub(drain_window),
    }
}
