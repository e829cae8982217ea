//! How far a change has spread: what clients acknowledge at one replica is told by all.

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::app::{App, watch};
use crate::follower::Follower;
use crate::listener::{Listener, question};
use crate::refusals::{invalid, refused};
use crate::support::{Database, cluster, eventually, within};
use crate::words::who;

async fn acknowledge(channel: &Channel, key: &str, stream: &str, revision: u64) -> Result<(), Status> {
    let request = pb::AcknowledgeRequest {
        stream: stream.into(),
        revision,
        generation: 0,
    };
    watch(channel, key).acknowledge(request).await.map(drop)
}

async fn propagation(app: &App, revision: u64) -> Result<admin::GetPropagationResponse, Status> {
    let request = admin::GetPropagationRequest {
        project: "shop".into(),
        environment: "dev".into(),
        revision,
    };
    Ok(app.environments().get_propagation(request).await?.into_inner())
}

/// What is told of a revision, once so many streams are said to have applied it, of so many.
async fn told(app: &App, revision: u64, applied: u32, streams: u32) -> admin::GetPropagationResponse {
    eventually("the news of other replicas", async || {
        let told = propagation(app, revision).await.unwrap();
        ((told.applied, told.streams) == (applied, streams)).then_some(told)
    })
    .await
}

