//! What a stream was opened with, and whether that still holds.

use jiff::Timestamp;
use tokio::time::Instant;

use super::hub::Hub;
use super::request::End;
use crate::domain::access::{Directory, Term};
use crate::domain::change::EnvironmentId;

/// Says, by the directory, how long a credential opens its stream. `None`: it no longer does.
pub type StillValid = Box<dyn Fn(&Directory) -> Option<Term> + Send + Sync>;

/// A stream's credential.
pub(super) struct Credential {
    still_valid: StillValid,
    term: Term,
    /// The end of the term. `None`: there is none.
    expires: Option<Expiry>,
    /// The directory that it was last held against. `None`: none yet.
    checked: Option<u64>,
}

/// The end of a credential's life on two clocks: the monotonic one sets the timer, and does not move when somebody sets the
/// other; the other is the one that counts.
struct Expiry {
    timer: Instant,
    time: Timestamp,
}

impl Credential {
    pub(super) fn new(still_valid: StillValid) -> Self {
        Self {
            still_valid,
            term: Term::Endless,
            expires: None,
            checked: None,
        }
    }

    /// Checks it. Cheap while the directory has not changed. The directory may know of the environment's end before the feed
    /// says so.
    pub(super) fn check(&mut self, hub: &Hub, environment: EnvironmentId) -> Result<(), End> {
        let directories = hub.directories();
        if self.checked != Some(directories) {
            let directory = hub.directory();
            let Some(term) = (self.still_valid)(&directory) else {
                let exists = directory.environments.contains_key(&environment);
                return Err(if exists { End::Revoked } else { End::EnvironmentGone });
            };
            self.extend(term);
            self.checked = Some(directories);
        }
        if self.expires.as_ref().is_some_and(Expiry::is_over) {
            return Err(End::Expired);
        }
        Ok(())
    }

    /// Takes up a term: the rotation of a key gives the secret before an end.
    fn extend(&mut self, term: Term) {
        if self.term != term {
            self.term = term;
            self.expires = match term {
                Term::Until(end) => Expiry::new(end),
                Term::Endless => None,
            };
        }
    }

    /// When it has to be looked at again even if nothing happens.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        self.expires.as_ref().map(|expiry| expiry.timer)
    }
}

impl Expiry {
    /// `None`: so far off that clocks cannot express it.
    fn new(time: Timestamp) -> Option<Self> {
        let left = time.duration_since(Timestamp::now());
        let left = left.try_into().unwrap_or_default();
        let timer = Instant::now().checked_add(left)?;
        Some(Self { timer, time })
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.timer || Timestamp::now() >= self.time
    }
}
