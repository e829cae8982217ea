//! What platforms ask about a process: whether it lives, and whether requests should be sent to it.
//!
//! The same is told wherever it is asked: on the port of everything else, and on that of metrics, whose connections are counted apart. A
//! server whose connections are used up lives, and would be killed for being busy if it could only be asked where it has no room.

use std::borrow::Cow;
use std::sync::Arc;

use http::StatusCode;

use super::alive::{Alive, Runtime};
use crate::watch::Hub;

/// Whether the process lives.
pub(super) const LIVE: &str = "/healthz";
/// Whether requests should be sent here.
pub(super) const READY: &str = "/readyz";

/// What probes are answered from. Clones share it.
#[derive(Clone)]
pub(super) struct Probes {
    hub: Arc<Hub>,
    alive: Alive,
}

/// What a probe is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Yes(&'static str),
    /// And why not.
    No(Cow<'static, str>),
}

impl Probes {
    pub fn new(hub: Arc<Hub>, alive: Alive) -> Self {
        Self { hub, alive }
    }

    /// What knows whether the runtimes answer.
    pub fn alive(&self) -> &Alive {
        &self.alive
    }

    /// Answers what is asked at a path. `None`: that is no probe's.
    pub fn answer(&self, path: &str) -> Option<Told> {
        match path {
            LIVE => Some(live(&self.alive)),
            READY => Some(self.ready()),
            _ => None,
        }
    }

    fn ready(&self) -> Told {
        // In this order: who drains is not ready either.
        if self.hub.is_draining() {
            Told::No("draining: this server is shutting down".into())
        } else if self.hub.is_ready() {
            Told::Yes("ready")
        } else {
            Told::No("loading: there is no first state yet".into())
        }
    }
}

fn live(alive: &Alive) -> Told {
    match alive.hanging() {
        None => Told::Yes("alive"),
        Some(Runtime::Administration) => Told::No("hanging: the runtime of administration".into()),
        Some(Runtime::Worker(n)) => Told::No(format!("hanging: worker {n}").into()),
    }
}

impl Told {
    /// As probes over HTTP understand it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Yes(_) => StatusCode::OK,
            Self::No(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// In words.
    pub fn text(&self) -> &str {
        match self {
            Self::Yes(text) => text,
            Self::No(why) => why,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_worker_that_hangs_is_named() {
        let alive = Alive::patient(2, Duration::from_millis(100));
        let told = || live(&alive);
        assert_eq!(told(), Told::Yes("alive"));
        tokio::spawn(alive.clone().show(Runtime::Administration));
        tokio::spawn(alive.clone().show(Runtime::Worker(0)));
        let hangs = async {
            while told() != Told::No("hanging: worker 1".into()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), hangs).await.unwrap();
    }
}
