//! Segments and who belongs to them; lists are tested beside.

use halyard::domain::access::Role;
use halyard::domain::change::Digest;
use halyard::domain::draft;
use halyard::domain::rule::{Operand, Operator};
use halyard::store::configurations::ConfigurationPatch;
use halyard::store::environments::Address;
use halyard::store::segments::configurations::{SegmentConfiguration, SegmentConfigurationPatch};
use halyard::store::segments::{Segment, SegmentFilter, SegmentPatch};
use halyard::store::{Entity, Error, Mutation, Outcome, RequestId};
use uuid::Uuid;

use crate::journal::verify_log;
use crate::world::*;

async fn configure(
    world: &World,
    mutation: &Mutation,
    (at, key): (&str, &str),
    patch: SegmentConfigurationPatch,
    etag: &str,
) -> Result<Outcome<SegmentConfiguration>, Error> {
    world
        .store
        .update_segment_configuration(mutation, shop(&environment(at)), &segment(key), patch, etag, respond)
        .await
}

async fn configuration(world: &World, at: &str, key: &str) -> SegmentConfiguration {
    let found = world
        .store
        .get_segment_configuration(shop(&environment(at)), &segment(key))
        .await;
    found.unwrap()
}

fn including(keys: &[&str]) -> SegmentConfigurationPatch {
    SegmentConfigurationPatch {
        included: Some(keys.iter().map(|&key| key.to_owned()).collect()),
        ..SegmentConfigurationPatch::default()
    }
}

fn made_of(segments: &[&str]) -> SegmentConfigurationPatch {
    SegmentConfigurationPatch {
        segments: Some(segments.iter().map(|&key| key.to_owned()).collect()),
        ..SegmentConfigurationPatch::default()
    }
}

fn in_segment(key: &str) -> draft::Condition {
    draft::Condition {
        operator: Some(Operator::InSegment),
        values: vec![Some(Operand::String(key.to_owned()))],
        ..draft::Condition::default()
    }
}

/// A rule that serves `on` to a segment.
fn ruled_by(key: &str) -> ConfigurationPatch {
    ConfigurationPatch {
        enabled: Some(true),
        rules: Some(vec![draft::Rule {
            key: "r".to_owned(),
            conditions: vec![in_segment(key)],
            serve: draft::Serve::Variant("on".to_owned()),
            ..draft::Rule::default()
        }]),
        ..ConfigurationPatch::default()
    }
}

async fn delete(world: &World, mutation: &Mutation, key: &str) -> Result<Outcome<Segment>, Error> {
    world
        .store
        .delete_segment(mutation, &project("shop"), &segment(key), "", respond)
        .await
}

fn blocked(error: Error) -> String {
    let Error::Blocked {
        entity: Entity::Segment,
        description,
        ..
    } = error
    else {
        panic!("{error:?}")
    };
    description
}

#[tokio::test]
async fn what_a_segment_is_called_alters_no_environment() {
    let world = world().await;
    let before = (world.revision("dev").await, world.revision("prod").await);
    let created = world.segment("beta").await;
    assert!(created.changed && created.revisions.is_empty());
    let patch = SegmentPatch {
        name: Some("Beta testers".into()),
        description: None,
    };
    let (shop, beta) = (project("shop"), segment("beta"));
    let update = async |etag: &str| {
        let by = world.by_owner();
        world
            .store
            .update_segment(&by, &shop, &beta, patch.clone(), etag, respond)
            .await
    };
    let stale = refused(update("1.7").await);
    assert!(matches!(
        stale,
        Error::Stale {
            entity: Entity::Segment,
            ..
        }
    ));
    let updated = done(update(&created.entity.etag).await);
    assert!(updated.changed && updated.revisions.is_empty());
    assert_ne!(updated.entity.etag, created.entity.etag);
    assert_eq!(world.store.get_segment(&shop, &beta).await.unwrap(), updated.entity);
    let sizes = world.log_sizes().await;
    assert!(!done(update("").await).changed);
    assert_eq!(world.log_sizes().await, sizes);
    assert_eq!(before, (world.revision("dev").await, world.revision("prod").await));
    assert_eq!(world.count("audit_entries where entity = 'segment'").await, 2);
    let again = world
        .store
        .create_segment(&world.by_owner(), &shop, new_segment("beta"), respond)
        .await;
    assert!(matches!(
        refused(again),
        Error::AlreadyExists {
            entity: Entity::Segment,
            ..
        }
    ));
}

