//! Snapshots that wait for their turn.

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::authorised::access;
use super::*;
use crate::domain::access::Term;
use crate::watch::message::{GoodbyeReason, Intent, Reason};
use crate::watch::source::Identity;
use crate::watch::testing::{Origin, request};

/// A hub that lets this many snapshots of its environment through at a time.
fn narrow(snapshots: usize) -> Fixture {
    let history = History::of(6);
    let weight = history.state(0, &Options::default()).weight;
    let options = Options {
        snapshot_bytes: weight * snapshots,
        ..Options::default()
    };
    Fixture::with(history, options)
}

impl Fixture {
    fn new_stream(&self) -> Subscription {
        self.subscribe(request(b""))
    }

    /// A stream that has begun to be sent a snapshot, and is not asked for more.
    fn hog(&self) -> Subscription {
        let mut stream = self.new_stream();
        assert!(matches!(now(&mut stream), Some(Ok(Message::Begin(_)))));
        stream
    }

    fn take_turns(&self) -> (CancellationToken, JoinHandle<()>) {
        let stop = CancellationToken::new();
        (stop.clone(), tokio::spawn(self.hub.clone().take_turns(stop)))
    }

    fn in_flight(&self) -> usize {
        self.hub.gate().bytes_in_flight()
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_is_on_its_way_than_may_be_and_everybody_gets_everything() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut fixture = narrow(3);
        let mut open: Vec<_> = (0..20).map(|_| (Client::default(), fixture.new_stream())).collect();
        let mut form = 0;
        while open.iter().any(|(client, _)| client.committed.is_none()) {
            let n = random.usize(..open.len());
            let (client, stream) = &mut open[n];
            if let Some(message) = now(stream) {
                client.hear(message.expect("the stream goes on"));
            }
            if random.usize(..20) == 0 {
                // Changes meanwhile must tear nothing.
                form += 1;
                fixture.write(random.u8(..5), &form.to_string());
            }
            let gate = fixture.hub.gate();
            assert!(fixture.in_flight() <= gate.bytes(), "{gate:?}");
        }
        for (client, stream) in &mut open {
            hear_all(client, stream);
            assert_eq!(client.items, fixture.history.last().items);
        }
        assert_eq!((fixture.in_flight(), fixture.hub.gate().waiting()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn first_come_is_first_served() {
    let fixture = narrow(1);
    let mut streams: Vec<_> = (0..10).map(|_| fixture.new_stream()).collect();
    let begun: Vec<_> = streams.iter_mut().map(|stream| now(stream).is_some()).collect();
    assert_eq!(begun.iter().position(|begun| *begun), Some(0));
    assert_eq!(fixture.hub.gate().waiting(), 9);
    for first in 0..10 {
        // Asking out of order helps nobody.
        for later in (first + 1..10).rev() {
            assert!(now(&mut streams[later]).is_none(), "{later} before {first}");
        }
        let mut said = 0;
        while let Some(message) = now(&mut streams[first]) {
            message.unwrap();
            said += 1;
        }
        assert!(said >= 6, "a step is said at once when its turn has come");
    }
}

#[tokio::test(start_paused = true)]
async fn what_weighs_more_than_there_is_goes_alone() {
    let history = History::of(6);
    let options = Options {
        snapshot_bytes: 1,
        ..Options::default()
    };
    let fixture = Fixture::with(history, options);
    let hog = fixture.hog();
    assert_eq!(fixture.in_flight(), 1);
    let mut next = fixture.new_stream();
    assert!(now(&mut next).is_none());
    drop(hog);
    assert!(now(&mut next).is_some());
}

#[tokio::test(start_paused = true)]
async fn who_goes_gives_back_what_it_had_and_its_place() {
    let fixture = narrow(1);
    let hog = fixture.hog();
    let (mut second, mut third) = (fixture.new_stream(), fixture.new_stream());
    assert!(now(&mut second).is_none() && now(&mut third).is_none());
    drop(second);
    assert_eq!(fixture.hub.gate().waiting(), 1);
    assert!(now(&mut third).is_none());
    drop(hog);
    assert!(matches!(now(&mut third), Some(Ok(Message::Begin(_)))));
    drop(third);
    assert_eq!((fixture.in_flight(), fixture.hub.gate().waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn deltas_and_confirmations_wait_for_nobody() {
    let mut fixture = narrow(1);
    let (mut client, mut stream) = idle(&fixture, request(b""));
    let token = client.token();
    let _hog = fixture.hog();
    let mut confirmed = fixture.subscribe(request(&token));
    assert!(matches!(now(&mut confirmed), Some(Ok(Message::Begin(begin))) if begin.intent == Intent::None));
    fixture.write(1, "changed");
    let begins = hear_all(&mut client, &mut stream);
    assert_eq!(begins.len(), 1);
    assert_eq!(begins[0].intent, Intent::Delta);
    let mut resumed = fixture.subscribe(request(&token));
    assert!(matches!(now(&mut resumed), Some(Ok(Message::Begin(begin))) if begin.intent == Intent::Delta));
}

#[tokio::test(start_paused = true)]
async fn clients_that_do_not_read_keep_a_reader_waiting_for_a_moment_only() {
    let fixture = narrow(100);
    let (stop, turns) = fixture.take_turns();
    let mut hogs: Vec<_> = (0..100).map(|_| fixture.hog()).collect();
    // Nobody is asked to give way to nobody.
    tokio::time::sleep(seconds(10)).await;
    assert_eq!(fixture.hub.gate().taken_back(), 0);

    let (began_at, mut client, mut reader) = (Instant::now(), Client::default(), fixture.new_stream());
    while client.committed.is_none() {
        client.hear(reader.next().await.expect("the stream goes on"));
    }
    assert!(
        began_at.elapsed() <= seconds(1) + seconds(1) / 5,
        "{:?}",
        began_at.elapsed()
    );
    assert!(fixture.hub.gate().taken_back() > 0);

    // Who did not read has lost nothing but its turn. A heartbeat may be due behind the Commit.
    let mut said = 0;
    while let Some(message) = now(&mut hogs[0]) {
        said += usize::from(!matches!(message.unwrap(), Message::Heartbeat(_)));
    }
    assert_eq!(said, 6, "five items and a Commit");
    stop.cancel();
    turns.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_reads_again_goes_on_behind_everybody_else() {
    let mut fixture = narrow(1);
    let (stop, turns) = fixture.take_turns();
    let (mut client, mut slow) = (Client::default(), fixture.new_stream());
    for _ in 0..3 {
        client.hear(now(&mut slow).unwrap().unwrap());
    }
    let (mut other, mut third) = (fixture.new_stream(), fixture.new_stream());
    assert!(now(&mut other).is_none() && now(&mut third).is_none());
    tokio::time::sleep(seconds(2)).await;
    assert!(matches!(now(&mut other), Some(Ok(Message::Begin(_)))));
    assert!(now(&mut slow).is_none(), "another is being sent its snapshot");
    fixture.write(1, "meanwhile");
    // Within a step nothing is said but the step, however long it takes: no heartbeat, and not the new revision.
    for _ in 0..50 {
        tokio::time::sleep(seconds(1) / 10).await;
        assert!(now(&mut slow).is_none());
        while now(&mut other).is_some() {}
    }
    assert!(now(&mut slow).is_none(), "the third came before");
    drop(third);
    hear_all(&mut client, &mut slow);
    assert_eq!(client.items, fixture.history.last().items);
    stop.cancel();
    turns.await.unwrap();
}

/// A request whose credential is valid until the directory has revision 2.
fn revocable() -> Request<'static> {
    Request {
        still_valid: Box::new(|directory| (directory.revision < 2).then_some(Term::Endless)),
        ..request(b"")
    }
}

#[tokio::test(start_paused = true)]
async fn revoked_streams_end_while_they_wait() {
    let fixture = narrow(1);
    let (stop, turns) = fixture.take_turns();
    let mut within = fixture.subscribe(revocable());
    assert!(matches!(now(&mut within), Some(Ok(Message::Begin(_)))));
    let mut hog = fixture.new_stream();
    assert!(now(&mut hog).is_none());
    tokio::time::sleep(seconds(2)).await;
    assert!(now(&mut hog).is_some(), "it came before who did not read");
    let mut before = fixture.subscribe(revocable());
    // Both wait now, one before its step and one within.
    assert!(now(&mut before).is_none() && now(&mut within).is_none());
    assert_eq!(fixture.hub.gate().waiting(), 2);
    let ending = tokio::spawn(async move { tokio::join!(end(&mut before), end(&mut within)) });
    tokio::task::yield_now().await;
    let began_at = Instant::now();
    fixture.hub.apply(access(2));
    assert_eq!(ending.await.unwrap(), (End::Revoked, End::Revoked));
    assert_eq!(
        began_at.elapsed(),
        Duration::ZERO,
        "nothing but the word of it was waited for"
    );
    assert_eq!(fixture.hub.gate().waiting(), 0);
    stop.cancel();
    turns.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_reaches_streams_that_wait() {
    let fixture = narrow(1);
    let _hog = fixture.hog();
    let mut waiting = fixture.new_stream();
    assert!(now(&mut waiting).is_none());
    fixture.hub.drain();
    let began_at = Instant::now();
    let message = waiting.next().await.unwrap();
    let is_goodbye = matches!(message, Message::Goodbye(goodbye) if goodbye.reason == GoodbyeReason::Draining);
    assert!(is_goodbye, "{message:?}");
    assert!(began_at.elapsed() <= Options::default().drain_window);
    assert!(matches!(waiting.next().await, Err(End::Finished)));
    assert_eq!(fixture.hub.gate().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_is_rotated_too() {
    let fixture = narrow(1);
    let _hog = fixture.hog();
    let mut waiting = fixture.new_stream();
    let message = waiting.next().await.unwrap();
    assert!(matches!(message, Message::Goodbye(goodbye) if goodbye.reason == GoodbyeReason::Rotated));
}

#[tokio::test(start_paused = true)]
async fn who_holds_something_has_its_heartbeats_while_it_waits() {
    let mut fixture = narrow(1);
    let (mut client, mut stream) = idle(&fixture, request(b""));
    let hog = fixture.hog();
    fixture.diverge(3);
    let mut heartbeats = 0;
    for _ in 0..3 {
        // `hear` holds each against what the client holds.
        let message = stream.next().await.unwrap();
        heartbeats += usize::from(matches!(message, Message::Heartbeat(_)));
        client.hear(message);
    }
    assert_eq!(heartbeats, 3);
    drop(hog);
    let begins = hear_all(&mut client, &mut stream);
    assert_eq!(begins[0].intent, Intent::Snapshot(Reason::Diverged));
    assert_eq!(client.items, fixture.history.last().items);
}

#[tokio::test(start_paused = true)]
async fn what_was_settled_with_the_origin_still_holds_when_the_turn_comes() {
    let fixture = narrow(1);
    let mut further = History::of(6);
    let head = fixture.history.head();
    further.write(&[(1, Some(b"lost".to_vec()))]);
    let ahead = Fixture::new(further);
    let (mut client, _) = idle(&ahead, request(b""));
    let Identity { generation, .. } = fixture.history.identity;
    assert_eq!(generation, 1);
    *fixture.source.origin.lock().unwrap() = Origin::At(head);
    let hog = fixture.hog();
    let token = client.token();
    let mut stream = fixture.subscribe(request(&token));
    // It asks, is told that the client is wrong, and waits.
    tokio::time::timeout(seconds(5), stream.next()).await.unwrap_err();
    assert_eq!(fixture.hub.gate().waiting(), 1);
    *fixture.source.origin.lock().unwrap() = Origin::Away;
    drop(hog);
    let message = stream.next().now_or_never().unwrap().unwrap();
    let Message::Begin(begin) = &message else {
        panic!("{message:?}");
    };
    assert_eq!(begin.intent, Intent::Snapshot(Reason::Diverged));
    // What it held is of no history that goes on.
    client = Client::default();
    client.hear(message);
    hear_all(&mut client, &mut stream);
    assert_eq!(client.items, fixture.history.last().items);
}
