//! What the engine makes of what was read: events, and new things to want.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::access::Access;
use super::chain::Cursor;
use super::confirmations::Claim;
use super::counters::add;
use super::engine::{Done, Engine, Found, Loading, Scope, Stopped};
use super::environments::{Finished, Parked};
use super::error::{Error, chain};
use super::failures::{Fault, Pauses};
use super::fetch::Fetched;
use super::generation::Raised;
use super::hint::Hint;
use super::poll::Heads;
use super::together;
use crate::domain::access::Directory;
use crate::domain::change::EnvironmentId;
use crate::watch::source::{Event, Identity, StoredDelta};

impl Engine {
    /// Takes up what was read in this epoch.
    pub(super) async fn apply(&mut self, done: Done) -> Result<(), Stopped> {
        match done {
            Done::Polled(Ok(heads)) => self.polled(heads).await,
            Done::Polled(Err(error)) => {
                self.poll_failed(&error);
                Ok(())
            }
            Done::Fetched(environment, Ok(fetched)) => self.fetched(environment, fetched).await,
            Done::Fetched(environment, Err(error)) => self.fetch_failed(environment, &error).await,
            Done::FetchedTogether(environments, result) => self.fetched_together(environments, result).await,
            Done::Directory(result) => {
                self.access.reading = false;
                match result {
                    Ok(directory) => self.directory(directory).await,
                    Err(error) => {
                        self.directory_failed(&error);
                        Ok(())
                    }
                }
            }
            Done::Raised(result) => {
                self.raising = false;
                self.raised(result).await
            }
        }
    }

    async fn polled(&mut self, heads: Heads) -> Result<(), Stopped> {
        add(&self.shared.counters.polls, 1);
        if !self.polling.answered {
            tracing::info!("the database answers");
        }
        (self.polling.answered, self.polling.found) = (true, Found::Primary);
        if !self.is_same_history(&heads).await? {
            return Ok(());
        }
        let previous = self.pool_origin.send_replace(Some(heads.origin.clone()));
        let is_elsewhere = previous.is_some_and(|previous| previous != heads.origin);
        let went_back = self.polling.since.is_some_and(|since| heads.xmin < since);
        if !heads.scanned && (is_elsewhere || went_back) {
            // Heads that were set back by a restore are not among the recently written.
            self.polling.scan_next();
            return Ok(());
        }
        self.environments.unpark(heads.scanned, Instant::now());
        self.access.parked = false;
        self.polling.since = Some(heads.xmin);
        if heads.scanned {
            self.polling.scanned_at = heads.asked_at;
        }
        self.note(&heads);
        self.leave_unreadable_behind(heads.asked_at).await?;
        self.complete_if_loaded().await
    }

    /// Lets nothing wait for environments that cannot be read although the database answers. One that does not is no reason: it
    /// may yet have everything.
    async fn leave_unreadable_behind(&mut self, answered: Instant) -> Result<(), Stopped> {
        for environment in self.environments.unreadable(answered) {
            self.leave_behind(environment).await?;
            self.dealt_with(environment);
        }
        Ok(())
    }

    /// Compares the history that was polled with the one that is being sent, and begins again if it is another. Returns whether
    /// the heads can be taken up.
    async fn is_same_history(&mut self, heads: &Heads) -> Result<bool, Stopped> {
        let Some(known) = self.identity else {
            self.begin(heads.identity).await?;
            return Ok(heads.scanned);
        };
        if heads.identity == known {
            return Ok(true);
        }
        if heads.identity.store == known.store && heads.identity.generation < known.generation {
            tracing::error!(
                known = known.generation,
                found = heads.identity.generation,
                "the database is an older copy: the generation has gone back"
            );
            add(&self.shared.counters.divergences, 1);
            self.raise_generation(known);
            return Ok(false);
        }
        tracing::error!(
            known_store = %known.store,
            known_generation = known.generation,
            store = %heads.identity.store,
            generation = heads.identity.generation,
            "the database holds another history: everything is sent again"
        );
        self.begin(heads.identity).await?;
        Ok(false)
    }

