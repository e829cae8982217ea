//! Trying flags out before they are saved.

use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1::{self as evaluation, Reason, RuleOutcome};
use tonic::Code;

use crate::app::{App, evaluate};
use crate::refusals::{by_server, invalid, refused};
use crate::words::*;

fn test(flag: &str, targeting_key: &str) -> pb::TestEvaluateRequest {
    pb::TestEvaluateRequest {
        project: "shop".into(),
        environment: "dev".into(),
        flag: flag.into(),
        context: who(targeting_key),
        ..Default::default()
    }
}

async fn answer(app: &App, request: pb::TestEvaluateRequest) -> (evaluation::Evaluation, evaluation::Explanation) {
    let response = app.flags().test_evaluate(request).await.unwrap().into_inner();
    (response.evaluation.unwrap(), response.explanation.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_flag_is_explained_at_once() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let response = app
        .flags()
        .toggle_flags(crate::app::toggle("f", true))
        .await
        .unwrap()
        .into_inner();
    let revision = response.revisions[0].revision;
    let request = pb::TestEvaluateRequest {
        min_revision: revision,
        ..test("f", "ada")
    };
    let (answer, told) = answer(&app, request).await;
    assert_eq!(
        (answer.variant.as_str(), answer.reason(), answer.revision),
        ("on", Reason::Static, revision)
    );
    assert_eq!((told.flag.as_str(), told.variant.as_str()), ("f", "on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_answers_as_if_it_were_saved_and_is_not() {
    let app = App::start().await;
    let keys = app.shop().await;
    for key in ["a", "f"] {
        app.flag(key).await;
    }
    segment(&app, "staff").await;
    let revision = including(&app, "staff", &["ada"]).await;
    let draft = pb::FlagConfiguration {
        project: "passed".into(),
        environment: "over".into(),
        rules: vec![for_segment("staff")],
        default_serve: Some(only("off")),
        ..configuration("f")
    };
    let drafted = |draft: &pb::FlagConfiguration, name: &str| pb::TestEvaluateRequest {
        draft: Some(draft.clone()),
        min_revision: revision,
        ..test("f", name)
    };
    let (ada, told) = answer(&app, drafted(&draft, "ada")).await;
    assert_eq!(
        (ada.variant.as_str(), ada.reason(), ada.rule.as_str()),
        ("on", Reason::TargetingMatch, "members")
    );
    assert_eq!(told.rules[0].outcome(), RuleOutcome::Served);
    let (bob, _) = answer(&app, drafted(&draft, "bob")).await;
    assert_eq!((bob.variant.as_str(), bob.reason()), ("off", Reason::Default));
    let needing = pb::FlagConfiguration {
        prerequisites: vec![needing("a", "on")],
        ..draft.clone()
    };
    let (failed, told) = answer(&app, drafted(&needing, "ada")).await;
    assert_eq!(failed.reason(), Reason::PrerequisiteFailed);
    assert!(!told.prerequisites[0].satisfied);
    let saved = evaluate(&app.channel, &keys.server, "f", revision).await.unwrap();
    assert_eq!((saved.reason(), saved.revision), (Reason::Disabled, revision));
    let (saved, _) = answer(&app, test("f", "ada")).await;
    assert_eq!(saved.reason(), Reason::Disabled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_checked_as_if_it_were_saved() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let draft = pb::FlagConfiguration {
        prerequisites: vec![needing("nobody", "on")],
        rules: vec![for_segment("nowhere")],
        default_serve: Some(only("maybe")),
        ..configuration("f")
    };
    let request = pb::TestEvaluateRequest {
        draft: Some(draft),
        ..test("f", "ada")
    };
    let fields = [
        "draft.prerequisites[0].flag",
        "draft.rules[0].conditions[0].values[0]",
        "draft.default_serve.variant",
    ];
    invalid(app.flags().test_evaluate(request).await, &fields);

    let value = prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue("pro".into())),
    };
    let rule = |key: &str| evaluation::Rule {
        key: key.into(),
        conditions: vec![evaluation::Condition {
            attribute: "plan".into(),
            operator: evaluation::Operator::Equals.into(),
            values: vec![value.clone()],
            negated: false,
        }],
        serve: Some(only("on")),
        ..Default::default()
    };
    let odd = pb::FlagConfiguration {
        rules: vec![rule("first"), rule("never")],
        ..configuration("f")
    };
    let request = pb::TestEvaluateRequest {
        draft: Some(odd),
        ..test("f", "ada")
    };
    let response = app.flags().test_evaluate(request).await.unwrap().into_inner();
    let warned: Vec<_> = response.warnings.iter().map(|warning| warning.field.as_str()).collect();
    assert_eq!(warned, ["draft.rules[1]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_cannot_be_tried() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let drafted = |flag: &str| pb::TestEvaluateRequest {
        draft: Some(configuration(flag)),
        ..test(flag, "")
    };
    refused(app.flags().test_evaluate(test("unknown", "")).await, Code::NotFound);
    refused(app.flags().test_evaluate(drafted("unknown")).await, Code::NotFound);
    let nowhere = pb::TestEvaluateRequest {
        environment: "nowhere".into(),
        ..test("f", "")
    };
    refused(app.flags().test_evaluate(nowhere).await, Code::NotFound);
    invalid(app.flags().test_evaluate(test("", "")).await, &["flag"]);
    let archive = pb::ArchiveFlagRequest {
        project: "shop".into(),
        flag: "f".into(),
        ..Default::default()
    };
    let archived = app.flags().archive_flag(archive).await.unwrap().into_inner();
    let request = pb::TestEvaluateRequest {
        min_revision: archived.revisions[0].revision,
        ..test("f", "")
    };
    refused(app.flags().test_evaluate(request).await, Code::NotFound);
    refused(app.flags().test_evaluate(drafted("f")).await, Code::NotFound);
    let told = by_server(async || {
        let mut request = tonic::Request::new(pb::TestEvaluateRequest {
            min_revision: 1_000,
            ..test("f", "")
        });
        request.set_timeout(std::time::Duration::from_millis(300));
        app.flags().test_evaluate(request).await
    });
    refused(told.await, Code::Unavailable);
}
