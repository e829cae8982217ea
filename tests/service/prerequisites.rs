//! Flags that depend on others.

use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1::Reason;
use tonic::Code;

use crate::app::{App, evaluate, toggle};
use crate::refusals::{invalid, refused};
use crate::words::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_follows_the_flag_that_it_depends_on() {
    let app = App::start().await;
    let keys = app.shop().await;
    for key in ["a", "b"] {
        app.flag(key).await;
    }
    let needs = pb::FlagConfiguration {
        prerequisites: vec![needing("a", "on")],
        ..configuration("b")
    };
    let revision = configured(&app, needs.clone()).await;
    let ask = async |revision| evaluate(&app.channel, &keys.server, "b", revision).await.unwrap();
    let failed = ask(revision).await;
    assert_eq!(
        (failed.reason(), failed.variant.as_str()),
        (Reason::PrerequisiteFailed, "off")
    );
    let on = app.toggle("a", true).await;
    let served = ask(on).await;
    assert_eq!(
        (served.revision, served.reason(), served.variant.as_str()),
        (on, Reason::Static, "on")
    );
    let off = app.toggle("a", false).await;
    let failed = ask(off).await;
    assert_eq!((failed.revision, failed.reason()), (off, Reason::PrerequisiteFailed));

    let get = pb::GetFlagConfigurationRequest {
        project: "shop".into(),
        environment: "dev".into(),
        flag: "b".into(),
    };
    let read = app.flags().get_flag_configuration(get).await.unwrap().into_inner();
    assert_eq!(read.configuration.unwrap().prerequisites, needs.prerequisites);
    let cleared = pb::UpdateFlagConfigurationRequest {
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["prerequisites".into()],
        }),
        ..configure(pb::FlagConfiguration {
            enabled: false,
            ..configuration("b")
        })
    };
    let response = app
        .flags()
        .update_flag_configuration(cleared)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(ask(response.revisions[0].revision).await.reason(), Reason::Static);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_three_is_refused_with_its_path() {
    let app = App::start().await;
    app.shop().await;
    for key in ["a", "b", "c"] {
        app.flag(key).await;
    }
    let needs = |flag: &str, other: &str, variant: &str| {
        configure(pb::FlagConfiguration {
            prerequisites: vec![needing(other, variant)],
            ..configuration(flag)
        })
    };
    app.flags()
        .update_flag_configuration(needs("a", "b", "on"))
        .await
        .unwrap();
    app.flags()
        .update_flag_configuration(needs("b", "c", "on"))
        .await
        .unwrap();
    let closing = app.flags().update_flag_configuration(needs("c", "a", "on")).await;
    let status = refused(closing, Code::InvalidArgument);
    let details = tonic_types::StatusExt::get_details_bad_request(&status).unwrap();
    let [violation] = details.field_violations.as_slice() else {
        panic!("{details:?}");
    };
    assert!(
        violation.field.starts_with("configuration.prerequisites"),
        "{violation:?}"
    );
    assert!(violation.description.contains("c → a → b → c"), "{violation:?}");
    invalid(
        app.flags().update_flag_configuration(needs("c", "nobody", "on")).await,
        &["configuration.prerequisites[0].flag"],
    );
    invalid(
        app.flags().update_flag_configuration(needs("a", "b", "maybe")).await,
        &["configuration.prerequisites[0].variants[0]"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_depend_on_stays() {
    let app = App::start().await;
    let keys = app.shop().await;
    for key in ["a", "b"] {
        app.flag(key).await;
    }
    let needs = pb::FlagConfiguration {
        prerequisites: vec![needing("a", "on")],
        ..configuration("b")
    };
    configured(&app, needs).await;
    let archive = |flag: &str| pb::ArchiveFlagRequest {
        project: "shop".into(),
        flag: flag.into(),
        ..Default::default()
    };
    let delete = |flag: &str| pb::DeleteFlagRequest {
        project: "shop".into(),
        flag: flag.into(),
        ..Default::default()
    };
    let names_dependant = |status: tonic::Status| {
        let details = tonic_types::StatusExt::get_details_precondition_failure(&status).unwrap();
        assert!(details.violations[0].description.contains("b in dev"), "{details:?}");
    };
    names_dependant(refused(
        app.flags().archive_flag(archive("a")).await,
        Code::FailedPrecondition,
    ));
    names_dependant(refused(
        app.flags().delete_flag(delete("a")).await,
        Code::FailedPrecondition,
    ));
    app.flags().archive_flag(archive("b")).await.unwrap();
    names_dependant(refused(
        app.flags().delete_flag(delete("a")).await,
        Code::FailedPrecondition,
    ));
    app.flags().archive_flag(archive("a")).await.unwrap();

    let restore = |flag: &str| pb::RestoreFlagRequest {
        project: "shop".into(),
        flag: flag.into(),
        ..Default::default()
    };
    refused(app.flags().restore_flag(restore("b")).await, Code::FailedPrecondition);
    app.flags().restore_flag(restore("a")).await.unwrap();
    let validated = pb::RestoreFlagRequest {
        validate_only: true,
        ..restore("b")
    };
    let validated = app.flags().restore_flag(validated).await.unwrap().into_inner();
    assert!(validated.changed && validated.revisions.is_empty());
    let request = pb::RestoreFlagRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        ..restore("b")
    };
    let restored = app.flags().restore_flag(request.clone()).await.unwrap().into_inner();
    assert!(restored.changed && restored.flag.as_ref().unwrap().archive_time.is_none());
    let replayed = app.flags().restore_flag(request).await.unwrap().into_inner();
    assert_eq!(replayed, restored);
    assert!(
        !app.flags()
            .restore_flag(restore("b"))
            .await
            .unwrap()
            .into_inner()
            .changed
    );
    app.flags().toggle_flags(toggle("a", true)).await.unwrap();
    let on = restored.revisions[0].revision + 1;
    assert_eq!(
        evaluate(&app.channel, &keys.server, "b", on).await.unwrap().variant,
        "on"
    );
}