    /// Begins to send a history, from its beginning.
    async fn begin(&mut self, identity: Identity) -> Result<(), Stopped> {
        if self.identity.is_some() {
            self.epoch += 1;
        }
        self.identity = Some(identity);
        self.raising = false;
        self.environments.restart();
        self.confirmations.clear();
        self.access = Access::wanted();
        if let Loading::Awaiting(_) = self.loading {
            self.loading = Loading::Unknown;
        }
        self.polling.scan_next();
        self.send(Event::Identity(identity)).await
    }

    fn note(&mut self, heads: &Heads) {
        let mut awaited = Vec::new();
        let is_live = self.link.borrow().origin.is_some() && matches!(self.loading, Loading::Complete);
        for &(id, head) in &heads.changed {
            let Some(awaited_of_it) = self.environments.note(id, head) else {
                continue;
            };
            let revision = awaited_of_it.revision;
            awaited.push(Hint::Environment { id, revision });
            if awaited_of_it.unexpected && is_live {
                add(&self.shared.counters.missed_hints, 1);
            }
        }
        if heads.scanned {
            let existing: HashSet<_> = heads.changed.iter().map(|&(environment, _)| environment).collect();
            self.environments.look_at_others(&existing);
            if let Loading::Unknown = self.loading {
                self.loading = Loading::Awaiting(existing);
            }
        }
        if self.access.note(heads.access) {
            awaited.push(Hint::Access { revision: heads.access });
        }
        self.confirmations.push(Claim {
            asked_at: heads.asked_at,
            awaited,
        });
    }

    fn poll_failed(&mut self, error: &Error) {
        add(&self.shared.counters.poll_failures, 1);
        if self.polling.answered {
            tracing::warn!(
                error = chain(error),
                "the database does not answer polls; the last state is served on"
            );
        }
        // The first poll after a failover may fail otherwise; what an operator must know is said whenever it comes out.
        if matches!(error, Error::Standby) && self.polling.found != Found::Standby {
            self.polling.found = Found::Standby;
            tracing::error!("the database is a standby, not the primary; the last state is served on");
        }
        self.polling.answered = false;
        self.polling.next = Scope::All;
        self.pool_origin.send_replace(None);
    }

    async fn directory(&mut self, directory: Directory) -> Result<(), Stopped> {
        if !self.access.take(directory.revision) {
            return Ok(());
        }
        let existing: HashSet<_> = directory.environments.keys().copied().collect();
        self.send(Event::Access(Arc::new(directory))).await?;
        self.environments.look_at_others(&existing);
        for environment in existing {
            if !self.environments.knows(environment) {
                self.environments.look(environment);
            }
        }
        self.complete_if_loaded().await
    }

    fn directory_failed(&mut self, error: &Error) {
        add(&self.shared.counters.fetch_failures, 1);
        if error.is_malformed() {
            add(&self.shared.counters.malformed, 1);
        }
        tracing::error!(error = chain(error), "could not read what access depends on");
        (self.access.wanted, self.access.parked) = (true, true);
    }

    async fn fetched_together(
        &mut self,
        environments: Vec<EnvironmentId>,
        result: together::Read,
    ) -> Result<(), Stopped> {
        let all = match result {
            Ok(all) => all,
            // It may be the fault of one. Whose last read failed is read alone.
            Err(error) => {
                for environment in environments {
                    self.fetch_failed(environment, &error).await?;
                }
                return Ok(());
            }
        };
        for (environment, fetched) in all {
            match fetched {
                Ok(fetched) => self.fetched(environment, fetched).await?,
                Err(error) => self.fetch_failed(environment, &error).await?,
            }
        }
        Ok(())
    }

    async fn fetched(&mut self, environment: EnvironmentId, fetched: Fetched) -> Result<(), Stopped> {
        match fetched {
            Fetched::Advance { deltas, more, broken } => {
                add(&self.shared.counters.broken_chains, usize::from(broken));
                self.advance(environment, deltas, more).await?;
            }
            Fetched::Whole {
                head,
                items,
                recent,
                broken,
            } => {
                if broken {
                    add(&self.shared.counters.broken_chains, 1);
                    tracing::warn!(
                        environment = environment.0,
                        "the change log does not lead on; the environment is sent whole"
                    );
                }
                add(&self.shared.counters.resets, 1);
                let to = Cursor::from(&head);
                self.send(Event::Reset {
                    environment,
                    head,
                    items,
                    recent,
                })
                .await?;
                self.finish_read(environment, Finished::Replaced(to)).await?;
            }
            Fetched::Current => self.finish_read(environment, Finished::Current).await?,
            Fetched::Again => self.finish_read(environment, Finished::Again).await?,
            Fetched::Alone => self.finish_read(environment, Finished::Alone).await?,
            Fetched::Gone => {
                let was_behind = self.environments.is_behind(environment);
                if self.environments.gone(environment) {
                    self.send(Event::Removed(environment)).await?;
                } else if was_behind {
                    self.send(Event::CaughtUp(environment)).await?;
                }
            }
            Fetched::Diverged => self.diverged(environment),
        }
        self.loaded(environment).await
    }

