//! Several replicas of one history, each as far as it happens to be, and clients that move between them: a state machine of random
//! commands. Whatever happens, a client only ever holds what was true, never goes back, and holds the newest in the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::domain::access::Term;
use crate::domain::change::Digest;
use crate::watch::Refused;
use crate::watch::testing::{Items, Origin, state_hash};

const REPLICAS: usize = 3;
const CLIENTS: usize = 4;

type Writes = Vec<(u8, Option<Vec<u8>>)>;

/// What a client shows when it comes.
#[derive(Debug, Clone)]
enum Shows {
    /// Its last token.
    Token,
    /// Nothing, since it lost what it held.
    Nothing,
    /// Bytes that no server wrote, since it lost what it held.
    Noise(Vec<u8>),
}

#[derive(Debug, Clone)]
enum Command {
    /// A revision is written; no replica knows of it yet.
    Write(Writes),
    /// The database loses some revisions and goes on under the next generation; no replica knows of it yet.
    Restore(usize, Writes),
    /// A replica hears of the next revisions, one by one, or of the new generation.
    Advance(usize, usize),
    /// A replica is sent everything, with some of the newest revisions to resume from.
    Reset(usize, usize),
    /// A replica hears that the environment is gone, or that another took its place. It comes back with the next reset.
    Remove(usize),
    Supersede(usize),
    /// A replica can ask the database where it stands, or no longer can.
    Reach(usize, bool),
    /// A replica stops, and another starts in its place.
    Drain(usize),
    /// A client hears some messages.
    Read(usize, usize),
    /// A client leaves its replica for another.
    Move(usize, usize, Shows),
    /// A client's credential is taken away.
    Revoke(usize),
}

fn writes() -> impl Strategy<Value = Writes> {
    let form = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..30));
    prop::collection::vec((0..12_u8, form), 0..4)
}

fn command() -> impl Strategy<Value = Command> {
    let replica = || 0..REPLICAS;
    let client = || 0..CLIENTS;
    let shows = prop_oneof![
        6 => Just(Shows::Token),
        1 => Just(Shows::Nothing),
        1 => prop::collection::vec(any::<u8>(), 0..150).prop_map(Shows::Noise),
    ];
    prop_oneof![
        8 => writes().prop_map(Command::Write),
        1 => (0..5_usize, writes()).prop_map(|(lost, writes)| Command::Restore(lost, writes)),
        10 => (replica(), 1..5_usize).prop_map(|(replica, revisions)| Command::Advance(replica, revisions)),
        2 => (replica(), 0..6_usize).prop_map(|(replica, recent)| Command::Reset(replica, recent)),
        1 => replica().prop_map(Command::Remove),
        1 => replica().prop_map(Command::Supersede),
        2 => (replica(), any::<bool>()).prop_map(|(replica, reaches)| Command::Reach(replica, reaches)),
        1 => replica().prop_map(Command::Drain),
        14 => (client(), 1..9_usize).prop_map(|(client, messages)| Command::Read(client, messages)),
        6 => (client(), replica(), shows).prop_map(|(client, replica, shows)| Command::Move(client, replica, shows)),
        1 => client().prop_map(Command::Revoke),
    ]
}

/// A replica, and how far it is.
struct Replica {
    hub: Arc<Hub>,
    source: Arc<Told>,
    generation: u64,
    revision: usize,
    /// It holds the environment.
    holds: bool,
    reaches: bool,
}

impl Replica {
    fn new(history: &History, options: &Options) -> Self {
        let source = Told::new();
        let mut replica = Self {
            hub: Hub::new(source.clone(), options.clone()),
            source,
            generation: 0,
            revision: 0,
            holds: false,
            reaches: true,
        };
        replica.reset(history, 3);
        replica.hub.apply(Event::Complete);
        replica
    }

    fn reset(&mut self, history: &History, recent: usize) {
        if self.generation != history.identity.generation {
            self.hub.apply(Event::Identity(history.identity));
        }
        self.hub.apply(history.reset(recent));
        (self.generation, self.revision) = (history.identity.generation, history.revisions.len() - 1);
        self.holds = true;
    }

