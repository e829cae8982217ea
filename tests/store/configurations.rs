//! Configurations and toggles.

use halyard::domain::access::Role;
use halyard::domain::draft;
use halyard::store::configurations::{ConfigurationPatch, FlagConfiguration, Toggle};
use halyard::store::environments::Address;
use halyard::store::{Entity, Error, Mutation, Outcome};

use crate::world::*;

async fn toggle(
    world: &World,
    mutation: &Mutation,
    in_environment: &str,
    toggles: &[(&str, bool)],
) -> Result<Outcome<Vec<FlagConfiguration>>, Error> {
    let toggles: Vec<_> = toggles
        .iter()
        .map(|&(key, enabled)| Toggle {
            flag: flag(key),
            enabled,
        })
        .collect();
    world
        .store
        .toggle_flags(mutation, shop(&environment(in_environment)), &toggles, respond)
        .await
}

async fn update(
    world: &World,
    mutation: &Mutation,
    patch: ConfigurationPatch,
    etag: &str,
) -> Result<Outcome<FlagConfiguration>, Error> {
    world
        .store
        .update_configuration(mutation, shop(&environment("dev")), &flag("f"), patch, etag, respond)
        .await
}

fn serving(key: &str) -> ConfigurationPatch {
    ConfigurationPatch {
        enabled: Some(true),
        default: Some(Some(draft::Serve::Variant(key.to_owned()))),
        ..ConfigurationPatch::default()
    }
}

#[tokio::test]
async fn many_flags_are_toggled_as_one_revision() {
    let world = world().await;
    for key in ["a", "b", "c"] {
        world.flag(key).await;
    }
    let before = world.revision("dev").await;
    let written = done(
        toggle(
            &world,
            &world.by_owner(),
            "dev",
            &[("b", true), ("a", true), ("c", false)],
        )
        .await,
    );
    let answered: Vec<_> = written
        .entity
        .iter()
        .map(|c| (c.flag.as_str(), c.configuration.enabled))
        .collect();
    assert_eq!(answered, [("b", true), ("a", true), ("c", false)]);
    assert_eq!(written.revisions.len(), 1);
    assert_eq!(written.revisions[0].revision, before + 1);
    // c was off and stays unwritten.
    assert_eq!(world.items("dev", before + 1).await.len(), 2);
    assert_eq!(written.entity[2].updated_at, None);
    assert_eq!(world.revision("prod").await, before);
    assert_eq!(
        world
            .count("audit_entries where action = 'flag_configuration.toggle'")
            .await,
        2
    );
    let read = world
        .store
        .get_configuration(shop(&environment("dev")), &flag("b"))
        .await
        .unwrap();
    assert_eq!(read, written.entity[0]);
}

#[tokio::test]
async fn a_toggle_that_changes_nothing_writes_nothing() {
    let world = world().await;
    world.flag("f").await;
    done(toggle(&world, &world.by_owner(), "dev", &[("f", true)]).await);
    let (sizes, revision, access) = (
        world.log_sizes().await,
        world.revision("dev").await,
        world.access_revision().await,
    );
    let written = done(toggle(&world, &world.by_owner(), "dev", &[("f", true)]).await);
    assert!(!written.changed && written.revisions.is_empty() && written.entity[0].configuration.enabled);
    assert_eq!(world.log_sizes().await, sizes);
    assert_eq!(
        (world.revision("dev").await, world.access_revision().await),
        (revision, access)
    );
}

#[tokio::test]
async fn every_toggle_that_cannot_be_made_is_named_and_none_is_made() {
    let world = world().await;
    for key in ["a", "old"] {
        world.flag(key).await;
    }
    done(
        world
            .store
            .archive_flag(&world.by_owner(), &project("shop"), &flag("old"), "", respond)
            .await,
    );
    let sizes = world.log_sizes().await;
    let toggles = [("a", true), ("nothing", true), ("old", true), ("a", false)];
    let error = refused(toggle(&world, &world.by_owner(), "dev", &toggles).await);
    assert_eq!(
        fields(&error),
        ["toggles[1].flag", "toggles[2].flag", "toggles[3].flag"]
    );
    assert_eq!(
        fields(&refused(toggle(&world, &world.by_owner(), "dev", &[]).await)),
        ["toggles"]
    );
    assert_eq!(world.log_sizes().await, sizes);
}

