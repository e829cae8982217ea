//! What the hub holds: states, the directory, and when it is ready.

use tokio::time::Instant;

use super::*;
use crate::domain::access::Directory;
use crate::watch::environment::{Environment, NotReached};
use crate::watch::testing::{id, request};

fn environment(fixture: &Fixture) -> Arc<Environment> {
    fixture.hub.environment(ENVIRONMENT).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_is_there_is_not_waited_for() {
    let fixture = Fixture::new(History::of(3));
    let state = environment(&fixture).wait_for(3, Instant::now()).await.unwrap();
    assert_eq!(state.head.revision, 3);
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_comes_in_time_is_seen_at_once() {
    let mut fixture = Fixture::new(History::of(3));
    let (environment, deadline) = (environment(&fixture), Instant::now() + seconds(5));
    let waiting = tokio::spawn(async move { environment.wait_for(5, deadline).await });
    for form in ["a", "b"] {
        tokio::task::yield_now().await;
        fixture.write(1, form);
    }
    assert_eq!(waiting.await.unwrap().unwrap().head.revision, 5);
    assert_eq!(Instant::now(), deadline - seconds(5));
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_does_not_come_is_not_waited_for_longer_than_asked() {
    let fixture = Fixture::new(History::of(3));
    let deadline = Instant::now() + seconds(5);
    let reached = environment(&fixture).wait_for(4, deadline).await;
    assert_eq!(reached.err(), Some(NotReached));
    assert!(Instant::now() >= deadline && Instant::now() < deadline + seconds(1));
}

#[tokio::test(start_paused = true)]
async fn a_revision_of_an_environment_that_is_removed_is_not_waited_for() {
    let fixture = Fixture::new(History::of(3));
    let (environment, began_at) = (environment(&fixture), Instant::now());
    let waiting = tokio::spawn(async move { environment.wait_for(4, began_at + seconds(5)).await });
    tokio::task::yield_now().await;
    fixture.hub.apply(Event::Removed(ENVIRONMENT));
    assert_eq!(waiting.await.unwrap().err(), Some(NotReached));
    assert_eq!(Instant::now(), began_at);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_follow_is_not_applied_until_a_whole_state_comes() {
    let mut fixture = Fixture::new(History::of(3));
    let skipped = fixture.history.write(&[(1, Some(vec![1]))]);
    fixture.write(1, "after a gap");
    assert_eq!(environment(&fixture).state().head.revision, 3);
    // Too late: it would follow, but what came after it is lost.
    fixture.hub.apply(skipped);
    assert_eq!(environment(&fixture).state().head.revision, 3);
    fixture.hub.apply(fixture.history.reset(0));
    assert_eq!(environment(&fixture).state().head, fixture.history.head());
    fixture.write(1, "follows");
    assert_eq!(environment(&fixture).state().head.revision, 6);
}

#[tokio::test(start_paused = true)]
async fn the_right_number_with_another_digest_does_not_follow() {
    let mut fixture = Fixture::new(History::of(3));
    fixture.history.revisions.truncate(3);
    fixture.history.write(&[(1, Some(b"another third".to_vec()))]);
    fixture.write(1, "the fourth after it");
    assert_eq!(environment(&fixture).state().head.revision, 3);
}

#[tokio::test(start_paused = true)]
async fn a_new_generation_does_not_follow_without_a_whole_state() {
    let mut fixture = Fixture::new(History::of(3));
    fixture.history.identity.generation = 2;
    fixture.hub.apply(Event::Identity(fixture.history.identity));
    fixture.write(1, "of the new generation");
    assert_eq!(environment(&fixture).state().head.revision, 3);
    assert_eq!(fixture.hub.identity().unwrap().generation, 2);
}

#[tokio::test(start_paused = true)]
async fn revisions_of_one_environment_do_not_touch_another() {
    let fixture = Fixture::new(History::of(3));
    let mut other = History::of(2);
    other.environment = crate::domain::change::EnvironmentId(8);
    fixture.hub.apply(other.reset(9));
    let (mut client, mut stream) = idle(&fixture, request(b""));
    fixture.hub.apply(other.write(&[(99, Some(b"secret".to_vec()))]));
    assert!(hear_all(&mut client, &mut stream).is_empty());
    assert!(!client.items.contains_key(&id(99)));
    assert!(
        fixture
            .hub
            .environment(other.environment)
            .unwrap()
            .state()
            .items
            .contains_key(&id(99))
    );
}

#[tokio::test(start_paused = true)]
async fn a_hub_is_ready_when_everything_was_seen_once() {
    let hub = Hub::new(Told::new(), Options::default());
    assert!(!hub.is_ready());
    assert!(hub.identity().is_none());
    let waiting = tokio::spawn({
        let hub = Arc::clone(&hub);
        async move { hub.ready().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    hub.apply(Event::Complete);
    waiting.await.unwrap();
    assert!(hub.is_ready());
    hub.ready().await;
}

/// Confirms access while the hub holds directory 5, and `later` arrives after a second.
async fn confirm_access(origin: Option<u64>, later: Option<u64>) -> Option<u64> {
    let directory = |revision| {
        Event::Access(Arc::new(Directory {
            revision,
            ..Directory::default()
        }))
    };
    let fixture = Fixture::new(History::of(3));
    fixture.hub.apply(directory(5));
    *fixture.source.access.lock().unwrap() = origin;
    let arrival = async {
        tokio::time::advance(seconds(1)).await;
        if let Some(revision) = later {
            fixture.hub.apply(directory(revision));
        }
    };
    let (confirmed, ()) = tokio::join!(fixture.hub.confirm_access(), arrival);
    confirmed.ok().map(|directory| directory.revision)
}

#[tokio::test(start_paused = true)]
async fn access_is_confirmed_when_the_directory_of_that_revision_is_here() {
    assert_eq!(confirm_access(Some(5), None).await, Some(5));
    assert_eq!(confirm_access(Some(6), Some(6)).await, Some(6));
}

#[tokio::test(start_paused = true)]
async fn access_is_not_confirmed_by_what_is_older() {
    assert_eq!(confirm_access(Some(7), Some(6)).await, None);
    assert_eq!(confirm_access(None, None).await, None);
}
