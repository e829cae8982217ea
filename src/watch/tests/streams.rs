//! Steps: how they begin, what they share, and that they are never torn.

use super::*;
use crate::watch::item::Change;
use crate::watch::message::{Intent, Reason};
use crate::watch::testing::{request, whole_now};

/// The intents of the steps that a client hears when it resumes by its token after `change`.
fn check_resumption(options: Options, change: impl FnOnce(&mut Fixture), expected: &[Intent]) {
    let mut fixture = Fixture::with(History::of(6), options);
    let (mut client, stream) = idle(&fixture, request(b""));
    drop(stream);
    change(&mut fixture);
    let token = client.token();
    let begins = hear_all(&mut client, &mut fixture.subscribe(request(&token)));
    let intents: Vec<_> = begins.iter().map(|begin| begin.intent).collect();
    assert_eq!(intents, expected);
    assert_eq!(client.items, fixture.history.last().items);
}

/// The intents of the steps that a stream takes because of `change`.
fn check_stream(options: Options, change: impl FnOnce(&mut Fixture), expected: &[Intent]) {
    let mut fixture = Fixture::with(History::of(6), options);
    let (mut client, mut stream) = idle(&fixture, request(b""));
    change(&mut fixture);
    let intents: Vec<_> = hear_all(&mut client, &mut stream).iter().map(|b| b.intent).collect();
    assert_eq!(intents, expected);
    assert_eq!(client.items, fixture.history.last().items);
}

fn short_ring() -> Options {
    Options {
        ring_revisions: 2,
        ..Options::default()
    }
}

