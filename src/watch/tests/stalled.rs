//! Streams whose transports do not come back for more.

use std::sync::Weak;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::watch::testing::request;
use crate::watch::{Client, Stream};

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
async fn a_stream_that_is_dropped_is_forgotten() {
    let fixture = Fixture::new(History::of(6));
    let stream = open(&fixture);
    assert_eq!(fixture.hub.propagation().len(), 1);
    drop(stream);
    assert_eq!((fixture.hub.streams(), fixture.hub.propagation().len()), (0, 0));
}
