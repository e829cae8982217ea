//! The listener: one connection of its own, on which notifications arrive.
//!
//! Never through the pool, whose driver drops notifications. A connection that is up proves nothing: a stopped backend keeps its
//! socket open, and a pooler accepts LISTEN without ever passing a notification on. So the listener talks to itself, and counts as
//! live only while it hears itself.
//!
//! That alone would not find a transaction pooler out: whoever notifies on the backend that listens is told before the end of its
//! own transaction, while the pooler still has the two together. So a session begins only when the listener has heard, on a
//! connection that was silent meanwhile, what was said on another.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::poll_fn;
use tokio::sync::watch;
use tokio::time::{interval_at, sleep, timeout};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::Shared;
use super::backoff::Backoff;
use super::counters::{Counters, add};
use super::error::{Error, chain};
use super::hint::{CHANNEL, Hints, Payload};
use super::notify;
use super::poll::{Origin, ask_origin};
use crate::store::connect::{Target, Waits};

/// What the listener's connection is worth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// Who is at the other end, while notifications are known to arrive.
    pub(super) origin: Option<Origin>,
}

/// Everything that the listener needs.
pub(super) struct Listener {
    pub(super) target: Target,
    pub(super) shared: Shared,
    /// Where it says how it is doing.
    pub(super) link: watch::Sender<Link>,
    /// Whom the pool is talking to.
    pub(super) pool_origin: watch::Receiver<Option<Origin>>,
}

impl Listener {
    /// Listens, and connects again whenever it must, until it is cancelled.
    pub(super) async fn run(mut self) {
        let options = &self.shared.options;
        self.target = self.target.named("halyard listener").unless_said(Waits {
            connect: options.connect_timeout,
            unacknowledged: options.probe_interval + options.probe_timeout,
            idle: options.probe_interval,
        });
        tokio::select! {
            biased;
            () = self.shared.cancel.cancelled() => {}
            () = self.keep_listening() => {}
        }
    }

    async fn keep_listening(&self) {
        let mut backoff = Backoff::new(self.shared.options.reconnect_least, self.shared.options.reconnect_most);
        let mut was_heard = true;
        loop {
            let error = self.session(&mut backoff).await;
            // An attempt that came to nothing is no news: the engine would scan for it.
            was_heard |= self.link.send_if_modified(|link| link.origin.take().is_some());
            add(&self.shared.counters.disconnects, 1);
            let delay = if matches!(error, Error::Deaf) {
                self.shared.options.deaf_retry
            } else {
                backoff.next()
            };
            // One line an outage; the attempts in between say nothing new.
            if std::mem::replace(&mut was_heard, false) {
                tracing::warn!(error = chain(&error), "notifications do not arrive; polling instead");
            } else {
                tracing::debug!(error = chain(&error), ?delay, "notifications still do not arrive");
            }
            sleep(delay).await;
        }
    }

    /// One connection, from its beginning to its end.
    async fn session(&self, backoff: &mut Backoff) -> Error {
        let connection = match self.connect().await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        backoff.reset();
        add(&self.shared.counters.connects, 1);
        tracing::info!("listening for notifications");
        self.stay(connection).await
    }

    /// LISTEN comes first: everything committed from then on is either notified or found by the scan that the new session causes.
    async fn connect(&self) -> Result<Heard, Error> {
        let (client, connection) = self.target.connect().await?;
        let mut heard = Heard::new(client, connection, self);
        let listening = async { Ok(heard.client.batch_execute(&format!("listen {CHANNEL}")).await?) };
        within(self.shared.options.query_timeout, listening).await?;
        self.hear_another(&mut heard).await?;
        let origin = within(self.shared.options.query_timeout, ask_origin(&heard.client)).await?;
        // Told even of the same origin again: what was committed between two sessions was notified to nobody.
        self.link.send_modify(|link| link.origin = Some(origin.clone()));
        heard.origin = Some(origin);
        Ok(heard)
    }

