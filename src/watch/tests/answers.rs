//! Streams of answers: what they send, and when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Polling, Poll, Wake, Waker};

use super::*;
use crate::domain::access::KeyKind;
use crate::domain::change::Digest;
use crate::domain::context::{Context, Object};
use crate::domain::form::{ItemId, Kind};
use crate::watch::message::{Intent, Reason};
use crate::watch::source::{Head, StoredChange, StoredDelta, StoredItem};
use crate::watch::testing::{id, request};
use crate::watch::{Fingerprint, Part, Question, View};

/// Forms by the numbers of `testing::id`: definitions are even, configurations odd.
fn definition(flag: u8, value: &str) -> Vec<u8> {
    let form = format!(
        r#"{{"format":1,"key":"flag-{flag}","type":"string","variants":[{{"key":"only","value":{{"string":"{value}"}}}}],"off_variant":"only","client_visible":true}}"#
    );
    form.into_bytes()
}

pub(super) fn history(flags: u8) -> History {
    let mut history = History::new();
    let puts: Vec<_> = (0..flags)
        .map(|flag| (2 * flag, Some(definition(flag, "first"))))
        .collect();
    history.write(&puts);
    history
}

pub(super) fn asking<'a>(token: &'a [u8], flags: Option<&[&str]>) -> Request<'a> {
    let flags = flags.map(|flags| flags.iter().map(|flag| (*flag).into()).collect());
    let question = Question {
        context: Context::new("alice".into(), Object::default()),
        flags,
        asked_by: KeyKind::Client,
        fingerprint: Fingerprint([0; 16]),
    };
    Request {
        view: View::Answers(Arc::new(question)),
        ..request(token)
    }
}

/// A client of answers.
#[derive(Default)]
pub(super) struct Listener {
    held: BTreeMap<String, String>,
    pub(super) token: Vec<u8>,
    /// The batches that were heard: their intents, and the numbers of answers and of flags removed.
    pub(super) heard: Vec<(Intent, usize, usize)>,
}

impl Listener {
    pub(super) fn hear_all(&mut self, stream: &mut Subscription) {
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        while let Some(message) = now(stream) {
            match message.expect("the stream goes on") {
                Message::Answers(part) => {
                    changed.extend(answers(&part));
                    removed.extend(part.removed);
                    if let Some(token) = part.resume_token {
                        self.token = token.to_vec();
                        self.heard.push((part.intent, changed.len(), removed.len()));
                        if let Intent::Snapshot(_) = part.intent {
                            self.held.clear();
                        }
                        self.held.retain(|key, _| !removed.iter().any(|gone| **gone == **key));
                        self.held.append(&mut changed.drain(..).collect());
                        removed.clear();
                    }
                }
                Message::Heartbeat(heartbeat) => self.token = heartbeat.resume_token.to_vec(),
                other @ (Message::Begin(_)
                | Message::Item(_)
                | Message::Commit(_)
                | Message::Step(_)
                | Message::Goodbye(_)) => {
                    panic!("{other:?} on a stream of answers")
                }
            }
        }
        assert!(changed.is_empty() && removed.is_empty(), "a batch without an end");
    }

    /// Fails unless it holds what the newest state answers.
    fn check(&self, fixture: &Fixture) {
        let environment = fixture.hub.environment(ENVIRONMENT).unwrap();
        let state = environment.state();
        let flags = state.snapshot.flags();
        let answers = flags.map(|flag| {
            let context = Context::new("alice".into(), Object::default());
            let answer = flag.evaluate(&context, &state.snapshot);
            (flag.key().to_owned(), format!("{:?}", answer.variant.unwrap().value))
        });
        assert_eq!(self.held, answers.collect());
    }
}

fn answers(part: &Part) -> Vec<(String, String)> {
    let answer = |key: &Arc<str>| {
        let flag = part.question.flag(&part.state, key).expect("what changed is there");
        let answer = flag.evaluate(&part.question.context, &part.state.snapshot);
        (key.to_string(), format!("{:?}", answer.variant.unwrap().value))
    };
    part.changed.iter().map(answer).collect()
}

