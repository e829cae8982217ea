//! From what is held to the events that the hub is told, in the order that it was promised.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::callers::Callers;
use super::file::Kept;
use super::held::Held;
use super::keeper::Latest;
use super::step::{Difference, Outcome};
use crate::domain::change::EnvironmentId;
use crate::watch::source::{Event, Head, Identity, Quality};

/// What the hub was told, for its questions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    /// Where the environment stands.
    pub head: Option<(EnvironmentId, Head)>,
    /// The revision of the directory.
    pub directory: Option<u64>,
    /// When the upstream was last certain that this is the newest.
    pub confirmed_at: Option<Instant>,
}

/// Tells the hub.
pub struct Publisher {
    events: mpsc::Sender<Event>,
    callers: Callers,
    told: watch::Sender<Told>,
    latest: watch::Sender<Latest>,
    identity: Option<Identity>,
}

/// Nobody listens any more.
#[derive(Debug)]
pub struct Unheard;

impl From<mpsc::error::SendError<Event>> for Unheard {
    fn from(_: mpsc::error::SendError<Event>) -> Self {
        Self
    }
}

impl Publisher {
    /// One that has told nothing yet, and where to read what it will have told.
    pub fn new(
        events: mpsc::Sender<Event>,
        callers: Callers,
    ) -> (Self, watch::Receiver<Told>, watch::Receiver<Latest>) {
        let ((told, to_tell), (latest, to_keep)) = (watch::channel(Told::default()), watch::channel(Latest::default()));
        let publisher = Self {
            events,
            callers,
            told,
            latest,
            identity: None,
        };
        (publisher, to_tell, to_keep)
    }

    /// Tells what was kept on disk, and how old it is by this machine's clock.
    pub async fn kept(&mut self, kept: Kept) -> Result<Arc<Held>, Unheard> {
        let Kept { held, confirmed_at } = kept;
        let age = confirmed_at.map(|at| jiff::Timestamp::now().duration_since(at));
        // A clock that was set back leaves no age to tell.
        let age = age.and_then(|age| Duration::try_from(age).ok());
        let confirmed_at = age.and_then(|age| Instant::now().checked_sub(age));
        // Its age comes before it: nobody is to see the state without.
        self.identify(held.position.identity).await?;
        self.confirm(Quality::Disconnected, confirmed_at).await?;
        self.whole(&held).await?;
        self.latest.send_modify(|latest| latest.held = Some(held.clone()));
        Ok(held)
    }

    /// Tells what a step has led to.
    pub async fn outcome(&mut self, outcome: Outcome) -> Result<Arc<Held>, Unheard> {
        let Outcome { held, difference } = outcome;
        match difference {
            Difference::None => {}
            Difference::Some(delta) => {
                let environment = held.position.environment;
                self.events.send(Event::Advance { environment, delta }).await?;
                let stands = Some((environment, held.head()));
                self.told.send_modify(|told| told.head = stands);
            }
            Difference::Everything => self.whole(&held).await?,
        }
        self.latest.send_modify(|latest| latest.held = Some(held.clone()));
        Ok(held)
    }

    /// Tells how well informed we are. `confirmed_at`: when the upstream was certain; it may have been more so before.
    pub async fn confirm(&mut self, quality: Quality, confirmed_at: Option<Instant>) -> Result<(), Unheard> {
        if self.identity.is_none() {
            // There is nothing yet that could be certain.
            return Ok(());
        }
        let confirmed_at = confirmed_at.max(self.told.borrow().confirmed_at);
        self.events.send(Event::Status { quality, confirmed_at }).await?;
        self.told.send_modify(|told| told.confirmed_at = confirmed_at);
        let wall = confirmed_at.and_then(|at| {
            let age = jiff::SignedDuration::try_from(at.elapsed()).ok()?;
            jiff::Timestamp::now().checked_sub(age).ok()
        });
        self.latest.send_modify(|latest| latest.confirmed_at = wall);
        Ok(())
    }

    /// Tells which history follows, if it is another.
    async fn identify(&mut self, identity: Identity) -> Result<(), Unheard> {
        if self.identity == Some(identity) {
            return Ok(());
        }
        self.events.send(Event::Identity(identity)).await?;
        let before = self.identity.replace(identity);
        if before.is_some_and(|before| before.store != identity.store) {
            // What was certain of another store says nothing of this one.
            self.told.send_modify(|told| told.confirmed_at = None);
            self.confirm(Quality::Disconnected, None).await?;
        }
        Ok(())
    }

    /// Tells a whole state. Streams over another environment, which it replaces, end only when this one can be followed.
    async fn whole(&mut self, held: &Held) -> Result<(), Unheard> {
        let environment = held.position.environment;
        self.identify(held.position.identity).await?;
        let before = *self.told.borrow();
        let reset = Event::Reset {
            environment,
            head: held.head(),
            items: held.stored(),
            recent: Vec::new(),
        };
        self.events.send(reset).await?;
        let (mut directory, followed) = (before.directory, before.head.map(|(environment, _)| environment));
        if followed != Some(environment) {
            if let Some(followed) = followed {
                self.events.send(Event::Superseded(followed)).await?;
            }
            let revision = directory.unwrap_or_default() + 1;
            let access = Arc::new(self.callers.directory(environment, revision));
            self.events.send(Event::Access(access)).await?;
            directory = Some(revision);
        }
        if followed.is_none() {
            self.events.send(Event::Complete).await?;
        }
        let stands = Some((environment, held.head()));
        self.told
            .send_modify(|told| (told.head, told.directory) = (stands, directory));
        Ok(())
    }
}
