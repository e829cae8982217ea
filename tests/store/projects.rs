//! Projects, and who may know of them.

use halyard::domain::access::Role;
use halyard::store::projects::{NewProject, ProjectPatch, Viewer};
use halyard::store::{Entity, Error};

use crate::world::*;

fn new_project(key: &str) -> NewProject {
    NewProject {
        key: project(key),
        name: "A shop".into(),
        description: "Sells".into(),
    }
}

fn renamed(name: &str) -> ProjectPatch {
    ProjectPatch {
        name: Some(name.into()),
        description: None,
    }
}

#[tokio::test]
async fn the_creator_becomes_owner() {
    let world = empty().await;
    let written = done(
        world
            .store
            .create_project(&world.by_owner(), new_project("shop"), respond)
            .await,
    );
    assert!(written.changed && written.access_revision.is_some());
    assert_eq!(world.store.get_project(&project("shop")).await.unwrap(), written.entity);
    let listed = world
        .store
        .list_projects(Viewer::Member(world.owner), &page(10, ""))
        .await
        .unwrap();
    assert_eq!(listed.items, [written.entity]);
    assert_eq!(world.count("members where role = 'owner'").await, 1);
}

#[tokio::test]
async fn a_taken_project_key_is_refused() {
    let world = world().await;
    let error = refused(
        world
            .store
            .create_project(&world.by_owner(), new_project("shop"), respond)
            .await,
    );
    assert!(matches!(error, Error::AlreadyExists { entity: Entity::Project, key } if key == "shop"));
}

#[tokio::test]
async fn bad_texts_of_a_project_are_refused_together() {
    let world = empty().await;
    let mut new = new_project("shop");
    new.name = "x".repeat(201);
    new.description = "\u{0}".into();
    let error = refused(world.store.create_project(&world.by_owner(), new, respond).await);
    assert_eq!(fields(&error), ["project.name", "project.description"]);
}

#[tokio::test]
async fn projects_are_listed_by_key_to_those_who_may_see_them() {
    let world = empty().await;
    for key in ["b", "a", "c"] {
        world.project(key).await;
    }
    let list = async |viewer, request| {
        let page = world.store.list_projects(viewer, &request).await.unwrap();
        let keys: Vec<_> = page.items.iter().map(|project| project.key.to_string()).collect();
        (keys.join(" "), page.next)
    };
    let first = list(Viewer::Administrator, page(2, "")).await;
    assert_eq!(first, ("a b".into(), Some("b".into())));
    assert_eq!(list(Viewer::Administrator, page(2, "b")).await, ("c".into(), None));
    let stranger = world.user("stranger@example.com", None).await;
    assert_eq!(list(Viewer::Member(stranger), page(2, "")).await, (String::new(), None));
    assert_eq!(
        list(Viewer::Member(world.owner), page(3, "")).await,
        ("a b c".into(), None)
    );
}

#[tokio::test]
async fn a_project_is_renamed_once() {
    let world = world().await;
    let before = world.store.get_project(&project("shop")).await.unwrap();
    let rename = async || {
        done(
            world
                .store
                .update_project(&world.by_owner(), &project("shop"), renamed("X"), "", respond)
                .await,
        )
    };
    let written = rename().await;
    assert!(written.changed);
    assert_ne!(written.entity.etag, before.etag);
    assert_eq!(world.store.get_project(&project("shop")).await.unwrap(), written.entity);
    let sizes = world.log_sizes().await;
    let again = rename().await;
    assert!(!again.changed);
    assert_eq!(again.entity, written.entity);
    assert_eq!(world.log_sizes().await, sizes);
}

#[tokio::test]
async fn a_stale_project_etag_is_refused_even_after_recreation() {
    let world = world().await;
    let before = world.store.get_project(&project("shop")).await.unwrap();
    let update = async |etag: &str, name: &str| {
        let mutation = world.by_owner();
        world
            .store
            .update_project(&mutation, &project("shop"), renamed(name), etag, respond)
            .await
    };
    done(update(&before.etag, "X").await);
    assert!(matches!(
        refused(update(&before.etag, "Y").await),
        Error::Stale {
            entity: Entity::Project,
            ..
        }
    ));
    let delete = world
        .store
        .delete_project(&world.by_owner(), &project("shop"), &before.etag, respond)
        .await;
    assert!(matches!(refused(delete), Error::Stale { .. }));
    done(
        world
            .store
            .delete_project(&world.by_owner(), &project("shop"), "", respond)
            .await,
    );
    world.project("shop").await;
    assert!(matches!(refused(update(&before.etag, "Z").await), Error::Stale { .. }));
}

#[tokio::test]
async fn a_deleted_project_leaves_only_its_audit_log() {
    let world = world().await;
    world.flag("f").await;
    let access = world.access_revision().await;
    let written = done(
        world
            .store
            .delete_project(&world.by_owner(), &project("shop"), "", respond)
            .await,
    );
    assert_eq!(written.access_revision, u64::try_from(access + 1).ok());
    for table in [
        "projects",
        "environments",
        "environment_heads",
        "flags",
        "changes",
        "change_items",
        "members",
    ] {
        assert_eq!(world.count(table).await, 0, "{table}");
    }
    assert_eq!(world.count("environment_keys").await, 0);
    assert_eq!(
        world
            .count("audit_entries where action = 'project.delete' and after is null")
            .await,
        1
    );
    let missing = world.store.get_project(&project("shop")).await;
    assert!(matches!(
        missing,
        Err(Error::NotFound {
            entity: Entity::Project,
            ..
        })
    ));
}

#[tokio::test]
async fn strangers_cannot_tell_whether_a_project_exists() {
    let world = world().await;
    let stranger = by(world.user("stranger@example.com", None).await);
    for key in ["shop", "nothing"] {
        let update = world
            .store
            .update_project(&stranger, &project(key), renamed("X"), "", respond)
            .await;
        assert!(matches!(refused(update), Error::Denied), "{key}");
    }
    let administrator = by(world.user("admin@example.com", Some("administrator")).await);
    let update = world
        .store
        .update_project(&administrator, &project("nothing"), renamed("X"), "", respond)
        .await;
    assert!(matches!(
        refused(update),
        Error::NotFound {
            entity: Entity::Project,
            ..
        }
    ));
    done(
        world
            .store
            .update_project(&administrator, &project("shop"), renamed("X"), "", respond)
            .await,
    );
}

#[tokio::test]
async fn roles_are_read_again_when_writing() {
    let world = world().await;
    let developer = by(world.member(Role::Developer).await);
    let admin = by(world.member(Role::Admin).await);
    let rename = async |mutation, name| {
        world
            .store
            .update_project(mutation, &project("shop"), renamed(name), "", respond)
            .await
    };
    assert!(matches!(refused(rename(&developer, "X").await), Error::Denied));
    done(rename(&admin, "X").await);
    let delete = world.store.delete_project(&admin, &project("shop"), "", respond).await;
    assert!(matches!(refused(delete), Error::Denied));

    world
        .sql
        .execute("update members set role = 'viewer' where role = 'admin'", &[])
        .await
        .unwrap();
    assert!(matches!(refused(rename(&admin, "Y").await), Error::Denied));
    world.sql.execute("update users set active = false", &[]).await.unwrap();
    assert!(matches!(refused(rename(&world.by_owner(), "Y").await), Error::Denied));
    let create = world
        .store
        .create_project(&world.by_owner(), new_project("new"), respond)
        .await;
    assert!(matches!(refused(create), Error::Denied));
}
