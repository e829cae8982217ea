//! Histories to feed a hub with, a source that answers as it is told, and a client that believes nothing.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::item::Change;
use super::message::{Begin, Commit, Intent, Message, Step};
use super::options::Options;
use super::request::{End, Request, View};
use super::source::{Answer, Event, Head, Identity, Source, StoredChange, StoredDelta, StoredItem, Unreachable};
use super::state::State;
use super::subscription::Subscription;
use crate::domain::access::Term;
use crate::domain::change::{self, Digest, EnvironmentId, ItemChange, StateHash};
use crate::domain::form::{ItemId, Kind};

pub(super) const ENVIRONMENT: EnvironmentId = EnvironmentId(7);

/// What a state holds, as the tests see it: versions and forms.
pub(super) type Items = BTreeMap<ItemId, (u64, Bytes)>;

/// An environment's history: what really happened.
#[derive(Debug, Clone)]
pub(super) struct History {
    pub(super) identity: Identity,
    pub(super) environment: EnvironmentId,
    /// From revision 0 on.
    pub(super) revisions: Vec<Revision>,
}

#[derive(Debug, Clone)]
pub(super) struct Revision {
    pub(super) delta: StoredDelta,
    pub(super) items: Items,
}

pub(super) fn id(number: u8) -> ItemId {
    let kind = if number.is_multiple_of(2) {
        Kind::FlagDefinition
    } else {
        Kind::FlagConfiguration
    };
    ItemId {
        kind,
        key: format!("flag-{}", number / 2).into(),
    }
}

pub(super) fn state_hash(items: &Items) -> StateHash {
    let mut hash = StateHash::EMPTY;
    for (id, (_, form)) in items {
        hash.toggle(id.kind.name(), &id.key, &change::form_hash(form));
    }
    hash
}

impl History {
    pub(super) fn new() -> Self {
        let head = Head {
            revision: 0,
            digest: Digest::default(),
            committed_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let delta = StoredDelta {
            head,
            previous_revision: 0,
            previous_digest: Digest::default(),
            changes: Vec::new(),
        };
        let identity = Identity {
            store: Uuid::from_u128(1),
            generation: 1,
        };
        Self {
            identity,
            environment: ENVIRONMENT,
            revisions: vec![Revision {
                delta,
                items: Items::new(),
            }],
        }
    }

    /// A history of `revisions` revisions, each of which puts one of five items.
    pub(super) fn of(revisions: u8) -> Self {
        let mut history = Self::new();
        for revision in 0..revisions {
            history.write(&[(revision % 5, Some(vec![revision]))]);
        }
        history
    }

    pub(super) fn last(&self) -> &Revision {
        self.revisions.last().unwrap()
    }

    pub(super) fn head(&self) -> Head {
        self.last().delta.head
    }

    /// Appends a revision: forms to put, or nothing to delete. Deletes of what is not there are left out.
    pub(super) fn write(&mut self, writes: &[(u8, Option<Vec<u8>>)]) -> Event {
        let mut items = self.last().items.clone();
        let mut changes: BTreeMap<ItemId, StoredChange> = BTreeMap::new();
        for (number, form) in writes {
            let id = id(*number);
            let held = self.last().items.get(&id).map_or(0, |(version, _)| *version);
            match form {
                Some(form) => {
                    let (version, form) = (held + 1, Bytes::copy_from_slice(form));
                    items.insert(id.clone(), (version, form.clone()));
                    changes.insert(id.clone(), StoredChange::Put(StoredItem { id, version, form }));
                }
                None if held > 0 => {
                    items.remove(&id);
                    changes.insert(id.clone(), StoredChange::Delete { id, version: held });
                }
                None => {}
            }
        }
        let previous = self.head();
        let changes: Vec<_> = changes.into_values().collect();
        let head = Head {
            revision: previous.revision + 1,
            digest: digest(previous, self.identity, &changes),
            committed_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let delta = StoredDelta {
            head,
            previous_revision: previous.revision,
            previous_digest: previous.digest,
            changes,
        };
        self.revisions.push(Revision {
            delta: delta.clone(),
            items,
        });
        Event::Advance {
            environment: self.environment,
            delta,
        }
    }

    /// The whole state, with the newest revisions to resume from.
    pub(super) fn reset(&self, recent: usize) -> Event {
        Event::Reset {
            environment: self.environment,
            head: self.head(),
            items: self.items(),
            recent: self.recent(recent),
        }
    }

    /// The state that a hub holds after a `reset`.
    pub(super) fn state(&self, recent: usize, limits: &Options) -> State {
        let position = (self.identity, self.environment, self.head());
        State::whole(position, self.items(), self.recent(recent), None, limits)
    }

    fn items(&self) -> Vec<StoredItem> {
        let items = self.last().items.iter();
        let stored = items.map(|(id, (version, form))| StoredItem {
            id: id.clone(),
            version: *version,
            form: form.clone(),
        });
        stored.collect()
    }

    fn recent(&self, recent: usize) -> Vec<StoredDelta> {
        let written = &self.revisions[1..];
        let newest = &written[written.len().saturating_sub(recent)..];
        newest.iter().map(|revision| revision.delta.clone()).collect()
    }
}

/// The digest, with the generation mixed in so that no two histories of a test agree by accident.
fn digest(previous: Head, identity: Identity, changes: &[StoredChange]) -> Digest {
    let changes: Vec<_> = changes
        .iter()
        .map(|change| match change {
            StoredChange::Put(item) => ItemChange {
                id: &item.id,
                version: item.version,
                form: Some(&item.form),
            },
            StoredChange::Delete { id, version } => ItemChange {
                id,
                version: *version,
                form: None,
            },
        })
        .collect();
    let mut start = previous.digest;
    start.0[0] ^= u8::try_from(identity.generation).unwrap();
    change::digest(start, previous.revision + 1, &changes)
}

/// What a source finds when it asks for the environment.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// It cannot be reached.
    Away,
    /// It does not have the environment.
    Without,
    /// The environment is there.
    At(Head),
}

/// A source that answers what it was told to.
pub(super) struct Told {
    pub(super) origin: Mutex<Origin>,
    /// `None`: it cannot be reached.
    pub(super) access: Mutex<Option<u64>>,
}

impl Told {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: Mutex::new(Origin::Away),
            access: Mutex::new(None),
        })
    }
}

