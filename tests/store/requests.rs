//! Requests that carry an id, and requests that are only validated.

use halyard::domain::change::Digest;
use halyard::store::configurations::{ConfigurationPatch, Toggle};
use halyard::store::environments::EnvironmentPatch;
use halyard::store::projects::ProjectPatch;
use halyard::store::{Error, Mutation, Outcome, RequestId};
use uuid::Uuid;

use crate::world::*;

fn with_id(mutation: Mutation, id: Uuid) -> Mutation {
    Mutation {
        request: Some(RequestId {
            id,
            hash: Digest([1; 32]),
        }),
        ..mutation
    }
}

fn is_replayed<T>(outcome: &Result<Outcome<T>, Error>) -> bool {
    matches!(outcome, Ok(Outcome::Replayed(response)) if response == b"response")
}

async fn toggle(world: &World, mutation: &Mutation) -> Result<Outcome<()>, Error> {
    let (dev, toggles) = (
        environment("dev"),
        [Toggle {
            flag: flag("f"),
            enabled: true,
        }],
    );
    let outcome = world
        .store
        .toggle_flags(mutation, shop(&dev), &toggles, respond)
        .await?;
    Ok(match outcome {
        Outcome::Done(written) => Outcome::Done(halyard::store::Written {
            entity: (),
            revisions: written.revisions,
            access_revision: written.access_revision,
            changed: written.changed,
            warnings: written.warnings,
        }),
        Outcome::Replayed(response) => Outcome::Replayed(response),
    })
}

#[tokio::test]
async fn the_same_request_acts_once() {
    let world = world().await;
    let mutation = with_id(world.by_owner(), Uuid::new_v4());
    let create = async |mutation| {
        world
            .store
            .create_flag(mutation, &project("shop"), bool_flag("f"), respond)
            .await
    };
    done(create(&mutation).await);
    let sizes = world.log_sizes().await;
    assert!(is_replayed(&create(&mutation).await));
    assert_eq!(world.log_sizes().await, sizes);
    // Without the id it is another attempt, and the flag is there already.
    assert!(matches!(
        refused(create(&world.by_owner()).await),
        Error::AlreadyExists { .. }
    ));
    let audited = world
        .sql
        .query_one("select request_id from audit_entries where action = 'flag.create'", &[])
        .await
        .unwrap();
    assert_eq!(audited.get::<_, String>(0), mutation.request.unwrap().id.to_string());
}

#[tokio::test]
async fn the_same_request_made_many_times_at_once_acts_once() {
    let world = world().await;
    let mutation = with_id(world.by_owner(), Uuid::new_v4());
    let attempts = (0..16).map(|_| {
        let (store, mutation) = (world.store.clone(), mutation.clone());
        tokio::spawn(async move {
            store
                .create_flag(&mutation, &project("shop"), bool_flag("f"), respond)
                .await
        })
    });
    let outcomes: Vec<_> = futures_util::future::join_all(attempts)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let acted = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Ok(Outcome::Done(_))))
        .count();
    let replayed = outcomes.iter().filter(|outcome| is_replayed(outcome)).count();
    assert_eq!((acted, replayed), (1, 15));
}

#[tokio::test]
async fn a_request_id_stands_for_one_request_of_one_caller() {
    let world = world().await;
    world.flag("f").await;
    let mutation = with_id(world.by_owner(), Uuid::new_v4());
    done(toggle(&world, &mutation).await);
    let mut other_content = mutation.clone();
    other_content.request.as_mut().unwrap().hash = Digest([2; 32]);
    assert!(matches!(
        refused(toggle(&world, &other_content).await),
        Error::RequestIdReused
    ));
    let other_method = Mutation {
        method: "test/Other",
        ..mutation.clone()
    };
    assert!(matches!(
        refused(toggle(&world, &other_method).await),
        Error::RequestIdReused
    ));
    let other_caller = with_id(
        by(world.user("a@example.com", Some("administrator")).await),
        mutation.request.unwrap().id,
    );
    done(toggle(&world, &other_caller).await);
}

