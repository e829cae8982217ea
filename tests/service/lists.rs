//! Lists of flags: filters, pages, lifecycles.

use halyard::pb::admin::v1 as pb;
use halyard::pb::evaluation::v1::ValueType;
use prost_types::{FieldMask, Timestamp};

use crate::app::{App, bool_flag};
use crate::refusals::invalid;

fn list() -> pb::ListFlagsRequest {
    pb::ListFlagsRequest {
        project: "shop".into(),
        ..Default::default()
    }
}

/// The keys of a page, and the token of the next.
async fn page(app: &App, request: pb::ListFlagsRequest) -> (String, String) {
    let response = app.flags().list_flags(request).await.unwrap().into_inner();
    let keys = response.flags.iter().map(|it| it.flag.as_ref().unwrap().key.as_str());
    (keys.collect::<Vec<_>>().join(" "), response.next_page_token)
}

fn removal() -> Option<Timestamp> {
    Some(Timestamp {
        seconds: 1_900_000_000,
        nanos: 123_456_789,
    })
}

/// Flags `a` to `d`, of which `b` and `d` are temporary and `c` is archived; `a` and `b` are on in `dev`.
async fn four(app: &App) {
    app.shop().await;
    for key in ["a", "b", "c", "d"] {
        let temporary = ["b", "d"].contains(&key);
        let flag = pb::Flag {
            description: format!("The {key} of 100 %"),
            tags: vec!["all".into(), format!("only-{key}")],
            owner: if temporary { "web" } else { "api" }.into(),
            lifecycle: i32::from(temporary) + 1,
            expected_removal_time: removal().filter(|_| temporary),
            ..bool_flag(key)
        };
        app.create_flag(flag).await;
    }
    app.toggle("a", true).await;
    app.toggle("b", true).await;
    let archive = pb::ArchiveFlagRequest {
        project: "shop".into(),
        flag: "c".into(),
        ..Default::default()
    };
    app.flags().archive_flag(archive).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_hold_over_pages_and_tokens_keep_to_their_filters() {
    let app = App::start().await;
    four(&app).await;
    let by_page = |token: &str| pb::ListFlagsRequest {
        show_archived: true,
        tags: vec!["all".into()],
        text: "THE".into(),
        page_size: 2,
        page_token: token.into(),
        ..list()
    };
    let (first, token) = page(&app, by_page("")).await;
    let (second, end) = page(&app, by_page(&token)).await;
    assert_eq!((first.as_str(), second.as_str(), end.as_str()), ("a b", "c d", ""));
    assert!(token.len() < 20, "{token}");
    // Another size is no other question.
    let larger = pb::ListFlagsRequest {
        page_size: 1,
        ..by_page(&token)
    };
    assert_eq!(page(&app, larger).await.0, "c");
    let others = [
        pb::ListFlagsRequest {
            show_archived: false,
            ..by_page(&token)
        },
        pb::ListFlagsRequest {
            owner: "web".into(),
            ..by_page(&token)
        },
        pb::ListFlagsRequest {
            environment: "dev".into(),
            ..by_page(&token)
        },
        by_page("b"),
        by_page(&"0".repeat(10_000)),
    ];
    for other in others {
        invalid(app.flags().list_flags(other).await, &["page_token"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_are_found_by_what_is_said_of_them() {
    let app = App::start().await;
    four(&app).await;
    let state = |state: pb::FlagState| pb::ListFlagsRequest {
        environment: "dev".into(),
        state: state.into(),
        ..list()
    };
    let expected = [
        (list(), "a b d"),
        (
            pb::ListFlagsRequest {
                tags: vec!["only-b".into(), "all".into()],
                ..list()
            },
            "b",
        ),
        (
            pb::ListFlagsRequest {
                text: "THE D OF".into(),
                ..list()
            },
            "d",
        ),
        (
            pb::ListFlagsRequest {
                text: "1_0".into(),
                ..list()
            },
            "",
        ),
        (
            pb::ListFlagsRequest {
                owner: "web".into(),
                ..list()
            },
            "b d",
        ),
        (
            pb::ListFlagsRequest {
                r#type: ValueType::Object.into(),
                ..list()
            },
            "",
        ),
        (
            pb::ListFlagsRequest {
                lifecycle: pb::Lifecycle::Temporary.into(),
                ..list()
            },
            "b d",
        ),
        (state(pb::FlagState::Enabled), "a b"),
        (state(pb::FlagState::Disabled), "d"),
        (state(pb::FlagState::Unconfigured), "d"),
        (
            pb::ListFlagsRequest {
                lifecycle: pb::Lifecycle::Permanent.into(),
                ..state(pb::FlagState::Enabled)
            },
            "a",
        ),
    ];
    for (request, keys) in expected {
        assert_eq!(page(&app, request.clone()).await.0, keys, "{request:?}");
    }
    let nowhere = pb::ListFlagsRequest {
        environment: String::new(),
        r#type: 99,
        lifecycle: 99,
        text: "\0".into(),
        ..state(pb::FlagState::Enabled)
    };
    invalid(
        app.flags().list_flags(nowhere).await,
        &["text", "environment", "type", "lifecycle"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_is_read_back_and_makes_no_revision() {
    let app = App::start().await;
    four(&app).await;
    let get = |flag: &str| pb::GetFlagRequest {
        project: "shop".into(),
        flag: flag.into(),
    };
    let b = app.flags().get_flag(get("b")).await.unwrap().into_inner().flag.unwrap();
    assert_eq!(b.lifecycle(), pb::Lifecycle::Temporary);
    let kept = Timestamp {
        nanos: 123_456_000,
        ..removal().unwrap()
    };
    assert_eq!(b.expected_removal_time, Some(kept), "as precise as PostgreSQL");
    let update = |flag: pb::Flag, paths: &[&str]| pb::UpdateFlagRequest {
        flag: Some(flag),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(ToString::to_string).collect(),
        }),
        ..Default::default()
    };
    let permanent = pb::Flag {
        lifecycle: pb::Lifecycle::Permanent.into(),
        ..b.clone()
    };
    let both = update(permanent.clone(), &["lifecycle", "expected_removal_time"]);
    invalid(app.flags().update_flag(both).await, &["flag.expected_removal_time"]);
    let response = app
        .flags()
        .update_flag(update(permanent, &["lifecycle"]))
        .await
        .unwrap()
        .into_inner();
    assert!(response.changed && response.revisions.is_empty());
    let flag = response.flag.unwrap();
    assert_eq!(
        (flag.lifecycle(), flag.expected_removal_time),
        (pb::Lifecycle::Permanent, None)
    );
    let again = app
        .flags()
        .update_flag(update(b.clone(), &["expected_removal_time"]))
        .await;
    invalid(again, &["flag.expected_removal_time"]);
    let bad = pb::CreateFlagRequest {
        flag: Some(pb::Flag {
            lifecycle: 99,
            expected_removal_time: Some(Timestamp {
                seconds: i64::MIN,
                nanos: 0,
            }),
            ..bool_flag("new")
        }),
        ..Default::default()
    };
    invalid(
        app.flags().create_flag(bad).await,
        &["flag.lifecycle", "flag.expected_removal_time"],
    );
}
