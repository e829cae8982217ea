//! PostgreSQL is killed, and comes back.

use halyard::pb::admin::v1 as admin;
use halyard::pb::evaluation::v1 as pb;
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::app::{App, evaluate, toggle};
use crate::follower::Follower;
use crate::refusals::refused;
use crate::replicas::keep_evaluating;
use crate::support::{Database, cluster, eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn evaluations_go_on_while_postgresql_is_dead_and_everything_converges_after() {
    let (postgres, _folder) = cluster::own_cluster().await;
    let database = Database {
        config: postgres.config(),
        url: postgres.url(),
    };
    let app = App::start_on(database).await;
    let keys = app.shop().await;
    app.flag("f").await;
    let before = app.toggle("f", true).await;
    let (replica, channel) = app.replica().await;
    let mut follower = Follower::new(&channel, &keys.server).await.unwrap();
    follower.until(before).await.unwrap();
    for channel in [&app.channel, &channel] {
        eventually("health", async || {
            (health(channel, "").await == ServingStatus::Serving).then_some(())
        })
        .await;
    }
    let stop = CancellationToken::new();
    let evaluating = [
        keep_evaluating(&app.channel, &keys.server, &stop),
        keep_evaluating(&channel, &keys.server, &stop),
    ];

    let pid = Pid::from_raw(postgres.pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    within("the death of PostgreSQL", postgres.exited()).await;
    let write = app.flags().toggle_flags(toggle("f", false)).await;
    let status = refused(write, Code::Unavailable);
    assert!(tonic_types::StatusExt::get_details_retry_info(&status).is_some());
    assert_eq!(evaluate(&channel, &keys.server, "f", 0).await.unwrap().variant, "on");
    let made_up = "halyard_server_0123456789abcdef_".to_owned() + &"0".repeat(64);
    let unknown = format!("{made_up}_{:08x}", crc32fast::hash(made_up.as_bytes()));
    refused(evaluate(&channel, &unknown, "f", 0).await, Code::Unavailable);
    eventually("the outage to show", async || {
        let admin = health(&channel, "halyard.admin.v1.FlagService").await;
        let (evaluation, whole) = (
            health(&channel, "halyard.evaluation.v1.EvaluationService").await,
            health(&channel, "").await,
        );
        assert_eq!((evaluation, whole), (ServingStatus::Serving, ServingStatus::Serving));
        (admin == ServingStatus::NotServing).then_some(())
    })
    .await;
    let heartbeat = within("a heartbeat", async {
        loop {
            if let Some(pb::watch_response::Message::Heartbeat(heartbeat)) = follower.message().await.unwrap()
                && heartbeat.source() == pb::SourceState::Disconnected
            {
                return heartbeat;
            }
        }
    })
    .await;
    assert_eq!(heartbeat.head_revision, before);

    within("the restart of PostgreSQL", postgres.restart()).await.unwrap();
    let after = eventually("a write", async || {
        let response = app.flags().toggle_flags(toggle("f", false)).await.ok()?.into_inner();
        Some(response.revisions.first()?.revision)
    })
    .await;
    assert_eq!(after, before + 1, "what was refused was not written");
    follower.until(after).await.unwrap();
    assert!(!follower.enabled("f"));
    assert_eq!(
        evaluate(&app.channel, &keys.server, "f", after).await.unwrap().variant,
        "off"
    );
    eventually("health", async || {
        (health(&channel, "halyard.admin.v1.FlagService").await == ServingStatus::Serving).then_some(())
    })
    .await;
    refused(evaluate(&channel, &unknown, "f", 0).await, Code::Unauthenticated);

    stop.cancel();
    for evaluations in evaluating {
        assert!(evaluations.await.unwrap() > 100, "they answered throughout");
    }
    drop(follower);
    replica.stop().await.unwrap();
    app.server.stop().await.unwrap();
    postgres.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_locked_elsewhere_stops_one_write_and_no_evaluation() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let mut client = app.database.client().await;
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("select * from environment_heads for update")
        .await
        .unwrap();
    let mut request = tonic::Request::new(toggle("f", true));
    request.set_timeout(std::time::Duration::from_millis(300));
    refused(app.flags().toggle_flags(request).await, Code::DeadlineExceeded);
    for _ in 0..100 {
        evaluate(&app.channel, &keys.server, "f", 0).await.unwrap();
    }
    lock.rollback().await.unwrap();
    let listed = app
        .projects()
        .list_projects(admin::ListProjectsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.projects.len(), 1);
    assert_eq!(
        app.toggle("f", true).await,
        3,
        "the write that was given up left nothing behind"
    );
}

async fn health(channel: &tonic::transport::Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest {
        service: service.into(),
    };
    HealthClient::new(channel.clone())
        .check(request)
        .await
        .unwrap()
        .into_inner()
        .status()
}