/// What a stream sends because of `change`; afterwards the client holds what the newest state answers.
fn check_stream(options: Options, change: impl FnOnce(&mut Fixture), expected: &[(Intent, usize, usize)]) {
    let mut fixture = Fixture::with(history(6), options);
    let mut stream = fixture.subscribe(asking(b"", None));
    let mut listener = Listener::default();
    listener.hear_all(&mut stream);
    listener.check(&fixture);
    listener.heard.clear();
    change(&mut fixture);
    listener.hear_all(&mut stream);
    assert_eq!(listener.heard, expected);
    listener.check(&fixture);
}

pub(super) fn redefine(fixture: &mut Fixture, flag: u8, variant: &str) {
    let event = fixture.history.write(&[(2 * flag, Some(definition(flag, variant)))]);
    fixture.hub.apply(event);
}

fn short_ring() -> Options {
    Options {
        ring_revisions: 2,
        ..Options::default()
    }
}

#[tokio::test(start_paused = true)]
async fn changes_that_were_missed_come_in_one_batch_with_the_latest_answers() {
    let change = |fixture: &mut Fixture| {
        for variant in ["second", "third"] {
            redefine(fixture, 1, variant);
            redefine(fixture, 2, variant);
        }
    };
    check_stream(Options::default(), change, &[(Intent::Delta, 2, 0)]);
    // Too many for the ring: everything is compared.
    check_stream(short_ring(), change, &[(Intent::Delta, 2, 0)]);
}

#[tokio::test(start_paused = true)]
async fn there_and_back_is_nothing() {
    let change = |fixture: &mut Fixture| {
        for variant in ["second", "first"] {
            redefine(fixture, 1, variant);
        }
    };
    check_stream(Options::default(), change, &[]);
}

#[tokio::test(start_paused = true)]
async fn flags_that_go_are_removed_also_beyond_the_ring() {
    let change = |fixture: &mut Fixture| {
        for flag in [0, 1, 2] {
            let event = fixture.history.write(&[(2 * flag, None)]);
            fixture.hub.apply(event);
        }
        redefine(fixture, 9, "new");
    };
    check_stream(Options::default(), change, &[(Intent::Delta, 1, 3)]);
    check_stream(short_ring(), change, &[(Intent::Delta, 1, 3)]);
}

