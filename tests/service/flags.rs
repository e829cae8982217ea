//! Flags and their configurations.

use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1::{self as evaluation, ValueType, Variant, variant};
use prost_types::FieldMask;
use tonic::Code;
use uuid::Uuid;

use crate::app::{App, bool_flag, evaluate, toggle};
use crate::refusals::{invalid, refused};

fn create(flag: pb::Flag) -> pb::CreateFlagRequest {
    pb::CreateFlagRequest {
        flag: Some(flag),
        ..Default::default()
    }
}

fn get(flag: &str) -> pb::GetFlagRequest {
    pb::GetFlagRequest {
        project: "shop".into(),
        flag: flag.into(),
    }
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    })
}

fn update(flag: pb::Flag, paths: &[&str]) -> pb::UpdateFlagRequest {
    pb::UpdateFlagRequest {
        etag: flag.etag.clone(),
        flag: Some(flag),
        update_mask: mask(paths),
        ..Default::default()
    }
}

fn configuration(flag: &str) -> pb::FlagConfiguration {
    pb::FlagConfiguration {
        project: "shop".into(),
        environment: "dev".into(),
        flag: flag.into(),
        ..Default::default()
    }
}

fn configure(configuration: pb::FlagConfiguration) -> pb::UpdateFlagConfigurationRequest {
    pb::UpdateFlagConfigurationRequest {
        etag: configuration.etag.clone(),
        configuration: Some(configuration),
        ..Default::default()
    }
}

fn only(variant: &str) -> evaluation::Serve {
    evaluation::Serve {
        serve: Some(evaluation::serve::Serve::Variant(variant.into())),
    }
}

fn text_variant(key: &str, value: &str) -> Variant {
    Variant {
        key: key.into(),
        value: Some(variant::Value::StringValue(value.into())),
        description: String::new(),
    }
}

