//! Heartbeats: when they come, and that they never lie.

use tokio::time::{Instant, advance};

use super::*;
use crate::watch::message::UNKNOWN_STALENESS;
use crate::watch::testing::request;

async fn check_interval(wanted: Option<Duration>, expected: Duration) {
    let fixture = Fixture::new(History::of(3));
    let (_client, mut stream) = idle(
        &fixture,
        Request {
            heartbeat: wanted,
            ..request(b"")
        },
    );
    // A timer fires in the millisecond after.
    let tolerance = Duration::from_millis(2);
    for _ in 0..20 {
        let before = Instant::now();
        next_heartbeat(&mut stream).await;
        let took = before.elapsed();
        assert!(
            took >= expected.mul_f64(0.9) && took <= expected.mul_f64(1.1) + tolerance,
            "{took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_every_ten_seconds_or_so() {
    check_interval(None, seconds(10)).await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_as_often_as_the_client_asks() {
    check_interval(Some(seconds(2)), seconds(2)).await;
    check_interval(Some(seconds(600)), seconds(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_says_where_the_client_stands() {
    let mut fixture = Fixture::new(History::of(3));
    let (mut client, mut stream) = idle(&fixture, request(b""));
    fixture.write(1, "a");
    fixture.confirm();
    hear_all(&mut client, &mut stream);
    let heartbeat = next_heartbeat(&mut stream).await;
    assert_eq!(heartbeat.head_revision, 4);
    assert_eq!(heartbeat.generation, 1);
    assert_eq!(heartbeat.resume_token, client.token());
    assert_eq!(heartbeat.quality, Quality::Live);
}

#[tokio::test(start_paused = true)]
async fn staleness_grows_while_nothing_is_confirmed() {
    let fixture = Fixture::new(History::of(3));
    let (_client, mut stream) = idle(&fixture, request(b""));
    fixture.confirm();
    let confirmed_at = Instant::now();
    for _ in 0..5 {
        assert_eq!(next_heartbeat(&mut stream).await.staleness, confirmed_at.elapsed());
    }
    assert_eq!(fixture.hub.status().staleness, Some(confirmed_at.elapsed()));
    fixture.confirm();
    assert_eq!(fixture.hub.status().staleness, Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_lost_origin_is_told() {
    let fixture = Fixture::new(History::of(3));
    let (_client, mut stream) = idle(&fixture, request(b""));
    fixture.hub.apply(Event::Status {
        quality: Quality::Disconnected,
        confirmed_at: None,
    });
    let heartbeat = next_heartbeat(&mut stream).await;
    assert_eq!(heartbeat.quality, Quality::Disconnected);
    assert_eq!(heartbeat.staleness, UNKNOWN_STALENESS);
    assert_eq!(fixture.hub.status().staleness, None);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_waits_for_the_end_of_the_step() {
    let fixture = Fixture::new(History::of(3));
    let (mut client, mut stream) = (Client::default(), fixture.subscribe(request(b"")));
    fixture.confirm();
    client.hear(now(&mut stream).unwrap().unwrap());
    advance(seconds(30)).await;
    // The client would panic at a heartbeat within the step.
    for _ in 0..4 {
        client.hear(now(&mut stream).unwrap().unwrap());
    }
    let heartbeat = now(&mut stream).unwrap().unwrap();
    assert!(matches!(heartbeat, Message::Heartbeat(_)), "{heartbeat:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_catches_up_hears_how_far_behind_it_is() {
    let mut fixture = Fixture::new(History::of(3));
    let (mut client, mut stream) = idle(&fixture, request(b""));
    let mut heartbeats = 0;
    for round in 0..20 {
        fixture.confirm();
        fixture.write(1, &round.to_string());
        let begin = now(&mut stream).unwrap().unwrap();
        assert!(matches!(begin, Message::Begin(_)), "{begin:?}");
        client.hear(begin);
        let began_at = Instant::now();
        advance(seconds(4)).await;
        // Something newer is always there before the step is through.
        fixture.write(2, &round.to_string());
        fixture.confirm();
        client.hear(now(&mut stream).unwrap().unwrap());
        client.hear(now(&mut stream).unwrap().unwrap());
        let committed = client.committed.as_ref().unwrap().position.revision;
        assert!(committed < fixture.history.head().revision);
        let mut next = now(&mut stream).unwrap().unwrap();
        if let Message::Heartbeat(heartbeat) = &next {
            heartbeats += 1;
            assert_eq!(heartbeat.head_revision, committed);
            assert_eq!(heartbeat.staleness, began_at.elapsed());
            client.hear(next);
            next = now(&mut stream).unwrap().unwrap();
        }
        client.hear(next);
        hear_all(&mut client, &mut stream);
    }
    assert!(heartbeats >= 5, "{heartbeats}");
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_lost_its_thread_is_stale_whatever_is_confirmed() {
    let mut fixture = Fixture::new(History::of(3));
    let (mut client, mut stream) = idle(&fixture, request(b""));
    fixture.confirm();
    let certain_at = Instant::now();
    fixture.history.write(&[(1, Some(vec![1]))]);
    fixture.write(1, "does not follow");
    advance(seconds(1)).await;
    fixture.confirm();
    let heartbeat = next_heartbeat(&mut stream).await;
    assert_eq!(heartbeat.head_revision, 3);
    assert_eq!(heartbeat.staleness, certain_at.elapsed());

    fixture.hub.apply(fixture.history.reset(9));
    fixture.confirm();
    let certain_at = Instant::now();
    hear_all(&mut client, &mut stream);
    let heartbeat = next_heartbeat(&mut stream).await;
    assert_eq!(heartbeat.head_revision, 5);
    assert_eq!(heartbeat.staleness, certain_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_is_behind_ages_alone_until_it_has_caught_up() {
    let fixture = Fixture::new(History::of(3));
    let (_, mut stream) = idle(&fixture, request(b""));
    fixture.confirm();
    let certain_at = Instant::now();
    fixture.hub.apply(Event::Behind(ENVIRONMENT));
    advance(seconds(1)).await;
    fixture.confirm();
    assert_eq!(next_heartbeat(&mut stream).await.staleness, certain_at.elapsed());
    assert!(fixture.hub.status().staleness.unwrap() < certain_at.elapsed());

    fixture.confirm();
    let certain_at = Instant::now();
    fixture.hub.apply(Event::CaughtUp(ENVIRONMENT));
    assert_eq!(next_heartbeat(&mut stream).await.staleness, certain_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_first_came_while_it_was_behind_was_never_certain() {
    let fixture = Fixture::new(History::of(3));
    fixture.hub.apply(Event::Removed(ENVIRONMENT));
    fixture.hub.apply(Event::Behind(ENVIRONMENT));
    fixture.confirm();
    fixture.hub.apply(fixture.history.reset(9));
    let (_, mut stream) = idle(&fixture, request(b""));
    assert_eq!(next_heartbeat(&mut stream).await.staleness, UNKNOWN_STALENESS);
}
