//! What the services about people share: how passwords are tried, how often, and what is remembered of the failures.

mod failures;
mod hashing;
mod throttle;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use throttle::{Rate, Rates};

use crate::auth::{self, jwt, refresh};
use crate::domain::access::Principal;
use crate::domain::email::Email;
use crate::rpc::Refusal;
use crate::rpc::front::Peer;
use crate::store::Store;
use crate::store::sessions::{NewSession, Refresh, Refreshed, Session, TokenHashes};
use crate::store::users::{Credentials, FailedLogins, NewAccount};
use failures::{Failures, Urgency};
use hashing::Hashing;
use throttle::Throttle;

/// How people come in.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether people open accounts for themselves.
    pub sign_up: SignUp,
    /// How often passwords may be tried.
    pub rates: Rates,
    /// For how long failed logins are counted before they become an audit entry.
    pub failures_window: Duration,
}

/// Whether people open accounts for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignUp {
    /// Administrators do.
    Off,
    /// They do.
    On,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sign_up: SignUp::Off,
            rates: Rates::default(),
            failures_window: Duration::from_mins(1),
        }
    }
}

/// What the services about people share.
pub struct Accounts {
    pub(super) store: Store,
    pub(super) hashing: Hashing,
    tokens: Arc<jwt::Tokens>,
    throttle: Throttle,
    /// How many may look something up at a time who have shown nothing that was verified.
    strangers: Semaphore,
    failures: Failures,
    /// Told that there is something to record at once.
    urgent: Notify,
    sign_up: SignUp,
    failures_window: Duration,
}

/// Fewer than the connections to the database that there are by default.
const STRANGERS: usize = 2;
/// How long one of them waits for a turn.
const TURN: Duration = Duration::from_secs(5);

/// What a login is to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Both tokens.
    Refreshable,
    /// An access token alone.
    AccessOnly,
}

/// Somebody who logged in, or goes on.
pub(super) struct LoggedIn {
    pub session: Session,
    pub access: jwt::Issued,
    pub refresh: Option<SecretString>,
}

impl Accounts {
    /// Keeps accounts in this store, and issues tokens.
    pub fn new(store: Store, tokens: Arc<jwt::Tokens>, options: Options) -> Arc<Self> {
        let Options {
            sign_up,
            rates,
            failures_window,
        } = options;
        Arc::new(Self {
            store,
            tokens,
            hashing: Hashing::default(),
            throttle: Throttle::new(rates),
            strangers: Semaphore::new(STRANGERS),
            failures: Failures::new(failures_window),
            urgent: Notify::new(),
            sign_up,
            failures_window,
        })
    }

    /// How many passwords were hashed.
    pub fn passwords_hashed(&self) -> u64 {
        self.hashing.count()
    }

