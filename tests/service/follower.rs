//! A client of Watch that keeps what it is sent, and checks every promise while it does.

use std::collections::BTreeMap;

use halyard::domain::change::{Digest, StateHash};
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_response::Message;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::app::watch;
use crate::support::within;

/// What a client holds.
#[derive(Debug, Default, Clone)]
pub struct Held {
    pub items: BTreeMap<(String, String), pb::Put>,
    pub generation: u64,
    pub revision: u64,
    pub token: Vec<u8>,
    /// Every revision that was committed to it, in order.
    pub commits: Vec<u64>,
}

/// A stream and what came of it.
pub struct Follower {
    pub held: Held,
    stream: Streaming<pb::WatchResponse>,
}

/// A step that was applied.
#[derive(Debug)]
pub struct Step {
    pub begin: pb::Begin,
    pub items: usize,
    pub commit: pb::Commit,
}

impl Follower {
    pub async fn new(channel: &Channel, key: &str) -> Result<Self, Status> {
        Self::resume(channel, key, Held::default()).await
    }

    /// A stream that goes on from what is held.
    pub async fn resume(channel: &Channel, key: &str, held: Held) -> Result<Self, Status> {
        let request = pb::WatchRequest {
            resume_token: held.token.clone(),
            heartbeat: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            client: None,
            forms: false,
        };
        let stream = watch(channel, key).watch(request).await?.into_inner();
        Ok(Self { held, stream })
    }

    /// The next message, or why there is none; `None` is the stream's end.
    pub async fn message(&mut self) -> Result<Option<Message>, Status> {
        let response = within("a message", self.stream.message()).await?;
        Ok(response.map(|response| response.message.expect("a message")))
    }

    /// The next step, applied; heartbeats before it are passed over. An error or Goodbye is the stream's end.
    pub async fn step(&mut self) -> Result<Step, Option<Status>> {
        loop {
            match self.message().await? {
                Some(Message::Begin(begin)) => return self.finish(begin).await,
                Some(Message::Heartbeat(heartbeat)) => self.check_heartbeat(&heartbeat),
                Some(Message::Goodbye(_)) | None => return Err(None),
                Some(Message::Item(_) | Message::Commit(_)) => panic!("outside of a step"),
            }
        }
    }

    /// Applies steps until this revision is held.
    pub async fn until(&mut self, revision: u64) -> Result<(), Option<Status>> {
        while self.held.revision < revision {
            self.step().await?;
        }
        Ok(())
    }

    pub fn check_heartbeat(&self, heartbeat: &pb::Heartbeat) {
        assert_eq!(
            (heartbeat.generation, heartbeat.head_revision),
            (self.held.generation, self.held.revision)
        );
        assert_eq!(heartbeat.resume_token, self.held.token);
        assert!(heartbeat.staleness.is_some());
    }

    async fn finish(&mut self, begin: pb::Begin) -> Result<Step, Option<Status>> {
        let mut items = match begin.intent() {
            pb::Intent::Snapshot => BTreeMap::new(),
            pb::Intent::Delta | pb::Intent::None => {
                assert_eq!(
                    (begin.generation, begin.from_revision),
                    (self.held.generation, self.held.revision)
                );
                self.held.items.clone()
            }
            pb::Intent::Unspecified => panic!("a step without intent"),
        };
        let mut count = 0;
        let commit = loop {
            match self.message().await? {
                Some(Message::Item(item)) => {
                    count += 1;
                    apply(&mut items, item);
                }
                Some(Message::Commit(commit)) => break commit,
                Some(Message::Begin(_) | Message::Heartbeat(_) | Message::Goodbye(_)) => panic!("inside of a step"),
                None => return Err(None),
            }
        };
        assert_eq!(count, begin.item_count as usize, "{begin:?}");
        assert_eq!(
            (commit.generation, commit.revision),
            (begin.generation, begin.to_revision)
        );
        assert_eq!(
            state_hash(&items).as_bytes().as_slice(),
            commit.state_hash,
            "after {begin:?}"
        );
        let order = |generation, revision| (generation, revision);
        let (before, after) = (
            order(self.held.generation, self.held.revision),
            order(commit.generation, commit.revision),
        );
        assert!(after >= before, "went back from {before:?} to {after:?}");
        assert!(
            after > before || begin.intent() == pb::Intent::None || self.held.commits.is_empty(),
            "{after:?} was committed twice"
        );
        if after > before {
            self.held.commits.push(commit.revision);
        }
        self.held.items = items;
        (self.held.generation, self.held.revision) = after;
        self.held.token.clone_from(&commit.resume_token);
        Ok(Step {
            begin,
            items: count,
            commit,
        })
    }

    /// Whether a flag is on, by what the client holds.
    pub fn enabled(&self, flag: &str) -> bool {
        let configuration = self.held.items.get(&("flag_configuration".to_owned(), flag.to_owned()));
        configuration.is_some_and(|put| match put.item.as_ref() {
            Some(pb::put::Item::FlagConfiguration(configuration)) => configuration.enabled,
            Some(
                pb::put::Item::FlagDefinition(_)
                | pb::put::Item::SegmentConfiguration(_)
                | pb::put::Item::SegmentKeys(_)
                | pb::put::Item::Experiment(_),
            )
            | None => panic!("an item of another kind"),
        })
    }
}

fn apply(items: &mut BTreeMap<(String, String), pb::Put>, item: pb::Item) {
    match item.change.expect("a change") {
        pb::item::Change::Put(put) => {
            items.insert((put.kind.clone(), put.key.clone()), put);
        }
        pb::item::Change::Delete(delete) => {
            items
                .remove(&(delete.kind, delete.key))
                .expect("what is deleted was there");
        }
    }
}

/// The hash over what is held, by the rule of the proto file.
pub fn state_hash(items: &BTreeMap<(String, String), pb::Put>) -> StateHash {
    let mut hash = StateHash::EMPTY;
    for ((kind, key), put) in items {
        hash.toggle(kind, key, &Digest::from_slice(&put.form_hash).expect("32 bytes"));
    }
    hash
}