impl Source for Told {
    fn confirm_head(&self, _: EnvironmentId) -> Answer<'_, Option<Head>> {
        let origin = *self.origin.lock().unwrap();
        let answer = match origin {
            Origin::Away => Err(Unreachable),
            Origin::Without => Ok(None),
            Origin::At(head) => Ok(Some(head)),
        };
        async move { answer }.boxed()
    }

    fn confirm_access(&self) -> Answer<'_, u64> {
        let access = *self.access.lock().unwrap();
        async move { access.ok_or(Unreachable) }.boxed()
    }
}

/// The items of a step that puts some and deletes one, and what ends it.
pub(crate) fn a_step() -> (Arc<[Change]>, Arc<Commit>) {
    let mut history = History::of(3);
    let held = history.head().revision;
    history.write(&[(0, None), (1, Some(vec![7])), (2, Some(vec![8, 9]))]);
    let state = history.state(usize::MAX, &Options::default());
    let merged = state.since(held).unwrap();
    (merged.changes, Arc::clone(&state.commit))
}

/// A request of a client whose key is never revoked.
pub(super) fn request(token: &[u8]) -> Request<'_> {
    Request {
        token,
        heartbeat: None,
        still_valid: Box::new(|_| Some(Term::Endless)),
        view: View::Items,
    }
}

/// What the stream says now, if it says anything.
pub(super) fn now(stream: &mut Subscription) -> Option<Result<Message, End>> {
    stream.next().now_or_never()
}

/// The same, but short steps whole.
pub(super) fn whole_now(stream: &mut Subscription) -> Option<Result<Message, End>> {
    poll_fn(|cx| stream.poll_whole(cx)).now_or_never()
}

/// A client: it applies what it is told as the contract says, and holds every word against it.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) items: Items,
    pub(super) committed: Option<Arc<Commit>>,
    step: Option<(Begin, Items, u32)>,
}

impl Client {
    /// What it shows to resume.
    pub(super) fn token(&self) -> Bytes {
        self.committed
            .as_ref()
            .map(|commit| commit.resume_token.clone())
            .unwrap_or_default()
    }

    /// Forgets an unfinished step, as a client does whose connection broke.
    pub(super) fn disconnect(&mut self) {
        self.step = None;
    }

    pub(super) fn hear(&mut self, message: Message) {
        match message {
            Message::Begin(begin) => {
                assert!(self.step.is_none(), "a step begins within a step");
                let items = match begin.intent {
                    Intent::Snapshot(_) => Items::new(),
                    Intent::Delta | Intent::None => {
                        let held = self.committed.as_ref().map_or(0, |commit| commit.position.revision);
                        assert_eq!(
                            begin.from_revision, held,
                            "the step starts where the client does not stand"
                        );
                        self.items.clone()
                    }
                };
                self.step = Some((begin, items, 0));
            }
            Message::Item(change) => {
                let (_, items, heard) = self.step.as_mut().expect("an item outside a step");
                *heard += 1;
                match change {
                    Change::Put(item) => {
                        items.insert(item.id.clone(), (item.version, item.form.clone()));
                    }
                    Change::Delete(deletion) => {
                        items.remove(&deletion.id);
                    }
                }
            }
            Message::Commit(commit) => self.commit(commit),
            Message::Step(Step {
                begin, changes, commit, ..
            }) => {
                self.hear(Message::Begin(begin));
                for change in changes.iter().cloned() {
                    self.hear(Message::Item(change));
                }
                self.commit(commit);
            }
            Message::Heartbeat(heartbeat) => {
                assert!(self.step.is_none(), "a heartbeat within a step");
                let commit = self.committed.as_ref().expect("a heartbeat before the first Commit");
                assert_eq!(heartbeat.resume_token, commit.resume_token);
                assert_eq!(heartbeat.head_revision, commit.position.revision);
            }
            Message::Answers(_) => panic!("answers, though items were asked for"),
            Message::Goodbye(_) => assert!(self.step.is_none(), "a Goodbye within a step"),
        }
    }

    fn commit(&mut self, commit: Arc<Commit>) {
        let (begin, items, heard) = self.step.take().expect("a Commit outside a step");
        assert_eq!(begin.item_count, heard, "not as many items as announced");
        assert_eq!(begin.to_revision, commit.position.revision);
        assert_eq!(begin.generation, commit.position.identity.generation);
        assert_eq!(
            state_hash(&items),
            commit.state_hash,
            "the client does not hold what the server holds"
        );
        if let Some(held) = &self.committed {
            if begin.intent == Intent::None {
                assert_eq!(held.position, commit.position, "up to date, but somewhere else");
            } else {
                assert!(
                    held.position.order() < commit.position.order(),
                    "back, or the same twice"
                );
            }
        }
        self.items = items;
        self.committed = Some(commit);
    }
}
