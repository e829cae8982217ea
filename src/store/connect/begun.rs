//! Connections that pools ask for: begun by one who may not wait for the end, and finished for whoever waits then.
//!
//! A request that has to connect first may have less time than that takes. Were the connection given up with the request, short
//! deadlines would keep a pool empty for good, and PostgreSQL at nothing but log-ins.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use deadpool_postgres::Connect;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error};

use super::attempt;
use super::tls::Tls;

/// A client, and the task that does what its connection does.
type Driven = (Client, JoinHandle<()>);
type Attempt = JoinHandle<Result<Driven, Error>>;

/// Connects for a pool.
pub(super) struct Begun {
    tls: Tls,
    /// Begun, and waited for by nobody. Never more than the pool has places: whoever takes one looks here first.
    left: Mutex<Vec<Attempt>>,
}

impl Begun {
    pub fn new(tls: Tls) -> Self {
        Self {
            tls,
            left: Mutex::default(),
        }
    }

    fn left(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, config: &Config) -> Attempt {
        let (config, tls) = (config.clone(), self.tls.clone());
        tokio::spawn(driven(config, tls))
    }

    async fn finish(&self, config: Config) -> Result<Driven, Error> {
        loop {
            let left = self.left().pop();
            let Some(attempt) = left else { break };
            let is_old = attempt.is_finished();
            match self.wait_for(attempt).await {
                Some(Ok((client, task))) if !client.is_closed() => return Ok((client, task)),
                Some(Err(error)) if !is_old => return Err(error),
                // It ended since, or failed before anybody asked.
                Some(_) | None => {}
            }
        }
        match self.wait_for(self.begin(&config)).await {
            Some(connected) => connected,
            // The runtime is shutting down.
            None => driven(config, self.tls.clone()).await,
        }
    }

    async fn wait_for(&self, attempt: Attempt) -> Option<Result<Driven, Error>> {
        let mut waiting = Waiting {
            attempt: Some(attempt),
            of: self,
        };
        let done = match &mut waiting.attempt {
            Some(attempt) => attempt.await.ok(),
            None => None,
        };
        waiting.attempt = None;
        done
    }
}

impl Connect for Begun {
    fn connect(&self, config: &Config) -> Pin<Box<dyn Future<Output = Result<Driven, Error>> + Send + '_>> {
        Box::pin(self.finish(config.clone()))
    }
}

/// Leaves the attempt for another when it is dropped before its end.
struct Waiting<'a> {
    attempt: Option<Attempt>,
    of: &'a Begun,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.of.left().push(attempt);
        }
    }
}

async fn driven(config: Config, tls: Tls) -> Result<Driven, Error> {
    let (client, connection) = attempt::connect(&config, &tls).await?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "a connection to PostgreSQL ended");
        }
    });
    Ok((client, task))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;
    use crate::store::connect::parse;

    #[tokio::test(start_paused = true)]
    async fn what_one_has_begun_another_waits_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = parse(&format!(
            "host=127.0.0.1 port={port} user=u sslmode=disable connect_timeout=60"
        ))
        .unwrap();
        let begun = Begun::new(target.tls().clone());
        for _ in 0..10 {
            let short = timeout(Duration::from_millis(5), begun.connect(target.config())).await;
            assert!(short.is_err(), "nobody answers");
        }
        assert_eq!(begun.left().len(), 1);
        listener.accept().await.unwrap();
        let another = timeout(Duration::from_secs(1), listener.accept()).await;
        assert!(another.is_err(), "there was another connection");
    }
}
