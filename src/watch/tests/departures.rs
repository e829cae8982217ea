//! Goodbyes and other ends.

use tokio::time::Instant;

use super::*;
use crate::watch::Refused;
use crate::watch::message::{Goodbye, GoodbyeReason};
use crate::watch::testing::{Origin, request};

/// Listens until the stream says Goodbye. When it did, and what it said.
async fn goodbye(stream: &mut Subscription) -> (Duration, Goodbye) {
    let began_at = Instant::now();
    loop {
        if let Message::Goodbye(goodbye) = stream.next().await.expect("the stream goes on") {
            return (began_at.elapsed(), goodbye);
        }
    }
}

/// The Goodbyes of many idle streams, after `happening`.
async fn goodbyes(happening: impl FnOnce(&Hub)) -> Vec<(Duration, Goodbye)> {
    let fixture = Fixture::new(History::of(3));
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (_client, mut stream) = idle(&fixture, request(b""));
            tokio::spawn(async move {
                let said = goodbye(&mut stream).await;
                assert_eq!(stream.next().await.unwrap_err(), End::Finished);
                assert_eq!(stream.next().await.unwrap_err(), End::Finished);
                said
            })
        })
        .collect();
    happening(&fixture.hub);
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    assert_eq!(fixture.hub.streams(), 0);
    all
}

/// All of them lie between the bounds, and are spread over more than half of what is between.
fn check_spread(durations: impl Iterator<Item = Duration>, from: Duration, to: Duration) {
    let durations: Vec<_> = durations.collect();
    let (first, last) = (durations.iter().min().unwrap(), durations.iter().max().unwrap());
    assert!(
        *first >= from && *last <= to + Duration::from_millis(2),
        "{first:?} {last:?}"
    );
    assert!(*last > *first + to.saturating_sub(from) / 2, "{first:?} {last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_spreads_goodbyes_over_its_window() {
    let said = goodbyes(Hub::drain).await;
    let window = Options::default().drain_window;
    check_spread(said.iter().map(|(after, _)| *after), Duration::ZERO, window);
    check_spread(
        said.iter().map(|(_, said)| said.reconnect_after),
        Duration::ZERO,
        window,
    );
    assert!(said.iter().all(|(_, said)| said.reason == GoodbyeReason::Draining));
}

#[tokio::test(start_paused = true)]
async fn streams_rotate_after_half_an_hour_or_so() {
    let said = goodbyes(|_| {}).await;
    check_spread(said.iter().map(|(after, _)| *after), seconds(24 * 60), seconds(36 * 60));
    let pause = Options::default().rotation_pause;
    check_spread(said.iter().map(|(_, said)| said.reconnect_after), Duration::ZERO, pause);
    assert!(said.iter().all(|(_, said)| said.reason == GoodbyeReason::Rotated));
}

#[tokio::test(start_paused = true)]
async fn a_draining_hub_is_not_ready_and_takes_no_streams() {
    let fixture = Fixture::new(History::of(3));
    assert!(fixture.hub.is_ready());
    fixture.hub.drain();
    assert!(!fixture.hub.is_ready());
    assert_eq!(
        fixture.hub.subscribe(ENVIRONMENT, request(b"")).err(),
        Some(Refused::Draining)
    );
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_tear_a_step() {
    let fixture = Fixture::new(History::of(3));
    let (mut client, mut stream) = (Client::default(), fixture.subscribe(request(b"")));
    client.hear(now(&mut stream).unwrap().unwrap());
    fixture.hub.drain();
    tokio::time::advance(seconds(60)).await;
    while let Ok(message) = stream.next().await {
        client.hear(message);
    }
    assert_eq!(client.items, fixture.history.last().items);
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_is_removed_ends_its_streams_at_once() {
    let fixture = Fixture::new(History::of(3));
    let (_client, mut stream) = idle(&fixture, request(b""));
    let began_at = Instant::now();
    let ended = tokio::spawn(async move { end(&mut stream).await });
    tokio::task::yield_now().await;
    fixture.hub.apply(Event::Removed(ENVIRONMENT));
    assert_eq!(ended.await.unwrap(), End::EnvironmentGone);
    assert_eq!(began_at.elapsed(), Duration::ZERO);
    assert!(fixture.hub.environment(ENVIRONMENT).is_none());
    assert_eq!(
        fixture.hub.subscribe(ENVIRONMENT, request(b"")).err(),
        Some(Refused::UnknownEnvironment)
    );
}

#[tokio::test(start_paused = true)]
async fn streams_are_counted_until_they_are_dropped_wherever_they_are() {
    let fixture = Fixture::new(History::of(3));
    let untouched = fixture.subscribe(request(b""));
    let mut stepping = fixture.subscribe(request(b""));
    now(&mut stepping).unwrap().unwrap();
    let idle = idle(&fixture, request(b"")).1;
    // What the client is ahead by exists, but does not arrive.
    let mut ahead = fixture.history.clone();
    ahead.write(&[]);
    *fixture.source.origin.lock().unwrap() = Origin::At(ahead.head());
    let mut waiting = fixture.subscribe(request(&ahead.state(0, &Options::default()).commit.resume_token));
    assert!(now(&mut waiting).is_none());
    assert_eq!(fixture.hub.streams(), 4);
    drop((untouched, stepping, idle, waiting));
    assert_eq!(fixture.hub.streams(), 0);
}
