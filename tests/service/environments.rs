//! Environments and their keys.

use halyard::pb::admin::v1 as pb;
use tonic::Code;
use uuid::Uuid;

use crate::app::{App, evaluate, evaluation, toggle, watch};
use crate::refusals::{invalid, refused};
use crate::support::eventually;

fn create(key: &str) -> pb::CreateEnvironmentRequest {
    let environment = Some(pb::Environment {
        project: "shop".into(),
        key: key.into(),
        ..Default::default()
    });
    pb::CreateEnvironmentRequest {
        environment,
        ..Default::default()
    }
}

fn key(kind: pb::KeyKind) -> pb::CreateKeyRequest {
    pb::CreateKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        kind: kind.into(),
        ..Default::default()
    }
}

fn revoke(key_id: &str) -> pb::RevokeKeyRequest {
    pb::RevokeKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        key_id: key_id.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_is_created_read_changed_listed_and_deleted() {
    let app = App::start().await;
    app.shop().await;
    let get = pb::GetEnvironmentRequest {
        project: "shop".into(),
        environment: "dev".into(),
    };
    let mut environments = app.environments();
    let created = environments
        .get_environment(get.clone())
        .await
        .unwrap()
        .into_inner()
        .environment
        .unwrap();
    assert_eq!(
        (created.key.as_str(), created.revision, created.protected),
        ("dev", 1, false)
    );

    let update = pb::UpdateEnvironmentRequest {
        environment: Some(pb::Environment {
            protected: true,
            name: "ignored".into(),
            ..created.clone()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["protected".into()],
        }),
        etag: created.etag.clone(),
        ..Default::default()
    };
    let updated = environments
        .update_environment(update.clone())
        .await
        .unwrap()
        .into_inner()
        .environment
        .unwrap();
    assert_eq!((updated.protected, updated.name.as_str()), (true, "dev"));
    refused(environments.update_environment(update).await, Code::Aborted);

    environments.create_environment(create("staging")).await.unwrap();
    refused(
        environments.create_environment(create("staging")).await,
        Code::AlreadyExists,
    );
    let list = pb::ListEnvironmentsRequest {
        project: "shop".into(),
        ..Default::default()
    };
    let listed = environments
        .list_environments(list)
        .await
        .unwrap()
        .into_inner()
        .environments;
    let keys: Vec<_> = listed.iter().map(|environment| environment.key.as_str()).collect();
    assert_eq!(keys, ["dev", "staging"]);

    let delete = pb::DeleteEnvironmentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        ..Default::default()
    };
    environments.delete_environment(delete.clone()).await.unwrap();
    refused(environments.get_environment(get).await, Code::NotFound);
    refused(environments.delete_environment(delete).await, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_of_no_project_is_not_found_and_a_bad_one_is_told_why() {
    let app = App::start().await;
    refused(
        app.environments().create_environment(create("dev")).await,
        Code::NotFound,
    );
    let mut request = create("Dev");
    request.environment.as_mut().unwrap().project = String::new();
    invalid(
        app.environments().create_environment(request).await,
        &["environment.project", "environment.key"],
    );
    let list = pb::ListEnvironmentsRequest {
        project: "shop".into(),
        page_size: -1,
        ..Default::default()
    };
    invalid(app.environments().list_environments(list).await, &["page_size"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_environment_has_every_flag_and_all_are_off() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    app.toggle("f", true).await;
    let staging = app.environment("shop", "staging").await;
    let evaluation = eventually("the environment", async || {
        evaluate(&app.channel, &staging.server, "f", 1).await.ok()
    })
    .await;
    assert_eq!(evaluation.reason(), halyard::pb::evaluation::v1::Reason::Disabled);
    assert_eq!((evaluation.variant.as_str(), evaluation.revision), ("off", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_shown_once_listed_and_revoked() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let request = pb::CreateKeyRequest {
        name: "billing".into(),
        request_id: Uuid::new_v4().to_string(),
        ..key(pb::KeyKind::Server)
    };
    let made = app
        .environments()
        .create_key(request.clone())
        .await
        .unwrap()
        .into_inner();
    let (made_key, secret) = (made.key.clone().unwrap().key.unwrap(), made.key.unwrap().secret);
    assert!(secret.contains(&made_key.id) && !made.secret_omitted);
    evaluate(&app.channel, &secret, "f", 0).await.unwrap();

    let replay = app.environments().create_key(request).await.unwrap().into_inner();
    assert!(replay.secret_omitted);
    assert_eq!(
        (replay.key.clone().unwrap().key.unwrap().id, replay.key.unwrap().secret),
        (made_key.id.clone(), String::new())
    );

    let list = pb::ListKeysRequest {
        project: "shop".into(),
        environment: "dev".into(),
        ..Default::default()
    };
    let listed = app
        .environments()
        .list_keys(list.clone())
        .await
        .unwrap()
        .into_inner()
        .keys;
    assert_eq!(
        (listed.len(), &listed[0]),
        (3, &made_key),
        "newest first, beside the two that came with the environment"
    );

    let revoked = app
        .environments()
        .revoke_key(revoke(&made_key.id))
        .await
        .unwrap()
        .into_inner();
    assert!(revoked.changed && revoked.key.unwrap().revoke_time.is_some());
    assert!(
        !app.environments()
            .revoke_key(revoke(&made_key.id))
            .await
            .unwrap()
            .into_inner()
            .changed
    );
    eventually("the end of the key", async || {
        evaluate(&app.channel, &secret, "f", 0)
            .await
            .err()
            .filter(|status| status.code() == Code::Unauthenticated)
    })
    .await;
    let stored = app.database.client().await;
    let rows = stored.query("select to_jsonb(k)::text || coalesce((select string_agg(to_jsonb(e)::text, '') from audit_entries e), '') from environment_keys k", &[]).await.unwrap();
    let secret_part = secret.rsplit('_').nth(1).unwrap();
    assert!(
        rows.iter().all(|row| !row.get::<_, String>(0).contains(secret_part)),
        "a secret is stored"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_keys_are_refused() {
    let app = App::start().await;
    app.shop().await;
    let yesterday = prost_types::Timestamp {
        seconds: 1_000_000,
        nanos: 0,
    };
    let request = pb::CreateKeyRequest {
        expire_time: Some(yesterday),
        ..key(pb::KeyKind::Unspecified)
    };
    invalid(app.environments().create_key(request).await, &["expire_time", "kind"]);
    refused(
        app.environments().revoke_key(revoke("0000000000000000")).await,
        Code::NotFound,
    );
    invalid(app.environments().revoke_key(revoke("")).await, &["key_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_expires_stops_working() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    let request = pb::CreateKeyRequest {
        expire_time: Some(soon.into()),
        ..key(pb::KeyKind::Server)
    };
    let secret = app
        .environments()
        .create_key(request)
        .await
        .unwrap()
        .into_inner()
        .key
        .unwrap()
        .secret;
    let mut stream = watch(&app.channel, &secret)
        .watch(halyard::pb::evaluation::v1::WatchRequest::default())
        .await
        .unwrap()
        .into_inner();
    let ended = crate::support::within("the end of the stream", async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without saying why"),
                Err(status) => return status,
            }
        }
    })
    .await;
    assert_eq!(ended.code(), Code::Unauthenticated);
    refused(evaluate(&app.channel, &secret, "f", 0).await, Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_its_own_environment_only() {
    let app = App::start().await;
    let dev = app.shop().await;
    let prod = app.environment("shop", "prod").await;
    app.flag("f").await;
    let revision = app.toggle("f", true).await;
    assert_eq!(
        evaluate(&app.channel, &dev.server, "f", revision)
            .await
            .unwrap()
            .variant,
        "on"
    );
    assert_eq!(
        evaluate(&app.channel, &prod.server, "f", 2).await.unwrap().variant,
        "off"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_key_may_not_watch_nor_see_what_is_hidden_nor_rules() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("visible").await;
    app.create_flag(pb::Flag {
        client_visible: false,
        ..crate::app::bool_flag("hidden")
    })
    .await;
    let revision = app.toggle("hidden", true).await;
    let watched = watch(&app.channel, &keys.client)
        .watch(halyard::pb::evaluation::v1::WatchRequest::default())
        .await;
    refused(watched.map(|_| ()), Code::PermissionDenied);
    evaluate(&app.channel, &keys.client, "visible", revision).await.unwrap();
    refused(
        evaluate(&app.channel, &keys.client, "hidden", revision).await,
        Code::NotFound,
    );
    let everything = halyard::pb::evaluation::v1::EvaluateAllRequest::default();
    let all = evaluation(&app.channel, &keys.client)
        .evaluate_all(everything)
        .await
        .unwrap()
        .into_inner()
        .evaluations;
    assert_eq!(
        all.iter()
            .map(|evaluation| evaluation.flag.as_str())
            .collect::<Vec<_>>(),
        ["visible"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_of_another_project_cannot_be_reached_through_ones_own() {
    let app = App::start().await;
    app.shop().await;
    app.project("other").await;
    app.create_flag(pb::Flag {
        project: "other".into(),
        ..crate::app::bool_flag("theirs")
    })
    .await;
    invalid(
        app.flags().toggle_flags(toggle("theirs", true)).await,
        &["toggles[0].flag"],
    );
}