    fn advance(&mut self, history: &History, revisions: usize) {
        if !self.holds || self.generation != history.identity.generation {
            return self.reset(history, revisions);
        }
        for revision in history.revisions.iter().skip(self.revision + 1).take(revisions) {
            self.hub.apply(Event::Advance {
                environment: ENVIRONMENT,
                delta: revision.delta.clone(),
            });
            self.revision += 1;
        }
    }

    /// What the database says of itself to this replica. Of another generation it hears first, or nothing.
    fn look(&self, history: &History) {
        let knows = self.reaches && self.generation == history.identity.generation;
        let origin = if knows {
            Origin::At(history.head())
        } else {
            Origin::Away
        };
        *self.source.origin.lock().unwrap() = origin;
    }
}

/// A client, and the stream that it has, if it has one.
struct Follower {
    client: Client,
    replica: usize,
    stream: Option<Subscription>,
    revoked: Arc<AtomicBool>,
}

struct World {
    history: History,
    options: Options,
    replicas: Vec<Replica>,
    followers: Vec<Follower>,
    /// What was ever true: by generation and revision.
    truth: BTreeMap<(u64, u64), (Digest, Items)>,
}

impl World {
    fn new(options: Options) -> Self {
        let history = History::of(3);
        let replicas = (0..REPLICAS).map(|_| Replica::new(&history, &options)).collect();
        let followers = (0..CLIENTS).map(|client| Follower {
            client: Client::default(),
            replica: client % REPLICAS,
            stream: None,
            revoked: Arc::default(),
        });
        let mut world = Self {
            followers: followers.collect(),
            history,
            options,
            replicas,
            truth: BTreeMap::new(),
        };
        world.record();
        world
    }

    fn record(&mut self) {
        for revision in &self.history.revisions {
            let head = revision.delta.head;
            let key = (self.history.identity.generation, head.revision);
            self.truth
                .entry(key)
                .or_insert_with(|| (head.digest, revision.items.clone()));
        }
    }

    fn run(&mut self, command: Command) {
        let Self { history, replicas, .. } = self;
        match command {
            Command::Write(writes) => drop(history.write(&writes)),
            Command::Restore(lost, writes) => {
                let kept = history.revisions.len().saturating_sub(lost).max(1);
                history.revisions.truncate(kept);
                history.identity.generation += 1;
                history.write(&writes);
            }
            Command::Advance(replica, revisions) => replicas[replica].advance(history, revisions),
            Command::Reset(replica, recent) => replicas[replica].reset(history, recent),
            Command::Remove(replica) => {
                replicas[replica].hub.apply(Event::Removed(ENVIRONMENT));
                replicas[replica].holds = false;
            }
            Command::Supersede(replica) => {
                replicas[replica].hub.apply(Event::Superseded(ENVIRONMENT));
                replicas[replica].holds = false;
            }
            Command::Reach(replica, reaches) => replicas[replica].reaches = reaches,
            Command::Drain(replica) => self.drain(replica),
            Command::Read(client, messages) => self.read(client, messages),
            Command::Move(client, replica, shows) => self.go(client, replica, shows),
            Command::Revoke(client) => self.revoke(client),
        }
        self.record();
        for replica in &self.replicas {
            replica.look(&self.history);
        }
    }

    /// Everybody there is told goodbye, after what they were in the middle of; who comes later is refused.
    fn drain(&mut self, replica: usize) {
        let fresh = Replica::new(&self.history, &self.options);
        let old = std::mem::replace(&mut self.replicas[replica], fresh);
        old.hub.drain();
        let refused = old.hub.subscribe(ENVIRONMENT, crate::watch::testing::request(b""));
        assert!(matches!(refused, Err(Refused::Draining)));
        for client in 0..CLIENTS {
            if self.followers[client].replica == replica {
                self.read(client, usize::MAX);
                let follower = &mut self.followers[client];
                // One that waits for the database to decide is cut off at the end of the grace.
                follower.stream = None;
                follower.client.disconnect();
            }
        }
        assert_eq!(old.hub.streams(), 0);
    }