#[tokio::test]
async fn a_request_that_changed_nothing_is_replayed_too() {
    let world = world().await;
    world.flag("f").await;
    done(toggle(&world, &world.by_owner()).await);
    let mutation = with_id(world.by_owner(), Uuid::new_v4());
    assert!(!done(toggle(&world, &mutation).await).changed);
    assert!(is_replayed(&toggle(&world, &mutation).await));
}

#[tokio::test]
async fn a_refused_request_may_be_made_again() {
    let world = world().await;
    let mutation = with_id(world.by_owner(), Uuid::new_v4());
    assert_eq!(fields(&refused(toggle(&world, &mutation).await)), ["toggles[0].flag"]);
    world.flag("f").await;
    assert!(done(toggle(&world, &mutation).await).changed);
}

#[tokio::test]
async fn after_a_day_a_request_is_forgotten() {
    let world = world().await;
    world.flag("f").await;
    let mutation = with_id(world.by_owner(), Uuid::new_v4());
    done(toggle(&world, &mutation).await);
    assert_eq!(world.store.purge_request_records().await.unwrap(), 0);
    let age = "update request_records set created_at = now() - interval '24 hours 1 second'";
    world.sql.execute(age, &[]).await.unwrap();
    assert!(!done(toggle(&world, &mutation).await).changed);
    assert!(is_replayed(&toggle(&world, &mutation).await));
    world.sql.execute(age, &[]).await.unwrap();
    assert_eq!(world.store.purge_request_records().await.unwrap(), 1);
}

#[tokio::test]
async fn no_etag_is_handed_out_for_what_is_only_validated() {
    let world = world().await;
    world.flag("f").await;
    let validate = Mutation {
        validate_only: true,
        ..world.by_owner()
    };
    let (store, shop_key, dev, key) = (&world.store, project("shop"), environment("dev"), flag("f"));
    let updated = store.update_project(&validate, &shop_key, ProjectPatch::default(), "", respond);
    assert_eq!(done(updated.await).entity.etag, "");
    let stage = new_environment("stage", false);
    let created = store.create_environment(&validate, &shop_key, stage, respond);
    assert_eq!(done(created.await).entity.environment.etag, "");
    let protect = EnvironmentPatch {
        protected: Some(true),
        ..EnvironmentPatch::default()
    };
    let updated = store.update_environment(&validate, shop(&dev), protect, "", respond);
    assert_eq!(done(updated.await).entity.etag, "");
    let patch = ConfigurationPatch {
        enabled: Some(true),
        ..ConfigurationPatch::default()
    };
    let configured = store.update_configuration(&validate, shop(&dev), &key, patch, "", respond);
    assert_eq!(done(configured.await).entity.etag, "");
    let toggles = [Toggle {
        flag: key,
        enabled: true,
    }];
    let written = done(store.toggle_flags(&validate, shop(&dev), &toggles, respond).await);
    assert_eq!(written.entity[0].etag, "");
}

#[tokio::test]
async fn what_is_only_validated_is_checked_and_not_written() {
    let world = world().await;
    let sizes = world.log_sizes().await;
    let validate = Mutation {
        validate_only: true,
        ..with_id(world.by_owner(), Uuid::new_v4())
    };
    let create = async |mutation, new| world.store.create_flag(mutation, &project("shop"), new, respond).await;
    let written = done(create(&validate, bool_flag("f")).await);
    assert!(written.changed && written.revisions.is_empty());
    // An etag would be that of the write that is made next.
    assert_eq!(written.entity.etag, "");
    let mut bad = bool_flag("f");
    bad.definition.variants.clear();
    assert!(!fields(&refused(create(&validate, bad).await)).is_empty());
    assert_eq!(world.log_sizes().await, sizes);
    assert_eq!(
        (world.count("flags").await, world.count("request_records").await),
        (0, 0)
    );
    assert_eq!(world.revision("dev").await, 1);
}
