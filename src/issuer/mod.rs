//! The OpenID Connect issuer: which keys it signs with, asked for at its address and kept in memory.
//!
//! One task asks ([`Refresher`]): when it starts, now and then, and when a token names a key that is not known. Whoever waits for
//! such a key waits for the same answer as all others. However many tokens name keys that do not exist, the issuer is asked
//! [`BURST`] times in a row at most and then once in [`PAUSE`].
//!
//! While the issuer cannot be asked, the keys that are known go on working, for [`STALE`] at most: after that nobody could say
//! whether the issuer still stands by them.

mod fetch;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{Quota, RateLimiter};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use fetch::Error;

use crate::auth::jwt::Reason;
use crate::auth::openid::{Expectations, KeySet};
use crate::domain::identity::Presented;
use fetch::Fetcher;

/// How many times in a row tokens can have the issuer asked.
pub const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);
/// After how long they can have it asked once more.
pub const PAUSE: Duration = Duration::from_secs(15);
/// How often it is asked although nobody waits: a key that it withdrew works for so long.
pub const REFRESH: Duration = Duration::from_mins(15);
/// After how long it is asked again if it gave no answer.
pub const RETRY: Duration = Duration::from_secs(30);
/// How long keys work that it could not be asked about.
pub const STALE: Duration = Duration::from_hours(24);
/// How long a caller waits for the issuer: both questions, and a moment.
const PATIENCE: Duration = fetch::TIMEOUT.saturating_mul(2).saturating_add(Duration::from_secs(1));

/// An issuer whose people are let in.
pub struct Issuer {
    expectations: Expectations,
    known: watch::Receiver<Known>,
    asked: Arc<Notify>,
}

/// The task that asks the issuer.
pub struct Refresher {
    fetcher: Fetcher,
    known: watch::Sender<Known>,
    asked: Arc<Notify>,
}

/// Why a token lets nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It proves nothing.
    Invalid(Reason),
    /// It names a key that is not known, and the issuer cannot be asked now.
    Away,
}

/// What is known of the issuer's keys.
#[derive(Debug, Clone, Default)]
struct Known {
    keys: Arc<KeySet>,
    /// When the issuer said so. `None`: it never did.
    since: Option<Instant>,
    /// Whether it answered when it was last asked.
    answered: bool,
    /// How many times somebody who waited was answered.
    rounds: u64,
}

impl Issuer {
    /// An issuer, and the task that asks it.
    pub fn new(expectations: Expectations) -> Result<(Arc<Self>, Refresher), Error> {
        let fetcher = Fetcher::new(expectations.issuer.clone())?;
        let (sender, known) = watch::channel(Known::default());
        let asked = Arc::new(Notify::new());
        let refresher = Refresher {
            fetcher,
            known: sender,
            asked: asked.clone(),
        };
        let issuer = Self {
            expectations,
            known,
            asked,
        };
        Ok((Arc::new(issuer), refresher))
    }

    /// Whether a token says that this issuer made it: then [`verify`](Self::verify) it.
    pub fn is_meant(&self, token: &str) -> bool {
        self.expectations.are_of(token)
    }

    /// What a token says, if it is valid now. Asks the issuer only if the token names a key that is not known.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Presented, Refused> {
        let keys = self.known.borrow().usable();
        match self.expectations.verify(token, &keys, now) {
            Err(Reason::UnknownKey) => {}
            verified => return verified.map_err(Refused::Invalid),
        }
        let known = self.newer().await.ok_or(Refused::Away)?;
        match self.expectations.verify(token, &known.usable(), now) {
            Err(Reason::UnknownKey) if !known.answered => Err(Refused::Away),
            verified => verified.map_err(Refused::Invalid),
        }
    }

    /// What is known once the issuer has been asked, or must not be asked again so soon. `None`: that took too long.
    async fn newer(&self) -> Option<Known> {
        let mut known = self.known.clone();
        let rounds = known.borrow().rounds;
        self.asked.notify_one();
        let newer = known.wait_for(|known| known.rounds != rounds);
        let newer = tokio::time::timeout(PATIENCE, newer).await.ok()?.ok()?;
        Some(newer.clone())
    }
}

impl Known {
    /// The keys, unless they are too old to be believed.
    fn usable(&self) -> Arc<KeySet> {
        match self.since {
            Some(since) if since.elapsed() < STALE => self.keys.clone(),
            Some(_) | None => Arc::default(),
        }
    }
}

impl Refresher {
    /// Asks the issuer until cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let limiter = RateLimiter::direct(
            Quota::with_period(PAUSE)
                .unwrap_or(Quota::per_minute(BURST))
                .allow_burst(BURST),
        );
        let mut due = Instant::now();
        loop {
            let asked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(due) => false,
                () = self.asked.notified() => true,
            };
            if asked && limiter.check().is_err() {
                self.known.send_modify(|known| known.rounds += 1);
                continue;
            }
            let Some(fetched) = stop.run_until_cancelled(self.fetcher.fetch()).await else {
                return;
            };
            due = Instant::now() + if fetched.is_ok() { REFRESH } else { RETRY };
            self.learn(fetched);
        }
    }

    fn learn(&self, fetched: Result<KeySet, Error>) {
        let keys = fetched.inspect_err(|error| {
            tracing::warn!(
                error = error as &(dyn std::error::Error + 'static),
                issuer = %self.fetcher.issuer(),
                "the OpenID Connect issuer's keys cannot be read; those that are known go on working"
            );
        });
        if keys.as_ref().is_ok_and(KeySet::is_empty) {
            tracing::warn!(issuer = %self.fetcher.issuer(), "the OpenID Connect issuer has no key that signs what is accepted");
        }
        self.known.send_modify(|known| {
            known.rounds += 1;
            known.answered = keys.is_ok();
            if let Ok(keys) = keys {
                known.keys = Arc::new(keys);
                known.since = Some(Instant::now());
            }
        });
    }
}