#[tokio::test]
async fn segments_are_listed_by_key_and_found_by_any_text() {
    let world = world().await;
    for key in ["beta", "alpha", "staff"] {
        world.segment(key).await;
    }
    done(configure(&world, &world.by_owner(), ("dev", "beta"), including(&["ada"]), "").await);
    let (shop, dev) = (project("shop"), environment("dev"));
    let list = async |text: &str, at: Option<&_>, size: usize, after: &str| {
        let filter = SegmentFilter { environment: at, text };
        world
            .store
            .list_segments(&shop, filter, &page(size, after))
            .await
            .unwrap()
    };
    let keys = |page: &halyard::store::Page<(Segment, Option<SegmentConfiguration>)>| -> Vec<String> {
        page.items.iter().map(|(segment, _)| segment.key.to_string()).collect()
    };
    let first = list("", None, 2, "").await;
    assert_eq!(
        (keys(&first), first.next.as_deref()),
        (vec!["alpha".into(), "beta".into()], Some("beta"))
    );
    assert_eq!(keys(&list("", None, 2, "beta").await), ["staff"]);
    assert_eq!(keys(&list("ETA", None, 9, "").await), ["beta"]);
    assert!(keys(&list(".", None, 9, "").await).is_empty());
    let configured = list("", Some(&dev), 9, "").await;
    let included = configured
        .items
        .iter()
        .map(|(_, it)| it.as_ref().unwrap().configuration.included.len());
    assert_eq!(included.collect::<Vec<_>>(), [0, 1, 0]);
    let nowhere = world
        .store
        .list_segments(
            &project("nothing"),
            SegmentFilter {
                environment: None,
                text: "",
            },
            &page(9, ""),
        )
        .await;
    assert!(matches!(
        nowhere,
        Err(Error::NotFound {
            entity: Entity::Project,
            ..
        })
    ));
}

#[tokio::test]
async fn a_configuration_is_one_revision_of_one_environment() {
    let world = world().await;
    world.segment("beta").await;
    let (dev, prod) = (world.revision("dev").await, world.revision("prod").await);
    let unwritten = configuration(&world, "dev", "beta").await;
    assert_eq!((unwritten.updated_at, unwritten.etag.is_empty()), (None, false));

    let patch = including(&["eve", "ada", "ada"]);
    let written = done(configure(&world, &world.by_owner(), ("dev", "beta"), patch, &unwritten.etag).await);
    assert_eq!(written.entity.configuration.included, ["ada", "eve"]);
    assert_eq!(written.revisions[0].revision, dev + 1);
    let item = (
        "segment_configuration".to_owned(),
        "beta".to_owned(),
        i64::try_from(dev + 1).unwrap(),
        true,
    );
    assert_eq!(world.items("dev", dev + 1).await, [item]);
    assert_eq!(world.revision("prod").await, prod);
    assert_eq!(configuration(&world, "dev", "beta").await, written.entity);

    let sizes = world.log_sizes().await;
    let same = done(
        configure(
            &world,
            &world.by_owner(),
            ("dev", "beta"),
            including(&["ada", "eve"]),
            "",
        )
        .await,
    );
    assert!(!same.changed && same.revisions.is_empty());
    let stale = refused(
        configure(
            &world,
            &world.by_owner(),
            ("dev", "beta"),
            including(&[]),
            &unwritten.etag,
        )
        .await,
    );
    assert!(matches!(
        stale,
        Error::Stale {
            entity: Entity::SegmentConfiguration,
            ..
        }
    ));
    assert_eq!(world.log_sizes().await, sizes);
    verify_log(&world, "dev").await;
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let world = world().await;
    world.segment("beta").await;
    let patch = SegmentConfigurationPatch {
        included: Some(vec!["ada".into(), String::new()]),
        segments: Some(vec!["unheard-of".into(), "beta".into()]),
        conditions: Some(vec![in_segment("nothing")]),
        ..SegmentConfigurationPatch::default()
    };
    let error = refused(configure(&world, &world.by_owner(), ("dev", "beta"), patch, "").await);
    assert_eq!(
        fields(&error),
        [
            "configuration.included[1]",
            "configuration.segments[0]",
            "configuration.conditions[0].values[0]",
            "configuration.segments[1]",
        ]
    );
}

