//! The first administrator, and logging in.

use halyard::domain::access::InstanceRole;
use halyard::domain::email::Email;
use halyard::store::users::{Administrator, LoginAttempt, NewAdministrator};
use halyard::store::{Actor, Caller, Error};
use uuid::Uuid;

use crate::world::*;

fn command_line() -> Caller {
    Caller {
        actor: Actor::CommandLine,
        name: String::new(),
        credential: String::new(),
        peer: String::new(),
        reason: String::new(),
    }
}

fn administrator(email: &str, password_hash: &str) -> NewAdministrator {
    NewAdministrator {
        id: Uuid::new_v4(),
        email: Email::new(email).unwrap(),
        password_hash: password_hash.into(),
    }
}

#[tokio::test]
async fn an_administrator_is_created_once() {
    let world = empty().await;
    let create = async |email, hash| {
        world
            .store
            .create_administrator(command_line(), &administrator(email, hash))
            .await
    };
    let Administrator::Created(user) = create("Root@Example.com", "first").await.unwrap() else {
        panic!("should be new");
    };
    assert_eq!((user.role, user.active), (Some(InstanceRole::Administrator), true));
    let entries = world.count("audit_entries").await;
    let again = create("root@example.com ", "second").await.unwrap();
    assert_eq!(again, Administrator::Existed(user.clone()));
    assert_eq!(world.count("audit_entries").await, entries);
    let found = world
        .store
        .find_for_login(&Email::new("ROOT@example.com").unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.user, found.password_hash.as_deref()), (user, Some("first")));
    assert!(
        world
            .store
            .find_for_login(&Email::new("nobody@example.com").unwrap())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn someone_elses_account_is_promoted_with_the_operators_password() {
    let world = empty().await;
    let promote = administrator("owner@example.com", "operator");
    let promoted = world
        .store
        .create_administrator(command_line(), &promote)
        .await
        .unwrap();
    assert!(matches!(promoted, Administrator::Promoted(user) if user.id == world.owner));
    let found = world
        .store
        .find_for_login(&Email::new("owner@example.com").unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.password_hash.as_deref(), Some("operator"));
    assert_eq!(world.count("audit_entries where action = 'user.promote'").await, 1);
}

#[tokio::test]
async fn what_the_log_is_told_holds_no_row() {
    let world = empty().await;
    let refuse = "alter table users add constraint nobody check (email <> 'root@example.com')";
    world.sql.batch_execute(refuse).await.unwrap();
    let new = administrator("root@example.com", "$argon2id$hash");
    let error = world
        .store
        .create_administrator(command_line(), &new)
        .await
        .unwrap_err();
    assert_eq!(
        error.summary(),
        "the database refused a statement: db error: new row for relation \"users\" violates check constraint \"nobody\" \
         (SQLSTATE 23514, table users, constraint nobody)"
    );
}

#[tokio::test]
async fn only_administrators_make_administrators() {
    let world = empty().await;
    let result = world
        .store
        .create_administrator(world.by_owner().caller, &administrator("x@example.com", "h"))
        .await;
    assert!(matches!(result, Err(Error::Denied)));
}

#[tokio::test]
async fn administrators_created_together_are_one() {
    let world = empty().await;
    let create = || {
        let store = world.store.clone();
        tokio::spawn(async move {
            store
                .create_administrator(command_line(), &administrator("a@example.com", "h"))
                .await
        })
    };
    let results = futures_util::future::join_all((0..8).map(|_| create())).await;
    let created = results
        .iter()
        .filter(|result| matches!(result, Ok(Ok(Administrator::Created(_)))));
    assert_eq!(created.count(), 1);
    assert!(results.iter().all(|result| matches!(result, Ok(Ok(_)))));
}

#[tokio::test]
async fn attempts_to_log_in_are_audited_without_what_was_typed() {
    let world = empty().await;
    let user = world
        .store
        .find_for_login(&Email::new("owner@example.com").unwrap())
        .await
        .unwrap()
        .unwrap()
        .user;
    let record = async |user, accepted| {
        let peer = "192.0.2.1".to_owned();
        world
            .store
            .record_login(&LoginAttempt { user, accepted, peer })
            .await
            .unwrap();
    };
    record(Some(&user), true).await;
    record(Some(&user), false).await;
    record(None, false).await;
    let query =
        "select action, actor, actor_name, entity_key from audit_entries where chain = 'instance' order by sequence";
    let rows = world.sql.query(query, &[]).await.unwrap();
    let entries: Vec<[String; 4]> = rows.iter().map(|row| [0, 1, 2, 3].map(|n| row.get(n))).collect();
    let (id, actor, email) = (user.id.to_string(), format!("user:{}", user.id), user.email);
    assert_eq!(entries[0], ["user.login", &actor, &email, &id]);
    assert_eq!(entries[1], ["user.login_refused", &actor, &email, &id]);
    assert_eq!(entries[2], ["user.login_refused", "system", "", ""]);
}
