//! Credentials that stop to be valid.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::{Instant, advance};

use super::*;
use crate::domain::access::{self, Directory, Term};
use crate::domain::key;
use crate::watch::testing::request;

/// A request whose credential is valid until the directory has revision 2.
pub(super) fn revocable() -> Request<'static> {
    Request {
        still_valid: Box::new(|directory| (directory.revision < 2).then_some(Term::Endless)),
        view: View::Items,
        ..request(b"")
    }
}

/// A request whose credential expires in so many seconds.
fn expiring(seconds: i64) -> Request<'static> {
    let term = Term::Until(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds));
    Request {
        still_valid: Box::new(move |_| Some(term)),
        view: View::Items,
        ..request(b"")
    }
}

/// A directory that holds the environment.
pub(super) fn access(revision: u64) -> Event {
    let environment = access::Environment {
        project: key::Project::new("shop").unwrap(),
        key: key::Environment::new("dev").unwrap(),
        protected: false,
    };
    Event::Access(Arc::new(Directory {
        revision,
        environments: [(ENVIRONMENT, environment)].into(),
        ..Directory::default()
    }))
}

/// The directory without the environment and its keys.
fn access_without_environment() -> Event {
    Event::Access(Arc::new(Directory {
        revision: 2,
        ..Directory::default()
    }))
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_ends_at_once_when_its_key_is_revoked() {
    let fixture = Fixture::new(History::of(3));
    let (_client, mut stream) = idle(&fixture, revocable());
    let began_at = Instant::now();
    let ended = tokio::spawn(async move { end(&mut stream).await });
    tokio::task::yield_now().await;
    fixture.hub.apply(access(2));
    assert_eq!(ended.await.unwrap(), End::Revoked);
    assert_eq!(began_at.elapsed(), Duration::ZERO);
    assert_eq!(fixture.hub.streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_key_went_with_its_environment_ends_for_the_environments_sake() {
    let check = async |events: &[fn() -> Event]| {
        let fixture = Fixture::new(History::of(3));
        let (_client, mut stream) = idle(&fixture, revocable());
        for event in events {
            fixture.hub.apply(event());
        }
        assert_eq!(end(&mut stream).await, End::EnvironmentGone);
    };
    let removed = || Event::Removed(ENVIRONMENT);
    check(&[access_without_environment]).await;
    check(&[access_without_environment, removed]).await;
    check(&[removed, || access(2)]).await;
}

#[tokio::test(start_paused = true)]
async fn other_changes_of_access_do_not_disturb_a_stream() {
    let fixture = Fixture::new(History::of(3));
    let (mut client, mut stream) = idle(&fixture, revocable());
    fixture.hub.apply(access(1));
    assert!(hear_all(&mut client, &mut stream).is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_item_is_handed_out_after_the_key_is_revoked() {
    let fixture = Fixture::new(History::of(3));
    let mut stream = fixture.subscribe(revocable());
    assert!(matches!(now(&mut stream), Some(Ok(Message::Begin(_)))));
    assert!(matches!(now(&mut stream), Some(Ok(Message::Item(_)))));
    fixture.hub.apply(access(2));
    assert_eq!(now(&mut stream).unwrap().unwrap_err(), End::Revoked);
    assert_eq!(now(&mut stream).unwrap().unwrap_err(), End::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_revoked_while_the_stream_was_opened_gets_nothing() {
    let fixture = Fixture::new(History::of(3));
    fixture.hub.apply(access(2));
    let mut stream = fixture.subscribe(revocable());
    assert_eq!(now(&mut stream).unwrap().unwrap_err(), End::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_repeats_a_revision_is_still_looked_at() {
    let valid = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&valid);
    let fixture = Fixture::new(History::of(3));
    fixture.hub.apply(access(1));
    let still_valid = Box::new(move |_: &Directory| asked.load(Ordering::Relaxed).then_some(Term::Endless));
    let (_client, mut stream) = idle(
        &fixture,
        Request {
            still_valid,
            ..request(b"")
        },
    );
    valid.store(false, Ordering::Relaxed);
    fixture.hub.apply(access(1));
    assert_eq!(now(&mut stream).unwrap().unwrap_err(), End::Revoked);
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_ends_when_its_key_expires() {
    let fixture = Fixture::new(History::of(3));
    let (_client, mut stream) = idle(&fixture, expiring(33));
    let began_at = Instant::now();
    assert_eq!(end(&mut stream).await, End::Expired);
    let after = began_at.elapsed();
    assert!(
        after > seconds(32) && after <= seconds(33) + Duration::from_millis(2),
        "{after:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_item_is_handed_out_after_the_key_expires() {
    let fixture = Fixture::new(History::of(3));
    let mut stream = fixture.subscribe(expiring(33));
    assert!(matches!(now(&mut stream), Some(Ok(Message::Begin(_)))));
    advance(seconds(34)).await;
    assert_eq!(now(&mut stream).unwrap().unwrap_err(), End::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_expired_gets_nothing() {
    let fixture = Fixture::new(History::of(3));
    let mut stream = fixture.subscribe(expiring(-1));
    assert_eq!(now(&mut stream).unwrap().unwrap_err(), End::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_expires_in_the_farthest_future_works() {
    let fixture = Fixture::new(History::of(3));
    let still_valid = Box::new(|_: &Directory| Some(Term::Until(jiff::Timestamp::MAX)));
    let (client, _stream) = idle(
        &fixture,
        Request {
            still_valid,
            ..request(b"")
        },
    );
    assert_eq!(client.items, fixture.history.last().items);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_secret_is_replaced_ends_when_that_secret_does() {
    let fixture = Fixture::new(History::of(3));
    let end_at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(33);
    let still_valid = Box::new(move |directory: &Directory| {
        Some(if directory.revision < 2 {
            Term::Endless
        } else {
            Term::Until(end_at)
        })
    });
    let (mut client, mut stream) = idle(
        &fixture,
        Request {
            still_valid,
            ..request(b"")
        },
    );
    let began_at = Instant::now();
    fixture.hub.apply(access(2));
    assert!(hear_all(&mut client, &mut stream).is_empty());
    assert_eq!(end(&mut stream).await, End::Expired);
    let after = began_at.elapsed();
    assert!(
        after > seconds(32) && after <= seconds(33) + Duration::from_millis(2),
        "{after:?}"
    );
}
