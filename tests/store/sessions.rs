//! Logins: opened, refreshed once per token, ended.

use halyard::store::sessions::{NewSession, PasswordChange, Refreshed};
use uuid::Uuid;

use crate::people::*;
use crate::world::*;

/// A world whose owner has a password and a session.
async fn logged_in() -> (World, Uuid) {
    let world = empty().await;
    set_password(&world, "hash").await;
    let session = new_session(&world, "hash");
    let opened = world.store.open_session(&session).await.unwrap().unwrap();
    assert_eq!(opened.user.id, world.owner);
    (world, session.id)
}

/// As if the last rotation were so long ago.
async fn age(world: &World, column: &str, seconds: i32) {
    let age = format!("update sessions set {column} = {column} - $1 * interval '1 second'");
    world.sql.execute(&age, &[&f64::from(seconds)]).await.unwrap();
}

async fn show(world: &World, session: Uuid, n: u8) -> Refreshed {
    world.store.refresh_session(&refresh(session, token(n))).await.unwrap()
}

fn rotated(refreshed: &Refreshed) -> bool {
    matches!(refreshed, Refreshed::Rotated(_))
}

async fn is_revoked(world: &World, session: Uuid) -> bool {
    let revoked = "select revoked_at is not null from sessions where id = $1";
    world.sql.query_one(revoked, &[&session]).await.unwrap().get(0)
}

async fn actions(world: &World) -> Vec<String> {
    let actions = "select action from audit_entries where chain = 'instance' order by sequence";
    let rows = world.sql.query(actions, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_token_gives_the_next_and_works_once() {
    let (world, session) = logged_in().await;
    assert!(rotated(&show(&world, session, 1).await));
    assert!(rotated(&show(&world, session, 2).await));
    assert_eq!(show(&world, session, 2).await, Refreshed::Raced);
    assert_eq!(show(&world, session, 1).await, Refreshed::Raced);
    assert!(!is_revoked(&world, session).await);
    assert!(rotated(&show(&world, session, 3).await));
    assert_eq!(
        actions(&world).await,
        ["user.login", "session.refresh", "session.refresh", "session.refresh"]
    );
}

#[tokio::test]
async fn a_token_that_was_used_a_while_ago_ends_the_session() {
    for used in [1, 2] {
        let (world, session) = logged_in().await;
        show(&world, session, 1).await;
        show(&world, session, 2).await;
        age(&world, "rotated_at", 5).await;
        assert_eq!(show(&world, session, used).await, Refreshed::Raced);
        age(&world, "rotated_at", 6).await;
        let revision = world.access_revision().await;
        assert_eq!(show(&world, session, used).await, Refreshed::Stolen);
        assert_eq!(world.access_revision().await, revision + 1);
        assert!(is_revoked(&world, session).await);
        assert_eq!(show(&world, session, 3).await, Refreshed::Unknown, "whoever holds it");
        assert!(world.directory().await.revoked_sessions.contains(&session));
        assert_eq!(actions(&world).await.last().unwrap(), "session.stolen");
    }
}

#[tokio::test]
async fn who_guesses_ends_nothing() {
    let (world, session) = logged_in().await;
    show(&world, session, 1).await;
    age(&world, "rotated_at", 60).await;
    let mut guess = refresh(session, token(1));
    guess.shown.family.0[0] = 0;
    assert_eq!(world.store.refresh_session(&guess).await.unwrap(), Refreshed::Unknown);
    let unknown = refresh(Uuid::new_v4(), token(1));
    assert_eq!(world.store.refresh_session(&unknown).await.unwrap(), Refreshed::Unknown);
    assert!(rotated(&show(&world, session, 2).await));
}

#[tokio::test]
async fn of_callers_that_show_one_token_together_exactly_one_wins() {
    let (world, session) = logged_in().await;
    let calls = (0..8).map(|n| {
        let store = world.store.clone();
        let mut refresh = refresh(session, token(1));
        refresh.next.0[1] = n;
        tokio::spawn(async move { store.refresh_session(&refresh).await.unwrap() })
    });
    let answers = futures_util::future::join_all(calls).await;
    let outcomes: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| rotated(outcome)).count(), 1);
    assert_eq!(
        outcomes.iter().filter(|outcome| **outcome == Refreshed::Raced).count(),
        7
    );
}

#[tokio::test]
async fn sessions_end_unused_and_at_their_age() {
    let (world, session) = logged_in().await;
    let day = 24 * 60 * 60;
    age(&world, "expires_at", 14 * day + 1).await;
    assert_eq!(show(&world, session, 1).await, Refreshed::Unknown);
    age(&world, "expires_at", -2).await;
    age(&world, "created_at", 89 * day).await;
    let Refreshed::Rotated(refreshed) = show(&world, session, 1).await else {
        panic!("should go on");
    };
    let left = refreshed.expires_at.duration_since(jiff::Timestamp::now());
    assert!(left.as_hours() < 25, "the ninetieth day is near: {left}");
}

