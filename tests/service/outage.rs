//! PostgreSQL is killed, and comes back.

use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::environment_service_client::EnvironmentServiceClient;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::evaluation::v1 as pb;
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::app::{App, Bearer, WRITERS, bool_flag, evaluate, toggle};
use crate::follower::Follower;
use crate::refusals::{by_server, refused};
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
    let told = by_server(async || {
        let mut request = tonic::Request::new(toggle("f", true));
        request.set_timeout(std::time::Duration::from_millis(300));
        app.flags().toggle_flags(request).await
    });
    refused(told.await, Code::DeadlineExceeded);
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

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_wait_for_a_row_keep_no_change_and_no_revocation_from_spreading() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    app.project("stall").await;
    let keys = app.environment("stall", "dev").await;
    let (replica, channel) = app.replica().await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();

    let mut client = app.database.client().await;
    let lock = client.transaction().await.unwrap();
    let sql = "
        select from environment_heads head
        join environments environment on environment.id = head.environment_id
        join projects project on project.id = environment.project_id
        where project.key = 'shop' for update of head";
    lock.batch_execute(sql).await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let mut flags = app.flags();
            tokio::spawn(async move { flags.toggle_flags(toggle("f", true)).await })
        })
        .collect();
    // A transaction would see the same activity again and again.
    let observer = app.database.client().await;
    eventually("every writer to wait", async || {
        let sql = "
            select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        let waiting: i64 = observer.query_one(sql, &[]).await.unwrap().get(0);
        (waiting == i64::try_from(WRITERS).unwrap()).then_some(())
    })
    .await;

    // The other replica has connections left.
    let by = InterceptedService::new(channel, Bearer::new(&app.token));
    let flag = admin::Flag {
        project: "stall".into(),
        ..bool_flag("g")
    };
    let request = admin::CreateFlagRequest {
        flag: Some(flag),
        ..admin::CreateFlagRequest::default()
    };
    let created = FlagServiceClient::new(by.clone()).create_flag(request).await.unwrap();
    follower
        .until(created.into_inner().revisions[0].revision)
        .await
        .unwrap();
    let revoke = admin::RevokeKeyRequest {
        project: "stall".into(),
        environment: "dev".into(),
        key_id: keys.server_id,
        ..admin::RevokeKeyRequest::default()
    };
    EnvironmentServiceClient::new(by).revoke_key(revoke).await.unwrap();
    let end = follower.step().await.unwrap_err().expect("a status");
    assert_eq!(end.code(), Code::Unauthenticated);
    assert!(
        writers.iter().all(|writer| !writer.is_finished()),
        "they waited all the time"
    );

    lock.rollback().await.unwrap();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    replica.stop().await.unwrap();
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
