//! Environments and their keys.

use halyard::domain::access::{KeyKind, Role};
use halyard::domain::limits;
use halyard::store::environments::EnvironmentPatch;
use halyard::store::{Entity, Error};

use crate::world::*;

#[tokio::test]
async fn a_new_environment_holds_every_definition_that_is_not_archived() {
    let world = world().await;
    world.flag("b").await;
    world.flag("a").await;
    world.flag("old").await;
    done(
        world
            .store
            .archive_flag(&world.by_owner(), &project("shop"), &flag("old"), "", respond)
            .await,
    );
    let created = world
        .store
        .create_environment(
            &world.by_owner(),
            &project("shop"),
            new_environment("stage", false),
            respond,
        )
        .await;
    let written = done(created);
    assert_eq!(written.revisions.len(), 1);
    assert_eq!(written.entity.keys.len(), 2);
    assert!(written.access_revision.is_some());
    let stored = world.store.get_environment(shop(&environment("stage"))).await.unwrap();
    assert_eq!((stored.revision, &stored), (1, &written.entity.environment));
    let items = world.items("stage", 1).await;
    let definition = |key: &str, version| ("flag_definition".to_owned(), key.to_owned(), version, true);
    assert_eq!(items, [definition("a", 2), definition("b", 1)]);
}

#[tokio::test]
async fn an_environment_of_a_project_without_flags_has_a_first_revision() {
    let world = world().await;
    assert_eq!(world.revision("dev").await, 1);
    assert_eq!(world.count("changes").await, 2);
    assert_eq!(world.count("change_items").await, 0);
}

#[tokio::test]
async fn environments_that_cannot_be_created_are_refused() {
    let world = world().await;
    let create = async |mutation, new| {
        world
            .store
            .create_environment(mutation, &project("shop"), new, respond)
            .await
    };
    let owner = world.by_owner();
    let taken = refused(create(&owner, new_environment("dev", false)).await);
    assert!(matches!(taken, Error::AlreadyExists { entity: Entity::Environment, key } if key == "dev"));
    let mut bad = new_environment("bad", false);
    bad.name = "\u{7}".into();
    assert_eq!(fields(&refused(create(&owner, bad).await)), ["environment.name"]);
    let developer = by(world.member(Role::Developer).await);
    assert!(matches!(
        refused(create(&developer, new_environment("x", false)).await),
        Error::Denied
    ));

    let fill = "with e as (
            insert into environments (project_id, key, name, description, protected, created_at, updated_at)
            select p.id, 'e' || n, '', '', false, now(), now() from projects p, generate_series(1, 98) n returning id)
        insert into environment_heads (environment_id, revision, digest, committed_at)
        select id, 1, decode(repeat('00', 32), 'hex'), now() from e";
    world.sql.execute(fill, &[]).await.unwrap();
    let too_many = refused(create(&owner, new_environment("x", false)).await);
    assert!(matches!(
        too_many,
        Error::LimitReached {
            entity: Entity::Environment,
            limit: limits::ENVIRONMENTS
        }
    ));
}

#[tokio::test]
async fn environments_are_listed_by_key() {
    let world = world().await;
    let list = world
        .store
        .list_environments(&project("shop"), &page(1, ""))
        .await
        .unwrap();
    assert_eq!((list.items.len(), list.next.as_deref()), (1, Some("dev")));
    let list = world
        .store
        .list_environments(&project("shop"), &page(1, "dev"))
        .await
        .unwrap();
    assert_eq!((list.items[0].key.as_str(), list.next), ("prod", None));
    let missing = world.store.list_environments(&project("x"), &page(1, "")).await;
    assert!(matches!(
        missing,
        Err(Error::NotFound {
            entity: Entity::Project,
            ..
        })
    ));
    let missing = world.store.get_environment(shop(&environment("x"))).await;
    assert!(matches!(
        missing,
        Err(Error::NotFound {
            entity: Entity::Environment,
            ..
        })
    ));
}

#[tokio::test]
async fn only_protection_concerns_access() {
    let world = world().await;
    let update = async |patch| {
        let dev = environment("dev");
        done(
            world
                .store
                .update_environment(&world.by_owner(), shop(&dev), patch, "", respond)
                .await,
        )
    };
    let rename = EnvironmentPatch {
        name: Some("Development".into()),
        ..EnvironmentPatch::default()
    };
    let renamed = update(rename.clone()).await;
    assert!(renamed.changed && renamed.access_revision.is_none() && renamed.revisions.is_empty());
    assert!(!update(rename).await.changed);
    let protect = EnvironmentPatch {
        protected: Some(true),
        ..EnvironmentPatch::default()
    };
    assert!(update(protect).await.access_revision.is_some());
    let stored = world.store.get_environment(shop(&environment("dev"))).await.unwrap();
    assert!(stored.protected && stored.name == "Development" && stored.revision == 1);
}

#[tokio::test]
async fn stale_and_missing_environments_are_refused() {
    let world = world().await;
    let dev = environment("dev");
    let patch = || EnvironmentPatch {
        name: Some("X".into()),
        ..EnvironmentPatch::default()
    };
    let update = world
        .store
        .update_environment(&world.by_owner(), shop(&dev), patch(), "1.7", respond)
        .await;
    assert!(matches!(
        refused(update),
        Error::Stale {
            entity: Entity::Environment,
            ..
        }
    ));
    let delete = world
        .store
        .delete_environment(&world.by_owner(), shop(&dev), "1.7", respond)
        .await;
    assert!(matches!(refused(delete), Error::Stale { .. }));
    let nowhere = environment("nowhere");
    let update = world
        .store
        .update_environment(&world.by_owner(), shop(&nowhere), patch(), "", respond)
        .await;
    assert!(matches!(
        refused(update),
        Error::NotFound {
            entity: Entity::Environment,
            ..
        }
    ));
}

