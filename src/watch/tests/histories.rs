//! Random histories, with clients that read at their own speed, lose their connections and come back. Every Commit is held
//! against what really happened.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::change::Digest;
use crate::watch::message::{Intent, Step};
use crate::watch::testing::{Items, request, state_hash, whole_now};

const CLIENTS: usize = 4;

type Writes = Vec<(u8, Option<Vec<u8>>)>;

#[derive(Debug, Clone)]
enum Happening {
    /// A revision.
    Write(Writes),
    /// Revisions that the source did not see one by one, then the whole state with some of the newest.
    Reload(Vec<Writes>, usize),
    /// The database loses some revisions, and goes on with others.
    Restore(usize, Vec<Writes>, usize),
    /// A client hears some messages.
    Read(usize, usize),
    /// A client's connection breaks, and it comes back with what it holds, or with nothing.
    Reconnect(usize, bool),
    /// Somebody's access changes.
    Access,
}

fn writes() -> impl Strategy<Value = Writes> {
    let form = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..40));
    prop::collection::vec((0..16_u8, form), 0..4)
}

fn happening() -> impl Strategy<Value = Happening> {
    let several = || prop::collection::vec(writes(), 0..4);
    prop_oneof![
        8 => writes().prop_map(Happening::Write),
        1 => (several(), 0..6_usize).prop_map(|(writes, recent)| Happening::Reload(writes, recent)),
        1 => (0..6_usize, several(), 0..6_usize)
            .prop_map(|(lost, writes, recent)| Happening::Restore(lost, writes, recent)),
        12 => (0..CLIENTS, 1..12_usize).prop_map(|(client, messages)| Happening::Read(client, messages)),
        2 => (0..CLIENTS, any::<bool>()).prop_map(|(client, remembers)| Happening::Reconnect(client, remembers)),
        1 => Just(Happening::Access),
    ]
}

struct World {
    fixture: Fixture,
    clients: Vec<(Client, Subscription)>,
    /// What was ever true: by generation and revision.
    truth: BTreeMap<(u64, u64), (Digest, Items)>,
}

impl World {
    fn new(options: Options) -> Self {
        let fixture = Fixture::with(History::of(3), options);
        let clients = (0..CLIENTS)
            .map(|_| (Client::default(), fixture.subscribe(request(b""))))
            .collect();
        let mut world = Self {
            fixture,
            clients,
            truth: BTreeMap::new(),
        };
        world.record();
        world
    }

    fn record(&mut self) {
        let history = &self.fixture.history;
        for revision in &history.revisions {
            let head = revision.delta.head;
            let key = (history.identity.generation, head.revision);
            self.truth
                .entry(key)
                .or_insert_with(|| (head.digest, revision.items.clone()));
        }
    }

    fn happen(&mut self, happening: Happening) {
        let Fixture { hub, history, .. } = &mut self.fixture;
        match happening {
            Happening::Write(writes) => hub.apply(history.write(&writes)),
            Happening::Reload(unseen, recent) => {
                for writes in unseen {
                    history.write(&writes);
                }
                hub.apply(history.reset(recent));
            }
            Happening::Restore(lost, writes, recent) => {
                let kept = history.revisions.len().saturating_sub(lost).max(1);
                history.revisions.truncate(kept);
                history.identity.generation += 1;
                for writes in writes {
                    history.write(&writes);
                }
                hub.apply(Event::Identity(history.identity));
                hub.apply(history.reset(recent));
            }
            Happening::Read(client, messages) => self.read(client, messages),
            Happening::Reconnect(client, remembers) => self.reconnect(client, remembers),
            Happening::Access => hub.apply(Event::Access(Arc::default())),
        }
        self.record();
    }

    fn read(&mut self, client: usize, messages: usize) {
        // Half of them are handed short steps whole, as transports are.
        let poll = if client.is_multiple_of(2) { now } else { whole_now };
        let (client, stream) = &mut self.clients[client];
        for _ in 0..messages {
            let Some(message) = poll(stream) else { return };
            let message = message.expect("nothing here ends a stream");
            let committed = matches!(message, Message::Commit(_) | Message::Step(_));
            if let Message::Begin(begin) | Message::Step(Step { begin, .. }) = &message {
                let first = client.committed.is_none();
                assert!(
                    matches!(begin.intent, Intent::Snapshot(_)) || !first,
                    "a delta on top of nothing"
                );
            }
            client.hear(message);
            if committed {
                let position = client.committed.as_ref().unwrap().position;
                let (digest, items) = &self.truth[&position.order()];
                assert_eq!(position.digest, *digest, "a revision that never was");
                assert_eq!(&client.items, items, "a state that never was");
            }
        }
    }

    fn reconnect(&mut self, client: usize, remembers: bool) {
        let (client, stream) = &mut self.clients[client];
        client.disconnect();
        if !remembers {
            *client = Client::default();
        }
        *stream = self.fixture.subscribe(request(&client.token()));
    }

    /// Whatever happened, in the end everybody holds the newest.
    fn settle(mut self) {
        let (last, identity) = (self.fixture.history.last().clone(), self.fixture.history.identity);
        for client in 0..CLIENTS {
            self.read(client, usize::MAX);
            let (client, _) = &self.clients[client];
            let commit = client.committed.as_ref().unwrap();
            assert_eq!(client.items, last.items);
            assert_eq!(commit.state_hash, state_hash(&last.items));
            assert_eq!(commit.position.identity, identity);
            assert_eq!(commit.position.digest, last.delta.head.digest);
        }
        let hub = Arc::clone(&self.fixture.hub);
        assert_eq!(hub.streams(), CLIENTS);
        drop(self);
        assert_eq!(hub.streams(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn clients_hold_only_what_was_true_and_in_the_end_the_newest(
        happenings in prop::collection::vec(happening(), 1..80),
        ring_revisions in 0..8_usize,
        ring_bytes in prop_oneof![Just(usize::MAX), 0..1_000_usize],
    ) {
        // The clock stands still, so that no stream has anything to say but steps.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _inside = runtime.enter();
        let mut world = World::new(Options { ring_revisions, ring_bytes, ..Options::default() });
        for happening in happenings {
            world.happen(happening);
        }
        world.settle();
    }
}
