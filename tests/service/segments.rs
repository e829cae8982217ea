//! Segments as their users see them: written by administrators, asked by rules, followed by clients.

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use prost_types::value::Kind;
use prost_types::{FieldMask, Value};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::app::{App, evaluate, evaluation};
use crate::follower::Follower;
use crate::refusals::{invalid, refused};

async fn create(app: &App, key: &str) -> admin::Segment {
    let segment = Some(admin::Segment {
        project: "shop".into(),
        key: key.into(),
        ..admin::Segment::default()
    });
    let request = admin::CreateSegmentRequest {
        segment,
        ..Default::default()
    };
    let created = app.segments().create_segment(request).await.unwrap();
    created.into_inner().segment.unwrap()
}

fn configuration(included: &[&str]) -> admin::SegmentConfiguration {
    admin::SegmentConfiguration {
        project: "shop".into(),
        environment: "dev".into(),
        segment: "beta".into(),
        included: included.iter().map(|&key| key.to_owned()).collect(),
        ..admin::SegmentConfiguration::default()
    }
}

async fn configure(
    app: &App,
    configuration: admin::SegmentConfiguration,
) -> Result<admin::UpdateSegmentConfigurationResponse, Status> {
    let request = admin::UpdateSegmentConfigurationRequest {
        configuration: Some(configuration),
        ..Default::default()
    };
    let response = app.segments().update_segment_configuration(request).await?;
    Ok(response.into_inner())
}

fn in_segment(key: &str) -> pb::Condition {
    pb::Condition {
        operator: pb::Operator::InSegment.into(),
        values: vec![Value {
            kind: Some(Kind::StringValue(key.into())),
        }],
        ..pb::Condition::default()
    }
}

/// Has `f` serve `on` to the segment `beta` and `off` to everyone else.
async fn rule(app: &App) -> u64 {
    let serve = |variant: &str| {
        Some(pb::Serve {
            serve: Some(pb::serve::Serve::Variant(variant.into())),
        })
    };
    let configuration = admin::FlagConfiguration {
        project: "shop".into(),
        environment: "dev".into(),
        flag: "f".into(),
        enabled: true,
        rules: vec![pb::Rule {
            key: "beta".into(),
            conditions: vec![in_segment("beta")],
            serve: serve("on"),
            ..pb::Rule::default()
        }],
        default_serve: serve("off"),
        ..admin::FlagConfiguration::default()
    };
    let request = admin::UpdateFlagConfigurationRequest {
        configuration: Some(configuration),
        ..Default::default()
    };
    let response = app.flags().update_flag_configuration(request).await.unwrap();
    response.into_inner().revisions[0].revision
}

/// What `f` serves to a targeting key, at this revision or later.
async fn served(app: &App, key: &str, to: &str, min_revision: u64) -> String {
    let request = pb::EvaluateRequest {
        flag: "f".into(),
        context: Some(pb::Context {
            targeting_key: to.into(),
            attributes: None,
        }),
        min_revision,
        explain: false,
    };
    let response = evaluation(&app.channel, key).evaluate(request).await.unwrap();
    response.into_inner().evaluation.unwrap().variant
}

async fn upload(app: &App, pieces: &[Vec<String>]) -> String {
    let request = admin::CreateSegmentUploadRequest {
        project: "shop".into(),
        environment: "dev".into(),
        segment: "beta".into(),
    };
    let begun = app
        .segments()
        .create_segment_upload(request)
        .await
        .unwrap()
        .into_inner();
    assert!(begun.expire_time.is_some());
    for (piece, keys) in (0..).zip(pieces) {
        let request = admin::UploadSegmentKeysRequest {
            project: "shop".into(),
            upload: begun.upload.clone(),
            piece,
            keys: keys.clone(),
        };
        app.segments().upload_segment_keys(request).await.unwrap();
    }
    begun.upload
}

fn activation(upload: &str, mode: admin::UploadMode) -> admin::ActivateSegmentUploadRequest {
    admin::ActivateSegmentUploadRequest {
        project: "shop".into(),
        upload: upload.into(),
        mode: mode.into(),
        ..Default::default()
    }
}

async fn activate(app: &App, upload: &str, mode: admin::UploadMode) -> admin::ActivateSegmentUploadResponse {
    let response = app.segments().activate_segment_upload(activation(upload, mode)).await;
    response.unwrap().into_inner()
}

