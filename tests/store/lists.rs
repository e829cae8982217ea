//! Lists of targeting keys: uploaded in pieces, put in force at once.

use std::collections::{BTreeMap, BTreeSet};

use halyard::domain::access::Role;
use halyard::domain::change::Digest;
use halyard::domain::segment::parse_chunk_item;
use halyard::domain::{form, limits};
use halyard::store::segments::configurations::{SegmentConfiguration, SegmentConfigurationPatch};
use halyard::store::segments::uploads::{Piece, PutAside};
use halyard::store::segments::{Activation, UploadMode};
use halyard::store::{Entity, Error, Mutation, Outcome, RequestId};
use serde_json::Value;
use uuid::Uuid;

use crate::journal::verify_log;
use crate::world::*;

/// A world with a segment `beta`.
async fn beta() -> World {
    let world = world().await;
    world.segment("beta").await;
    world
}

async fn begin(world: &World, mutation: &Mutation, at: &str) -> Result<Uuid, Error> {
    let at = environment(at);
    let begun = world
        .store
        .create_segment_upload(mutation, shop(&at), &segment("beta"))
        .await?;
    Ok(done(Ok(begun)).entity.id)
}

async fn put(
    world: &World,
    mutation: &Mutation,
    upload: Uuid,
    (number, keys): (u32, &[String]),
) -> Result<Outcome<PutAside>, Error> {
    let piece = Piece {
        number,
        keys: keys.to_vec(),
    };
    world
        .store
        .put_segment_keys(mutation, &project("shop"), upload, piece)
        .await
}

async fn activate(
    world: &World,
    mutation: &Mutation,
    activation: Activation<'_>,
) -> Result<Outcome<SegmentConfiguration>, Error> {
    let shop = project("shop");
    world
        .store
        .activate_segment_upload(mutation, &shop, activation, respond)
        .await
}

fn as_it_is(upload: Uuid, mode: UploadMode) -> Activation<'static> {
    Activation {
        upload,
        mode,
        pieces: None,
        etag: "",
    }
}

/// Uploads keys to `dev` in pieces of a thousand, and activates them.
async fn list(world: &World, mode: UploadMode, keys: &[String]) -> halyard::store::Written<SegmentConfiguration> {
    let by = world.by_owner();
    let upload = begin(world, &by, "dev").await.unwrap();
    for (n, keys) in (0..).zip(keys.chunks(1_000)) {
        done(put(world, &by, upload, (n, keys)).await);
    }
    done(activate(world, &by, as_it_is(upload, mode)).await)
}

fn users(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("user-{n}")).collect()
}

/// The whole list, a page at a time.
async fn listed(world: &World) -> Vec<String> {
    let (dev, beta) = (environment("dev"), segment("beta"));
    let (mut keys, mut from) = (Vec::new(), None);
    loop {
        let page = world.store.list_segment_keys(shop(&dev), &beta, from).await.unwrap();
        keys.extend(page.keys);
        from = page.next;
        if from.is_none() {
            return keys;
        }
    }
}

/// The items of `dev` of a kind, as the log has them and as the tables have them: the same, or the test fails.
async fn chunks(world: &World) -> BTreeMap<u32, (i64, Vec<u8>)> {
    let logged = "
        select distinct on (i.key) i.key, i.version, i.form from change_items i
        join environments e on e.id = i.environment_id
        where e.key = 'dev' and i.kind = 'segment_keys'
        order by i.key, i.revision desc";
    let mut latest = BTreeMap::new();
    for row in world.sql.query(logged, &[]).await.unwrap() {
        let (segment, chunk) = parse_chunk_item(row.get("key")).unwrap();
        assert_eq!(segment, "beta");
        if let Some(form) = row.get::<_, Option<Vec<u8>>>("form") {
            latest.insert(chunk, (row.get("version"), form));
        }
    }
    let stored = "select chunk, version, form from segment_key_chunks";
    let rows = world.sql.query(stored, &[]).await.unwrap();
    let stored = rows.iter().map(|row| {
        let chunk = u32::try_from(row.get::<_, i32>("chunk")).unwrap();
        (chunk, (row.get("version"), row.get("form")))
    });
    assert_eq!(stored.collect::<BTreeMap<_, _>>(), latest);
    latest
}

