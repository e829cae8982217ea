//! Everything at once: writers of all kinds in one project, on the same few flags and environments.

use halyard::domain::access::KeyKind;
use halyard::domain::audit::verify::Verdict;
use halyard::domain::key;
use halyard::store::audit;
use halyard::store::configurations::{ConfigurationPatch, Toggle};
use halyard::store::environments::{Address, EnvironmentPatch};
use halyard::store::flags::FlagPatch;
use halyard::store::projects::ProjectPatch;
use halyard::store::segments::configurations::SegmentConfigurationPatch;
use halyard::store::segments::uploads::Piece;
use halyard::store::segments::{Activation, UploadMode};
use halyard::store::users::FailedLogins;
use halyard::store::{Entity, Error, Mutation, Store};

use crate::journal::{chain, verify_log};
use crate::world::*;

const WRITERS: usize = 12;
const ROUNDS: usize = 18;

/// One of the kinds of operation, on one of the flags and environments.
async fn operate(store: &Store, by: &Mutation, kind: usize, which: usize) -> Result<(), Error> {
    let shop_key = project("shop");
    let flag = flag(&format!("f{}", which % 5));
    let segment = segment(&format!("s{}", which % 3));
    let environment = environment(["dev", "prod", "e1", "e2"][which % 4]);
    let (at, on) = (shop(&environment), which.is_multiple_of(2));
    let toggles = [Toggle {
        flag: flag.clone(),
        enabled: on,
    }];
    let visible = FlagPatch {
        client_visible: Some(on),
        ..FlagPatch::default()
    };
    let salted = ConfigurationPatch {
        salt: Some(Some(which.to_string())),
        ..ConfigurationPatch::default()
    };
    let renamed = ProjectPatch {
        name: Some(which.to_string()),
        description: None,
    };
    let described = EnvironmentPatch {
        description: Some(which.to_string()),
        ..EnvironmentPatch::default()
    };
    let outcome = match kind {
        0 | 1 => {
            let new = bool_flag(flag.as_str());
            store.create_flag(by, &shop_key, new, respond).await.map(drop)
        }
        2 => store.archive_flag(by, &shop_key, &flag, "", respond).await.map(drop),
        3 => store.delete_flag(by, &shop_key, &flag, "", respond).await.map(drop),
        4 | 5 => store.toggle_flags(by, at, &toggles, respond).await.map(drop),
        6 => {
            let updated = store.update_flag(by, &shop_key, &flag, visible, "", respond);
            updated.await.map(drop)
        }
        7 => {
            let updated = store.update_configuration(by, at, &flag, salted, "", respond);
            updated.await.map(drop)
        }
        8 => {
            let key = new_key(KeyKind::Server);
            let id = key.id.clone();
            match store.create_key(by, at, key, respond).await {
                Ok(_) => store.revoke_key(by, at, &id, respond).await.map(drop),
                Err(error) => Err(error),
            }
        }
        9 => {
            let new = new_environment(environment.as_str(), false);
            store.create_environment(by, &shop_key, new, respond).await.map(drop)
        }
        10 => {
            let updated = store.update_environment(by, at, described, "", respond);
            updated.await.map(drop)
        }
        // The first two environments stay.
        11 if which % 4 > 1 => store.delete_environment(by, at, "", respond).await.map(drop),
        12 => store
            .update_project(by, &shop_key, renamed, "", respond)
            .await
            .map(drop),
        14 => {
            let new = new_segment(segment.as_str());
            store.create_segment(by, &shop_key, new, respond).await.map(drop)
        }
        15 => store
            .delete_segment(by, &shop_key, &segment, "", respond)
            .await
            .map(drop),
        16 => {
            let patch = SegmentConfigurationPatch {
                included: Some(vec![which.to_string()]),
                segments: Some(vec![format!("s{}", (which + 1) % 3)]),
                ..SegmentConfigurationPatch::default()
            };
            let updated = store.update_segment_configuration(by, at, &segment, patch, "", respond);
            updated.await.map(drop)
        }
        17 => enlist(store, by, at, &segment, which).await,
        _ => {
            let failed = FailedLogins {
                user: None,
                refused: 1,
                throttled: 0,
                peers: Vec::new(),
            };
            store.record_failed_logins(&failed).await
        }
    };
    match outcome {
        // What another writer made or deleted a moment before, or altered again and again while a list was prepared; such uploads
        // remain.
        Err(
            Error::NotFound { .. }
            | Error::AlreadyExists { .. }
            | Error::Blocked { .. }
            | Error::Invalid(_)
            | Error::Stale {
                entity: Entity::SegmentUpload,
                ..
            }
            | Error::LimitReached {
                entity: Entity::SegmentUpload,
                ..
            },
        ) => Ok(()),
        outcome => outcome,
    }
}

/// Uploads a short list, and puts it in force.
async fn enlist(
    store: &Store,
    by: &Mutation,
    at: Address<'_>,
    segment: &key::Segment,
    which: usize,
) -> Result<(), Error> {
    let upload = done(Ok(store.create_segment_upload(by, at, segment).await?)).entity.id;
    let piece = Piece {
        number: 0,
        keys: (0..50).map(|n| format!("{}", n * which)).collect(),
    };
    store.put_segment_keys(by, at.project, upload, piece).await?;
    let activation = Activation {
        upload,
        mode: [UploadMode::Replace, UploadMode::Add, UploadMode::Remove][which % 3],
        pieces: None,
        etag: "",
    };
    let activated = store.activate_segment_upload(by, at.project, activation, respond);
    activated.await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_all_kinds_neither_lock_each_other_out_nor_break_the_logs() {
    let world = world().await;
    for n in 0..5 {
        world.flag(&format!("f{n}")).await;
    }
    for n in 0..3 {
        world.segment(&format!("s{n}")).await;
    }
    let writers = (0..WRITERS).map(|writer| {
        let (store, by) = (world.store.clone(), world.by_owner());
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                // Strides without a common divisor: every kind meets every flag and environment.
                let (kind, which) = ((writer + round * 5) % 19, writer * 7 + round * 11);
                let outcome = operate(&store, &by, kind, which).await;
                assert!(outcome.is_ok(), "kind {kind} of {which}: {outcome:?}");
            }
        })
    });
    for writer in futures_util::future::join_all(writers).await {
        writer.unwrap();
    }
    assert!(world.count("audit_entries").await > 100);
    let query = "select e.key from environments e join projects p on p.id = e.project_id where p.key = 'shop'";
    for row in world.sql.query(query, &[]).await.unwrap() {
        let revisions = verify_log(&world, row.get(0)).await;
        assert!(
            revisions
                .iter()
                .copied()
                .eq(1..=i64::try_from(revisions.len()).unwrap())
        );
    }
    for chain in [chain(&world).await, audit::INSTANCE.to_owned()] {
        let verdict = world.store.verify_chain(&chain, None).await.unwrap();
        assert!(matches!(verdict, Verdict::Intact(_)), "{chain}: {verdict:?}");
    }
}
