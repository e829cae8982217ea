//! The first administrator, accounts and who manages them.

use halyard::domain::access::{InstanceRole, Role};
use halyard::domain::email::Email;
use halyard::store::users::{Administrator, FailedLogins, NewAdministrator, Selector, User, UserPatch};
use halyard::store::{Actor, Caller, Error};
use uuid::Uuid;

use crate::people::{administrator as root, *};
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
async fn a_promotion_ends_the_sessions_of_whoever_opened_the_account() {
    let world = empty().await;
    set_password(&world, "theirs").await;
    let session = new_session(&world, "theirs");
    world.store.open_session(&session).await.unwrap().unwrap();
    let promote = administrator("owner@example.com", "operator");
    world
        .store
        .create_administrator(command_line(), &promote)
        .await
        .unwrap();
    assert!(world.directory().await.revoked_sessions.contains(&session.id));
}

#[tokio::test]
async fn logins_that_failed_are_audited_without_what_was_typed() {
    let world = empty().await;
    let user = world.store.find_for_login(&email("owner@example.com")).await.unwrap();
    let user = user.unwrap().user;
    let record = async |user: Option<&User>, peers: &[&str]| {
        let failed = FailedLogins {
            user: user.cloned(),
            refused: 3,
            throttled: 2,
            peers: peers.iter().map(|&peer| peer.to_owned()).collect(),
        };
        world.store.record_failed_logins(&failed).await.unwrap();
    };
    record(Some(&user), &["192.0.2.1"]).await;
    record(None, &["192.0.2.1", "192.0.2.2"]).await;
    let query = "select action, actor, actor_name, entity_key, peer, after from audit_entries
        where chain = 'instance' order by sequence";
    let rows = world.sql.query(query, &[]).await.unwrap();
    let entries: Vec<[String; 6]> = rows.iter().map(|row| [0, 1, 2, 3, 4, 5].map(|n| row.get(n))).collect();
    let (id, actor) = (user.id.to_string(), format!("user:{}", user.id));
    let one = r#"{"refused":3,"throttled":2,"peers":["192.0.2.1"]}"#;
    let two = r#"{"refused":3,"throttled":2,"peers":["192.0.2.1","192.0.2.2"]}"#;
    assert_eq!(
        entries[0],
        ["user.login_refused", &actor, &user.email, &id, "192.0.2.1", one]
    );
    assert_eq!(entries[1], ["user.login_refused", "system", "", "", "", two]);
}

#[tokio::test]
async fn an_account_is_created_changed_and_deleted() {
    let world = empty().await;
    let root = root(&world).await;
    let new = new_user("Eve@Example.com");
    let created = done(world.store.create_user(&root, &new, respond).await);
    assert!(created.access_revision.is_some());
    let eve = created.entity;
    assert_eq!(
        (eve.id, eve.email.as_str(), eve.role, eve.active),
        (new.id, "Eve@Example.com", None, true)
    );
    let by_email = Selector::Email(email("EVE@example.com"));
    assert_eq!(world.store.get_user(&by_email).await.unwrap(), eve);

    let patch = UserPatch {
        email: Some(email("eva@example.com")),
        role: Some(Some(InstanceRole::Administrator)),
        ..UserPatch::default()
    };
    let updated = done(
        world
            .store
            .update_user(&root, eve.id, patch.clone(), &eve.etag, respond)
            .await,
    );
    assert_eq!(updated.entity.email, "eva@example.com");
    assert_eq!(updated.entity.role, Some(InstanceRole::Administrator));
    assert_ne!(updated.entity.etag, eve.etag);
    assert_eq!(
        world.store.get_user(&Selector::Id(eve.id)).await.unwrap(),
        updated.entity
    );
    let again = done(world.store.update_user(&root, eve.id, patch.clone(), "", respond).await);
    assert!(!again.changed);
    let stale = refused(world.store.update_user(&root, eve.id, patch, &eve.etag, respond).await);
    assert!(matches!(stale, Error::Stale { .. }));

    let deleted = done(world.store.delete_user(&root, eve.id, "", respond).await);
    assert_eq!(deleted.entity.id, eve.id);
    let gone = refused(world.store.delete_user(&root, eve.id, "", respond).await);
    assert!(matches!(gone, Error::NotFound { .. }));
    assert_eq!(world.count("audit_entries where entity = 'user'").await, 3);
}

