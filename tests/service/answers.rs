//! `WatchEvaluations`, through the public interface: what is sent, to whom, and what is not.

use std::time::{Duration, Instant};

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_evaluations_response::Message;
use tonic::Code;

use crate::app::{App, Keys, bool_flag};
use crate::listener::{Applied, Listener, question};
use crate::refusals::{invalid, refused};
use crate::support::{eventually, within};
use crate::words::*;

async fn listening(app: &App, key: &str) -> Listener {
    let mut listener = Listener::new(&app.channel, key, question(who("alice"))).await.unwrap();
    listener.batch().await.unwrap();
    listener
}

/// `shop` with flags of these keys, which client keys see.
async fn shop(flags: &[&str]) -> (App, Keys) {
    let app = App::start().await;
    let keys = app.shop().await;
    for key in flags {
        app.flag(key).await;
    }
    (app, keys)
}

/// What comes of a change: the one batch, after which the client holds what `EvaluateAll` answers.
async fn one_batch(app: &App, key: &str, listener: &mut Listener, revision: u64) -> Applied {
    let mut batches = listener.until(revision).await.unwrap();
    assert_eq!(batches.len(), 1, "{batches:?}");
    listener.check(&app.channel, key).await;
    batches.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_batch_is_what_evaluate_all_answers_and_then_comes_what_changes() {
    let (app, keys) = shop(&["a", "b", "c"]).await;
    for key in [&keys.server, &keys.client] {
        let mut listener = Listener::new(&app.channel, key, question(who("alice"))).await.unwrap();
        let first = listener.batch().await.unwrap();
        assert_eq!(
            (first.intent, first.reason),
            (pb::Intent::Snapshot, pb::SnapshotReason::NoState)
        );
        assert_eq!(first.answered, ["a", "b", "c"]);
        listener.check(&app.channel, key).await;

        let on = app.toggle("b", true).await;
        let toggled = one_batch(&app, key, &mut listener, on).await;
        assert_eq!(
            (toggled.intent, toggled.answered.as_slice()),
            (pb::Intent::Delta, &["b".to_owned()][..])
        );
        assert_eq!(listener.variant("b"), Some("on"));
        app.toggle("b", false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_segment_sends_the_flags_that_ask_about_it() {
    let (app, keys) = shop(&["a", "b", "c"]).await;
    for name in ["inner", "outer"] {
        segment(&app, name).await;
    }
    let ruled = admin::FlagConfiguration {
        rules: vec![for_segment("outer")],
        default_serve: Some(only("off")),
        ..configuration("b")
    };
    configured(&app, ruled).await;
    let needs = admin::FlagConfiguration {
        prerequisites: vec![needing("b", "on")],
        ..configuration("c")
    };
    configured(&app, needs).await;
    let outer = admin::SegmentConfiguration {
        project: "shop".into(),
        environment: "dev".into(),
        segment: "outer".into(),
        segments: vec!["inner".into()],
        ..Default::default()
    };
    let request = admin::UpdateSegmentConfigurationRequest {
        configuration: Some(outer),
        ..Default::default()
    };
    let response = app.segments().update_segment_configuration(request).await.unwrap();
    let mut listener = listening(&app, &keys.client).await;
    listener
        .until(response.into_inner().revisions[0].revision)
        .await
        .unwrap();

    // Two segments and a prerequisite away.
    let joined = including(&app, "inner", &["alice"]).await;
    let batch = one_batch(&app, &keys.client, &mut listener, joined).await;
    assert_eq!(batch.answered, ["b", "c"]);
    assert_eq!((listener.variant("b"), listener.variant("c")), (Some("on"), Some("on")));

    let others = including(&app, "inner", &["alice", "bob"]).await;
    assert!(
        listener.until(others).await.unwrap().is_empty(),
        "nothing changed for alice"
    );
    let listed = listing(&app, "outer", &["alice"]).await;
    assert!(
        listener.until(listed).await.unwrap().is_empty(),
        "she is in it either way"
    );
    let left = including(&app, "inner", &["bob"]).await;
    assert!(listener.until(left).await.unwrap().is_empty(), "she is still listed");
    let unlisted = listing(&app, "outer", &["carol"]).await;
    let batch = one_batch(&app, &keys.client, &mut listener, unlisted).await;
    assert_eq!(batch.answered, ["b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_alters_no_answer_sends_nothing_but_its_revision_with_the_heartbeat() {
    let (app, keys) = shop(&["a", "b"]).await;
    let mut asked = question(who("alice"));
    asked.flags = vec!["b".into(), "unknown".into(), "b".into()];
    let mut listener = Listener::new(&app.channel, &keys.client, asked).await.unwrap();
    assert_eq!(listener.batch().await.unwrap().answered, ["b"]);
    let (before, elsewhere) = (listener.token.clone(), app.toggle("a", true).await);
    assert!(listener.until(elsewhere).await.unwrap().is_empty());
    assert_ne!(listener.token, before);
    listener.check(&app.channel, &keys.client).await;

    let mut listener = listener.reconnect(&app.channel, &keys.client).await.unwrap();
    assert_eq!(listener.batch().await.unwrap().intent, pb::Intent::None);
    app.flag("unknown").await;
    assert_eq!(listener.batch().await.unwrap().answered, ["unknown"], "it is no longer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_key_learns_nothing_but_the_answers_that_it_may_see() {
    let (app, keys) = shop(&["seen"]).await;
    let hidden = admin::Flag {
        client_visible: false,
        ..bool_flag("hidden")
    };
    app.create_flag(hidden).await;
    let rule = admin::FlagConfiguration {
        rules: vec![pb::Rule {
            conditions: vec![pb::Condition {
                attribute: "targeting_key".into(),
                operator: pb::Operator::Exists.into(),
                ..Default::default()
            }],
            ..for_segment("none")
        }],
        ..configuration("seen")
    };
    let mut client = listening(&app, &keys.client).await;
    let mut server = listening(&app, &keys.server).await;
    assert!(client.variant("hidden").is_none() && server.variant("hidden").is_some());
    let ruled = configured(&app, rule).await;
    one_batch(&app, &keys.client, &mut client, ruled).await;
    one_batch(&app, &keys.server, &mut server, ruled).await;
    assert_eq!(
        (client.held["seen"].rule.as_str(), server.held["seen"].rule.as_str()),
        ("", "members")
    );

    let on = app.toggle("hidden", true).await;
    assert!(client.until(on).await.unwrap().is_empty());
    assert_eq!(
        one_batch(&app, &keys.server, &mut server, on).await.answered,
        ["hidden"]
    );

    let visible = async |client_visible| {
        let request = admin::UpdateFlagRequest {
            flag: Some(admin::Flag {
                client_visible,
                ..bool_flag("seen")
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["client_visible".into()],
            }),
            ..Default::default()
        };
        let response = app.flags().update_flag(request).await.unwrap().into_inner();
        response.revisions[0].revision
    };
    let gone = visible(false).await;
    let batch = one_batch(&app, &keys.client, &mut client, gone).await;
    assert_eq!(
        (batch.removed.as_slice(), batch.answered.len()),
        (&["seen".to_owned()][..], 0)
    );
    assert!(
        server.until(gone).await.unwrap().is_empty(),
        "it is the same for server keys"
    );
    let back = visible(true).await;
    assert_eq!(
        one_batch(&app, &keys.client, &mut client, back).await.answered,
        ["seen"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_flag_is_removed() {
    let (app, keys) = shop(&["a", "b"]).await;
    let mut listener = listening(&app, &keys.client).await;
    let archive = admin::ArchiveFlagRequest {
        project: "shop".into(),
        flag: "a".into(),
        ..Default::default()
    };
    let archived = app.flags().archive_flag(archive).await.unwrap().into_inner();
    let batch = one_batch(&app, &keys.client, &mut listener, archived.revisions[0].revision).await;
    assert_eq!(batch.removed, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_is_sent_everything_only_if_something_may_have_changed() {
    let (app, keys) = shop(&["a"]).await;
    let listener = listening(&app, &keys.client).await;
    let (replica, elsewhere) = app.replica().await;
    let mut listener = listener.reconnect(&elsewhere, &keys.client).await.unwrap();
    assert_eq!(listener.batch().await.unwrap().intent, pb::Intent::None);

    let hidden = admin::Flag {
        client_visible: false,
        ..bool_flag("hidden")
    };
    let token = listener.token.clone();
    app.create_flag(hidden).await;
    app.toggle("a", true).await;
    drop(listener);
    let mut behind = question(who("alice"));
    behind.resume_token = token.clone();
    let mut listener = Listener::new(&app.channel, &keys.client, behind.clone()).await.unwrap();
    let batch = listener.batch().await.unwrap();
    assert_eq!(
        (batch.intent, batch.reason),
        (pb::Intent::Snapshot, pb::SnapshotReason::MayHaveChanged)
    );
    listener.check(&app.channel, &keys.client).await;
    replica.stop().await.unwrap();

    let check = async |key: &str, asked: pb::WatchEvaluationsRequest, expected| {
        let mut listener = Listener::new(&app.channel, key, asked).await.unwrap();
        assert_eq!(listener.batch().await.unwrap().reason, expected);
        listener.check(&app.channel, key).await;
    };
    let other = pb::WatchEvaluationsRequest {
        context: who("bob"),
        ..behind.clone()
    };
    check(&keys.client, other, pb::SnapshotReason::OtherQuestion).await;
    check(&keys.server, behind.clone(), pb::SnapshotReason::OtherQuestion).await;
    let unreadable = pb::WatchEvaluationsRequest {
        resume_token: token[1..].to_vec(),
        ..behind
    };
    check(&keys.client, unreadable, pb::SnapshotReason::NoState).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_questions_are_refused_as_by_evaluate() {
    let (app, keys) = shop(&[]).await;
    let ask = async |asked| {
        crate::app::watch(&app.channel, &keys.client)
            .watch_evaluations(asked)
            .await
            .map(drop)
    };
    invalid(ask(question(who(&"x".repeat(1_001)))).await, &["context.targeting_key"]);
    let many = pb::WatchEvaluationsRequest {
        flags: vec!["f".into(); 10_001],
        ..question(None)
    };
    invalid(ask(many).await, &["flags"]);
    let backwards = pb::WatchEvaluationsRequest {
        heartbeat: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        ..question(None)
    };
    invalid(ask(backwards).await, &["heartbeat"]);
    let unknown = crate::app::watch(&app.channel, "x")
        .watch_evaluations(question(None))
        .await;
    refused(unknown.map(drop), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_an_idle_stream_within_two_seconds() {
    let (app, keys) = shop(&["a"]).await;
    let idle = pb::WatchEvaluationsRequest {
        heartbeat: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..question(None)
    };
    let (replica, channel) = app.replica().await;
    let mut listener = Listener::new(&channel, &keys.server, idle).await.unwrap();
    listener.batch().await.unwrap();
    let revoke = admin::RevokeKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        key_id: keys.server_id,
        ..Default::default()
    };
    app.environments().revoke_key(revoke).await.unwrap();
    let revoked = Instant::now();
    let end = listener.batch().await.unwrap_err().expect("a status");
    assert_eq!(end.code(), Code::Unauthenticated);
    assert!(revoked.elapsed() < Duration::from_secs(20), "{:?}", revoked.elapsed());
    eventually("the stream to be forgotten", async || {
        (replica.hub().streams() == 0).then_some(())
    })
    .await;
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_goodbye_to_those_who_listen() {
    let (app, keys) = shop(&["a"]).await;
    let (replica, channel) = app.replica().await;
    let mut listener = Listener::new(&channel, &keys.client, question(None)).await.unwrap();
    listener.batch().await.unwrap();
    let stopping = tokio::spawn(replica.stop());
    let goodbye = within("a goodbye", async {
        loop {
            match listener.message().await.unwrap() {
                Some(Message::Goodbye(goodbye)) => return goodbye,
                Some(_) => {}
                None => panic!("the stream ended without a goodbye"),
            }
        }
    });
    let goodbye = goodbye.await;
    assert_eq!(goodbye.reason(), pb::GoodbyeReason::Draining);
    assert!(goodbye.reconnect_after.is_some());
    assert!(listener.message().await.unwrap().is_none(), "nothing follows a goodbye");
    within("the stop", stopping).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_environments_never_mix() {
    let (app, keys) = shop(&["a", "b"]).await;
    let staging = app.environment("shop", "staging").await;
    let mut dev = listening(&app, &keys.client).await;
    let mut other = listening(&app, &staging.client).await;
    let (held, order) = (other.held.clone(), other.order);
    for enabled in [true, false, true] {
        let revision = app.toggle("a", enabled).await;
        one_batch(&app, &keys.client, &mut dev, revision).await;
    }
    let Some(Message::Heartbeat(heartbeat)) = other.message().await.unwrap() else {
        panic!("something of another environment")
    };
    assert_eq!((heartbeat.generation, heartbeat.head_revision), order);
    assert_eq!((dev.variant("a"), other.held), (Some("on"), held));
    // The token of one opens nothing of the other.
    let foreign = pb::WatchEvaluationsRequest {
        resume_token: dev.token.clone(),
        ..question(who("alice"))
    };
    let mut foreign = Listener::new(&app.channel, &staging.client, foreign).await.unwrap();
    assert_eq!(
        foreign.batch().await.unwrap().reason,
        pb::SnapshotReason::DifferentStore
    );
    assert_eq!(foreign.variant("a"), Some("off"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_flags_come_in_several_messages_of_one_batch() {
    let (app, keys) = shop(&[]).await;
    for n in 0..150 {
        app.flag(&format!("flag-{n}")).await;
    }
    let mut listener = Listener::new(&app.channel, &keys.client, question(None)).await.unwrap();
    let first = listener.batch().await.unwrap();
    assert_eq!((first.answered.len(), first.messages), (150, 3));
    listener.check(&app.channel, &keys.client).await;
}
