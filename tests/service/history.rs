//! Revisions, going back to one, and answers as of one.

use std::collections::HashMap;

use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::flag_change::After;
use halyard::pb::evaluation::v1::Reason;
use tonic::Code;

use crate::app::{App, EMAIL, evaluate};
use crate::refusals::{invalid, refused};
use crate::words::*;

fn revisions(page_size: i32, page_token: &str) -> pb::ListRevisionsRequest {
    pb::ListRevisionsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        flag: "f".into(),
        page_size,
        page_token: page_token.into(),
    }
}

fn rollback(revision: u64) -> pb::RollbackFlagConfigurationRequest {
    pb::RollbackFlagConfigurationRequest {
        project: "shop".into(),
        environment: "dev".into(),
        flag: "f".into(),
        revision,
        ..Default::default()
    }
}

fn at(revision: u64, flags: &[&str], targeting_key: &str) -> pb::EvaluateAtRequest {
    pb::EvaluateAtRequest {
        project: "shop".into(),
        environment: "dev".into(),
        revision,
        flags: flags.iter().map(ToString::to_string).collect(),
        context: who(targeting_key),
        explain: false,
    }
}

/// `flag=variant` of each answer.
async fn answers(app: &App, request: pb::EvaluateAtRequest) -> String {
    let revision = request.revision;
    let response = app.flags().evaluate_at(request).await.unwrap().into_inner();
    assert!(response.commit_time.is_some());
    assert!(response.evaluations.iter().all(|it| it.revision == revision));
    let answers = response
        .evaluations
        .iter()
        .map(|it| format!("{}={}", it.flag, it.variant));
    answers.collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_are_listed_newest_first_in_pages() {
    let app = App::start().await;
    app.shop().await;
    let created = app.flag("f").await[0].revision;
    app.flag("other").await;
    let on = app.toggle("f", true).await;
    let salted = pb::FlagConfiguration {
        salt: "s".into(),
        default_serve: Some(only("off")),
        ..configuration("f")
    };
    let salted = configured(&app, salted).await;
    let first = app.flags().list_revisions(revisions(2, "")).await.unwrap().into_inner();
    let told: Vec<_> = first.revisions.iter().map(|it| it.revision).collect();
    assert_eq!(told, [salted, on]);
    let newest = &first.revisions[0];
    assert!(newest.actor.starts_with("user:") && newest.commit_time.is_some());
    assert_eq!(newest.actor_name, EMAIL);
    let change = &newest.changes[0];
    assert_eq!(
        (change.part(), change.changed_fields.as_slice()),
        (
            pb::FlagPart::Configuration,
            ["default_serve".to_owned(), "salt".to_owned()].as_slice()
        )
    );
    assert!(matches!(&change.after, Some(After::Configuration(it)) if it.salt == "s" && it.flag == "f"));
    let token = first.next_page_token;
    let last = app
        .flags()
        .list_revisions(revisions(2, &token))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((last.revisions.len(), last.next_page_token.as_str()), (1, ""));
    assert_eq!(last.revisions[0].revision, created);
    let change = &last.revisions[0].changes[0];
    assert!(change.changed_fields.is_empty());
    assert!(matches!(&change.after, Some(After::Definition(it)) if it.variants.len() == 2));
    let elsewhere = pb::ListRevisionsRequest {
        flag: "other".into(),
        ..revisions(2, &token)
    };
    invalid(app.flags().list_revisions(elsewhere).await, &["page_token"]);
    invalid(
        app.flags().list_revisions(revisions(-1, "x")).await,
        &["page_token", "page_size"],
    );
    let unknown = pb::ListRevisionsRequest {
        flag: "unknown".into(),
        ..revisions(0, "")
    };
    refused(app.flags().list_revisions(unknown).await, Code::NotFound);

    let delete = pb::DeleteFlagRequest {
        project: "shop".into(),
        flag: "f".into(),
        ..Default::default()
    };
    app.flags().delete_flag(delete).await.unwrap();
    let of_the_dead = app.flags().list_revisions(revisions(1, "")).await.unwrap().into_inner();
    let changes = &of_the_dead.revisions[0].changes;
    assert_eq!(changes.len(), 2);
    assert!(
        changes
            .iter()
            .all(|change| change.after.is_none() && change.changed_fields.is_empty())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_rolled_back() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let serving = |variant: &str| pb::FlagConfiguration {
        default_serve: Some(only(variant)),
        ..configuration("f")
    };
    let first = configured(&app, serving("off")).await;
    let second = configured(&app, serving("on")).await;
    let validated = pb::RollbackFlagConfigurationRequest {
        validate_only: true,
        ..rollback(first)
    };
    let validated = app
        .flags()
        .rollback_flag_configuration(validated)
        .await
        .unwrap()
        .into_inner();
    assert!(validated.changed && validated.revisions.is_empty());
    let request = pb::RollbackFlagConfigurationRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        ..rollback(first)
    };
    let back = app
        .flags()
        .rollback_flag_configuration(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((back.changed, back.revisions[0].revision), (true, second + 1));
    assert_eq!(back.configuration.as_ref().unwrap().default_serve, Some(only("off")));
    let replayed = app
        .flags()
        .rollback_flag_configuration(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(replayed, back);
    assert_eq!(
        evaluate(&app.channel, &keys.server, "f", second + 1)
            .await
            .unwrap()
            .variant,
        "off"
    );
    assert!(
        !app.flags()
            .rollback_flag_configuration(rollback(first))
            .await
            .unwrap()
            .into_inner()
            .changed
    );
    let stale = pb::RollbackFlagConfigurationRequest {
        etag: "stale".into(),
        ..rollback(second)
    };
    refused(app.flags().rollback_flag_configuration(stale).await, Code::Aborted);
    invalid(
        app.flags().rollback_flag_configuration(rollback(0)).await,
        &["revision"],
    );
    refused(
        app.flags().rollback_flag_configuration(rollback(1_000)).await,
        Code::NotFound,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_answered_as_it_was() {
    let app = App::start().await;
    app.shop().await;
    for key in ["a", "f", "z"] {
        app.flag(key).await;
    }
    segment(&app, "staff").await;
    including(&app, "staff", &["ada"]).await;
    let asks = pb::FlagConfiguration {
        prerequisites: vec![needing("a", "on")],
        rules: vec![for_segment("staff")],
        default_serve: Some(only("off")),
        ..configuration("f")
    };
    let asks = configured(&app, asks).await;
    let needed = app.toggle("a", true).await;
    let listed = listing(&app, "staff", &["bob", "carol"]).await;
    let excluded = including(&app, "staff", &["dan"]).await;
    let off = app.toggle("f", false).await;

    let everyone = ["ada", "bob", "dan"];
    let served = async |revision| {
        let mut answered = HashMap::new();
        for name in everyone {
            answered.insert(name, answers(&app, at(revision, &["f"], name)).await);
        }
        everyone.map(|name| answered[name].clone()).join(" ")
    };
    assert_eq!(served(asks).await, "f=off f=off f=off", "the prerequisite was off");
    assert_eq!(served(needed).await, "f=on f=off f=off");
    assert_eq!(served(listed).await, "f=on f=on f=off");
    assert_eq!(served(excluded).await, "f=off f=on f=on");
    assert_eq!(served(off).await, "f=off f=off f=off");
    assert_eq!(answers(&app, at(listed, &[], "bob")).await, "a=on f=on z=off");
    assert_eq!(answers(&app, at(2, &[], "bob")).await, "a=off");
    assert_eq!(
        answers(&app, at(listed, &["z", "unknown", "NO WAY", "a", "z"], "")).await,
        "z=off a=on"
    );
    assert_eq!(answers(&app, at(listed, &["NO WAY"], "")).await, "");

    let explained = pb::EvaluateAtRequest {
        explain: true,
        ..at(listed, &["f", "unknown", "z"], "bob")
    };
    let explained = app.flags().evaluate_at(explained).await.unwrap().into_inner();
    let told: Vec<_> = explained
        .explanations
        .iter()
        .map(|it| (it.flag.as_str(), it.reason()))
        .collect();
    assert_eq!(told, [("f", Reason::TargetingMatch), ("z", Reason::Disabled)]);
    assert!(explained.explanations[0].prerequisites[0].satisfied);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_of_the_past_is_refused() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let on = app.toggle("f", true).await;
    let explained = |flags: &[&str]| pb::EvaluateAtRequest {
        explain: true,
        ..at(on, flags, "")
    };
    invalid(app.flags().evaluate_at(at(0, &[], "")).await, &["revision"]);
    invalid(
        app.flags().evaluate_at(at(on, &vec!["f"; 10_001], "")).await,
        &["flags"],
    );
    invalid(app.flags().evaluate_at(explained(&[])).await, &["flags"]);
    invalid(app.flags().evaluate_at(explained(&["f"; 101])).await, &["flags"]);
    refused(app.flags().evaluate_at(at(on + 1, &[], "")).await, Code::NotFound);
    let nowhere = pb::EvaluateAtRequest {
        environment: "nowhere".into(),
        ..at(on, &[], "")
    };
    refused(app.flags().evaluate_at(nowhere).await, Code::NotFound);
    let client = app.database.client().await;
    client
        .execute("delete from changes where revision = 2", &[])
        .await
        .unwrap();
    refused(app.flags().evaluate_at(at(on, &[], "")).await, Code::FailedPrecondition);
    refused(
        app.flags().rollback_flag_configuration(rollback(on)).await,
        Code::FailedPrecondition,
    );
}