#[tokio::test]
async fn an_address_has_one_account_whatever_its_case() {
    let world = empty().await;
    let root = root(&world).await;
    let taken = world
        .store
        .create_user(&root, &new_user("OWNER@example.com"), respond)
        .await;
    assert!(matches!(refused(taken), Error::AlreadyExists { key, .. } if key == "OWNER@example.com"));
    let eve = done(
        world
            .store
            .create_user(&root, &new_user("eve@example.com"), respond)
            .await,
    )
    .entity;
    let patch = UserPatch {
        email: Some(email("Owner@Example.com")),
        ..UserPatch::default()
    };
    let taken = world.store.update_user(&root, eve.id, patch, "", respond).await;
    assert!(matches!(refused(taken), Error::AlreadyExists { .. }));
}

#[tokio::test]
async fn a_new_password_and_a_deactivation_end_all_sessions() {
    let new_password = UserPatch {
        password_hash: Some("by the administrator".into()),
        ..UserPatch::default()
    };
    let deactivation = UserPatch {
        active: Some(false),
        ..UserPatch::default()
    };
    for patch in [new_password, deactivation] {
        let world = empty().await;
        let root = root(&world).await;
        set_password(&world, "hash").await;
        let session = new_session(&world, "hash");
        world.store.open_session(&session).await.unwrap().unwrap();
        done(world.store.update_user(&root, world.owner, patch, "", respond).await);
        assert!(world.directory().await.revoked_sessions.contains(&session.id));
    }
}

#[tokio::test]
async fn accounts_are_listed_by_address_and_found_by_a_part_of_it() {
    let world = empty().await;
    for name in ["Carol", "bob", "alice"] {
        world
            .store
            .sign_up(&new_account(&format!("{name}@example.org")))
            .await
            .unwrap();
    }
    let list = async |filter: &str, page| {
        let page = world.store.list_users(filter, &page).await.unwrap();
        let emails: Vec<_> = page.items.into_iter().map(|user| user.email).collect();
        (emails, page.next)
    };
    let (first, next) = list("", page(2, "")).await;
    assert_eq!(first, ["alice@example.org", "bob@example.org"]);
    let (second, next) = list("", page(2, &next.unwrap())).await;
    assert_eq!(second, ["Carol@example.org", "owner@example.com"]);
    assert_eq!(next, None);
    assert_eq!(list("example.org", page(9, "")).await.0.len(), 3);
    assert_eq!(list("car", page(9, "")).await.0, ["Carol@example.org"]);
    assert_eq!(list("%", page(9, "")).await.0, [""; 0]);
}

#[tokio::test]
async fn the_last_active_administrator_stays() {
    let world = empty().await;
    let root = root(&world).await;
    let Actor::User(id) = root.caller.actor else {
        panic!("an administrator is a user");
    };
    let demoted = UserPatch {
        role: Some(None),
        ..UserPatch::default()
    };
    let inactive = UserPatch {
        active: Some(false),
        ..UserPatch::default()
    };
    for patch in [demoted, inactive] {
        let outcome = world.store.update_user(&root, id, patch.clone(), "", respond).await;
        assert!(matches!(refused(outcome), Error::Blocked { .. }));
    }
    let outcome = world.store.delete_user(&root, id, "", respond).await;
    assert!(matches!(refused(outcome), Error::Blocked { .. }));
    let other = world.user("other@example.com", Some("administrator")).await;
    world
        .sql
        .execute("update users set active = false where id = $1", &[&other])
        .await
        .unwrap();
    let outcome = world.store.delete_user(&root, id, "", respond).await;
    assert!(
        matches!(refused(outcome), Error::Blocked { .. }),
        "an inactive one is no other"
    );
    world
        .sql
        .execute("update users set active = true where id = $1", &[&other])
        .await
        .unwrap();
    done(world.store.delete_user(&root, id, "", respond).await);
}