#[tokio::test]
async fn what_is_put_aside_alters_nothing_until_it_is_activated_as_one_revision() {
    let world = beta().await;
    let (by, revision, sizes) = (world.by_owner(), world.revision("dev").await, world.log_sizes().await);
    let upload = begin(&world, &by, "dev").await.unwrap();
    let keys = users(0, 5_000);
    assert_eq!(
        done(put(&world, &by, upload, (1, &keys[2_000..])).await).entity,
        PutAside(3_000)
    );
    assert_eq!(
        done(put(&world, &by, upload, (0, &keys[..2_500])).await).entity,
        PutAside(5_500)
    );
    assert_eq!(world.log_sizes().await, sizes);
    let written = done(activate(&world, &by, as_it_is(upload, UploadMode::Replace)).await);
    assert!(written.changed);
    assert_eq!(written.revisions[0].revision, revision + 1);
    assert_eq!(world.revision("dev").await, revision + 1);
    let list = written.entity.configuration.key_list.unwrap();
    assert_eq!(list.keys, 5_000);
    let chunks = chunks(&world).await;
    assert_eq!(world.items("dev", revision + 1).await.len(), chunks.len() + 1);
    assert!(
        chunks
            .values()
            .all(|(_, form)| form.len() <= limits::SEGMENT_CHUNK_BYTES)
    );
    assert_eq!(
        listed(&world).await.into_iter().collect::<BTreeSet<_>>(),
        keys.into_iter().collect()
    );
    let gone = refused(put(&world, &by, upload, (0, &[])).await);
    assert!(matches!(
        gone,
        Error::NotFound {
            entity: Entity::SegmentUpload,
            ..
        }
    ));
    assert_eq!(world.count("segment_upload_pieces").await, 0);
    verify_log(&world, "dev").await;
}

#[tokio::test]
async fn uploads_replace_add_and_remove() {
    let world = beta().await;
    let check = async |mode, keys: Vec<String>, expected: Vec<String>| {
        let written = list(&world, mode, &keys).await;
        let keys = written.entity.configuration.key_list.map_or(0, |list| list.keys);
        assert_eq!(keys, expected.len() as u64);
        let held: BTreeSet<_> = listed(&world).await.into_iter().collect();
        assert_eq!(held, expected.into_iter().collect(), "{mode:?}");
        chunks(&world).await;
    };
    check(UploadMode::Add, users(0, 3_000), users(0, 3_000)).await;
    check(UploadMode::Remove, users(1_000, 9_000), users(0, 1_000)).await;
    check(UploadMode::Add, users(500, 2_000), users(0, 2_000)).await;
    check(UploadMode::Replace, users(7, 9), users(7, 9)).await;
    check(UploadMode::Replace, Vec::new(), Vec::new()).await;
    assert!(chunks(&world).await.is_empty());
    verify_log(&world, "dev").await;
}

#[tokio::test]
async fn a_few_more_keys_rewrite_a_few_chunks() {
    let world = beta().await;
    list(&world, UploadMode::Replace, &users(0, 20_000)).await;
    let before = chunks(&world).await;
    let revision = world.revision("dev").await;
    list(&world, UploadMode::Add, &users(20_000, 20_003)).await;
    let after = chunks(&world).await;
    assert_eq!(before.len(), after.len());
    let altered = after
        .iter()
        .filter(|&(chunk, stored)| before.get(chunk) != Some(stored))
        .count();
    assert!((1..=3).contains(&altered), "{altered}");
    // And the configuration, which says how many there are.
    assert_eq!(world.items("dev", revision + 1).await.len(), altered + 1);
}

#[tokio::test]
async fn a_list_that_stays_the_same_is_no_revision_and_the_upload_is_gone() {
    let world = beta().await;
    list(&world, UploadMode::Replace, &users(0, 100)).await;
    let sizes = world.log_sizes().await;
    for (mode, keys) in [
        (UploadMode::Replace, users(0, 100)),
        (UploadMode::Add, users(5, 50)),
        (UploadMode::Remove, users(200, 300)),
    ] {
        let written = list(&world, mode, &keys).await;
        assert!(!written.changed && written.revisions.is_empty(), "{mode:?}");
    }
    assert_eq!(world.log_sizes().await, sizes);
    assert_eq!(world.count("segment_uploads").await, 0);
}

#[tokio::test]
async fn the_rest_of_a_configuration_and_its_list_leave_each_other_alone() {
    let world = beta().await;
    let patch = SegmentConfigurationPatch {
        included: Some(vec!["ada".into()]),
        ..SegmentConfigurationPatch::default()
    };
    let (by, dev, beta) = (world.by_owner(), environment("dev"), segment("beta"));
    let configure = async |patch| {
        let updated = world
            .store
            .update_segment_configuration(&by, shop(&dev), &beta, patch, "", respond)
            .await;
        done(updated).entity.configuration
    };
    configure(patch).await;
    let written = list(&world, UploadMode::Add, &users(0, 10)).await;
    assert_eq!(written.entity.configuration.included, ["ada"]);
    let before = chunks(&world).await;
    let patch = SegmentConfigurationPatch {
        included: Some(Vec::new()),
        ..SegmentConfigurationPatch::default()
    };
    let after = configure(patch).await;
    assert_eq!(
        (after.included.len(), after.key_list.map(|list| list.keys)),
        (0, Some(10))
    );
    assert_eq!(chunks(&world).await, before);
}

