//! A commit that PostgreSQL does not answer: nobody is told that nothing was done, nor that it was.

use std::time::Duration;

use halyard::pb::admin::v1 as admin;
use halyard::rpc::front::Limits;
use tokio_postgres::Client;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::Bounded;
use crate::app::{App, Bearer, toggle};
use crate::refusals::refused;
use crate::support::{Database, cluster, eventually, within};

/// Every commit waits for a standby that there is not, until there need be none.
async fn wait_for_nobody(database: &Database, observer: &Client) {
    for sql in [
        "create table if not exists probes ()",
        "alter system set synchronous_standby_names = 'nobody'",
        "select pg_reload_conf()",
    ] {
        observer.batch_execute(sql).await.unwrap();
    }
    // The setting is there when a commit waits.
    let waiting =
        "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep' and query like '%probes%'";
    eventually("a commit that waits", async || {
        let prober = database.client().await;
        let probe = tokio::spawn(async move { prober.batch_execute("insert into probes default values").await });
        while !probe.is_finished() {
            if !observer.query(waiting, &[]).await.unwrap().is_empty() {
                return Some(());
            }
        }
        None
    })
    .await;
}

async fn wait_for_nobody_any_longer(observer: &Client) {
    for sql in [
        "alter system reset synchronous_standby_names",
        "select pg_reload_conf()",
    ] {
        observer.batch_execute(sql).await.unwrap();
    }
}

#[track_caller]
fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

#[track_caller]
fn is_unknown(status: &Status) {
    assert_eq!(reason(status), "OUTCOME_UNKNOWN");
    assert!(status.message().contains("may have been made"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_it_is_not_known_until_it_is_asked_for_again() {
    // Without senders of the log, as tests have it, nobody waits for a standby.
    let settings = [("wal_level", "replica"), ("max_wal_senders", "2")];
    let (postgres, _folder) = cluster::own_cluster_with(&settings).await;
    let app = App::start_on(Database {
        config: postgres.config(),
        url: postgres.url(),
    })
    .await;
    app.shop().await;
    app.flag("f").await;
    // Shorter than a statement may take otherwise.
    let limits = Limits {
        deadline: Duration::from_secs(3),
        ..Limits::default()
    };
    let bounded = Bounded::start(&app, 4, limits).await;
    let by = InterceptedService::new(bounded.channel.clone(), Bearer::new(&app.token));
    let client = admin::flag_service_client::FlagServiceClient::new(by);
    let ask = |enabled: bool, id: &str| {
        let mut client = client.clone();
        let request = admin::ToggleFlagsRequest {
            request_id: id.to_owned(),
            ..toggle("f", enabled)
        };
        async move { within("an answer", client.toggle_flags(request)).await }
    };
    let observer = app.database.client().await;
    wait_for_nobody(&app.database, &observer).await;
    let id = Uuid::new_v4().to_string();
    eventually("a commit that is not answered", async || {
        let status = refused(ask(true, &id).await, Code::DeadlineExceeded);
        // On a busy machine the deadline may come before the commit.
        (reason(&status) == "OUTCOME_UNKNOWN").then(|| is_unknown(&status))
    })
    .await;

    wait_for_nobody_any_longer(&observer).await;
    let repeated = eventually("an answer to the same again", async || ask(true, &id).await.ok()).await;
    assert_eq!(repeated.into_inner().revisions[0].revision, 3, "made once");

    wait_for_nobody(&app.database, &observer).await;
    let id = Uuid::new_v4().to_string();
    let dying = tokio::spawn(ask(false, &id));
    let ended = "select pg_terminate_backend(pid) from pg_stat_activity
        where wait_event = 'SyncRep' and query = 'COMMIT'";
    eventually("its end", async || {
        observer.query(ended, &[]).await.unwrap();
        dying.is_finished().then_some(())
    })
    .await;
    let status = refused(dying.await.unwrap(), Code::Unavailable);
    is_unknown(&status);
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    wait_for_nobody_any_longer(&observer).await;
    let repeated = eventually("an answer to the same again", async || ask(false, &id).await.ok()).await;
    assert_eq!(repeated.into_inner().revisions[0].revision, 4, "made once");
}
