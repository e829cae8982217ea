//! Hints: "this has moved, go and look". They carry no data, may be lost, doubled or wrong, and only ever cost a look.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use super::pace::Pace;
use crate::domain::change::EnvironmentId;

/// The channel on which replicas tell each other.
pub(super) const CHANNEL: &str = "halyard";

/// What has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// An environment has a new revision.
    Environment {
        /// Which environment.
        id: EnvironmentId,
        /// The revision that was committed.
        revision: u64,
    },
    /// What access depends on has a new revision.
    Access {
        /// The revision that was committed.
        revision: u64,
    },
}

/// Where a process that has committed a change says so. The feed of the same process looks at once; other replicas are told by
/// NOTIFY.
///
/// Hints of the same thing collapse into the newest, so memory is bounded by the number of environments. Sending never blocks and
/// may be done from any thread.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// For the feed of this process.
    inbox: Mailbox,
    /// For the other replicas.
    outbox: Mailbox,
}

impl Hints {
    /// Without hints.
    pub fn new() -> Self {
        Self::default()
    }

    /// Passes on what this process has committed. Call it after the commit, never before.
    pub fn send(&self, hint: Hint) {
        self.inner.inbox.put(hint);
        self.inner.outbox.put(hint);
    }

    /// Passes on what was learned from elsewhere, to the feed of this process only.
    pub(super) fn receive(&self, hint: Hint) {
        self.inner.inbox.put(hint);
    }

    /// For the feed.
    pub(super) fn inbox(&self) -> &Mailbox {
        &self.inner.inbox
    }

    /// For the notifier.
    pub(in crate::store) fn outbox(&self) -> &Mailbox {
        &self.inner.outbox
    }
}

/// The newest hint of each thing, until they are taken.
#[derive(Debug, Default)]
pub(in crate::store) struct Mailbox {
    pending: Mutex<Pending>,
    arrived: Notify,
}

/// The newest revision that was hinted of each thing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    /// Of environments.
    pub(super) environments: HashMap<EnvironmentId, u64>,
    /// Of the access head.
    pub(super) access: Option<u64>,
    /// How many hints that were.
    pub(super) changes: usize,
}

impl Mailbox {
    fn put(&self, hint: Hint) {
        self.lock().add(hint);
        self.arrived.notify_one();
    }

    /// Waits until something may be there. For one consumer.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Whether something is there that must not wait.
    fn is_urgent(&self) -> bool {
        self.lock().access.is_some()
    }

    /// Takes everything.
    pub(super) fn take(&self) -> Pending {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Nothing under the lock leaves the map half changed.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hints as the feed takes them: the first at once, and those that follow closely together, so that they can be read together.
#[derive(Debug)]
pub(super) struct Gathering {
    hints: Hints,
    pace: Pace,
    /// Something is there.
    arrived: bool,
}

impl Gathering {
    pub(super) fn new(hints: Hints, pause: Duration) -> Self {
        Self {
            hints,
            pace: Pace::new(pause),
            arrived: false,
        }
    }

    /// Waits for hints and takes them. May be dropped and called again: nothing is lost.
    pub(super) async fn next(&mut self) -> Pending {
        let inbox = self.hints.inbox();
        if !self.arrived {
            inbox.arrived().await;
            self.arrived = true;
        }
        // What access depends on waits for nothing.
        while !inbox.is_urgent() && !self.pace.is_due() {
            tokio::select! {
                () = self.pace.due() => {}
                () = inbox.arrived() => {}
            }
        }
        self.arrived = false;
        let pending = inbox.take();
        self.pace.began(pending.changes);
        pending
    }
}

impl Pending {
    /// Keeps the newer of this and what is there of the same thing.
    pub(super) fn add(&mut self, hint: Hint) {
        self.changes += 1;
        match hint {
            Hint::Environment { id, revision } => {
                let newest = self.environments.entry(id).or_default();
                *newest = revision.max(*newest);
            }
            Hint::Access { revision } => self.access = self.access.max(Some(revision)),
        }
    }

    /// One hint a thing.
    pub(super) fn hints(&self) -> impl Iterator<Item = Hint> {
        let environments = self.environments.iter();
        let environments = environments.map(|(&id, &revision)| Hint::Environment { id, revision });
        let access = self.access.map(|revision| Hint::Access { revision });
        environments.chain(access)
    }

    /// The payloads that tell other replicas.
    pub(super) fn payloads(&self) -> Vec<String> {
        self.hints().map(|hint| Payload::Hint(hint).to_string()).collect()
    }
}

/// What is said on the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    /// Something has moved: `<environment id> <revision>` or `access <revision>`.
    Hint(Hint),
    /// A listener asks whether it hears itself: `probe <uuid>`. Of no interest to others.
    Probe(Uuid),
}

impl std::fmt::Display for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hint(Hint::Environment { id, revision }) => write!(f, "{} {revision}", id.0),
            Self::Hint(Hint::Access { revision }) => write!(f, "access {revision}"),
            Self::Probe(nonce) => write!(f, "probe {nonce}"),
        }
    }
}