fn users(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("user-{n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_asks_a_segment_and_a_change_of_it_alters_the_answer() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    create(&app, "beta").await;
    let revision = rule(&app).await;
    assert_eq!(served(&app, &keys.server, "ada", revision).await, "off");

    let configured = configure(&app, configuration(&["eve", "ada"])).await.unwrap();
    let revision = configured.revisions[0].revision;
    assert_eq!(configured.configuration.unwrap().included, ["ada", "eve"]);
    assert_eq!(served(&app, &keys.server, "ada", revision).await, "on");
    assert_eq!(served(&app, &keys.client, "bob", revision).await, "off");

    let excluded = admin::SegmentConfiguration {
        excluded: vec!["ada".into()],
        ..configuration(&["ada"])
    };
    let configured = configure(&app, excluded).await.unwrap();
    assert!(!configured.warnings.is_empty());
    assert_eq!(
        served(&app, &keys.server, "ada", configured.revisions[0].revision).await,
        "off"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_in_use_stays_and_the_error_names_flag_and_environment() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    create(&app, "beta").await;
    rule(&app).await;
    let request = admin::DeleteSegmentRequest {
        project: "shop".into(),
        segment: "beta".into(),
        ..Default::default()
    };
    let status = refused(
        app.segments().delete_segment(request.clone()).await,
        Code::FailedPrecondition,
    );
    let details = status.get_details_precondition_failure().unwrap();
    assert!(
        details.violations[0].description.contains("flag f in dev"),
        "{details:?}"
    );

    let delete = admin::DeleteFlagRequest {
        project: "shop".into(),
        flag: "f".into(),
        ..Default::default()
    };
    app.flags().delete_flag(delete).await.unwrap();
    let deleted = app
        .segments()
        .delete_segment(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(deleted.revisions.is_empty(), "it was configured nowhere");
    refused(app.segments().delete_segment(request).await, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_many_keys_arrives_as_one_commit_and_answers() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    create(&app, "beta").await;
    let revision = rule(&app).await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.until(revision).await.unwrap();

    let list = users(0, 50_000);
    let pieces: Vec<_> = list.chunks(20_000).map(<[String]>::to_vec).collect();
    let upload = upload(&app, &pieces).await;
    let mut request = activation(&upload, admin::UploadMode::Replace);
    request.pieces = 2;
    invalid(app.segments().activate_segment_upload(request).await, &["pieces"]);
    let activated = activate(&app, &upload, admin::UploadMode::Replace).await;
    assert_eq!(activated.configuration.unwrap().listed_keys, 50_000);
    let revision = activated.revisions[0].revision;

    let step = follower.step().await.unwrap();
    assert_eq!(
        (step.begin.intent(), step.commit.revision),
        (pb::Intent::Delta, revision)
    );
    let mut streamed = Vec::new();
    for ((kind, _), put) in &follower.held.items {
        if let Some(pb::put::Item::SegmentKeys(chunk)) = &put.item {
            assert_eq!((kind.as_str(), chunk.segment.as_str()), ("segment_keys", "beta"));
            streamed.extend(chunk.keys.iter().cloned());
        }
    }
    streamed.sort();
    let mut expected = list;
    expected.sort();
    assert!(streamed == expected, "{} keys were streamed", streamed.len());
    for (key, variant) in [
        ("user-0", "on"),
        ("user-49999", "on"),
        ("user-50000", "off"),
        ("", "off"),
    ] {
        assert_eq!(served(&app, &keys.client, key, revision).await, variant, "{key}");
    }

    let more = self::upload(&app, &[users(50_000, 50_002)]).await;
    let activated = activate(&app, &more, admin::UploadMode::Add).await;
    let step = follower.step().await.unwrap();
    assert!((2..=3).contains(&step.items), "{}", step.items);
    let revision = activated.revisions[0].revision;
    assert_eq!(served(&app, &keys.server, "user-50001", revision).await, "on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_later_holds_the_same_lists() {
    let app = App::start().await;
    let keys = app.shop().await;
    create(&app, "beta").await;
    let upload = upload(&app, &[users(0, 5_000)]).await;
    let revision = activate(&app, &upload, admin::UploadMode::Add).await.revisions[0].revision;
    let mut here = Follower::new(&app.channel, &keys.server).await.unwrap();
    here.until(revision).await.unwrap();
    let (_late, channel) = app.replica().await;
    let mut there = Follower::new(&channel, &keys.server).await.unwrap();
    there.until(revision).await.unwrap();
    assert_eq!(there.held.items, here.held.items);
    assert!(there.held.items.len() > 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_segments_and_of_keys_come_in_pages() {
    let app = App::start().await;
    app.shop().await;
    for key in ["beta", "alpha", "staff"] {
        create(&app, key).await;
    }
    let list = |text: &str, token: String| admin::ListSegmentsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        text: text.into(),
        page_size: 1,
        page_token: token,
    };
    let first = app
        .segments()
        .list_segments(list("a", String::new()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first.segments[0].segment.as_ref().unwrap().key, "alpha");
    assert!(first.segments[0].configuration.is_some());
    let token = first.next_page_token;
    let second = app
        .segments()
        .list_segments(list("a", token.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(second.segments[0].segment.as_ref().unwrap().key, "beta");
    // A token leads on in its own list only.
    invalid(app.segments().list_segments(list("t", token)).await, &["page_token"]);

    let upload = upload(&app, &[users(0, 60_000)]).await;
    activate(&app, &upload, admin::UploadMode::Replace).await;
    let mut request = admin::ListSegmentKeysRequest {
        project: "shop".into(),
        environment: "dev".into(),
        segment: "beta".into(),
        page_token: String::new(),
    };
    let (mut listed, mut pages) = (Vec::new(), 0);
    loop {
        let page = app
            .segments()
            .list_segment_keys(request.clone())
            .await
            .unwrap()
            .into_inner();
        listed.extend(page.keys);
        pages += 1;
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    listed.sort();
    listed.dedup();
    assert_eq!(listed.len(), 60_000);
    assert!(pages > 1, "{pages}");
}

#[tokio::test(flavor = "multi_thread")]
async fn violations_come_together_with_their_paths() {
    let app = App::start().await;
    app.shop().await;
    create(&app, "beta").await;
    let wrong = admin::SegmentConfiguration {
        excluded: vec![String::new()],
        segments: vec!["unheard-of".into()],
        conditions: vec![pb::Condition {
            attribute: "email".into(),
            ..pb::Condition::default()
        }],
        ..configuration(&["x".repeat(1_001).as_str()])
    };
    invalid(
        configure(&app, wrong).await,
        &[
            "configuration.included[0]",
            "configuration.excluded[0]",
            "configuration.segments[0]",
            "configuration.conditions[0].operator",
        ],
    );
    let request = admin::ActivateSegmentUploadRequest {
        project: "shop".into(),
        upload: "nonsense".into(),
        ..Default::default()
    };
    invalid(
        app.segments().activate_segment_upload(request).await,
        &["upload", "mode"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_fields_of_the_mask_are_written() {
    let app = App::start().await;
    app.shop().await;
    let created = create(&app, "beta").await;
    assert_eq!(created.name, "beta");
    let update = admin::UpdateSegmentRequest {
        segment: Some(admin::Segment {
            name: "Beta testers".into(),
            description: "not written".into(),
            ..created.clone()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["name".into()],
        }),
        etag: created.etag.clone(),
        ..Default::default()
    };
    let updated = app
        .segments()
        .update_segment(update.clone())
        .await
        .unwrap()
        .into_inner();
    let segment = updated.segment.unwrap();
    assert!(updated.changed);
    assert_eq!(
        (segment.name.as_str(), segment.description.as_str()),
        ("Beta testers", "")
    );
    refused(app.segments().update_segment(update).await, Code::Aborted);

    configure(&app, configuration(&["ada"])).await.unwrap();
    let request = admin::UpdateSegmentConfigurationRequest {
        configuration: Some(admin::SegmentConfiguration {
            conditions: vec![pb::Condition {
                attribute: "plan".into(),
                operator: pb::Operator::Equals.into(),
                values: vec![Value {
                    kind: Some(Kind::StringValue("gold".into())),
                }],
                negated: false,
            }],
            ..configuration(&[])
        }),
        update_mask: Some(FieldMask {
            paths: vec!["conditions".into()],
        }),
        ..Default::default()
    };
    let updated = app
        .segments()
        .update_segment_configuration(request)
        .await
        .unwrap()
        .into_inner();
    let configuration = updated.configuration.unwrap();
    assert_eq!(configuration.included, ["ada"]);
    assert_eq!(configuration.conditions.len(), 1);
    let request = admin::GetSegmentConfigurationRequest {
        project: "shop".into(),
        environment: "dev".into(),
        segment: "beta".into(),
    };
    let read = app
        .segments()
        .get_segment_configuration(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(read.configuration.unwrap(), configuration);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unconfigured_segment_contains_nobody() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    create(&app, "beta").await;
    let revision = rule(&app).await;
    let answer = evaluate(&app.channel, &keys.server, "f", revision).await.unwrap();
    assert_eq!(answer.variant, "off");
    assert_eq!(answer.reason(), pb::Reason::Default);
}