#[tokio::test]
async fn the_audit_log_has_the_number_of_keys_and_their_hash_and_no_key() {
    let world = beta().await;
    list(&world, UploadMode::Replace, &["b".to_owned(), "a".to_owned()]).await;
    let row = world
        .sql
        .query_one(
            "select before, after from audit_entries where action = 'segment_configuration.activate'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, Option<String>>("before"), None);
    let after: Value = serde_json::from_str(row.get("after")).unwrap();
    let hash = hex::encode(halyard::domain::segment::keys_hash(&["a", "b"]).0);
    let expected = serde_json::json!({
        "segment": "beta", "key_list": {"chunks": 1, "keys": 2}, "mode": "replace", "keys_sha256": hash,
    });
    assert_eq!(after, expected);
}

#[tokio::test]
async fn keys_that_nobody_can_have_are_refused() {
    let world = beta().await;
    let by = world.by_owner();
    let upload = begin(&world, &by, "dev").await.unwrap();
    let keys = [
        String::new(),
        "fine".to_owned(),
        "a\0b".to_owned(),
        "x".repeat(limits::TARGETING_KEY_BYTES + 1),
    ];
    let error = refused(put(&world, &by, upload, (1_000, &keys)).await);
    assert_eq!(fields(&error), ["piece", "keys[0]", "keys[2]", "keys[3]"]);
}

#[tokio::test]
async fn an_upload_and_a_list_have_so_many_keys_at_most() {
    let world = beta().await;
    let by = world.by_owner();
    let upload = begin(&world, &by, "dev").await.unwrap();
    done(put(&world, &by, upload, (0, &users(0, 3))).await);
    // As if the rest had been sent before.
    let all_but = i64::try_from(limits::SEGMENT_KEYS - 3).unwrap();
    let grow = "insert into segment_upload_pieces (upload_id, piece, keys, key_count, key_bytes)
        values ($1, 1, '{}', $2, 0)";
    world.sql.execute(grow, &[&upload, &all_but]).await.unwrap();
    done(put(&world, &by, upload, (0, &users(0, 3))).await);
    let error = refused(put(&world, &by, upload, (2, &users(0, 1))).await);
    assert_eq!(fields(&error), ["keys"]);
}

#[tokio::test]
async fn a_lost_piece_is_noticed() {
    let world = beta().await;
    let by = world.by_owner();
    let upload = begin(&world, &by, "dev").await.unwrap();
    done(put(&world, &by, upload, (0, &users(0, 3))).await);
    let counted = |pieces| Activation {
        pieces: Some(pieces),
        ..as_it_is(upload, UploadMode::Replace)
    };
    assert_eq!(fields(&refused(activate(&world, &by, counted(2)).await)), ["pieces"]);
    done(activate(&world, &by, counted(1)).await);
}

#[tokio::test]
async fn an_activation_heeds_the_etag_the_request_id_and_validation() {
    let world = beta().await;
    let by = world.by_owner();
    let upload = begin(&world, &by, "dev").await.unwrap();
    done(put(&world, &by, upload, (0, &users(0, 3))).await);
    let stale = Activation {
        etag: "1.1.1",
        ..as_it_is(upload, UploadMode::Replace)
    };
    assert!(matches!(
        refused(activate(&world, &by, stale).await),
        Error::Stale {
            entity: Entity::SegmentConfiguration,
            ..
        }
    ));
    let (sizes, fresh) = (world.log_sizes().await, as_it_is(upload, UploadMode::Replace));
    let validated = Mutation {
        validate_only: true,
        ..by.clone()
    };
    assert!(done(activate(&world, &validated, fresh).await).changed);
    assert_eq!(world.log_sizes().await, sizes);
    let identified = Mutation {
        request: Some(RequestId {
            id: Uuid::new_v4(),
            hash: Digest([1; 32]),
        }),
        ..by
    };
    done(activate(&world, &identified, fresh).await);
    // The upload is gone, and yet the answer is the same.
    let again = activate(&world, &identified, fresh).await;
    assert!(matches!(again, Ok(Outcome::Replayed(response)) if response == b"response"));
}

#[tokio::test]
async fn who_may_not_change_an_environment_may_not_upload_for_it() {
    let world = beta().await;
    let (developer, viewer) = (
        by(world.member(Role::Developer).await),
        by(world.member(Role::Viewer).await),
    );
    let denied = |result: Result<Uuid, Error>| assert!(matches!(result, Err(Error::Denied)));
    denied(begin(&world, &developer, "prod").await);
    denied(begin(&world, &viewer, "dev").await);
    let upload = begin(&world, &developer, "dev").await.unwrap();
    let protected = begin(&world, &world.by_owner(), "prod").await.unwrap();
    for (mutation, upload) in [(&viewer, upload), (&developer, protected)] {
        assert!(matches!(
            refused(put(&world, mutation, upload, (0, &[])).await),
            Error::Denied
        ));
        let activation = as_it_is(upload, UploadMode::Replace);
        assert!(matches!(
            refused(activate(&world, mutation, activation).await),
            Error::Denied
        ));
    }
    done(put(&world, &developer, upload, (0, &users(0, 1))).await);
    done(activate(&world, &developer, as_it_is(upload, UploadMode::Replace)).await);
}

#[tokio::test]
async fn an_upload_is_of_its_project_only() {
    let world = beta().await;
    world.project("other").await;
    let upload = begin(&world, &world.by_owner(), "dev").await.unwrap();
    let piece = Piece {
        number: 0,
        keys: users(0, 1),
    };
    let other = project("other");
    let error = refused(
        world
            .store
            .put_segment_keys(&world.by_owner(), &other, upload, piece)
            .await,
    );
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    let activation = as_it_is(upload, UploadMode::Add);
    let activated = world
        .store
        .activate_segment_upload(&world.by_owner(), &other, activation, respond)
        .await;
    assert!(matches!(refused(activated), Error::NotFound { .. }));
}

#[tokio::test]
async fn uploads_are_dropped_after_a_day() {
    let world = beta().await;
    let by = world.by_owner();
    let old = begin(&world, &by, "dev").await.unwrap();
    done(put(&world, &by, old, (0, &users(0, 3))).await);
    let age = "update segment_uploads set created_at = created_at - interval '25 hours'";
    world.sql.execute(age, &[]).await.unwrap();
    let gone = |error| assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    gone(refused(put(&world, &by, old, (1, &[])).await));
    gone(refused(activate(&world, &by, as_it_is(old, UploadMode::Add)).await));
    begin(&world, &by, "dev").await.unwrap();
    assert_eq!(world.count("segment_uploads").await, 1);
    assert_eq!(world.count("segment_upload_pieces").await, 0);
}

#[tokio::test]
async fn a_segment_and_its_list_are_deleted_as_one_revision() {
    let world = beta().await;
    list(&world, UploadMode::Replace, &users(0, 5_000)).await;
    let (held, revision) = (chunks(&world).await.len(), world.revision("dev").await);
    assert!(held > 1);
    let beta = segment("beta");
    let deleted = world
        .store
        .delete_segment(&world.by_owner(), &project("shop"), &beta, "", respond)
        .await;
    assert_eq!(done(deleted).revisions.len(), 1);
    let items = world.items("dev", revision + 1).await;
    assert_eq!(items.len(), held + 1);
    assert!(items.iter().all(|(_, _, _, has_form)| !has_form));
    assert!(chunks(&world).await.is_empty());
    verify_log(&world, "dev").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activations_at_the_same_time_all_count() {
    let world = beta().await;
    let by = world.by_owner();
    let mut uploads = Vec::new();
    for n in 0..4 {
        let upload = begin(&world, &by, "dev").await.unwrap();
        done(put(&world, &by, upload, (0, &users(n * 100, n * 100 + 100))).await);
        uploads.push(upload);
    }
    let activations = uploads.into_iter().map(|upload| {
        let (store, by) = (world.store.clone(), world.by_owner());
        tokio::spawn(async move {
            let activation = as_it_is(upload, UploadMode::Add);
            // Whoever was overtaken again and again is told to come again.
            loop {
                let shop = project("shop");
                match store.activate_segment_upload(&by, &shop, activation, respond).await {
                    Err(Error::Stale { .. }) => {}
                    outcome => return done(outcome).revisions.len(),
                }
            }
        })
    });
    for activated in futures_util::future::join_all(activations).await {
        assert_eq!(activated.unwrap(), 1);
    }
    assert_eq!(listed(&world).await.len(), 400);
    verify_log(&world, "dev").await;
}

#[tokio::test]
async fn a_chunk_is_read_as_it_was_written() {
    let world = beta().await;
    let keys = vec!["\"quoted\"".to_owned(), "ü\u{1}\n".to_owned(), "plain".to_owned()];
    list(&world, UploadMode::Replace, &keys).await;
    let (_, stored) = chunks(&world).await.into_values().next().unwrap();
    assert_eq!(form::read_keys(&stored).unwrap(), ["\"quoted\"", "plain", "ü\u{1}\n"]);
}