#[tokio::test]
async fn of_two_administrators_who_remove_each_other_exactly_one_succeeds() {
    for round in 0..8 {
        let world = empty().await;
        let (a, b) = (
            world.user("a@example.com", Some("administrator")).await,
            world.user("b@example.com", Some("administrator")).await,
        );
        let remove = |actor: Uuid, victim: Uuid| {
            let store = world.store.clone();
            tokio::spawn(async move {
                let demoted = UserPatch {
                    role: Some(None),
                    ..UserPatch::default()
                };
                if round % 2 == 0 {
                    store.update_user(&by(actor), victim, demoted, "", respond).await
                } else {
                    store.delete_user(&by(actor), victim, "", respond).await
                }
            })
        };
        let (one, other) = futures_util::future::join(remove(a, b), remove(b, a)).await;
        let succeeded = [one.unwrap(), other.unwrap()]
            .iter()
            .filter(|outcome| outcome.is_ok())
            .count();
        assert_eq!(succeeded, 1);
        assert_eq!(
            world
                .count("users where instance_role = 'administrator' and active")
                .await,
            1
        );
    }
}

#[tokio::test]
async fn the_last_owner_of_a_project_is_not_deleted() {
    let world = world().await;
    let root = root(&world).await;
    let outcome = world.store.delete_user(&root, world.owner, "", respond).await;
    let Error::Blocked { description, .. } = refused(outcome) else {
        panic!("should be blocked");
    };
    assert!(description.contains("shop"), "{description}");
    let another = world.member(Role::Admin).await;
    let outcome = world.store.delete_user(&root, world.owner, "", respond).await;
    assert!(
        matches!(refused(outcome), Error::Blocked { .. }),
        "an admin is no owner"
    );
    let promote = "update members set role = 'owner' where user_id = $1";
    world.sql.execute(promote, &[&another]).await.unwrap();
    done(world.store.delete_user(&root, world.owner, "", respond).await);
    let before = "select before from audit_entries where action = 'user.delete'";
    let before: String = world.sql.query_one(before, &[]).await.unwrap().get(0);
    assert!(before.contains(r#""memberships":{"shop":"owner"}"#), "{before}");
}

#[tokio::test]
async fn only_administrators_manage_accounts() {
    let world = empty().await;
    let owner = world.by_owner();
    let created = world
        .store
        .create_user(&owner, &new_administrator("x@example.com"), respond)
        .await;
    assert!(matches!(refused(created), Error::Denied));
    let patch = UserPatch {
        role: Some(Some(InstanceRole::Administrator)),
        ..UserPatch::default()
    };
    let updated = world.store.update_user(&owner, world.owner, patch, "", respond).await;
    assert!(matches!(refused(updated), Error::Denied));
    let deleted = world.store.delete_user(&owner, Uuid::new_v4(), "", respond).await;
    assert!(matches!(refused(deleted), Error::Denied));
}

#[tokio::test]
async fn signing_up_with_a_taken_address_changes_nothing_and_is_recorded() {
    let world = empty().await;
    let entries = async || world.count("audit_entries where action = 'user.sign_up_refused'").await;
    world.store.sign_up(&new_account("eve@example.com")).await.unwrap();
    assert_eq!(entries().await, 0);
    let eve = world
        .store
        .get_user(&Selector::Email(email("eve@example.com")))
        .await
        .unwrap();
    assert_eq!((eve.role, eve.active), (None, true));
    world.store.sign_up(&new_account("EVE@example.com")).await.unwrap();
    assert_eq!(entries().await, 1);
    assert_eq!(world.store.get_user(&Selector::Id(eve.id)).await.unwrap(), eve);
    assert_eq!(world.count("users").await, 2);
}

#[tokio::test]
async fn an_account_without_an_address_has_no_password() {
    let world = empty().await;
    let insert = "insert into users (id, email, password_hash) values (gen_random_uuid(), 'zoe', 'hash')";
    let error = world.sql.batch_execute(insert).await.unwrap_err();
    let constraint = error.as_db_error().and_then(|error| error.constraint());
    assert_eq!(constraint, Some("users_password_check"));
}
