//! Clients that have seen what this replica has not.

use tokio::time::{Instant, advance};

use super::*;
use crate::domain::access::Term;
use crate::watch::message::{Intent, Reason};
use crate::watch::testing::{Origin, request};

/// A replica at revision 3, and a client that holds `revisions` of the same history.
struct Ahead {
    fixture: Fixture,
    stream: Subscription,
    full: History,
}

impl Ahead {
    fn new(revisions: u8, origin: Origin) -> Self {
        Self::holding(History::of(revisions), origin)
    }

    /// The client holds the head of this history.
    fn holding(full: History, origin: Origin) -> Self {
        let fixture = Fixture::new(History::of(3));
        *fixture.source.origin.lock().unwrap() = origin;
        let token = full.state(0, &Options::default()).commit.resume_token.clone();
        let stream = fixture.subscribe(request(&token));
        Self { fixture, stream, full }
    }

    async fn intent(&mut self) -> Result<Intent, End> {
        match self.stream.next().await? {
            Message::Begin(begin) => Ok(begin.intent),
            other @ (Message::Item(_)
            | Message::Commit(_)
            | Message::Step(_)
            | Message::Answers(_)
            | Message::Heartbeat(_)
            | Message::Goodbye(_)) => {
                panic!("the stream begins with {other:?}")
            }
        }
    }
}

fn head_at(revision: u8) -> Origin {
    Origin::At(History::of(revision).head())
}

const DIVERGED: Result<Intent, End> = Ok(Intent::Snapshot(Reason::Diverged));

#[tokio::test(start_paused = true)]
async fn an_origin_that_cannot_be_asked_is_told_at_once() {
    assert_eq!(Ahead::new(5, Origin::Away).intent().await, Err(End::Unreachable));
}

#[tokio::test(start_paused = true)]
async fn an_origin_with_a_lower_head_proves_the_client_wrong() {
    assert_eq!(Ahead::new(5, head_at(3)).intent().await, DIVERGED);
    assert_eq!(Ahead::new(5, head_at(4)).intent().await, DIVERGED);
}

#[tokio::test(start_paused = true)]
async fn an_origin_with_another_digest_proves_the_client_wrong() {
    let mut other = History::of(4);
    other.write(&[(1, Some(b"other".to_vec()))]);
    assert_eq!(Ahead::new(5, Origin::At(other.head())).intent().await, DIVERGED);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_catches_up_goes_on() {
    let mut ahead = Ahead::new(4, head_at(5));
    assert!(now(&mut ahead.stream).is_none());
    advance(seconds(1)).await;
    assert!(now(&mut ahead.stream).is_none());
    let fed = ahead.fixture.history.write(&[(3, Some(vec![3]))]);
    ahead.fixture.hub.apply(fed);
    assert_eq!(ahead.fixture.history.head(), ahead.full.head());
    assert_eq!(ahead.intent().await, Ok(Intent::None));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_catches_up_and_more_sends_the_rest() {
    let mut ahead = Ahead::new(4, head_at(5));
    assert!(now(&mut ahead.stream).is_none());
    for revision in [3, 4] {
        let fed = ahead.fixture.history.write(&[(revision, Some(vec![revision]))]);
        ahead.fixture.hub.apply(fed);
    }
    assert_eq!(ahead.intent().await, Ok(Intent::Delta));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_catches_up_to_something_else_sends_everything() {
    let mut ahead = Ahead::new(4, head_at(5));
    assert!(now(&mut ahead.stream).is_none());
    ahead.fixture.write(0, "something else");
    assert_eq!(ahead.intent().await, DIVERGED);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_catch_up_gives_up_after_three_seconds() {
    let mut ahead = Ahead::new(5, head_at(5));
    let began_at = Instant::now();
    assert_eq!(ahead.intent().await, Err(End::Unreachable));
    assert!(began_at.elapsed() >= seconds(3) && began_at.elapsed() < seconds(4));
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_the_origin_does_not_have_is_gone() {
    assert_eq!(Ahead::new(5, Origin::Without).intent().await, Err(End::EnvironmentGone));
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_is_removed_meanwhile_is_gone() {
    let mut ahead = Ahead::new(5, head_at(5));
    assert!(now(&mut ahead.stream).is_none());
    ahead.fixture.hub.apply(Event::Removed(ENVIRONMENT));
    assert_eq!(ahead.intent().await, Err(End::EnvironmentGone));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_revoked_meanwhile_ends_the_wait() {
    let mut ahead = Ahead::new(5, head_at(5));
    let token = ahead.full.state(0, &Options::default()).commit.resume_token.clone();
    ahead.stream = ahead.fixture.subscribe(Request {
        still_valid: Box::new(|directory| (directory.revision == 0).then_some(Term::Endless)),
        view: View::Items,
        ..request(&token)
    });
    assert!(now(&mut ahead.stream).is_none());
    ahead.fixture.hub.apply(super::authorised::access(1));
    assert_eq!(ahead.intent().await, Err(End::Revoked));
}

/// A client of the next generation, at a revision that is lower than the replica's.
fn of_the_next_generation() -> Ahead {
    let mut full = History::of(2);
    full.identity.generation = 2;
    Ahead::holding(full, head_at(3))
}

#[tokio::test(start_paused = true)]
async fn a_newer_generation_that_arrives_is_followed() {
    let mut ahead = of_the_next_generation();
    assert!(now(&mut ahead.stream).is_none());
    ahead.fixture.diverge(2);
    assert_eq!(ahead.intent().await, Ok(Intent::None));
}

#[tokio::test(start_paused = true)]
async fn a_newer_generation_that_never_was_is_disproved_once_all_is_confirmed() {
    let mut ahead = of_the_next_generation();
    assert!(now(&mut ahead.stream).is_none());
    advance(seconds(1)).await;
    ahead.fixture.confirm();
    assert_eq!(ahead.intent().await, DIVERGED);
}

#[tokio::test(start_paused = true)]
async fn what_was_confirmed_before_the_client_came_disproves_nothing() {
    let mut ahead = of_the_next_generation();
    ahead.fixture.confirm();
    advance(Duration::from_millis(1)).await;
    assert_eq!(ahead.intent().await, Err(End::Unreachable));
}