    async fn advance(
        &mut self,
        environment: EnvironmentId,
        deltas: Vec<StoredDelta>,
        more: bool,
    ) -> Result<(), Stopped> {
        let Some(last) = deltas.last() else {
            return self.finish_read(environment, Finished::Current).await;
        };
        let to = Cursor::from(&last.head);
        add(&self.shared.counters.advances, deltas.len());
        for delta in deltas {
            self.send(Event::Advance { environment, delta }).await?;
        }
        self.finish_read(environment, Finished::Advanced { to, more }).await
    }

    /// Takes up how a read ended whose findings have been sent.
    async fn finish_read(&mut self, environment: EnvironmentId, how: Finished) -> Result<(), Stopped> {
        if !self.environments.finish(environment, how) {
            return Ok(());
        }
        tracing::info!(
            environment = environment.0,
            "the environment is read again, and the newest"
        );
        self.send(Event::CaughtUp(environment)).await
    }

    /// The primary does not have what was sent: a restored copy, or a failover that lost commits.
    fn diverged(&mut self, environment: EnvironmentId) {
        // Should raising the generation fail, the next poll brings it up again.
        self.environments.finish(environment, Finished::Failed(Parked::Poll));
        let Some(known) = self.identity else {
            return;
        };
        add(&self.shared.counters.divergences, 1);
        tracing::error!(
            environment = environment.0,
            generation = known.generation,
            "the database has lost or replaced revisions that were already sent"
        );
        self.raise_generation(known);
    }

    async fn raised(&mut self, result: Result<Raised, Error>) -> Result<(), Stopped> {
        match result {
            Ok(raised) if Some(raised.identity) != self.identity => {
                tracing::error!(
                    generation = raised.identity.generation,
                    by_us = raised.by_us,
                    "the generation was raised: everything is sent again"
                );
                self.begin(raised.identity).await
            }
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::error!(error = chain(&error), "could not raise the generation");
                self.polling.scan_next();
                Ok(())
            }
        }
    }

    async fn fetch_failed(&mut self, environment: EnvironmentId, error: &Error) -> Result<(), Stopped> {
        add(&self.shared.counters.fetch_failures, 1);
        add(&self.shared.counters.malformed, usize::from(error.is_malformed()));
        let options = &self.shared.options;
        let pauses = Pauses {
            least: options.poll_interval,
            most: options.scan_interval,
        };
        let now = Instant::now();
        let is_news = self.environments.fail(environment, Fault::from(error), pauses, now);
        let text = chain(error);
        // One line until it can be read again; the attempts in between say nothing new.
        if is_news {
            tracing::warn!(
                environment = environment.0,
                error = text,
                "could not read an environment"
            );
        } else {
            tracing::debug!(
                environment = environment.0,
                error = text,
                "an environment still cannot be read"
            );
        }
        if !error.is_malformed() {
            // It may be the database, which answers polls or does not.
            return Ok(());
        }
        self.leave_behind(environment).await?;
        self.loaded(environment).await
    }

    /// Counts an environment as loaded, in the first load.
    async fn loaded(&mut self, environment: EnvironmentId) -> Result<(), Stopped> {
        self.dealt_with(environment);
        self.complete_if_loaded().await
    }

    fn dealt_with(&mut self, environment: EnvironmentId) {
        if let Loading::Awaiting(environments) = &mut self.loading {
            environments.remove(&environment);
        }
    }

    async fn complete_if_loaded(&mut self) -> Result<(), Stopped> {
        let Loading::Awaiting(environments) = &self.loading else {
            return Ok(());
        };
        if !environments.is_empty() || !self.access.is_sent() {
            return Ok(());
        }
        self.loading = Loading::Complete;
        self.send(Event::Complete).await
    }
}
