//! Streams whose transports do not come back for more.

use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::authorised::{access, revocable};
use super::*;
use crate::watch::testing::request;
use crate::watch::{Client, Refused, Stream};

fn poll(stream: &mut Stream) -> Poll<Result<Message, End>> {
    stream.poll_next(&mut Context::from_waker(Waker::noop()))
}

fn open(fixture: &Fixture) -> Stream {
    fixture.hub.open(ENVIRONMENT, request(b""), Client::default()).unwrap()
}

/// All that the stream has to say now.
fn drain(stream: &mut Stream) {
    while let Poll::Ready(message) = poll(stream) {
        message.expect("the stream goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_asked_for_more_is_released_and_says_why() {
    let mut fixture = Fixture::new(History::of(6));
    let stop = tokio_util::sync::CancellationToken::new();
    let releasing = tokio::spawn(fixture.hub.clone().release_stalled(stop.clone()));
    let (mut stuck, mut never, mut idle) = (open(&fixture), open(&fixture), open(&fixture));
    let mut unsent = open(&fixture);
    assert!(poll(&mut stuck).is_ready());
    drain(&mut idle);
    drain(&mut unsent);
    fixture.write(1, "later");
    assert!(poll(&mut unsent).is_ready());
    drain(&mut idle);
    let held: Weak<_> = {
        let environment = fixture.hub.environment(ENVIRONMENT).unwrap();
        Arc::downgrade(&environment.state().commit)
    };
    assert_eq!(fixture.hub.streams(), 4);
    tokio::time::sleep(seconds(29)).await;
    assert_eq!(fixture.hub.streams(), 4);
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(fixture.hub.streams(), 1, "one waits for us, and we for the others");
    for stream in [&mut stuck, &mut never, &mut unsent] {
        assert!(matches!(poll(stream), Poll::Ready(Err(End::Stalled))));
    }
    drain(&mut idle);
    fixture.hub.apply(Event::Removed(ENVIRONMENT));
    drop(idle);
    assert!(held.upgrade().is_none(), "what was taken away keeps nothing alive");
    stop.cancel();
    releasing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_last_message_was_taken_but_not_sent_is_released() {
    let mut fixture = Fixture::new(History::of(6));
    let stop = tokio_util::sync::CancellationToken::new();
    let releasing = tokio::spawn(fixture.hub.clone().release_stalled(stop.clone()));
    let (mut stuck, mut reads) = (open(&fixture), open(&fixture));
    for n in 0..2 {
        // Transports ask until they are told to wait, and then wait for room.
        drain(&mut stuck);
        drain(&mut reads);
        fixture.write(1, &n.to_string());
    }
    for _ in 0..33 {
        assert_eq!(fixture.hub.streams(), 2);
        tokio::time::sleep(seconds(1)).await;
        drain(&mut reads);
        if fixture.hub.streams() == 1 {
            break;
        }
    }
    assert_eq!(
        fixture.hub.streams(),
        1,
        "its heartbeats and two changes wait to be asked for"
    );
    assert!(matches!(poll(&mut stuck), Poll::Ready(Err(End::Stalled))));
    stop.cancel();
    releasing.await.unwrap();
}

/// Counts how often a task is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_although_the_stream_is_taken_away_before_the_bell_is_passed_on() {
    let fixture = Fixture::new(History::of(6));
    let mut stream = fixture.hub.open(ENVIRONMENT, revocable(), Client::default()).unwrap();
    fixture.hub.apply(access(1));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    while let Poll::Ready(message) = stream.poll_next(&mut Context::from_waker(&waker)) {
        message.expect("the stream goes on");
    }
    // Nothing else runs between the two.
    fixture.hub.apply(access(2));
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    fixture.hub.open_streams().release(seconds(30));
    assert_eq!(fixture.hub.streams(), 0);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(matches!(poll(&mut stream), Poll::Ready(Err(End::Revoked))));
}

#[tokio::test(start_paused = true)]
async fn what_was_released_makes_room() {
    let options = Options {
        streams: 1,
        ..Options::default()
    };
    let fixture = Fixture::with(History::of(6), options);
    let stop = tokio_util::sync::CancellationToken::new();
    let releasing = tokio::spawn(fixture.hub.clone().release_stalled(stop.clone()));
    let stuck = open(&fixture);
    let again = || fixture.hub.open(ENVIRONMENT, request(b""), Client::default());
    assert!(matches!(again(), Err(Refused::TooMany)));
    tokio::time::sleep(seconds(35)).await;
    let again = again().unwrap();
    drop(stuck);
    assert_eq!(fixture.hub.propagation().len(), 1, "the place is the other's");
    drop(again);
    assert_eq!(fixture.hub.propagation().len(), 0);
    stop.cancel();
    releasing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stuck_stream_ends_with_its_credential() {
    let fixture = Fixture::new(History::of(6));
    let stop = tokio_util::sync::CancellationToken::new();
    let releasing = tokio::spawn(fixture.hub.clone().release_stalled(stop.clone()));
    let stuck = fixture.hub.open(ENVIRONMENT, revocable(), Client::default());
    let mut stuck = stuck.unwrap();
    assert!(poll(&mut stuck).is_ready());
    fixture.hub.apply(access(2));
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(fixture.hub.streams(), 0);
    assert!(matches!(poll(&mut stuck), Poll::Ready(Err(End::Revoked))));
    stop.cancel();
    releasing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_is_forgotten() {
    let fixture = Fixture::new(History::of(6));
    let stream = open(&fixture);
    assert_eq!(fixture.hub.propagation().len(), 1);
    drop(stream);
    assert_eq!((fixture.hub.streams(), fixture.hub.propagation().len()), (0, 0));
}
