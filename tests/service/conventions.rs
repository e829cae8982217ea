//! What every mutation has in common: request ids and etags.

use std::fmt::Debug;

use halyard::pb::admin::v1 as pb;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::app::{App, bool_flag, toggle};
use crate::refusals::{invalid, refused};

/// Calls three times with one request id: carried out, replayed, and refused once the content differs.
async fn acts_once<Q: Clone, A: PartialEq + Debug>(
    request: Q,
    with_id: impl Fn(&mut Q, String),
    other: impl Fn(&mut Q),
    mut call: impl AsyncFnMut(Q) -> Result<Response<A>, Status>,
) -> (A, A) {
    let mut request = request;
    with_id(&mut request, Uuid::new_v4().to_string());
    let first = call(request.clone()).await.unwrap().into_inner();
    let replayed = call(request.clone()).await.unwrap().into_inner();
    other(&mut request);
    invalid(call(request).await, &["request_id"]);
    (first, replayed)
}

/// The same, for answers without secrets.
macro_rules! replays {
    ($client:expr, $method:ident, $request:expr, $other:expr) => {{
        let mut client = $client;
        let (first, replayed) = acts_once(
            $request,
            |request, id| request.request_id = id,
            $other,
            async |request| client.$method(request).await,
        )
        .await;
        assert_eq!(first, replayed, stringify!($method));
        first
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutation_with_a_request_id_acts_once() {
    let app = App::start().await;
    app.shop().await;
    let shop = || "shop".to_owned();
    let environment = |key: &str| pb::Environment {
        project: shop(),
        key: key.into(),
        ..Default::default()
    };

    let create = pb::CreateEnvironmentRequest {
        environment: Some(environment("staging")),
        ..Default::default()
    };
    let mut environments = app.environments();
    let (made, replayed) = acts_once(
        create,
        |request, id| request.request_id = id,
        |request| request.environment.as_mut().unwrap().key = "other".into(),
        async |request| environments.create_environment(request).await,
    )
    .await;
    assert!(!made.secret_omitted && made.keys.iter().all(|key| !key.secret.is_empty()));
    assert!(replayed.secret_omitted && replayed.keys.iter().all(|key| key.secret.is_empty()));
    assert_eq!(
        (made.environment, made.keys.len()),
        (replayed.environment, replayed.keys.len())
    );

    let update = pb::UpdateEnvironmentRequest {
        environment: Some(pb::Environment {
            name: "Stage".into(),
            ..environment("staging")
        }),
        ..Default::default()
    };
    let updated = replays!(app.environments(), update_environment, update, |request| {
        request.environment.as_mut().unwrap().name = "x".into();
    });
    assert!(updated.changed, "a replay tells what the first did");

    let key_id = replayed.keys[0].key.as_ref().unwrap().id.clone();
    let revoke = pb::RevokeKeyRequest {
        project: shop(),
        environment: "staging".into(),
        key_id,
        ..Default::default()
    };
    let revoked = replays!(app.environments(), revoke_key, revoke, |request| {
        request.key_id = "0000000000000000".into();
    });
    assert!(revoked.changed);

    let delete = pb::DeleteEnvironmentRequest {
        project: shop(),
        environment: "staging".into(),
        ..Default::default()
    };
    replays!(app.environments(), delete_environment, delete, |request| request
        .environment =
        "dev".into());

    let create = pb::CreateFlagRequest {
        flag: Some(bool_flag("f")),
        ..Default::default()
    };
    replays!(app.flags(), create_flag, create, |request| request
        .flag
        .as_mut()
        .unwrap()
        .key
        .push('x'));
    let update = pb::UpdateFlagRequest {
        flag: Some(pb::Flag {
            client_visible: false,
            default_variant: "off".into(),
            variants: vec![],
            ..bool_flag("f")
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["client_visible".into(), "default_variant".into()],
        }),
        ..Default::default()
    };
    let updated = replays!(app.flags(), update_flag, update, |request| request.update_mask = None);
    assert!(updated.changed && updated.revisions.len() == 1);
    let configure = pb::UpdateFlagConfigurationRequest {
        configuration: Some(pb::FlagConfiguration {
            project: shop(),
            environment: "dev".into(),
            flag: "f".into(),
            enabled: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    replays!(app.flags(), update_flag_configuration, configure, |request| {
        request.configuration.as_mut().unwrap().enabled = false;
    });
    let toggled = replays!(app.flags(), toggle_flags, toggle("f", false), |request| request
        .toggles[0]
        .enabled =
        true);
    assert_eq!(toggled.revisions.len(), 1);
    let archive = pb::ArchiveFlagRequest {
        project: shop(),
        flag: "f".into(),
        ..Default::default()
    };
    replays!(app.flags(), archive_flag, archive, |request| request.flag.push('x'));
    let delete = pb::DeleteFlagRequest {
        project: shop(),
        flag: "f".into(),
        ..Default::default()
    };
    replays!(app.flags(), delete_flag, delete, |request| request.flag.push('x'));

    let update = pb::UpdateProjectRequest {
        project: Some(pb::Project {
            key: shop(),
            name: "The shop".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    replays!(app.projects(), update_project, update, |request| request
        .project
        .as_mut()
        .unwrap()
        .name
        .push('x'));
    let delete = pb::DeleteProjectRequest {
        project: shop(),
        confirm: shop(),
        ..Default::default()
    };
    replays!(app.projects(), delete_project, delete, |request| request.etag.push('x'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_etag_stops_every_update_and_delete() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let (shop, etag) = (|| "shop".to_owned(), || "0.0".to_owned());
    let project = pb::DeleteProjectRequest {
        project: shop(),
        confirm: shop(),
        etag: etag(),
        ..Default::default()
    };
    refused(app.projects().delete_project(project).await, Code::Aborted);
    let environment = pb::DeleteEnvironmentRequest {
        project: shop(),
        environment: "dev".into(),
        etag: etag(),
        ..Default::default()
    };
    refused(app.environments().delete_environment(environment).await, Code::Aborted);
    let archive = pb::ArchiveFlagRequest {
        project: shop(),
        flag: "f".into(),
        etag: etag(),
        ..Default::default()
    };
    refused(app.flags().archive_flag(archive).await, Code::Aborted);
    let configuration = pb::FlagConfiguration {
        project: shop(),
        environment: "dev".into(),
        flag: "f".into(),
        enabled: true,
        ..Default::default()
    };
    let configure = pb::UpdateFlagConfigurationRequest {
        configuration: Some(configuration),
        etag: etag(),
        ..Default::default()
    };
    refused(app.flags().update_flag_configuration(configure).await, Code::Aborted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_not_found_whatever_is_done_to_it() {
    let app = App::start().await;
    app.shop().await;
    let (shop, nothing) = (|| "shop".to_owned(), || "nothing".to_owned());
    let update = pb::UpdateProjectRequest {
        project: Some(pb::Project {
            key: nothing(),
            ..Default::default()
        }),
        ..Default::default()
    };
    refused(app.projects().update_project(update).await, Code::NotFound);
    let delete = pb::DeleteProjectRequest {
        project: nothing(),
        confirm: nothing(),
        ..Default::default()
    };
    refused(app.projects().delete_project(delete).await, Code::NotFound);
    let update = pb::UpdateEnvironmentRequest {
        environment: Some(pb::Environment {
            project: shop(),
            key: nothing(),
            ..Default::default()
        }),
        ..Default::default()
    };
    refused(app.environments().update_environment(update).await, Code::NotFound);
    let list = pb::ListEnvironmentsRequest {
        project: nothing(),
        ..Default::default()
    };
    refused(app.environments().list_environments(list).await, Code::NotFound);
    let create = pb::CreateKeyRequest {
        project: shop(),
        environment: nothing(),
        kind: pb::KeyKind::Client.into(),
        ..Default::default()
    };
    refused(app.environments().create_key(create).await, Code::NotFound);
    let list = pb::ListKeysRequest {
        project: shop(),
        environment: nothing(),
        ..Default::default()
    };
    refused(app.environments().list_keys(list).await, Code::NotFound);
    let create = pb::CreateFlagRequest {
        flag: Some(pb::Flag {
            project: nothing(),
            ..bool_flag("f")
        }),
        ..Default::default()
    };
    refused(app.flags().create_flag(create).await, Code::NotFound);
    let list = pb::ListFlagsRequest {
        project: nothing(),
        ..Default::default()
    };
    refused(app.flags().list_flags(list).await, Code::NotFound);
    let archive = pb::ArchiveFlagRequest {
        project: shop(),
        flag: nothing(),
        ..Default::default()
    };
    refused(app.flags().archive_flag(archive).await, Code::NotFound);
}