/// Somebody who asks for `f` alone, and is called so.
async fn listener(channel: &Channel, key: &str, name: &str) -> Listener {
    let asked = pb::WatchEvaluationsRequest {
        flags: vec!["f".into()],
        client: Some(pb::ClientInfo {
            name: name.into(),
            library: "tests/1".into(),
        }),
        ..question(who(name))
    };
    let mut listener = Listener::new(channel, key, asked).await.unwrap();
    listener.batch().await.unwrap();
    listener
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_tells_who_has_a_revision_and_who_has_not() {
    let app = App::start().await;
    let keys = app.shop().await;
    for key in ["f", "g"] {
        app.flag(key).await;
    }
    let nobody = propagation(&app, 0).await.unwrap();
    assert_eq!(
        nobody,
        admin::GetPropagationResponse {
            revision: nobody.revision,
            ..admin::GetPropagationResponse::default()
        }
    );
    assert!(nobody.revision > 1, "the newest that was committed");
    let (replica, elsewhere) = app.replica().await;
    let mut here = listener(&app.channel, &keys.client, "here").await;
    let mut there = listener(&elsewhere, &keys.client, "there").await;
    let mut items = Follower::new(&elsewhere, &keys.server).await.unwrap();
    items.step().await.unwrap();
    let revision = app.toggle("f", true).await;
    for listener in [&mut here, &mut there] {
        listener.until(revision).await.unwrap();
    }
    let step = items.step().await.unwrap();
    acknowledge(&app.channel, &keys.client, &here.stream_id, revision)
        .await
        .unwrap();
    acknowledge(&elsewhere, &keys.server, &step.begin.stream, revision)
        .await
        .unwrap();
    let behind = told(&app, revision, 2, 3).await;
    assert_eq!((behind.replicas, behind.sent, behind.silent), (2, 3, 1));
    let [late] = behind.behind.as_slice() else {
        panic!("{behind:?}")
    };
    assert_eq!(
        (
            late.client.as_str(),
            late.library.as_str(),
            late.stream == there.stream_id
        ),
        ("there", "tests/1", true)
    );
    assert_eq!((late.sent_revision, late.applied_revision), (revision, 0));
    assert!(late.since.is_some());

    // A balancer brings it to the other replica.
    acknowledge(&app.channel, &keys.client, &there.stream_id, revision)
        .await
        .unwrap();
    assert!(told(&app, revision, 3, 3).await.behind.is_empty());
    assert_eq!(propagation(&app, revision + 1).await.unwrap().applied, 0);

    // Nobody who asks for `f` had to be sent anything.
    let unrelated = app.toggle("g", true).await;
    items.until(unrelated).await.unwrap();
    let behind = told(&app, unrelated, 2, 3).await.behind;
    assert_eq!(behind.len(), 1, "{behind:?}");
    assert_eq!(
        (behind[0].sent_revision, behind[0].applied_revision),
        (unrelated, revision)
    );
    assert_eq!(told(&app, 0, 2, 3).await.revision, unrelated, "the newest");

    drop((there, items));
    assert_eq!(told(&app, revision, 1, 1).await.replicas, 1);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_not_heard_of_is_told_apart_and_forgotten_after_an_hour() {
    let app = App::start().await;
    let keys = app.shop().await;
    let revision = app.flag("f").await[0].revision;
    let here = listener(&app.channel, &keys.client, "here").await;
    acknowledge(&app.channel, &keys.client, &here.stream_id, revision)
        .await
        .unwrap();
    told(&app, revision, 1, 1).await;
    let database = app.database.client().await;
    let another = "insert into propagation (environment, replica, written_at, report, elsewhere)
        select environment, '00000000-0000-0000-0000-000000000001', clock_timestamp(), report, elsewhere from propagation";
    database.batch_execute(another).await.unwrap();
    assert_eq!(told(&app, revision, 2, 2).await.replicas, 2);
    let later = "update propagation set written_at = written_at - interval '31 seconds'
        where replica = '00000000-0000-0000-0000-000000000001'";
    database.batch_execute(later).await.unwrap();
    let unheard = told(&app, revision, 1, 1).await;
    assert_eq!(
        (unheard.replicas, unheard.unheard_replicas, unheard.unheard_streams),
        (1, 1, 1)
    );
    assert_eq!(app.server.store().purge_propagation().await.unwrap(), 0);
    let much_later = later.replace("31 seconds", "1 hour");
    database.batch_execute(&much_later).await.unwrap();
    assert_eq!(app.server.store().purge_propagation().await.unwrap(), 1);
    assert_eq!(told(&app, revision, 1, 1).await.unheard_replicas, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_has_not_heard_of_a_revision_names_who_lacks_it() {
    let app = App::start().await;
    let keys = app.shop().await;
    let revision = app.flag("f").await[0].revision;
    let here = listener(&app.channel, &keys.client, "here").await;
    acknowledge(&app.channel, &keys.client, &here.stream_id, revision)
        .await
        .unwrap();
    told(&app, revision, 1, 1).await;
    let late = propagation(&app, revision + 1).await.unwrap();
    assert_eq!((late.applied, late.streams, late.behind.len()), (0, 1, 1), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_applied_of_the_generation_before_proves_nothing_of_this_one() {
    let app = App::start().await;
    let keys = app.shop().await;
    let revision = app.flag("f").await[0].revision;
    let mut here = listener(&app.channel, &keys.client, "here").await;
    acknowledge(&app.channel, &keys.client, &here.stream_id, revision)
        .await
        .unwrap();
    told(&app, revision, 1, 1).await;
    let database = app.database.client().await;
    database
        .batch_execute("update store_identity set generation = generation + 1")
        .await
        .unwrap();
    told(&app, revision, 0, 1).await;
    here.batch().await.unwrap();
    let ambiguous = acknowledge(&app.channel, &keys.client, &here.stream_id, revision).await;
    invalid(ambiguous, &["revision"]);
    let request = pb::AcknowledgeRequest {
        stream: here.stream_id.clone(),
        revision,
        generation: here.order.0,
    };
    watch(&app.channel, &keys.client).acknowledge(request).await.unwrap();
    told(&app, revision, 1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_key_that_opened_a_stream_acknowledges_what_it_was_sent() {
    let app = App::start().await;
    let keys = app.shop().await;
    let staging = app.environment("shop", "staging").await;
    app.flag("f").await;
    let listener = listener(&app.channel, &keys.client, "here").await;
    let (stream, revision) = (listener.stream_id.as_str(), listener.order.1);
    for other in [&keys.server, &staging.client] {
        refused(
            acknowledge(&app.channel, other, stream, revision).await,
            Code::PermissionDenied,
        );
    }
    invalid(
        acknowledge(&app.channel, &keys.client, stream, revision + 1).await,
        &["revision"],
    );
    invalid(
        acknowledge(&app.channel, &keys.client, "mine", 0).await,
        &["stream", "revision"],
    );
    refused(
        acknowledge(&app.channel, "x", stream, revision).await,
        Code::Unauthenticated,
    );
    acknowledge(&app.channel, &keys.client, "0123456789abcdef", 7)
        .await
        .unwrap();
    told(&app, revision, 0, 1).await;
    acknowledge(&app.channel, &keys.client, stream, revision).await.unwrap();
    told(&app, revision, 1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_acknowledge_while_postgresql_is_dead_and_it_is_told_after() {
    let (postgres, _folder) = cluster::own_cluster().await;
    let database = Database {
        config: postgres.config(),
        url: postgres.url(),
    };
    let app = App::start_on(database).await;
    let keys = app.shop().await;
    app.flag("f").await;
    let listener = listener(&app.channel, &keys.client, "here").await;
    let revision = listener.order.1;
    told(&app, revision, 0, 1).await;
    let pid = Pid::from_raw(postgres.pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    within("the death of PostgreSQL", postgres.exited()).await;
    acknowledge(&app.channel, &keys.client, &listener.stream_id, revision)
        .await
        .unwrap();
    refused(propagation(&app, revision).await, Code::Unavailable);
    within("the restart of PostgreSQL", postgres.restart()).await.unwrap();
    eventually("the acknowledgement", async || {
        let told = propagation(&app, revision).await.ok()?;
        (told.applied == 1).then_some(())
    })
    .await;
}
