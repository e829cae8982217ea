//! From draft to winner, and what is refused on the way.

use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1 as evaluation;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{arms, ask, changing, create, experiment, run, shop, start, stop, update};
use crate::app::App;
use crate::audit::{found, of};
use crate::refusals::refused;
use crate::words::{configuration, configure, configured, for_segment, including, only, segment};

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_goes_from_draft_to_a_winner_that_is_the_default() {
    let app = App::start().await;
    let key = shop(&app).await;
    let metric = |key: &str, kind: pb::MetricKind| pb::Metric {
        key: key.into(),
        kind: kind.into(),
        goal: pb::MetricGoal::Increase.into(),
    };
    let draft = pb::Experiment {
        hypothesis: "people like it".into(),
        owner: "growth".into(),
        primary_metric: Some(metric("signups", pb::MetricKind::Conversion)),
        guardrail_metrics: vec![metric("latency", pb::MetricKind::Value)],
        ..experiment("x")
    };
    let created = app
        .experiments()
        .create_experiment(create(draft.clone()))
        .await
        .unwrap();
    let created = created.into_inner().experiment.unwrap();
    assert_eq!(created.state(), pb::ExperimentState::Draft);
    assert_eq!(
        (&created.arms, &created.primary_metric),
        (&draft.arms, &draft.primary_metric)
    );
    assert_eq!((created.name.as_str(), created.iterations.len()), ("x", 0));
    let get = || pb::GetExperimentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "x".into(),
    };
    let read = app.experiments().get_experiment(get()).await.unwrap().into_inner();
    assert_eq!(read.experiment.as_ref(), Some(&created), "read back whole");
    assert_eq!(
        ask(&app.channel, &key, "f", "u", 0).await.reason(),
        evaluation::Reason::Static
    );
    refused(
        app.experiments().create_experiment(create(draft)).await,
        Code::AlreadyExists,
    );

    let started = app
        .experiments()
        .start_experiment(start("x"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(started.warnings, []);
    let answer = ask(&app.channel, &key, "f", "u", started.revisions[0].revision).await;
    assert_eq!(answer.reason(), evaluation::Reason::Experiment);
    let part = answer.experiment.unwrap();
    assert_eq!(
        (part.experiment.as_str(), part.iteration, part.assignment_stored),
        ("x", 1, true)
    );
    refused(
        app.experiments().start_experiment(start("x")).await,
        Code::FailedPrecondition,
    );

    let pause = || pb::PauseExperimentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "x".into(),
        ..Default::default()
    };
    let paused = app.experiments().pause_experiment(pause()).await.unwrap().into_inner();
    let answer = ask(&app.channel, &key, "f", "u", paused.revisions[0].revision).await;
    assert_eq!((answer.reason(), answer.experiment), (evaluation::Reason::Static, None));
    refused(
        app.experiments().pause_experiment(pause()).await,
        Code::FailedPrecondition,
    );
    let resume = pb::ResumeExperimentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        experiment: "x".into(),
        ..Default::default()
    };
    let resumed = app.experiments().resume_experiment(resume).await.unwrap().into_inner();
    let answer = ask(&app.channel, &key, "f", "u", resumed.revisions[0].revision).await;
    assert_eq!(answer.experiment, Some(part), "the same as before the pause");

    let weighted = pb::Experiment {
        arms: arms(9, 1),
        ..experiment("x")
    };
    let updated = update(&app, weighted.clone(), &["arms"]).await;
    assert_eq!(updated.revisions.len(), 1);
    let numbers: Vec<_> = updated
        .experiment
        .unwrap()
        .iterations
        .iter()
        .map(|it| it.number)
        .collect();
    assert_eq!(numbers, [1, 2]);
    assert!(
        !update(&app, weighted, &["arms"]).await.changed,
        "everything was so already"
    );

    let request = pb::StopExperimentRequest {
        winner: "off".into(),
        make_default: true,
        ..stop("x")
    };
    let stopped = app.experiments().stop_experiment(request).await.unwrap().into_inner();
    let [revision] = stopped.revisions.as_slice() else {
        panic!("one revision for both: {:?}", stopped.revisions)
    };
    let over = stopped.experiment.unwrap();
    assert_eq!(
        (over.state(), over.winner.as_str()),
        (pb::ExperimentState::Stopped, "off")
    );
    assert!(over.iterations.iter().all(|iteration| iteration.end_time.is_some()));
    let answer = ask(&app.channel, &key, "f", "u", revision.revision).await;
    assert_eq!(
        (answer.reason(), answer.variant.as_str()),
        (evaluation::Reason::Static, "off")
    );
    refused(
        app.experiments().stop_experiment(stop("x")).await,
        Code::FailedPrecondition,
    );
    let listed = pb::ListExperimentsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        state: pb::ExperimentState::Stopped.into(),
        ..Default::default()
    };
    let listed = app.experiments().list_experiments(listed).await.unwrap().into_inner();
    assert_eq!(listed.experiments, [over]);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_wrong_is_told_at_once() {
    let app = App::start().await;
    shop(&app).await;
    let mut wrong = pb::Experiment {
        allocation_millionths: 0,
        layer: "nowhere".into(),
        layer_share_millionths: 1_000_001,
        before_rule: "gone".into(),
        guardrail_metrics: vec![pb::Metric::default()],
        ..experiment("x")
    };
    wrong.arms[0].variant = "unknown".into();
    wrong.arms[1].weight = 0;
    let status = refused(
        app.experiments().create_experiment(create(wrong.clone())).await,
        Code::InvalidArgument,
    );
    let told = status.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = told.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "experiment.guardrail_metrics[0].key",
            "experiment.guardrail_metrics[0].kind"
        ],
        "what cannot be read comes first"
    );
    wrong.guardrail_metrics.clear();
    let status = refused(
        app.experiments().create_experiment(create(wrong)).await,
        Code::InvalidArgument,
    );
    let told = status.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = told.iter().map(|violation| violation.field.as_str()).collect();
    let expected = [
        "experiment.arms[0].variant",
        "experiment.arms[1].weight",
        "experiment.allocation_millionths",
        "experiment.layer_share_millionths",
        "experiment.layer",
        "experiment.before_rule",
    ];
    assert_eq!(fields, expected);
    let alone = pb::Experiment {
        arms: arms(1, 1)[..1].to_vec(),
        ..experiment("x")
    };
    let status = refused(
        app.experiments().create_experiment(create(alone)).await,
        Code::InvalidArgument,
    );
    assert_eq!(
        status.get_details_bad_request().unwrap().field_violations.len(),
        2,
        "too few, and no control"
    );
    let elsewhere = pb::Experiment {
        flag: "gone".into(),
        ..experiment("x")
    };
    refused(
        app.experiments().create_experiment(create(elsewhere)).await,
        Code::NotFound,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_started_changes_only_where_units_keep_what_they_have() {
    let app = App::start().await;
    shop(&app).await;
    run(&app, experiment("x")).await;
    let mut other = pb::Experiment {
        unit_attribute: "company".into(),
        without_storage: true,
        ..experiment("x")
    };
    other.arms.swap(0, 1);
    let fields = ["arms", "unit_attribute", "without_storage"];
    let update = app.experiments().update_experiment(changing(other, &fields)).await;
    let told = refused(update, Code::InvalidArgument)
        .get_details_bad_request()
        .unwrap()
        .field_violations;
    let fields: Vec<_> = told.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "experiment.arms",
            "experiment.unit_attribute",
            "experiment.without_storage"
        ]
    );
    let stale = pb::UpdateExperimentRequest {
        etag: "1.1".into(),
        ..changing(experiment("x"), &["name"])
    };
    refused(app.experiments().update_experiment(stale).await, Code::Aborted);
    let renamed = pb::Experiment {
        name: "Another name".into(),
        ..experiment("x")
    };
    let renamed = super::update(&app, renamed, &["name"]).await;
    assert!(
        renamed.changed && renamed.revisions.is_empty(),
        "no answer depends on a name"
    );
}