impl Payload {
    /// Reads a payload. `None`: it is none of ours.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (what, value) = text.split_once(' ')?;
        match what {
            "probe" => value.parse().ok().map(Self::Probe),
            "access" => number(value).map(|revision| Self::Hint(Hint::Access { revision })),
            environment => {
                let id = EnvironmentId(i64::try_from(number(environment)?).ok()?);
                number(value).map(|revision| Self::Hint(Hint::Environment { id, revision }))
            }
        }
    }
}

/// A number as we write it: digits only, so that every payload has one reading and one spelling.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::time::Instant;

    fn environment(id: i64, revision: u64) -> Hint {
        Hint::Environment {
            id: EnvironmentId(id),
            revision,
        }
    }

    #[test]
    fn hints_of_the_same_thing_collapse_into_the_newest() {
        let hints = Hints::new();
        for hint in [
            environment(1, 5),
            environment(2, 1),
            environment(1, 7),
            environment(1, 6),
        ] {
            hints.send(hint);
        }
        hints.send(Hint::Access { revision: 4 });
        hints.send(Hint::Access { revision: 3 });
        let pending = hints.inbox().take();
        assert_eq!(
            pending.environments,
            HashMap::from([(EnvironmentId(1), 7), (EnvironmentId(2), 1)])
        );
        assert_eq!(pending.access, Some(4));
        assert_eq!(hints.inbox().take(), Pending::default());
    }

    #[tokio::test(start_paused = true)]
    async fn hints_that_follow_closely_are_gathered_unless_they_are_of_access() {
        let (hints, pause) = (Hints::new(), Duration::from_millis(5));
        let mut gathering = Gathering::new(hints.clone(), pause);
        let began_at = Instant::now();
        hints.send(environment(1, 1));
        assert_eq!(gathering.next().await.environments.len(), 1);
        assert_eq!(began_at.elapsed(), Duration::ZERO, "the first waits for nothing");
        hints.send(environment(1, 2));
        let told = hints.clone();
        tokio::spawn(async move { told.send(environment(2, 1)) });
        assert_eq!(gathering.next().await.environments.len(), 2);
        assert!(began_at.elapsed() >= pause, "{:?}", began_at.elapsed());
        let began_at = Instant::now();
        hints.send(environment(1, 3));
        let told = hints.clone();
        tokio::spawn(async move { told.send(Hint::Access { revision: 1 }) });
        let pending = gathering.next().await;
        assert_eq!((pending.environments.len(), pending.access), (1, Some(1)));
        assert_eq!(began_at.elapsed(), Duration::ZERO, "access waits for nothing");
    }

    #[test]
    fn what_was_learned_from_elsewhere_is_not_told_again() {
        let hints = Hints::new();
        hints.receive(environment(1, 5));
        assert_eq!(hints.outbox().take(), Pending::default());
        assert_ne!(hints.inbox().take(), Pending::default());
    }

    #[tokio::test]
    async fn a_hint_sent_before_the_wait_is_not_missed() {
        let hints = Hints::new();
        hints.send(environment(1, 5));
        hints.inbox().arrived().await;
        hints.outbox().arrived().await;
        assert_eq!(hints.outbox().take().payloads(), ["1 5"]);
    }

    #[test]
    fn what_is_none_of_ours_is_not_understood() {
        for text in [
            "",
            " ",
            "1",
            "1 ",
            " 1",
            "1 2 3",
            "1  2",
            "-1 2",
            "1 -2",
            "+1 2",
            "1 2\n",
            "access",
            "access x",
            "probe 1",
            "x 1",
            "99999999999999999999 1",
            "9223372036854775808 1",
            "1 18446744073709551616",
        ] {
            assert_eq!(Payload::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn payloads_read_as_they_were_written(id in 0..=i64::MAX, revision: u64, nonce: u128) {
            let payloads = [
                Payload::Hint(environment(id, revision)),
                Payload::Hint(Hint::Access { revision }),
                Payload::Probe(Uuid::from_u128(nonce)),
            ];
            for payload in payloads {
                prop_assert_eq!(Payload::parse(&payload.to_string()), Some(payload));
            }
        }

        #[test]
        fn reading_never_panics(text: String) {
            if let Some(payload) = Payload::parse(&text) {
                prop_assert_eq!(Payload::parse(&payload.to_string()), Some(payload));
            }
        }
    }
}