#[tokio::test]
async fn what_is_odd_is_told_and_refused_only_if_asked() {
    let world = world().await;
    world.segment("beta").await;
    let odd = |strict| SegmentConfigurationPatch {
        included: Some(vec!["ada".into()]),
        excluded: Some(vec!["ada".into()]),
        strict,
        ..SegmentConfigurationPatch::default()
    };
    let error = refused(configure(&world, &world.by_owner(), ("dev", "beta"), odd(true), "").await);
    let expected = fields(&error).first().map(|field| (*field).to_owned());
    assert!(
        expected
            .as_ref()
            .is_some_and(|field| field.starts_with("configuration.")),
        "{expected:?}"
    );
    let written = done(configure(&world, &world.by_owner(), ("dev", "beta"), odd(false), "").await);
    assert_eq!(written.warnings.first().map(|warning| warning.field.clone()), expected);
}

#[tokio::test]
async fn a_circle_of_segments_is_refused_with_the_path_that_closes_it() {
    let world = world().await;
    for key in ["a", "b", "c"] {
        world.segment(key).await;
    }
    let by = world.by_owner();
    done(configure(&world, &by, ("dev", "a"), made_of(&["b"]), "").await);
    let conditional = SegmentConfigurationPatch {
        conditions: Some(vec![in_segment("c")]),
        ..SegmentConfigurationPatch::default()
    };
    done(configure(&world, &by, ("dev", "b"), conditional, "").await);
    let error = refused(configure(&world, &by, ("dev", "c"), made_of(&["a"]), "").await);
    assert!(error.to_string().contains("c → a → b → c"), "{error}");
    // In another environment it is no circle.
    done(configure(&world, &by, ("prod", "c"), made_of(&["a"]), "").await);
}

#[tokio::test]
async fn a_segment_in_use_cannot_be_deleted_and_the_error_says_who_uses_it() {
    let world = world().await;
    for key in ["beta", "whole"] {
        world.segment(key).await;
    }
    for key in ["f", "old"] {
        world.flag(key).await;
    }
    let by = world.by_owner();
    let (dev, prod, shop_key) = (environment("dev"), environment("prod"), project("shop"));
    let rule = async |at, key| {
        let updated = world
            .store
            .update_configuration(&by, shop(at), &flag(key), ruled_by("beta"), "", respond)
            .await;
        done(updated);
    };
    rule(&dev, "f").await;
    rule(&prod, "old").await;
    done(
        world
            .store
            .archive_flag(&by, &shop_key, &flag("old"), "", respond)
            .await,
    );
    done(configure(&world, &by, ("dev", "whole"), made_of(&["beta"]), "").await);
    let sizes = world.log_sizes().await;
    assert_eq!(
        blocked(refused(delete(&world, &by, "beta").await)),
        "is used by flag f in dev, flag old in prod, segment whole in dev"
    );
    assert_eq!(world.log_sizes().await, sizes);

    done(world.store.delete_flag(&by, &shop_key, &flag("old"), "", respond).await);
    done(configure(&world, &by, ("dev", "whole"), made_of(&[]), "").await);
    let unruled = ConfigurationPatch {
        rules: Some(Vec::new()),
        ..ConfigurationPatch::default()
    };
    done(
        world
            .store
            .update_configuration(&by, shop(&dev), &flag("f"), unruled, "", respond)
            .await,
    );
    done(delete(&world, &by, "beta").await);
}

#[tokio::test]
async fn a_deletion_is_a_revision_where_the_segment_is_configured() {
    let world = world().await;
    world.segment("beta").await;
    let by = world.by_owner();
    done(configure(&world, &by, ("dev", "beta"), including(&["ada"]), "").await);
    let (dev, prod) = (world.revision("dev").await, world.revision("prod").await);
    let deleted = done(delete(&world, &by, "beta").await);
    assert_eq!(deleted.revisions.len(), 1);
    let item = (
        "segment_configuration".to_owned(),
        "beta".to_owned(),
        i64::try_from(dev).unwrap(),
        false,
    );
    assert_eq!(world.items("dev", dev + 1).await, [item]);
    assert_eq!(world.revision("prod").await, prod);
    verify_log(&world, "dev").await;
    // Made anew, it is another: the old etag does not fit.
    let old = deleted.entity.etag;
    assert_ne!(world.segment("beta").await.entity.etag, old);
    assert_eq!(configuration(&world, "dev", "beta").await.updated_at, None);
}

