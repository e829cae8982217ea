//! Deadlines end what PostgreSQL is at, and nothing is written after them.

use std::time::Duration;

use halyard::pb::admin::v1 as admin;
use halyard::rpc::front::Limits;
use halyard::store::Settings;
use tonic::{Code, Request};

use super::{Bounded, lock_heads, nothing_is_left, waiting_for_locks};
use crate::app::{App, Bearer, toggle};
use crate::refusals::{by_server, refused};
use crate::support::proxy::Proxy;
use crate::support::{database, within};

const SHORT: Duration = Duration::from_millis(300);

fn by_soon<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(SHORT);
    request
}

/// A service with one connection to PostgreSQL for requests: one that were not usable after all would be missed.
async fn narrow() -> App {
    let app = App::start_with(database().await, |options| options.store.pool_size = 1).await;
    app.shop().await;
    app.flag("f").await;
    app
}

async fn projects(app: &App) -> usize {
    let mut client = app.projects();
    let listed = client.list_projects(admin::ListProjectsRequest::default());
    let listed = within("a list", listed).await.unwrap().into_inner();
    listed.projects.len()
}

fn flags() -> admin::ListFlagsRequest {
    admin::ListFlagsRequest {
        project: "shop".into(),
        ..admin::ListFlagsRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_for_a_lock_ends_at_its_deadline_and_leaves_nothing_behind() {
    let app = narrow().await;
    let (mut locker, observer) = (app.database.client().await, app.database.client().await);
    let lock = lock_heads(&mut locker).await;
    let told = by_server(async || app.flags().toggle_flags(by_soon(toggle("f", true))).await).await;
    refused(told, Code::DeadlineExceeded);
    nothing_is_left(&observer).await;
    assert_eq!(projects(&app).await, 1, "the connection goes on");
    lock.rollback().await.unwrap();
    assert_eq!(app.toggle("f", true).await, 3, "nothing was written before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_ends_at_its_deadline_too() {
    let app = narrow().await;
    let (mut locker, observer) = (app.database.client().await, app.database.client().await);
    let lock = locker.transaction().await.unwrap();
    lock.batch_execute("lock table flags in access exclusive mode")
        .await
        .unwrap();
    refused(
        by_server(async || app.flags().list_flags(by_soon(flags())).await).await,
        Code::DeadlineExceeded,
    );
    nothing_is_left(&observer).await;
    assert_eq!(projects(&app).await, 1);
    lock.rollback().await.unwrap();
    let listed = app.flags().list_flags(flags()).await.unwrap().into_inner();
    assert_eq!(listed.flags.len(), 1);
}

/// Less than PostgreSQL is ever given, and than a log-in there may take.
#[tokio::test(flavor = "multi_thread")]
async fn many_reads_that_end_too_soon_have_postgresql_log_nobody_in() {
    const READS: usize = 40;
    let database = database().await;
    let proxy = Proxy::before(&database.config).await;
    let app = App::start_with(database, |options| {
        options.store = Settings::new(&proxy.config);
        options.store.pool_size = 2;
    })
    .await;
    app.shop().await;
    let (mut locker, observer) = (app.database.client().await, app.database.client().await);
    let lock = locker.transaction().await.unwrap();
    lock.batch_execute("lock table flags in access exclusive mode")
        .await
        .unwrap();
    let before = proxy.accepted();
    let mut client = app.flags();
    let reads = (0..READS).map(|_| async {
        let mut request = Request::new(flags());
        request.set_timeout(Duration::from_millis(5));
        client.clone().list_flags(request).await.unwrap_err();
    });
    for read in reads {
        read.await;
    }
    let asked = proxy.accepted() - before;
    assert!(asked <= 2, "{asked} connections for {READS} reads, of a pool of two");
    nothing_is_left(&observer).await;
    lock.rollback().await.unwrap();
    let listed = within("a list", client.list_flags(flags())).await.unwrap();
    assert!(listed.into_inner().flags.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_any_longer_is_given_up() {
    let app = narrow().await;
    let (mut locker, observer) = (app.database.client().await, app.database.client().await);
    let lock = lock_heads(&mut locker).await;
    let mut client = app.flags();
    let write = tokio::spawn(async move { client.toggle_flags(toggle("f", true)).await });
    waiting_for_locks(&observer, 1).await;
    write.abort();
    nothing_is_left(&observer).await;
    assert_eq!(projects(&app).await, 1);
    lock.rollback().await.unwrap();

    let lock = locker.transaction().await.unwrap();
    lock.batch_execute("lock table flags in access exclusive mode")
        .await
        .unwrap();
    let mut client = app.flags();
    let read = tokio::spawn(async move { client.list_flags(flags()).await });
    waiting_for_locks(&observer, 1).await;
    read.abort();
    nothing_is_left(&observer).await;
    assert_eq!(projects(&app).await, 1);
    lock.rollback().await.unwrap();
    assert_eq!(app.toggle("f", true).await, 3, "nothing was written before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_takes_no_longer_than_the_server_lets_it() {
    let app = App::start().await;
    app.shop().await;
    app.flag("f").await;
    // Shorter than a statement may take otherwise.
    let limits = Limits {
        deadline: Duration::from_secs(2),
        ..Limits::default()
    };
    let bounded = Bounded::start(&app, 4, limits).await;
    let (mut locker, observer) = (app.database.client().await, app.database.client().await);
    let lock = lock_heads(&mut locker).await;
    let by = tonic::service::interceptor::InterceptedService::new(bounded.channel.clone(), Bearer::new(&app.token));
    let client = admin::flag_service_client::FlagServiceClient::new(by);
    let toggle_by = |deadline: Option<Duration>| {
        let mut client = client.clone();
        async move {
            let mut request = Request::new(toggle("f", true));
            if let Some(deadline) = deadline {
                request.set_timeout(deadline);
            }
            within("an answer", client.toggle_flags(request)).await
        }
    };
    let (none, long) = tokio::join!(toggle_by(None), toggle_by(Some(Duration::from_mins(5))));
    refused(none, Code::DeadlineExceeded);
    refused(long, Code::DeadlineExceeded);
    nothing_is_left(&observer).await;
    lock.rollback().await.unwrap();
    assert_eq!(toggle_by(None).await.unwrap().into_inner().revisions[0].revision, 3);
}