    fn read(&mut self, client: usize, messages: usize) {
        let Follower {
            client,
            stream,
            revoked,
            ..
        } = &mut self.followers[client];
        for _ in 0..messages {
            let Some(said) = stream.as_mut().and_then(now) else {
                return;
            };
            assert!(
                !revoked.load(Ordering::Relaxed) || said.is_err(),
                "{said:?} after the revocation"
            );
            let Ok(message) = said else {
                *stream = None;
                client.disconnect();
                return;
            };
            let committed = matches!(message, Message::Commit(_));
            client.hear(message);
            if committed {
                let position = client.committed.as_ref().unwrap().position;
                let (digest, items) = &self.truth[&position.order()];
                assert_eq!(position.digest, *digest, "a revision that never was");
                assert_eq!(&client.items, items, "a state that never was");
            }
        }
    }

    fn go(&mut self, client: usize, replica: usize, shows: Shows) {
        let follower = &mut self.followers[client];
        follower.stream = None;
        follower.client.disconnect();
        let token = match shows {
            Shows::Token => follower.client.token().to_vec(),
            Shows::Nothing => Vec::new(),
            Shows::Noise(noise) => noise,
        };
        if token != follower.client.token() {
            follower.client = Client::default();
        }
        follower.replica = replica;
        follower.revoked = Arc::default();
        let revoked = Arc::clone(&follower.revoked);
        let request = Request {
            still_valid: Box::new(move |_| (!revoked.load(Ordering::Relaxed)).then_some(Term::Endless)),
            ..crate::watch::testing::request(&token)
        };
        let there = &self.replicas[replica];
        match there.hub.subscribe(ENVIRONMENT, request) {
            Ok(stream) => follower.stream = Some(stream),
            Err(refused) => assert!(
                matches!(refused, Refused::UnknownEnvironment) && !there.holds,
                "{refused:?}"
            ),
        }
    }

    fn revoke(&mut self, client: usize) {
        let follower = &mut self.followers[client];
        follower.revoked.store(true, Ordering::Relaxed);
        self.replicas[follower.replica].hub.apply(Event::Access(Arc::default()));
        // Whatever it was in the middle of: the next word is the end.
        if let Some(stream) = &mut follower.stream {
            let said = now(stream);
            assert!(matches!(said, Some(Err(_))), "{said:?} after the revocation");
            follower.stream = None;
            follower.client.disconnect();
        }
    }

    /// Whatever happened, once every replica is told, everybody can come and hold the newest.
    fn settle(mut self) {
        for replica in &mut self.replicas {
            replica.advance(&self.history, usize::MAX);
            replica.reaches = true;
            replica.look(&self.history);
        }
        let (last, identity) = (self.history.last().clone(), self.history.identity);
        for client in 0..CLIENTS {
            self.read(client, usize::MAX);
            if self.followers[client].stream.is_none() {
                self.go(client, client % REPLICAS, Shows::Token);
                self.read(client, usize::MAX);
            }
            let client = &self.followers[client].client;
            let commit = client.committed.as_ref().unwrap();
            assert_eq!(client.items, last.items);
            assert_eq!(commit.state_hash, state_hash(&last.items));
            assert_eq!(
                (commit.position.identity, commit.position.digest),
                (identity, last.delta.head.digest)
            );
        }
        let hubs: Vec<_> = self.replicas.iter().map(|replica| Arc::clone(&replica.hub)).collect();
        drop(self);
        assert!(hubs.iter().all(|hub| hub.streams() == 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn clients_that_move_hold_only_what_was_true_and_in_the_end_the_newest(
        commands in prop::collection::vec(command(), 1..120), ring_revisions in 0..8_usize,
    ) {
        // The clock stands still, so that no stream has anything to say but steps and its end.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _inside = runtime.enter();
        let mut world = World::new(Options { ring_revisions, drain_window: Duration::ZERO, ..Options::default() });
        for command in commands {
            world.run(command);
        }
        world.settle();
    }
}