#[tokio::test]
async fn a_session_without_tokens_ends_with_its_access_token() {
    let (world, _) = logged_in().await;
    let session = NewSession {
        token: None,
        ..new_session(&world, "hash")
    };
    let opened = world.store.open_session(&session).await.unwrap().unwrap();
    let left = opened.expires_at.duration_since(jiff::Timestamp::now());
    assert!((14..=15).contains(&left.as_mins()), "{left}");
    assert_eq!(show(&world, session.id, 1).await, Refreshed::Unknown);
    assert!(world.store.close_session(&world.by_owner(), session.id).await.unwrap());
}

#[tokio::test]
async fn nobody_comes_in_with_what_changed_since_it_was_verified() {
    let world = empty().await;
    set_password(&world, "another hash").await;
    assert!(
        world
            .store
            .open_session(&new_session(&world, "hash"))
            .await
            .unwrap()
            .is_none()
    );
    world
        .sql
        .batch_execute("update users set active = false")
        .await
        .unwrap();
    let opened = world.store.open_session(&new_session(&world, "another hash")).await;
    assert!(opened.unwrap().is_none());
    let nobody = NewSession {
        user: Uuid::new_v4(),
        ..new_session(&world, "another hash")
    };
    assert!(world.store.open_session(&nobody).await.unwrap().is_none());
    assert_eq!(world.count("sessions").await, 0);
    assert_eq!(world.count("audit_entries").await, 0);
}

#[tokio::test]
async fn a_session_is_closed_once() {
    let (world, session) = logged_in().await;
    let by = world.by_owner();
    assert!(world.store.close_session(&by, session).await.unwrap());
    assert!(!world.store.close_session(&by, session).await.unwrap());
    assert!(!world.store.close_session(&by, Uuid::new_v4()).await.unwrap());
    assert_eq!(show(&world, session, 1).await, Refreshed::Unknown);
    assert_eq!(actions(&world).await, ["user.login", "user.logout"]);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let (world, session) = logged_in().await;
    let kept = new_session(&world, "hash");
    world.store.open_session(&kept).await.unwrap().unwrap();
    let change = PasswordChange {
        session: Some(kept.id),
        ..password_change(&world, "hash")
    };
    let by = world.by_owner();
    assert!(world.store.change_password(&by, &change).await.unwrap());
    assert!(is_revoked(&world, session).await && !is_revoked(&world, kept.id).await);
    assert!(
        !world.store.change_password(&by, &change).await.unwrap(),
        "another password by now"
    );
    let found = world.store.find_credentials(world.owner).await.unwrap().unwrap();
    assert_eq!(found.password_hash.as_deref(), Some("new hash"));
    let audited = world
        .count("audit_entries where to_jsonb(audit_entries)::text like '%hash\": \"new%'")
        .await;
    assert_eq!(audited, 0);
}

#[tokio::test]
async fn the_oldest_session_makes_room() {
    let (world, first) = logged_in().await;
    for _ in 1..100 {
        world.store.open_session(&new_session(&world, "hash")).await.unwrap();
    }
    assert!(!is_revoked(&world, first).await);
    let revision = world.access_revision().await;
    world.store.open_session(&new_session(&world, "hash")).await.unwrap();
    assert!(is_revoked(&world, first).await);
    assert_eq!(world.count("sessions where revoked_at is null").await, 100);
    assert_eq!(world.access_revision().await, revision + 1);
}

#[tokio::test]
async fn replicas_hold_revoked_sessions_as_long_as_their_access_tokens_could_work() {
    let (world, session) = logged_in().await;
    world.store.close_session(&world.by_owner(), session).await.unwrap();
    age(&world, "revoked_at", 15 * 60).await;
    assert!(world.directory().await.revoked_sessions.contains(&session));
    age(&world, "revoked_at", 60).await;
    assert!(world.directory().await.revoked_sessions.is_empty());
}

#[tokio::test]
async fn what_is_long_over_is_deleted() {
    let (world, session) = logged_in().await;
    let kept = new_session(&world, "hash");
    world.store.open_session(&kept).await.unwrap().unwrap();
    world.store.close_session(&world.by_owner(), session).await.unwrap();
    assert_eq!(world.store.purge_sessions().await.unwrap(), 0);
    age(&world, "revoked_at", 25 * 60 * 60).await;
    assert_eq!(world.store.purge_sessions().await.unwrap(), 1);
    age(&world, "expires_at", 16 * 24 * 60 * 60).await;
    assert_eq!(world.store.purge_sessions().await.unwrap(), 1);
}