#[tokio::test]
async fn nothing_of_another_project_can_be_attached() {
    let world = world().await;
    world.project("other").await;
    let other = world.environment("other", "theirs", false).await;
    world.flag("f").await;
    // A flag of shop, in an environment of the other project.
    let (other_project, theirs) = (project("other"), environment("theirs"));
    let at = Address {
        project: &other_project,
        environment: &theirs,
    };
    let toggles = [Toggle {
        flag: flag("f"),
        enabled: true,
    }];
    let error = refused(world.store.toggle_flags(&world.by_owner(), at, &toggles, respond).await);
    assert_eq!(fields(&error), ["toggles[0].flag"]);
    // An environment of the other project, through shop.
    let missing = refused(toggle(&world, &world.by_owner(), "theirs", &[("f", true)]).await);
    assert!(matches!(
        missing,
        Error::NotFound {
            entity: Entity::Environment,
            ..
        }
    ));
    // Nor would the database take the row.
    let insert =
        "insert into flag_configurations (project_id, environment_id, flag_id, form, enabled, rules, version, updated_at)
        select project_id, $1, id, '', true, '[]', 1, now() from flags";
    let error = world.sql.execute(insert, &[&other.id.0]).await.unwrap_err();
    let constraint = error.as_db_error().and_then(|refusal| refusal.constraint());
    assert_eq!(constraint, Some("flag_configurations_environment_fkey"));
}

#[tokio::test]
async fn protected_environments_are_not_for_developers() {
    let world = world().await;
    world.flag("f").await;
    let (developer, viewer) = (
        by(world.member(Role::Developer).await),
        by(world.member(Role::Viewer).await),
    );
    done(toggle(&world, &developer, "dev", &[("f", true)]).await);
    assert!(matches!(
        refused(toggle(&world, &developer, "prod", &[("f", true)]).await),
        Error::Denied
    ));
    assert!(matches!(
        refused(toggle(&world, &viewer, "dev", &[("f", false)]).await),
        Error::Denied
    ));
    done(toggle(&world, &by(world.member(Role::Admin).await), "prod", &[("f", true)]).await);
}

#[tokio::test]
async fn a_configuration_is_patched_field_by_field() {
    let world = world().await;
    world.flag("f").await;
    let unwritten = world
        .store
        .get_configuration(shop(&environment("dev")), &flag("f"))
        .await
        .unwrap();
    assert_eq!((unwritten.updated_at, unwritten.configuration.enabled), (None, false));
    let first = done(update(&world, &world.by_owner(), serving("off"), "").await);
    assert_eq!(first.revisions.len(), 1);
    let salted = ConfigurationPatch {
        salt: Some(Some("s".into())),
        ..ConfigurationPatch::default()
    };
    let second = done(update(&world, &world.by_owner(), salted.clone(), &first.entity.etag).await);
    let configuration = &second.entity.configuration;
    assert!(configuration.enabled && configuration.default.is_some());
    assert_eq!(configuration.salt.as_deref(), Some("s"));
    let sizes = world.log_sizes().await;
    let third = done(update(&world, &world.by_owner(), salted, "").await);
    assert!(!third.changed && third.entity == second.entity);
    assert_eq!(world.log_sizes().await, sizes);
    let read = world
        .store
        .get_configuration(shop(&environment("dev")), &flag("f"))
        .await
        .unwrap();
    assert_eq!(read, second.entity);
}

#[tokio::test]
async fn a_stale_configuration_etag_is_refused() {
    let world = world().await;
    world.flag("f").await;
    let first = done(update(&world, &world.by_owner(), serving("on"), "").await);
    done(update(&world, &world.by_owner(), serving("off"), &first.entity.etag).await);
    let stale = refused(update(&world, &world.by_owner(), serving("on"), &first.entity.etag).await);
    assert!(matches!(
        stale,
        Error::Stale {
            entity: Entity::FlagConfiguration,
            ..
        }
    ));
}

#[tokio::test]
async fn of_two_first_writes_the_second_is_stale() {
    let world = world().await;
    world.flag("f").await;
    let (dev, key) = (environment("dev"), flag("f"));
    let unwritten = world.store.get_configuration(shop(&dev), &key).await.unwrap().etag;
    let update = async |serve| update(&world, &world.by_owner(), serving(serve), &unwritten).await;
    done(update("on").await);
    let stale = refused(update("off").await);
    let entity = Entity::FlagConfiguration;
    assert!(matches!(stale, Error::Stale { entity: of, .. } if of == entity));
    // Nor does it hold for a flag made anew under the same key.
    let (shop_key, owner) = (project("shop"), world.by_owner());
    done(world.store.delete_flag(&owner, &shop_key, &key, "", respond).await);
    world.flag("f").await;
    assert!(matches!(refused(update("off").await), Error::Stale { entity: of, .. } if of == entity));
}

#[tokio::test]
async fn configurations_that_make_no_sense_are_refused() {
    let world = world().await;
    let missing = refused(update(&world, &world.by_owner(), serving("on"), "").await);
    assert!(matches!(
        missing,
        Error::NotFound {
            entity: Entity::Flag,
            ..
        }
    ));
    world.flag("f").await;
    let error = refused(update(&world, &world.by_owner(), serving("maybe"), "").await);
    assert_eq!(fields(&error), ["configuration.default_serve.variant"]);
    done(
        world
            .store
            .archive_flag(&world.by_owner(), &project("shop"), &flag("f"), "", respond)
            .await,
    );
    let blocked = refused(update(&world, &world.by_owner(), serving("on"), "").await);
    assert!(matches!(
        blocked,
        Error::Blocked {
            entity: Entity::Flag,
            ..
        }
    ));
}