#[tokio::test]
async fn a_deleted_environment_is_gone_with_its_log_and_keys() {
    let world = world().await;
    world.flag("f").await;
    let dev = environment("dev");
    let written = done(
        world
            .store
            .delete_environment(&world.by_owner(), shop(&dev), "", respond)
            .await,
    );
    assert!(written.access_revision.is_some());
    assert_eq!(world.count("environment_heads").await, 1);
    assert_eq!(world.count("environment_keys").await, 2);
    assert_eq!(
        world.count("audit_entries where action = 'environment.delete'").await,
        1
    );
    let other = world.environment("shop", "dev", false).await;
    assert_ne!((other.id, &other.etag), (written.entity.id, &written.entity.etag));
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked() {
    let world = world().await;
    let dev = environment("dev");
    let written = done(
        world
            .store
            .create_key(&world.by_owner(), shop(&dev), new_key(KeyKind::Server), respond)
            .await,
    );
    assert!(written.access_revision.is_some());
    let key = written.entity;
    let first = world.store.list_keys(shop(&dev), &page(1, "")).await.unwrap();
    assert_eq!(
        (first.items.as_slice(), first.next.as_ref()),
        ([key.clone()].as_slice(), Some(&key.id))
    );
    let second = world.store.list_keys(shop(&dev), &page(1, &key.id)).await.unwrap();
    let third = world
        .store
        .list_keys(shop(&dev), &page(1, &second.next.unwrap()))
        .await
        .unwrap();
    assert_ne!(second.items[0].id, third.items[0].id);
    assert_eq!(third.next, None);

    let revoke = async || {
        done(
            world
                .store
                .revoke_key(&world.by_owner(), shop(&dev), &key.id, respond)
                .await,
        )
    };
    let revoked = revoke().await;
    assert!(revoked.changed && revoked.access_revision.is_some() && revoked.entity.revoked_at.is_some());
    let again = revoke().await;
    assert!(!again.changed && again.entity == revoked.entity);
}

#[tokio::test]
async fn keys_that_cannot_be_made_or_revoked_are_refused() {
    let world = world().await;
    let (dev, prod) = (environment("dev"), environment("prod"));
    let create = async |new| {
        world
            .store
            .create_key(&world.by_owner(), shop(&dev), new, respond)
            .await
    };
    let mut expired = new_key(KeyKind::Client);
    expired.expires_at = Some(jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(fields(&refused(create(expired).await)), ["expire_time"]);
    let key = new_key(KeyKind::Client);
    done(create(key.clone()).await);
    let taken = refused(create(key.clone()).await);
    assert!(matches!(taken, Error::AlreadyExists { entity: Entity::Key, key: id } if id == key.id));
    // Of another environment.
    let elsewhere = world
        .store
        .revoke_key(&world.by_owner(), shop(&prod), &key.id, respond)
        .await;
    assert!(matches!(
        refused(elsewhere),
        Error::NotFound {
            entity: Entity::Key,
            ..
        }
    ));
    let developer = by(world.member(Role::Developer).await);
    let denied = world.store.revoke_key(&developer, shop(&dev), &key.id, respond).await;
    assert!(matches!(refused(denied), Error::Denied));

    let fill = "insert into environment_keys (id, environment_id, kind, name, secret_hash, created_at)
        select 'k' || n, e.id, 'server', '', decode(repeat('00', 32), 'hex'), now()
        from environments e, generate_series(1, 97) n where e.key = 'dev'";
    world.sql.execute(fill, &[]).await.unwrap();
    let too_many = refused(create(new_key(KeyKind::Server)).await);
    assert!(matches!(
        too_many,
        Error::LimitReached {
            entity: Entity::Key,
            limit: limits::KEYS
        }
    ));
    // A revoked key no longer counts.
    done(
        world
            .store
            .revoke_key(&world.by_owner(), shop(&dev), "k1", respond)
            .await,
    );
    done(create(new_key(KeyKind::Server)).await);
}

#[tokio::test]
async fn the_directory_holds_what_grants_access_and_nothing_else() {
    let world = world().await;
    let viewer = world.member(Role::Viewer).await;
    let inactive = world.user("gone@example.com", None).await;
    world
        .sql
        .execute("update users set active = false where id = $1", &[&inactive])
        .await
        .unwrap();
    let dev = environment("dev");
    let keys = world.store.list_keys(shop(&dev), &page(10, "")).await.unwrap().items;
    done(
        world
            .store
            .revoke_key(&world.by_owner(), shop(&dev), &keys[0].id, respond)
            .await,
    );

    let directory = world.directory().await;
    assert_eq!(
        i64::try_from(directory.revision).unwrap(),
        world.access_revision().await
    );
    assert_eq!(directory.environments.len(), 2);
    assert_eq!(directory.keys.len(), 3);
    assert!(directory.keys.contains_key(&*keys[1].id) && !directory.keys.contains_key(&*keys[0].id));
    assert!(!directory.users.contains_key(&inactive));
    let role = |user| directory.users[&user].memberships.get(&project("shop")).copied();
    assert_eq!(
        (role(world.owner), role(viewer)),
        (Some(Role::Owner), Some(Role::Viewer))
    );
    let id = world
        .store
        .get_environment(shop(&environment("prod")))
        .await
        .unwrap()
        .id;
    assert!(directory.environments[&id].protected);
}