/// Says what blocks.
fn blocked<T: std::fmt::Debug>(result: Result<T, tonic::Status>) -> String {
    let status = refused(result, Code::FailedPrecondition);
    let violations = status.get_details_precondition_failure().unwrap().violations;
    violations[0].description.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_experiment_needs_stays_until_it_is_stopped() {
    let app = App::start().await;
    shop(&app).await;
    segment(&app, "s").await;
    including(&app, "s", &["u"]).await;
    let rules = configured(
        &app,
        pb::FlagConfiguration {
            rules: vec![for_segment("s")],
            ..configuration("f")
        },
    );
    rules.await;
    let asking = pb::Experiment {
        audience: for_segment("s").conditions,
        before_rule: "members".into(),
        ..experiment("x")
    };
    app.experiments().create_experiment(create(asking)).await.unwrap();

    let archive = || pb::ArchiveFlagRequest {
        project: "shop".into(),
        flag: "f".into(),
        ..Default::default()
    };
    let delete = || pb::DeleteFlagRequest {
        project: "shop".into(),
        flag: "f".into(),
        ..Default::default()
    };
    let forget = || pb::DeleteSegmentRequest {
        project: "shop".into(),
        segment: "s".into(),
        ..Default::default()
    };
    let ruleless = || configure(configuration("f"));
    for (told, names) in [
        (blocked(app.flags().archive_flag(archive()).await), "x in dev"),
        (blocked(app.flags().delete_flag(delete()).await), "x in dev"),
        (
            blocked(app.flags().update_flag_configuration(ruleless()).await),
            "x before members",
        ),
    ] {
        assert!(told.contains(names), "{told}");
    }
    app.experiments().stop_experiment(stop("x")).await.unwrap();
    app.flags().update_flag_configuration(ruleless()).await.unwrap();
    app.segments().delete_segment(forget()).await.unwrap();
    app.flags().archive_flag(archive()).await.unwrap();
    app.flags().delete_flag(delete()).await.unwrap();
    let entries = found(&app, &of("shop")).await;
    let actions = entries.iter().map(|it| (it.action.as_str(), it.entity_key.as_str()));
    let told: Vec<_> = actions.take(2).collect();
    assert_eq!(told, [("flag.delete", "f"), ("experiment.delete", "x")]);
    assert!(entries[1].before().contains("stopped") && entries[1].after().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_segment_and_the_variants_of_an_experiment_stay_too() {
    let app = App::start().await;
    shop(&app).await;
    segment(&app, "s").await;
    let asking = pb::Experiment {
        audience: for_segment("s").conditions,
        ..experiment("x")
    };
    run(&app, asking).await;
    let forget = pb::DeleteSegmentRequest {
        project: "shop".into(),
        segment: "s".into(),
        ..Default::default()
    };
    let told = blocked(app.segments().delete_segment(forget).await);
    assert!(told.contains("experiment x in dev"), "{told}");
    let get = pb::GetFlagRequest {
        project: "shop".into(),
        flag: "f".into(),
    };
    let mut flag = app.flags().get_flag(get).await.unwrap().into_inner().flag.unwrap();
    // Nothing else serves `on`.
    configured(
        &app,
        pb::FlagConfiguration {
            default_serve: Some(only("off")),
            ..configuration("f")
        },
    )
    .await;
    flag.variants.retain(|variant| variant.key != "on");
    flag.default_variant = "off".into();
    let request = pb::UpdateFlagRequest {
        flag: Some(flag),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["variants".into(), "default_variant".into()],
        }),
        ..Default::default()
    };
    let told = blocked(app.flags().update_flag(request).await);
    assert!(told.contains("on of x in dev"), "{told}");
}