fn names(flags: &[pb::FlagWithConfiguration]) -> Vec<&str> {
    flags
        .iter()
        .map(|flag| flag.flag.as_ref().unwrap().key.as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_is_created_with_its_metadata_and_read_back() {
    let app = App::start().await;
    app.shop().await;
    let flag = pb::Flag {
        name: "Greeting".into(),
        description: "What we say".into(),
        tags: vec!["ui".into(), "copy".into(), "ui".into()],
        owner: "web".into(),
        r#type: ValueType::String.into(),
        variants: vec![text_variant("plain", "Hello"), text_variant("warm", "")],
        off_variant: "plain".into(),
        ..bool_flag("greeting")
    };
    let response = app.flags().create_flag(create(flag)).await.unwrap().into_inner();
    let created = response.flag.unwrap();
    assert_eq!(created.tags, ["copy", "ui"]);
    assert_eq!((created.variants.len(), created.default_variant.as_str()), (2, ""));
    assert_eq!(
        response.revisions,
        [pb::EnvironmentRevision {
            environment: "dev".into(),
            revision: 2
        }]
    );
    assert_eq!(
        app.flags()
            .get_flag(get("greeting"))
            .await
            .unwrap()
            .into_inner()
            .flag
            .unwrap(),
        created
    );
    refused(
        app.flags().create_flag(create(bool_flag("greeting"))).await,
        Code::AlreadyExists,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_flags_are_told_everything_at_once() {
    let app = App::start().await;
    app.shop().await;
    let flag = pb::Flag {
        variants: vec![
            text_variant("A", "x"),
            Variant {
                key: "b".into(),
                value: None,
                description: String::new(),
            },
        ],
        off_variant: "!".into(),
        owner: "o".repeat(201),
        r#type: 99,
        ..bool_flag("")
    };
    let fields = [
        "flag.owner",
        "flag.key",
        "flag.type",
        "flag.variants[0].key",
        "flag.variants[1].value",
        "flag.off_variant",
    ];
    invalid(app.flags().create_flag(create(flag)).await, &fields);
    let unsuitable = pb::Flag {
        variants: vec![text_variant("a", "x")],
        off_variant: "none".into(),
        ..bool_flag("f")
    };
    invalid(
        app.flags().create_flag(create(unsuitable)).await,
        &["flag.variants[0]", "flag.off_variant"],
    );
    invalid(
        app.flags().create_flag(create(bool_flag(&"f".repeat(10_000)))).await,
        &["flag.key"],
    );
    invalid(
        app.flags().create_flag(pb::CreateFlagRequest::default()).await,
        &["flag"],
    );
    refused(app.flags().get_flag(get("f")).await, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_makes_no_revision_and_a_definition_makes_one_everywhere() {
    let app = App::start().await;
    app.shop().await;
    app.environment("shop", "prod").await;
    app.flag("f").await;
    let flag = app.flags().get_flag(get("f")).await.unwrap().into_inner().flag.unwrap();

    let renamed = pb::Flag {
        name: "A flag".into(),
        tags: vec!["x".into()],
        ..flag.clone()
    };
    let renamed = app
        .flags()
        .update_flag(update(renamed, &["name", "tags"]))
        .await
        .unwrap()
        .into_inner();
    assert!(renamed.changed && renamed.revisions.is_empty());
    let renamed = renamed.flag.unwrap();
    assert_eq!(renamed.name, "A flag");

    let hidden = pb::Flag {
        client_visible: false,
        ..renamed.clone()
    };
    let hidden = app
        .flags()
        .update_flag(update(hidden, &["client_visible"]))
        .await
        .unwrap()
        .into_inner();
    let revisions: Vec<_> = hidden
        .revisions
        .iter()
        .map(|it| (it.environment.as_str(), it.revision))
        .collect();
    assert_eq!(revisions, [("dev", 3), ("prod", 3)]);

    refused(app.flags().update_flag(update(flag, &["name"])).await, Code::Aborted);
    let same = app
        .flags()
        .update_flag(update(hidden.flag.unwrap(), &["client_visible"]))
        .await
        .unwrap()
        .into_inner();
    assert!(!same.changed && same.revisions.is_empty());
    invalid(
        app.flags().update_flag(update(renamed, &["type"])).await,
        &["update_mask"],
    );
    refused(
        app.flags().update_flag(update(bool_flag("unknown"), &["name"])).await,
        Code::NotFound,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variant_that_is_served_cannot_be_removed() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let configuration = pb::FlagConfiguration {
        enabled: true,
        default_serve: Some(only("on")),
        ..configuration("f")
    };
    app.flags()
        .update_flag_configuration(configure(configuration))
        .await
        .unwrap();
    let off = Variant {
        key: "off".into(),
        value: Some(variant::Value::BoolValue(false)),
        description: String::new(),
    };
    let without = pb::Flag {
        variants: vec![off],
        default_variant: String::new(),
        ..bool_flag("f")
    };
    let status = refused(
        app.flags()
            .update_flag(update(without, &["variants", "default_variant"]))
            .await,
        Code::FailedPrecondition,
    );
    assert!(status.message().contains("dev"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_are_listed_by_key_in_pages_with_their_state() {
    let app = App::start().await;
    app.shop().await;
    for key in ["b", "a", "Z", "c"] {
        app.flag(key).await;
    }
    app.toggle("a", true).await;
    let list = |page_token: &str| pb::ListFlagsRequest {
        project: "shop".into(),
        environment: "dev".into(),
        page_size: 3,
        page_token: page_token.into(),
        ..Default::default()
    };
    let first = app.flags().list_flags(list("")).await.unwrap().into_inner();
    let second = app
        .flags()
        .list_flags(list(&first.next_page_token))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(names(&first.flags), ["Z", "a", "b"]);
    assert_eq!(names(&second.flags), ["c"]);
    assert!(second.next_page_token.is_empty());
    let enabled: Vec<_> = first
        .flags
        .iter()
        .map(|flag| flag.configuration.as_ref().unwrap().enabled)
        .collect();
    assert_eq!(enabled, [false, true, false]);
    let unknown = pb::ListFlagsRequest {
        environment: "nowhere".into(),
        ..list("")
    };
    refused(app.flags().list_flags(unknown).await, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_flag_is_unknown_and_a_deleted_one_is_gone() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    app.toggle("f", true).await;
    let archive = pb::ArchiveFlagRequest {
        project: "shop".into(),
        flag: "f".into(),
        ..Default::default()
    };
    let archived = app.flags().archive_flag(archive.clone()).await.unwrap().into_inner();
    assert!(archived.changed && archived.flag.unwrap().archive_time.is_some());
    let revision = archived.revisions[0].revision;
    refused(
        evaluate(&app.channel, &keys.server, "f", revision).await,
        Code::NotFound,
    );
    assert!(!app.flags().archive_flag(archive).await.unwrap().into_inner().changed);
    invalid(app.flags().toggle_flags(toggle("f", true)).await, &["toggles[0].flag"]);
    let list = |show_archived| pb::ListFlagsRequest {
        project: "shop".into(),
        show_archived,
        ..Default::default()
    };
    assert!(
        app.flags()
            .list_flags(list(false))
            .await
            .unwrap()
            .into_inner()
            .flags
            .is_empty()
    );
    assert_eq!(
        names(&app.flags().list_flags(list(true)).await.unwrap().into_inner().flags),
        ["f"]
    );

    let delete = pb::DeleteFlagRequest {
        project: "shop".into(),
        flag: "f".into(),
        ..Default::default()
    };
    refused(
        app.flags()
            .delete_flag(pb::DeleteFlagRequest {
                etag: "stale".into(),
                ..delete.clone()
            })
            .await,
        Code::Aborted,
    );
    app.flags().delete_flag(delete.clone()).await.unwrap();
    refused(app.flags().delete_flag(delete).await, Code::NotFound);
    refused(app.flags().get_flag(get("f")).await, Code::NotFound);
    app.flag("f").await;
    let revision = app.toggle("f", false).await;
    assert_eq!(revision, 0, "a new flag under an old key is off already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_off_until_written_and_then_what_was_written() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let get = |flag: &str| pb::GetFlagConfigurationRequest {
        project: "shop".into(),
        environment: "dev".into(),
        flag: flag.into(),
    };
    let unwritten = app
        .flags()
        .get_flag_configuration(get("f"))
        .await
        .unwrap()
        .into_inner()
        .configuration
        .unwrap();
    assert_eq!((unwritten.enabled, unwritten.update_time), (false, None));
    assert_ne!(unwritten.etag, "");

    let rule = evaluation::Rule {
        conditions: vec![evaluation::Condition {
            attribute: "plan".into(),
            operator: evaluation::Operator::OneOf.into(),
            values: vec![prost_types::Value {
                kind: Some(prost_types::value::Kind::StringValue("pro".into())),
            }],
            negated: true,
        }],
        serve: Some(only("on")),
        ..Default::default()
    };
    let written = pb::FlagConfiguration {
        enabled: true,
        rules: vec![rule],
        default_serve: Some(only("off")),
        salt: "s".into(),
        ..configuration("f")
    };
    let response = app
        .flags()
        .update_flag_configuration(configure(written))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        response.revisions,
        [pb::EnvironmentRevision {
            environment: "dev".into(),
            revision: 3
        }]
    );
    let written = response.configuration.unwrap();
    assert_eq!(written.rules[0].key, "rule-1");
    assert_eq!(
        app.flags()
            .get_flag_configuration(get("f"))
            .await
            .unwrap()
            .into_inner()
            .configuration
            .unwrap(),
        written
    );
    assert_eq!(
        evaluate(&app.channel, &keys.server, "f", 3).await.unwrap().reason(),
        evaluation::Reason::Default
    );

    let cleared = pb::FlagConfiguration {
        rules: vec![],
        ..written.clone()
    };
    let request = pb::UpdateFlagConfigurationRequest {
        update_mask: mask(&["rules"]),
        ..configure(cleared)
    };
    let cleared = app
        .flags()
        .update_flag_configuration(request)
        .await
        .unwrap()
        .into_inner()
        .configuration
        .unwrap();
    assert!(
        cleared.enabled && cleared.rules.is_empty() && cleared.salt == "s",
        "what the mask leaves out stays"
    );
    refused(
        app.flags().update_flag_configuration(configure(written)).await,
        Code::Aborted,
    );
    let same = app
        .flags()
        .update_flag_configuration(configure(cleared))
        .await
        .unwrap()
        .into_inner();
    assert!(!same.changed && same.revisions.is_empty());
    refused(app.flags().get_flag_configuration(get("unknown")).await, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_configurations_are_told_everything_at_once() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    let rule = |key: &str, conditions| evaluation::Rule {
        key: key.into(),
        conditions,
        serve: Some(only("maybe")),
        ..Default::default()
    };
    let bad = pb::FlagConfiguration {
        rules: vec![
            rule(
                "same",
                vec![evaluation::Condition {
                    operator: evaluation::Operator::NumberLess.into(),
                    ..Default::default()
                }],
            ),
            rule("same", vec![]),
        ],
        default_serve: Some(evaluation::Serve {
            serve: Some(evaluation::serve::Serve::Split(evaluation::Split::default())),
        }),
        ..configuration("f")
    };
    let fields = [
        "configuration.rules[0].conditions[0].attribute",
        "configuration.rules[0].conditions[0].values",
        "configuration.rules[0].serve.variant",
        "configuration.rules[1].key",
        "configuration.rules[1].conditions",
        "configuration.rules[1].serve.variant",
        "configuration.default_serve.split.variants",
    ];
    invalid(app.flags().update_flag_configuration(configure(bad)).await, &fields);
    refused(
        app.flags()
            .update_flag_configuration(configure(configuration("unknown")))
            .await,
        Code::NotFound,
    );
    let unknown_operator = evaluation::Condition {
        operator: 1000,
        attribute: "a".into(),
        ..Default::default()
    };
    let unknown = pb::FlagConfiguration {
        rules: vec![rule("r", vec![unknown_operator])],
        ..configuration("f")
    };
    invalid(
        app.flags().update_flag_configuration(configure(unknown)).await,
        &[
            "configuration.rules[0].conditions[0].operator",
            "configuration.rules[0].serve.variant",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_toggles_are_one_revision_and_all_or_nothing() {
    let app = App::start().await;
    let keys = app.shop().await;
    for key in ["a", "b", "c"] {
        app.flag(key).await;
    }
    let toggles = |flags: &[(&str, bool)]| pb::ToggleFlagsRequest {
        toggles: flags
            .iter()
            .map(|&(flag, enabled)| pb::Toggle {
                flag: flag.into(),
                enabled,
            })
            .collect(),
        request_id: Uuid::new_v4().to_string(),
        ..toggle("", true)
    };
    let request = toggles(&[("c", true), ("a", true), ("b", false)]);
    let response = app.flags().toggle_flags(request.clone()).await.unwrap().into_inner();
    let states: Vec<_> = response
        .configurations
        .iter()
        .map(|it| (it.flag.as_str(), it.enabled))
        .collect();
    assert_eq!(states, [("c", true), ("a", true), ("b", false)]);
    assert_eq!(
        response.revisions,
        [pb::EnvironmentRevision {
            environment: "dev".into(),
            revision: 5
        }]
    );
    assert_eq!(
        evaluate(&app.channel, &keys.server, "a", 5).await.unwrap().variant,
        "on"
    );

    assert_eq!(
        app.flags().toggle_flags(request).await.unwrap().into_inner(),
        response,
        "a replay"
    );
    let none = app
        .flags()
        .toggle_flags(toggles(&[("a", true)]))
        .await
        .unwrap()
        .into_inner();
    assert!(!none.changed && none.revisions.is_empty());

    let bad = toggles(&[
        ("a", false),
        ("unknown", true),
        ("b", true),
        ("b", false),
        ("NO WAY", true),
    ]);
    let result = app.flags().toggle_flags(bad).await;
    invalid(result, &["toggles[4].flag"]);
    let bad = toggles(&[("a", false), ("unknown", true), ("b", true), ("b", false)]);
    invalid(
        app.flags().toggle_flags(bad).await,
        &["toggles[1].flag", "toggles[3].flag"],
    );
    assert_eq!(
        evaluate(&app.channel, &keys.server, "a", 5).await.unwrap().variant,
        "on"
    );
    invalid(app.flags().toggle_flags(toggles(&[])).await, &["toggles"]);
    refused(
        app.flags()
            .toggle_flags(pb::ToggleFlagsRequest {
                environment: "nowhere".into(),
                ..toggle("a", true)
            })
            .await,
        Code::NotFound,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_without_its_audit_entry() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let client = app.database.client().await;
    client
        .batch_execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no audit today'; end $$;
             create trigger refuse before insert on audit_entries for each row execute function refuse();",
        )
        .await
        .unwrap();
    let counts = async || {
        let row = client
            .query_one("select (select count(*) from flags) + (select count(*) from changes) + (select count(*) from projects)
                        + (select count(*) from environment_keys) + (select sum(revision) from environment_heads)::bigint
                        + (select revision from access_head)", &[])
            .await
            .unwrap();
        row.get::<_, i64>(0)
    };
    let before = counts().await;
    refused(app.flags().toggle_flags(toggle("f", true)).await, Code::Internal);
    refused(app.flags().create_flag(create(bool_flag("g"))).await, Code::Internal);
    let project = Some(pb::Project {
        key: "p".into(),
        ..Default::default()
    });
    refused(
        app.projects()
            .create_project(pb::CreateProjectRequest {
                project,
                ..Default::default()
            })
            .await,
        Code::Internal,
    );
    let key = pb::CreateKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        kind: pb::KeyKind::Server.into(),
        ..Default::default()
    };
    refused(app.environments().create_key(key).await, Code::Internal);
    assert_eq!(counts().await, before);
    assert_eq!(
        evaluate(&app.channel, &keys.server, "f", 0).await.unwrap().variant,
        "off"
    );
}