fn write_three(fixture: &mut Fixture) {
    for form in ["a", "b", "c"] {
        fixture.write(1, form);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_without_state_gets_everything_once() {
    let fixture = Fixture::new(History::of(6));
    let (mut client, mut stream) = (Client::default(), fixture.subscribe(request(b"")));
    let begins = hear_all(&mut client, &mut stream);
    assert_eq!(begins.len(), 1);
    assert_eq!(begins[0].intent, Intent::Snapshot(Reason::NoState));
    assert_eq!(
        (begins[0].from_revision, begins[0].to_revision, begins[0].item_count),
        (0, 6, 5)
    );
    assert_eq!(begins[0].stream, stream.id());
    assert_eq!(client.items, fixture.history.last().items);
}

#[tokio::test(start_paused = true)]
async fn a_short_step_is_handed_over_whole_and_a_long_one_in_its_parts() {
    let mut fixture = Fixture::new(History::of(6));
    let (mut client, mut stream) = idle(&fixture, request(b""));
    fixture.write(1, "short");
    let Some(Ok(Message::Step(step))) = whole_now(&mut stream) else {
        panic!("not a whole step");
    };
    assert_eq!((step.begin.from_revision, step.begin.to_revision), (6, 7));
    assert_eq!(stream.position(), Some((1, 7)));
    client.hear(Message::Step(step));
    assert_eq!(client.items, fixture.history.last().items);
    assert!(whole_now(&mut stream).is_none());

    fixture.write(1, &"long".repeat(2_000));
    let Some(Ok(Message::Begin(begin))) = whole_now(&mut stream) else {
        panic!("not the beginning of a step");
    };
    assert!(begin.encoded.is_some(), "it is encoded for each stream");
    client.hear(Message::Begin(begin));
    assert_eq!(stream.position(), None);
    hear_all(&mut client, &mut stream);
    assert_eq!(client.items, fixture.history.last().items);
}

#[tokio::test(start_paused = true)]
async fn a_large_snapshot_is_complete() {
    let mut history = History::new();
    let puts: Vec<_> = (0..=255).map(|number| (number, Some(vec![number]))).collect();
    history.write(&puts);
    let fixture = Fixture::new(history);
    let (client, _stream) = idle(&fixture, request(b""));
    assert_eq!(client.items.len(), 256);
    assert_eq!(client.items, fixture.history.last().items);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_token_is_a_client_without_state() {
    let fixture = Fixture::new(History::of(6));
    let mut stream = fixture.subscribe(request(b"what is this"));
    let begin = now(&mut stream).unwrap().unwrap();
    assert!(matches!(begin, Message::Begin(begin) if begin.intent == Intent::Snapshot(Reason::NoState)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_missed_nothing_is_confirmed() {
    check_resumption(Options::default(), |_| {}, &[Intent::None]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_missed_something_gets_it_in_one_step() {
    check_resumption(Options::default(), write_three, &[Intent::Delta]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_missed_too_much_gets_everything() {
    check_resumption(short_ring(), write_three, &[Intent::Snapshot(Reason::Compacted)]);
}

#[tokio::test(start_paused = true)]
async fn a_client_of_an_older_generation_gets_everything() {
    let diverged = Intent::Snapshot(Reason::Diverged);
    check_resumption(Options::default(), |f| f.diverge(3), &[diverged]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_takes_all_it_missed_in_one_step() {
    check_stream(Options::default(), write_three, &[Intent::Delta]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_falls_off_the_ring_gets_everything() {
    check_stream(short_ring(), write_three, &[Intent::Snapshot(Reason::Compacted)]);
}

#[tokio::test(start_paused = true)]
async fn a_new_generation_gives_every_stream_everything() {
    let diverged = Intent::Snapshot(Reason::Diverged);
    check_stream(Options::default(), |f| f.diverge(3), &[diverged]);
    check_stream(Options::default(), |f| f.diverge(6), &[diverged]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_still_knows_the_client_is_a_delta() {
    let reload = |f: &mut Fixture| {
        f.history.write(&[(1, Some(vec![1]))]);
        f.history.write(&[(2, None)]);
        f.hub.apply(f.history.reset(2));
    };
    check_stream(Options::default(), reload, &[Intent::Delta]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_knows_only_later_revisions_is_a_snapshot() {
    let reload = |f: &mut Fixture| {
        f.history.write(&[(1, Some(vec![1]))]);
        f.history.write(&[(2, None)]);
        f.hub.apply(f.history.reset(1));
    };
    check_stream(Options::default(), reload, &[Intent::Snapshot(Reason::Compacted)]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_of_the_same_says_nothing() {
    check_stream(Options::default(), |f| f.hub.apply(f.history.reset(0)), &[]);
}

#[tokio::test(start_paused = true)]
async fn a_step_is_not_torn_by_what_happens_meanwhile() {
    let mut fixture = Fixture::new(History::of(6));
    let mut client = Client::default();
    let mut stream = fixture.subscribe(request(b""));
    for form in ["a", "b", "c", "d", "e", "f", "g"] {
        client.hear(now(&mut stream).unwrap().unwrap());
        fixture.write(1, form);
    }
    let commit = client.committed.as_ref().expect("a Begin, five items and a Commit");
    assert_eq!(commit.position.revision, 6);
    assert_eq!(client.items, fixture.history.revisions[6].items);
    let begins = hear_all(&mut client, &mut stream);
    assert_eq!(begins.len(), 1);
    assert_eq!(client.items, fixture.history.last().items);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_goes_back_ends_the_stream_and_never_takes_it_back() {
    let mut fixture = Fixture::new(History::of(6));
    let (_client, mut stream) = idle(&fixture, request(b""));
    fixture.history.revisions.truncate(4);
    fixture.hub.apply(fixture.history.reset(9));
    assert_eq!(end(&mut stream).await, End::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_becomes_another_is_not_committed_a_second_time() {
    let mut fixture = Fixture::new(History::of(6));
    let (_client, mut stream) = idle(&fixture, request(b""));
    fixture.history.revisions.truncate(6);
    fixture.history.write(&[(1, Some(b"another sixth".to_vec()))]);
    fixture.hub.apply(fixture.history.reset(9));
    assert_eq!(end(&mut stream).await, End::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn streams_share_items_and_commits_and_their_encodings() {
    let mut fixture = Fixture::new(History::of(6));
    let mut streams = [idle(&fixture, request(b"")).1, idle(&fixture, request(b"")).1];
    fixture.write(1, "shared");
    let [first, second] = streams.each_mut().map(|stream| {
        let messages: Vec<_> = (0..3).map(|_| now(stream).unwrap().unwrap()).collect();
        messages
    });
    let (Message::Item(Change::Put(one)), Message::Item(Change::Put(other))) = (&first[1], &second[1]) else {
        panic!("not items: {first:?} {second:?}")
    };
    assert!(Arc::ptr_eq(one, other));
    let (Message::Commit(one), Message::Commit(other)) = (&first[2], &second[2]) else {
        panic!("not Commits: {first:?} {second:?}")
    };
    assert!(Arc::ptr_eq(one, other));
}

#[tokio::test(start_paused = true)]
async fn items_keep_their_encoding_when_the_state_is_sent_again() {
    let fixture = Fixture::new(History::of(6));
    let environment = fixture.hub.environment(ENVIRONMENT).unwrap();
    let before = Arc::clone(&environment.state());
    fixture.hub.apply(fixture.history.reset(3));
    let after = Arc::clone(&environment.state());
    assert_eq!(before.items.len(), 5);
    for (id, item) in &before.items {
        assert!(Arc::ptr_eq(item, &after.items[id]));
    }
}

#[test]
fn a_stream_is_small() {
    assert!(size_of::<Subscription>() <= 384, "{}", size_of::<Subscription>());
}

#[test]
fn everything_may_be_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Hub>();
    check::<Subscription>();
    check::<Message>();
    check::<super::super::Environment>();
}
