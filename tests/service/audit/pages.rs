//! Filters and pages.

use halyard::domain::access::Role;
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::evaluation::v1 as evaluation;

use super::person::member;
use super::{all, found, get, of, verify};
use crate::app::{App, toggle};
use crate::refusals::invalid;

type Passes<'a> = Box<dyn Fn(&pb::AuditEntry) -> bool + 'a>;

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_pages_hold_still_while_entries_are_added() {
    let app = App::start().await;
    app.shop().await;
    app.environment("shop", "prod").await;
    for n in 0..4 {
        app.flag(&format!("f{n}")).await;
    }
    let developer = member(&app, "shop", Role::Developer).await;
    for n in 0..12 {
        let (flag, on) = (format!("f{}", n % 4), n < 4);
        let mut flags = FlagServiceClient::new(developer.client.clone());
        flags.toggle_flags(toggle(&flag, on)).await.unwrap();
    }
    let everything = found(&app, &of("shop")).await;
    assert!(everything.is_sorted_by(|a, b| a.sequence > b.sequence));
    assert!(everything.len() > 12, "{}", everything.len());
    let middle = everything[everything.len() / 2].time;

    let nanos = |time: &Option<prost_types::Timestamp>| time.map(|time| (time.seconds, time.nanos));
    let request = || of("shop");
    let cases: Vec<(pb::ListEntriesRequest, Passes<'_>)> = vec![
        (request(), Box::new(|_| true)),
        (
            pb::ListEntriesRequest {
                entity: "flag".into(),
                ..request()
            },
            Box::new(|entry| entry.entity == "flag"),
        ),
        (
            pb::ListEntriesRequest {
                entity_key: "f1".into(),
                ..request()
            },
            Box::new(|entry| entry.entity_key == "f1"),
        ),
        (
            pb::ListEntriesRequest {
                entity: "flag_configuration".into(),
                entity_key: "f1".into(),
                environment: "dev".into(),
                ..request()
            },
            Box::new(|entry| (entry.entity.as_str(), entry.entity_key.as_str()) == ("flag_configuration", "f1")),
        ),
        (
            pb::ListEntriesRequest {
                action: "key.create".into(),
                ..request()
            },
            Box::new(|entry| entry.action == "key.create"),
        ),
        (
            pb::ListEntriesRequest {
                actor: developer.actor.clone(),
                ..request()
            },
            Box::new(|entry| entry.actor == developer.actor),
        ),
        (
            pb::ListEntriesRequest {
                environment: "prod".into(),
                ..request()
            },
            Box::new(|entry| entry.environment == "prod"),
        ),
        (
            pb::ListEntriesRequest {
                start_time: middle,
                ..request()
            },
            Box::new(|entry| nanos(&entry.time) >= nanos(&middle)),
        ),
        (
            pb::ListEntriesRequest {
                end_time: middle,
                actor: developer.actor.clone(),
                ..request()
            },
            Box::new(|entry| nanos(&entry.time) < nanos(&middle) && entry.actor == developer.actor),
        ),
        (
            pb::ListEntriesRequest {
                action: "nothing.happened".into(),
                ..request()
            },
            Box::new(|_| false),
        ),
    ];
    // What is added between the pages of one case passes the filters of the others too.
    let mut enabled = true;
    for (case, passes) in cases {
        let before = found(&app, &of("shop")).await;
        let expected: Vec<_> = before.into_iter().filter(|entry| passes(entry)).collect();
        for page_size in [3, 7, 1_000] {
            let request = pb::ListEntriesRequest {
                page_size,
                ..case.clone()
            };
            let newest = expected.first().map_or(0, |entry| entry.sequence);
            let mut additions = 0..2;
            let listed = all(&app, &request, async || {
                if additions.next().is_some() {
                    enabled = !enabled;
                    app.flags().toggle_flags(toggle("f1", enabled)).await.unwrap();
                }
            })
            .await;
            // Those added during a case before are newer than what was expected; nothing of the expected is lost or doubled.
            let listed: Vec<_> = listed.into_iter().filter(|entry| entry.sequence <= newest).collect();
            assert_eq!(listed, expected, "{request:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_when_its_entries_grow_large() {
    let app = App::start().await;
    app.project("shop").await;
    let flag = |n: usize| pb::Flag {
        r#type: evaluation::ValueType::String.into(),
        variants: vec![evaluation::Variant {
            key: "large".into(),
            value: Some(evaluation::variant::Value::StringValue(n.to_string().repeat(200_000))),
            ..Default::default()
        }],
        ..crate::app::bool_flag("f")
    };
    let create = pb::CreateFlagRequest {
        flag: Some(flag(0)),
        ..Default::default()
    };
    app.flags().create_flag(create).await.unwrap();
    for n in 1..10 {
        let update = pb::UpdateFlagRequest {
            flag: Some(flag(n)),
            ..Default::default()
        };
        app.flags().update_flag(update).await.unwrap();
    }
    let first = app.audit().list_entries(of("shop")).await.unwrap().into_inner();
    assert!((3..9).contains(&first.entries.len()), "{}", first.entries.len());
    assert!(!first.next_page_token.is_empty());
    let sequences: Vec<_> = found(&app, &of("shop"))
        .await
        .iter()
        .map(|entry| entry.sequence)
        .collect();
    assert_eq!(sequences, (1..=11).rev().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_belongs_to_its_chain_and_filters() {
    let app = App::start().await;
    app.shop().await;
    app.project("other").await;
    let request = pb::ListEntriesRequest {
        page_size: 1,
        ..of("shop")
    };
    let page_token = app
        .audit()
        .list_entries(request.clone())
        .await
        .unwrap()
        .into_inner()
        .next_page_token;
    assert!(!page_token.is_empty());
    let others = [
        pb::ListEntriesRequest {
            entity: "flag".into(),
            ..request.clone()
        },
        pb::ListEntriesRequest {
            project: "other".into(),
            ..request.clone()
        },
        pb::ListEntriesRequest {
            project: String::new(),
            ..request.clone()
        },
    ];
    for other in others {
        let page_token = page_token.clone();
        invalid(
            app.audit()
                .list_entries(pb::ListEntriesRequest { page_token, ..other })
                .await,
            &["page_token"],
        );
    }

    // The same question about a project made anew is about another chain.
    let delete = pb::DeleteProjectRequest {
        project: "shop".into(),
        confirm: "shop".into(),
        ..Default::default()
    };
    app.projects().delete_project(delete).await.unwrap();
    app.project("shop").await;
    let request = pb::ListEntriesRequest { page_token, ..request };
    invalid(app.audit().list_entries(request).await, &["page_token"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_with_a_question_is_told_at_once() {
    let app = App::start().await;
    app.shop().await;
    let request = pb::ListEntriesRequest {
        project: "No key".into(),
        chain: "a\0b".into(),
        entity: "x".repeat(300),
        actor: "a\u{1b}b".into(),
        start_time: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
        end_time: Some(prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
        page_size: -1,
        page_token: "nonsense".into(),
        ..Default::default()
    };
    let fields = [
        "page_token",
        "page_size",
        "chain",
        "chain",
        "project",
        "start_time",
        "end_time",
        "entity",
        "actor",
    ];
    invalid(app.audit().list_entries(request).await, &fields);
    invalid(app.audit().get_entry(get("shop", "x")).await, &["id"]);
    let kept = Some(pb::ChainHead {
        sequence: 1,
        hash: "ab".into(),
    });
    let request = pb::VerifyChainRequest { kept, ..verify("shop") };
    invalid(app.audit().verify_chain(request).await, &["kept.hash"]);
}
