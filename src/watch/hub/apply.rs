//! What the hub makes of each event of its source.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use imbl::OrdMap;

use super::{Confirmed, Hub};
use crate::domain::change::EnvironmentId;
use crate::watch::environment::{Environment, Refusal};
use crate::watch::source::{Event, Head, StoredDelta, StoredItem};
use crate::watch::state::{Discontinuous, State};

impl Hub {
    /// Applies one event.
    pub(in crate::watch) fn apply(&self, event: Event) {
        match event {
            Event::Identity(identity) => self.identity.store(Some(Arc::new(identity))),
            Event::Reset {
                environment,
                head,
                items,
                recent,
            } => self.reset(environment, head, items, recent),
            Event::Advance { environment, delta } => self.advance(environment, delta),
            Event::Removed(environment) => self.take_out(environment, Environment::remove),
            Event::Superseded(environment) => self.take_out(environment, Environment::supersede),
            Event::Behind(environment) => self.fall_behind(environment),
            Event::CaughtUp(environment) => self.catch_up(environment),
            Event::Access(directory) => {
                self.directory.store(directory);
                self.directories.fetch_add(1, Ordering::Release);
                self.directory_changed.send_replace(());
                self.wake_all();
            }
            Event::Complete => {
                self.complete.send_replace(true);
            }
            Event::Status { quality, confirmed_at } => {
                let at = confirmed_at;
                self.look_at_age();
                self.confirmed.send_replace(Confirmed { quality, at });
                self.look_at_age();
            }
        }
    }

    fn reset(&self, id: EnvironmentId, head: Head, items: Vec<StoredItem>, recent: Vec<StoredDelta>) {
        let Some(identity) = self.identity() else {
            tracing::error!(
                environment = id.0,
                "the source sent a state before it said of which history; not applied"
            );
            return;
        };
        let position = (identity, id, head);
        if let Some(environment) = self.environment(id) {
            let previous = Arc::clone(&environment.state());
            let state = State::whole(position, items, recent, Some(&previous), &self.options);
            if state.commit.position.order() < previous.commit.position.order() {
                tracing::warn!(
                    environment = id.0,
                    generation = identity.generation,
                    revision = head.revision,
                    previous_generation = previous.identity.generation,
                    previous_revision = previous.head.revision,
                    "the source went back; streams of the environment end and ask it again"
                );
            }
            // Of another history everything is old, and nothing late.
            let is_newer = state.identity == previous.identity && state.head.revision > previous.head.revision;
            if is_newer {
                self.counts().applied.observe(head.committed_at);
            }
            environment.publish(state);
            // Only now: until the new state is there, the old one is not what the source confirms.
            environment.accept();
        } else {
            let state = State::whole(position, items, recent, None, &self.options);
            let mut environments = OrdMap::clone(&self.environments.load());
            let environment = Environment::new(id, state);
            if let Some(certain_at) = self.lock_behind().get(&id) {
                environment.fall_behind(*certain_at);
            }
            environments.insert(id, environment);
            self.environments.store(Arc::new(environments));
            self.environment_added.send_replace(());
        }
    }

    fn advance(&self, id: EnvironmentId, delta: StoredDelta) {
        let Some(environment) = self.environment(id) else {
            tracing::error!(
                environment = id.0,
                revision = delta.head.revision,
                "the source sent a revision of an environment that it never sent whole; not applied"
            );
            return;
        };
        let revision = delta.head.revision;
        let previous = Arc::clone(&environment.state());
        let followable = !environment.is_refused() && Some(previous.identity) == self.identity();
        let next = if followable {
            previous.advance(delta, &self.options)
        } else {
            Err(Discontinuous)
        };
        match next {
            Ok(state) => {
                self.counts().applied.observe(state.head.committed_at);
                environment.publish(state);
            }
            Err(error) => {
                if environment.refuse(self.confirmed().at) == Refusal::First {
                    tracing::error!(
                        environment = id.0,
                        revision,
                        held_revision = previous.head.revision,
                        error = &error as &dyn std::error::Error,
                        "the source sent a revision that does not continue what is held; waiting for a whole state"
                    );
                }
            }
        }
    }

    fn fall_behind(&self, id: EnvironmentId) {
        let confirmed_at = self.confirmed().at;
        self.lock_behind().entry(id).or_insert(confirmed_at);
        if let Some(environment) = self.environment(id) {
            environment.fall_behind(confirmed_at);
        }
    }

    fn catch_up(&self, id: EnvironmentId) {
        self.lock_behind().remove(&id);
        if let Some(environment) = self.environment(id) {
            environment.catch_up();
        }
    }

    fn lock_behind(&self) -> MutexGuard<'_, HashMap<EnvironmentId, Option<std::time::Instant>>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_out(&self, id: EnvironmentId, mark: fn(&Environment)) {
        self.lock_behind().remove(&id);
        let mut environments = OrdMap::clone(&self.environments.load());
        let taken = environments.remove(&id);
        self.environments.store(Arc::new(environments));
        if let Some(environment) = taken {
            mark(&environment);
        }
    }
}