#[tokio::test(start_paused = true)]
async fn another_history_is_sent_whole() {
    let diverged = Intent::Snapshot(Reason::Diverged);
    check_stream(Options::default(), |fixture| fixture.diverge(1), &[(diverged, 6, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_of_one_state_whatever_happens_while_it_is_sent() {
    let mut fixture = Fixture::new(history(100));
    let mut stream = fixture.subscribe(asking(b"", None));
    let Some(Ok(Message::Answers(first))) = now(&mut stream) else {
        panic!("no answers")
    };
    assert!(first.resume_token.is_none() && first.changed.len() < 100);
    for flag in [0, 99] {
        redefine(&mut fixture, flag, "second");
    }
    let Some(Ok(Message::Answers(second))) = now(&mut stream) else {
        panic!("no answers")
    };
    assert!(second.resume_token.is_some());
    assert_eq!(first.changed.len() + second.changed.len(), 100);
    let all = [answers(&first), answers(&second)].concat();
    assert!(
        all.iter().all(|(_, variant)| variant.contains("first")),
        "of the state that it began with"
    );
    let mut listener = Listener {
        held: all.into_iter().collect(),
        ..Listener::default()
    };
    listener.hear_all(&mut stream);
    assert_eq!(listener.heard, [(Intent::Delta, 2, 0)]);
    listener.check(&fixture);
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_is_a_message_of_its_own() {
    let mut fixture = Fixture::new(history(3));
    let large = "x".repeat(40_000);
    for flag in 0..3 {
        redefine(&mut fixture, flag, &large);
    }
    let mut stream = fixture.subscribe(asking(b"", None));
    let mut sizes = Vec::new();
    while let Some(Ok(Message::Answers(part))) = now(&mut stream) {
        sizes.push(part.changed.len());
    }
    assert_eq!(sizes, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_asked_for_moves_the_heartbeat_and_its_token_only() {
    let mut fixture = Fixture::new(history(3));
    let mut stream = fixture.subscribe(asking(b"", Some(&["flag-1"])));
    let mut listener = Listener::default();
    listener.hear_all(&mut stream);
    assert_eq!((listener.held.len(), listener.heard.len()), (1, 1));
    redefine(&mut fixture, 2, "second");
    assert!(now(&mut stream).is_none());
    let heartbeat = next_heartbeat(&mut stream).await;
    assert_eq!(heartbeat.head_revision, 2);
    assert_ne!(heartbeat.resume_token.to_vec(), listener.token);

    // The token of before still does: nothing that is asked for was touched.
    for token in [listener.token.clone(), heartbeat.resume_token.to_vec()] {
        let mut stream = fixture.subscribe(asking(&token, Some(&["flag-1"])));
        listener.heard.clear();
        listener.hear_all(&mut stream);
        assert_eq!(listener.heard, [(Intent::None, 0, 0)]);
    }
    redefine(&mut fixture, 1, "second");
    listener.heard.clear();
    listener.hear_all(&mut fixture.subscribe(asking(&listener.token.clone(), Some(&["flag-1"]))));
    assert_eq!(listener.heard, [(Intent::Snapshot(Reason::MayHaveChanged), 1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_without_a_definition_is_no_flag() {
    let fixture = Fixture::new(History::new());
    let item = StoredItem {
        id: id(1),
        version: 1,
        form: br#"{"format":1,"enabled":true}"#.as_slice().into(),
    };
    assert_eq!((item.id.kind, &*item.id.key), (Kind::FlagConfiguration, "flag-0"));
    let head = fixture.history.head();
    let delta = StoredDelta {
        head: Head { revision: 1, ..head },
        previous_revision: head.revision,
        previous_digest: head.digest,
        changes: vec![StoredChange::Put(item)],
    };
    let mut stream = fixture.subscribe(asking(b"", None));
    let mut listener = Listener::default();
    listener.hear_all(&mut stream);
    fixture.hub.apply(Event::Advance {
        environment: ENVIRONMENT,
        delta,
    });
    listener.hear_all(&mut stream);
    assert_eq!(listener.heard, [(Intent::Snapshot(Reason::NoState), 0, 0)]);
}

/// What leads from one revision to the next: so many flags are defined, with this value.
fn defining(fixture: &Fixture, revision: u64, flags: usize, value: &str) -> Event {
    let change = |flag: usize| {
        let form = String::from_utf8(definition(0, value)).unwrap();
        StoredChange::Put(StoredItem {
            id: ItemId {
                kind: Kind::FlagDefinition,
                key: format!("flag-{flag}").into(),
            },
            version: revision,
            form: form.replace("flag-0", &format!("flag-{flag}")).into_bytes().into(),
        })
    };
    let head = fixture.history.head();
    let at = |revision: u64| {
        let digest = if revision == 0 {
            head.digest
        } else {
            Digest([u8::try_from(revision).unwrap(); 32])
        };
        Head {
            revision,
            digest,
            ..head
        }
    };
    Event::Advance {
        environment: ENVIRONMENT,
        delta: StoredDelta {
            head: at(revision),
            previous_revision: revision - 1,
            previous_digest: at(revision - 1).digest,
            changes: (0..flags).map(change).collect(),
        },
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_many_flags_lets_others_have_their_turn() {
    let fixture = Fixture::new(History::new());
    fixture.hub.apply(defining(&fixture, 1, 700, "first"));
    let mut stream = fixture.subscribe(asking(b"", None));
    let mut first = 0;
    while first < 700 {
        let Ok(Message::Answers(part)) = stream.next().await else {
            panic!("no answers")
        };
        first += part.changed.len();
    }
    // They are defined again as they were, so that all of them are compared, and none is told.
    fixture.hub.apply(defining(&fixture, 2, 700, "first"));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut poll = || stream.poll_next(&mut Polling::from_waker(&waker));
    assert!(poll().is_pending());
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "it goes on by itself");
    // What comes meanwhile is told, although the stream looked before.
    fixture.hub.apply(defining(&fixture, 3, 1, "second"));
    let mut told = Vec::new();
    for _ in 0..20 {
        if let Poll::Ready(Ok(Message::Answers(part))) = poll() {
            told.push((part.intent, part.changed.len(), part.resume_token.is_some()));
        }
    }
    assert_eq!(told, [(Intent::Delta, 1, true)]);
    assert!(woken.0.load(Ordering::Relaxed) >= 3);
}
