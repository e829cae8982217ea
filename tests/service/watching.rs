//! Watch, through the public interface.

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::watch_response::Message;
use tonic::Code;

use crate::app::{App, bool_flag};
use crate::follower::{Follower, Held};
use crate::refusals::{invalid, refused};
use crate::support::{eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_client_gets_everything_and_then_what_changes() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    let first = follower.step().await.unwrap();
    assert_eq!(
        (first.begin.intent(), first.begin.reason()),
        (pb::Intent::Snapshot, pb::SnapshotReason::NoState)
    );
    assert_eq!((first.items, first.commit.revision), (1, 2));
    assert!(!first.begin.stream.is_empty() && first.commit.committed_at.is_some());

    let revision = app.toggle("f", true).await;
    let second = follower.step().await.unwrap();
    assert_eq!(
        (second.begin.intent(), second.begin.from_revision, second.items),
        (pb::Intent::Delta, 2, 1)
    );
    assert_eq!(second.commit.revision, revision);
    assert!(follower.enabled("f"));

    app.create_flag(bool_flag("g")).await;
    follower.until(revision + 1).await.unwrap();
    let archive = admin::ArchiveFlagRequest {
        project: "shop".into(),
        flag: "f".into(),
        ..Default::default()
    };
    app.flags().archive_flag(archive).await.unwrap();
    follower.until(revision + 2).await.unwrap();
    let keys: Vec<_> = follower
        .held
        .items
        .keys()
        .map(|(kind, key)| (kind.as_str(), key.as_str()))
        .collect();
    assert_eq!(keys, [("flag_definition", "g")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_carries_its_variants_and_a_configuration_its_rules() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    app.toggle("f", true).await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    let item = |kind: &str| {
        follower
            .held
            .items
            .get(&(kind.to_owned(), "f".to_owned()))
            .unwrap()
            .item
            .clone()
            .unwrap()
    };
    let pb::put::Item::FlagDefinition(definition) = item("flag_definition") else {
        panic!()
    };
    assert_eq!(
        (definition.key.as_str(), definition.r#type(), definition.variants.len()),
        ("f", pb::ValueType::Bool, 2)
    );
    assert_eq!(
        (
            definition.off_variant.as_str(),
            definition.default_variant.as_str(),
            definition.client_visible
        ),
        ("off", "on", true)
    );
    let pb::put::Item::FlagConfiguration(configuration) = item("flag_configuration") else {
        panic!()
    };
    assert_eq!((configuration.flag.as_str(), configuration.enabled), ("f", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_resumes_where_it_stopped() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    let held = follower.held.clone();
    drop(follower);

    let mut unchanged = Follower::resume(&app.channel, &keys.server, held.clone())
        .await
        .unwrap();
    assert_eq!(unchanged.step().await.unwrap().begin.intent(), pb::Intent::None);
    drop(unchanged);

    let mut last = 0;
    for enabled in [true, false, true] {
        last = app.toggle("f", enabled).await;
    }
    let mut behind = Follower::resume(&app.channel, &keys.server, held).await.unwrap();
    let merged = behind.step().await.unwrap();
    assert_eq!(
        (
            merged.begin.intent(),
            merged.begin.from_revision,
            merged.commit.revision
        ),
        (pb::Intent::Delta, 2, last)
    );
    assert_eq!(merged.items, 1, "three changes of one item are one");
    assert!(behind.enabled("f"));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_takes_any_token_also_after_a_restart() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    let held = follower.held.clone();
    let last = app.toggle("f", true).await;
    let (replica, channel) = app.replica().await;
    let mut elsewhere = Follower::resume(&channel, &keys.server, held).await.unwrap();
    let step = elsewhere.step().await.unwrap();
    assert_eq!((step.begin.intent(), step.commit.revision), (pb::Intent::Delta, last));
    drop(elsewhere);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_means_nothing_here_is_a_client_without_state() {
    let app = App::start().await;
    let keys = app.shop().await;
    let staging = app.environment("shop", "staging").await;
    app.flag("f").await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    let token = follower.held.token.clone();
    let check = async |key: &str, token: Vec<u8>, expected: pb::SnapshotReason| {
        let mut follower = Follower::resume(
            &app.channel,
            key,
            Held {
                token,
                ..Held::default()
            },
        )
        .await
        .unwrap();
        let step = follower.step().await.unwrap();
        assert_eq!(
            (step.begin.intent(), step.begin.reason()),
            (pb::Intent::Snapshot, expected)
        );
    };
    check(&keys.server, vec![0xff; 100], pb::SnapshotReason::NoState).await;
    check(
        &keys.server,
        token[..token.len() - 1].to_vec(),
        pb::SnapshotReason::NoState,
    )
    .await;
    check(&staging.server, token, pb::SnapshotReason::DifferentStore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_says_that_it_lives_and_how_stale_it_is() {
    let app = App::start().await;
    let keys = app.shop().await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    let Some(Message::Heartbeat(heartbeat)) = follower.message().await.unwrap() else {
        panic!("no heartbeat")
    };
    follower.check_heartbeat(&heartbeat);
    assert_eq!(heartbeat.source(), pb::SourceState::Live);
    assert!(heartbeat.staleness.unwrap().seconds < 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_heartbeat_is_told() {
    let app = App::start().await;
    let keys = app.shop().await;
    let heartbeat = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let request = pb::WatchRequest {
        heartbeat,
        ..Default::default()
    };
    invalid(
        crate::app::watch(&app.channel, &keys.server)
            .watch(request)
            .await
            .map(drop),
        &["heartbeat"],
    );
    refused(
        crate::app::watch(&app.channel, "x")
            .watch(pb::WatchRequest::default())
            .await
            .map(drop),
        Code::Unauthenticated,
    );
}

/// The end of a stream on which nothing happens.
async fn end(follower: &mut Follower) -> Option<tonic::Status> {
    loop {
        match follower.step().await {
            Ok(_) => {}
            Err(end) => return end,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_its_idle_streams_everywhere() {
    let app = App::start().await;
    let keys = app.shop().await;
    let (replica, channel) = app.replica().await;
    let mut here = Follower::new(&app.channel, &keys.server).await.unwrap();
    let mut there = Follower::new(&channel, &keys.server).await.unwrap();
    here.step().await.unwrap();
    there.step().await.unwrap();
    let revoke = admin::RevokeKeyRequest {
        project: "shop".into(),
        environment: "dev".into(),
        key_id: keys.server_id,
        ..Default::default()
    };
    app.environments().revoke_key(revoke).await.unwrap();
    for follower in [&mut here, &mut there] {
        assert_eq!(end(follower).await.expect("a status").code(), Code::Unauthenticated);
    }
    eventually("the streams to be forgotten", async || {
        (app.server.hub().streams() + replica.hub().streams() == 0).then_some(())
    })
    .await;
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_environment_ends_its_streams() {
    let app = App::start().await;
    let keys = app.shop().await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    let delete = admin::DeleteEnvironmentRequest {
        project: "shop".into(),
        environment: "dev".into(),
        ..Default::default()
    };
    app.environments().delete_environment(delete).await.unwrap();
    assert_eq!(end(&mut follower).await.expect("a status").code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_goodbye() {
    let app = App::start().await;
    let keys = app.shop().await;
    let (replica, channel) = app.replica().await;
    let mut followers = Vec::new();
    for _ in 0..5 {
        let mut follower = Follower::new(&channel, &keys.server).await.unwrap();
        follower.step().await.unwrap();
        followers.push(follower);
    }
    let stopping = tokio::spawn(replica.stop());
    for follower in &mut followers {
        let goodbye = within("a goodbye", async {
            loop {
                match follower.message().await.unwrap() {
                    Some(Message::Goodbye(goodbye)) => return goodbye,
                    Some(_) => {}
                    None => panic!("the stream ended without a goodbye"),
                }
            }
        })
        .await;
        assert_eq!(goodbye.reason(), pb::GoodbyeReason::Draining);
        assert!(goodbye.reconnect_after.is_some());
        assert!(follower.message().await.unwrap().is_none(), "nothing follows a goodbye");
    }
    within("the stop", stopping).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_state_arrives_whole() {
    let app = App::start().await;
    let keys = app.shop().await;
    let mut last = 1;
    for n in 0..150 {
        last = app.flag(&format!("flag-{n}")).await[0].revision;
    }
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.until(last).await.unwrap();
    assert_eq!(follower.held.items.len(), 150);
}