    /// Writes failed logins to the audit log, now and then and at the end.
    pub async fn record_failures(self: Arc<Self>, stop: CancellationToken) {
        const SHORTEST: Duration = Duration::from_millis(50);
        let mut rounds = tokio::time::interval((self.failures_window / 10).max(SHORTEST));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = rounds.tick() => {}
                () = self.urgent.notified() => {}
            }
            for failed in self.failures.due(Instant::now()) {
                self.record(failed).await;
            }
        }
        for failed in self.failures.rest(Instant::now()) {
            self.record(failed).await;
        }
    }

    /// Refuses unless people may open accounts for themselves.
    pub(super) fn allow_sign_up(&self) -> Result<(), Refusal> {
        match self.sign_up {
            SignUp::On => Ok(()),
            SignUp::Off => Err(Refusal::SignUpOff),
        }
    }

    /// Opens an account, unless there is one of this address; see the proto file for why that is not told.
    pub(super) async fn sign_up(&self, email: Email, password: SecretString, peer: &Peer) -> Result<(), Refusal> {
        self.admit(&email, peer.address())?;
        let password_hash = self.hashing.hash(password).await?;
        let new = NewAccount {
            id: Uuid::now_v7(),
            email,
            password_hash,
            peer: peer.to_string(),
        };
        Ok(self.store.sign_up(&new).await?)
    }

    /// Lets somebody in who knows the password.
    pub(super) async fn login(
        &self,
        email: &Email,
        password: SecretString,
        wanted: Wanted,
        peer: &Peer,
    ) -> Result<LoggedIn, Refusal> {
        self.admit(email, peer.address())?;
        let known = self.store.find_for_login(email).await?;
        let Some((user, password_hash)) = self.verified(known.as_ref(), password).await? else {
            return Err(self.refuse(known.as_ref(), peer.address()));
        };
        let id = Uuid::now_v7();
        let refresh = match wanted {
            Wanted::Refreshable => Some(refresh::begin(id).map_err(|error| failed(&error))?),
            Wanted::AccessOnly => None,
        };
        let new = NewSession {
            id,
            user,
            password_hash,
            token: refresh.as_ref().map(|made| stored(made.hashes)),
            peer: peer.to_string(),
        };
        match self.store.open_session(&new).await? {
            Some(session) => self.logged_in(id, session, refresh),
            None => Err(self.refuse(known.as_ref(), peer.address())),
        }
    }

    /// Exchanges a refresh token.
    pub(super) async fn refresh(&self, token: &str, peer: &Peer) -> Result<LoggedIn, Refusal> {
        let shown = refresh::parse(token).ok_or(Refusal::Unauthenticated)?;
        self.throttle.check_session(shown.session)?;
        let _turn = self.turn_of_a_stranger().await?;
        let next = shown.next().map_err(|error| failed(&error))?;
        let refresh = Refresh {
            session: shown.session,
            shown: stored(shown.hashes),
            next: next.hashes.token,
            peer: peer.to_string(),
        };
        match self.store.refresh_session(&refresh).await? {
            Refreshed::Rotated(session) => self.logged_in(shown.session, session, Some(next)),
            Refreshed::Raced => Err(Refusal::RefreshRaced),
            Refreshed::Stolen => {
                tracing::warn!(session = %shown.session, "a refresh token was shown twice; its session is over");
                Err(Refusal::Unauthenticated)
            }
            Refreshed::Unknown => Err(Refusal::Unauthenticated),
        }
    }

    /// Whose password this is, and the hash that it was verified against; in a time that does not tell whether there is such an
    /// account. `None`: it is not the password.
    pub(super) async fn verified(
        &self,
        known: Option<&Credentials>,
        password: SecretString,
    ) -> Result<Option<(Uuid, String)>, Refusal> {
        let active = known.filter(|known| known.user.active);
        let hash = active.and_then(|known| known.password_hash.clone());
        let matches = self.hashing.verify(password, hash.clone()).await?;
        let user = active.map(|known| known.user.id);
        Ok(user.zip(hash).filter(|_| matches))
    }

    /// Counts a failure, and says how it is answered.
    pub(super) fn refuse(&self, known: Option<&Credentials>, peer: Option<IpAddr>) -> Refusal {
        self.note(self.failures.refused(known.map(|known| &known.user), peer));
        Refusal::Unauthenticated
    }

    /// A turn to ask the database something on behalf of who has shown nothing that was verified: what they show may be made up,
    /// and what they ask must not take the connections of everybody else. Who gets none in time is to try again later, also while
    /// the database is away.
    pub(super) async fn turn_of_a_stranger(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        let turn = tokio::time::timeout(TURN, self.strangers.acquire()).await;
        let turn = turn.map_err(|_| Refusal::Throttled { retry_after: TURN })?;
        turn.map_err(|_| Refusal::Internal)
    }

    /// Counts that somebody looks an account up to make it a member, or refuses it: whether there is one of an address is told to
    /// who manages members, and not to who tries all addresses.
    pub(super) fn look_up(&self, principal: Principal) -> Result<(), Refusal> {
        self.throttle.check_look_up(principal)
    }

    /// Counts a try at an account, whether or not there is one, before anything is done for it; refuses it if there were too many.
    pub(super) fn admit(&self, email: &Email, peer: Option<IpAddr>) -> Result<(), Refusal> {
        let admitted = self.throttle.check(email, peer);
        admitted.inspect_err(|_| self.note(self.failures.throttled(email, peer)))
    }

    fn note(&self, urgency: Urgency) {
        match urgency {
            Urgency::AtOnce => self.urgent.notify_one(),
            Urgency::Later => {}
        }
    }

    fn logged_in(&self, id: Uuid, session: Session, refresh: Option<refresh::Generated>) -> Result<LoggedIn, Refusal> {
        let holder = jwt::Holder {
            user: session.user.id,
            session: id,
            token: Uuid::now_v7(),
        };
        let access = self.tokens.issue(holder, jiff::Timestamp::now());
        Ok(LoggedIn {
            session,
            access: access.map_err(|error| failed(&error))?,
            refresh: refresh.map(|made| made.token),
        })
    }

    async fn record(&self, failed: FailedLogins) {
        if let Err(error) = self.store.record_failed_logins(&failed).await {
            tracing::warn!(
                error = error.summary(),
                "failed logins could not be recorded; counted with the next"
            );
            self.failures.put_back(failed);
        }
    }
}

fn stored(hashes: refresh::Hashes) -> TokenHashes {
    let refresh::Hashes { family, token } = hashes;
    TokenHashes { family, token }
}

fn failed(error: &auth::Error) -> Refusal {
    tracing::error!(error = error as &dyn std::error::Error, "a token could not be made");
    Refusal::Internal
}