    async fn stay(&self, mut heard: Heard) -> Error {
        let period = self.shared.options.probe_interval;
        let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                end = &mut heard.driver => return why(end),
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.probe(&heard).await {
                return error;
            }
            // After a failover the pool may have found the new primary while this connection still hangs on the old one.
            if self
                .pool_origin
                .borrow()
                .as_ref()
                .is_some_and(|pool| heard.origin.as_ref() != Some(pool))
            {
                return Error::ElsewhereThanPool;
            }
        }
    }

    /// Says something unique on a connection of the pool, and waits until it comes back as a notification on the listener's.
    async fn hear_another(&self, heard: &mut Heard) -> Result<(), Error> {
        let nonce = Uuid::new_v4();
        let came_back = heard.expect(nonce);
        notify::send(&self.shared, vec![Payload::Probe(nonce).to_string()]).await?;
        tokio::select! {
            biased;
            end = &mut heard.driver => Err(why(end)),
            heard_it = within(self.shared.options.probe_timeout, came_back) => {
                if matches!(heard_it, Err(Error::TimedOut)) {
                    add(&self.shared.counters.probe_failures, 1);
                    return Err(Error::Deaf);
                }
                heard_it
            }
        }
    }

    /// Says something unique, and waits until it comes back as a notification.
    async fn probe(&self, heard: &Heard) -> Result<(), Error> {
        let nonce = Uuid::new_v4();
        let result = within(self.shared.options.probe_timeout, heard.echo(nonce)).await;
        if result.is_err() {
            add(&self.shared.counters.probe_failures, 1);
        }
        result
    }
}

/// A connection and the task that reads from it.
struct Heard {
    client: Client,
    driver: AbortOnDropHandle<Result<(), tokio_postgres::Error>>,
    probe: watch::Sender<Probe>,
    origin: Option<Origin>,
}

/// The probe that is on its way. Other replicas' probes arrive on the same channel.
#[derive(Debug, Default)]
struct Probe {
    nonce: Uuid,
    came_back: bool,
}

impl Heard {
    fn new<S, T>(client: Client, connection: tokio_postgres::Connection<S, T>, listener: &Listener) -> Self
    where
        tokio_postgres::Connection<S, T>: Send + 'static,
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let probe = watch::Sender::new(Probe::default());
        let (hints, counters) = (listener.shared.hints.clone(), Arc::clone(&listener.shared.counters));
        let driver = tokio::spawn(drive(connection, hints, counters, probe.clone()));
        Self {
            client,
            driver: AbortOnDropHandle::new(driver),
            probe,
            origin: None,
        }
    }

    /// Returns once this has come back.
    fn expect(&self, nonce: Uuid) -> impl Future<Output = Result<(), Error>> + use<> {
        self.probe.send_replace(Probe {
            nonce,
            came_back: false,
        });
        let mut probe = self.probe.subscribe();
        async move {
            let came_back = probe.wait_for(|probe| probe.came_back).await.map(drop);
            came_back.map_err(|_| Error::Closed)
        }
    }

    async fn echo(&self, nonce: Uuid) -> Result<(), Error> {
        let came_back = self.expect(nonce);
        let payload = Payload::Probe(nonce).to_string();
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&CHANNEL, Type::TEXT), (&payload, Type::TEXT)];
        self.client.query_typed("select pg_notify($1, $2)", &parameters).await?;
        came_back.await
    }
}

/// Reads the connection until it ends. It never waits for anything else: answers to queries pass through here too.
async fn drive<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    hints: Hints,
    counters: Arc<Counters>,
    probe: watch::Sender<Probe>,
) -> Result<(), tokio_postgres::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        let AsyncMessage::Notification(notification) = message? else {
            continue;
        };
        match Payload::parse(notification.payload()) {
            Some(Payload::Hint(hint)) => {
                add(&counters.notifications, 1);
                hints.receive(hint);
            }
            Some(Payload::Probe(nonce)) => drop(probe.send_if_modified(|probe| {
                probe.came_back |= probe.nonce == nonce;
                probe.nonce == nonce
            })),
            None => add(&counters.malformed_notifications, 1),
        }
    }
    Ok(())
}

fn why(end: Result<Result<(), tokio_postgres::Error>, tokio::task::JoinError>) -> Error {
    match end {
        Ok(Err(error)) => Error::Database(error),
        Ok(Ok(())) | Err(_) => Error::Closed,
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(limit, work).await.map_err(|_| Error::TimedOut)?
}