#[tokio::test]
async fn nothing_of_another_project_can_be_used() {
    let world = world().await;
    world.segment("beta").await;
    world.project("other").await;
    world.environment("other", "theirs", false).await;
    let new = new_segment("secret");
    done(
        world
            .store
            .create_segment(&world.by_owner(), &project("other"), new, respond)
            .await,
    );
    let error = refused(configure(&world, &world.by_owner(), ("dev", "beta"), made_of(&["secret"]), "").await);
    assert_eq!(fields(&error), ["configuration.segments[0]"]);
    let (other, theirs) = (project("other"), environment("theirs"));
    let at = Address {
        project: &other,
        environment: &theirs,
    };
    let error = world
        .store
        .get_segment_configuration(at, &segment("beta"))
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        Error::NotFound {
            entity: Entity::Segment,
            ..
        }
    ));
}

#[tokio::test]
async fn a_protected_environment_is_changed_by_those_who_may() {
    let world = world().await;
    let developer = by(world.member(Role::Developer).await);
    let viewer = by(world.member(Role::Viewer).await);
    let create = async |mutation: &Mutation, key: &str| {
        let new = new_segment(key);
        world
            .store
            .create_segment(mutation, &project("shop"), new, respond)
            .await
    };
    done(create(&developer, "beta").await);
    assert!(matches!(refused(create(&viewer, "other").await), Error::Denied));
    let change =
        async |mutation: &Mutation, at: &str| configure(&world, mutation, (at, "beta"), including(&["ada"]), "").await;
    done(change(&developer, "dev").await);
    assert!(matches!(refused(change(&developer, "prod").await), Error::Denied));
    done(change(&world.by_owner(), "prod").await);
    assert!(matches!(
        refused(delete(&world, &developer, "beta").await),
        Error::Denied
    ));
}

#[tokio::test]
async fn a_request_acts_once_and_a_validated_one_not_at_all() {
    let world = world().await;
    world.segment("beta").await;
    let sizes = world.log_sizes().await;
    let validated = Mutation {
        validate_only: true,
        ..world.by_owner()
    };
    let told = done(configure(&world, &validated, ("dev", "beta"), including(&["ada"]), "").await);
    assert!(told.changed && told.revisions.is_empty() && told.entity.etag.is_empty());
    assert_eq!(world.log_sizes().await, sizes);
    let identified = Mutation {
        request: Some(RequestId {
            id: Uuid::new_v4(),
            hash: Digest([1; 32]),
        }),
        ..world.by_owner()
    };
    done(configure(&world, &identified, ("dev", "beta"), including(&["ada"]), "").await);
    let revision = world.revision("dev").await;
    let again = configure(&world, &identified, ("dev", "beta"), including(&["ada"]), "").await;
    assert!(matches!(again, Ok(Outcome::Replayed(_))));
    assert_eq!(world.revision("dev").await, revision);
}

#[tokio::test]
async fn projects_and_environments_go_with_the_segments_that_they_use() {
    let world = world().await;
    for key in ["a", "b"] {
        world.segment(key).await;
    }
    world.flag("f").await;
    let (by, shop_key) = (world.by_owner(), project("shop"));
    for at in ["dev", "prod"] {
        done(configure(&world, &by, (at, "a"), made_of(&["b"]), "").await);
        let at = environment(at);
        let updated = world
            .store
            .update_configuration(&by, shop(&at), &flag("f"), ruled_by("a"), "", respond)
            .await;
        done(updated);
    }
    let dev = environment("dev");
    done(world.store.delete_environment(&by, shop(&dev), "", respond).await);
    assert_eq!(world.count("flag_segments").await, 1);
    done(world.store.delete_project(&by, &shop_key, "", respond).await);
    for table in ["segments", "segment_configurations", "segment_parts", "flag_segments"] {
        assert_eq!(world.count(table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn a_new_environment_has_no_segment_configured() {
    let world = world().await;
    world.segment("beta").await;
    done(configure(&world, &world.by_owner(), ("dev", "beta"), including(&["ada"]), "").await);
    world.environment("shop", "staging", false).await;
    assert!(world.items("staging", 1).await.is_empty());
    assert_eq!(configuration(&world, "staging", "beta").await.updated_at, None);
}
