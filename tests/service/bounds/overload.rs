//! Too much of one kind of calls keeps no other waiting, and every place is given back.

use futures_util::future::join_all;
use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::flag_service_client::FlagServiceClient;
use halyard::pb::admin::v1::project_service_client::ProjectServiceClient;
use halyard::rpc::front::Limits;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::{Bounded, lock_heads, waiting_for_locks};
use crate::app::{App, Bearer, Client, EMAIL, PASSWORD, evaluate, login, toggle};
use crate::refusals::refused;
use crate::support::{eventually, within};

async fn start(pool_size: usize, requests: usize) -> (App, Bounded, crate::app::Keys) {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let limits = Limits {
        requests,
        ..Limits::default()
    };
    let bounded = Bounded::start(&app, pool_size, limits).await;
    (app, bounded, keys)
}

fn administrator(app: &App, bounded: &Bounded) -> Client {
    InterceptedService::new(bounded.channel.clone(), Bearer::new(&app.token))
}

/// What needs no row that the tests lock.
async fn list(app: &App, bounded: &Bounded) -> Result<Response<admin::ListProjectsResponse>, Status> {
    let mut client = ProjectServiceClient::new(administrator(app, bounded));
    client.list_projects(admin::ListProjectsRequest::default()).await
}

fn is_overloaded(status: &Status) -> bool {
    status.get_details_error_info().unwrap().reason == "OVERLOADED"
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_that_is_stuck_keeps_no_evaluation_waiting() {
    // A tenth is administration's: one.
    let (app, bounded, keys) = start(4, 10).await;
    let (mut locker, observer) = (app.database.client().await, app.database.client().await);
    let lock = lock_heads(&mut locker).await;
    let mut client = FlagServiceClient::new(administrator(&app, &bounded));
    let stuck = tokio::spawn(async move { client.toggle_flags(toggle("f", true)).await });
    waiting_for_locks(&observer, 1).await;
    bounded.in_flight("administration", 1).await;
    let status = refused(list(&app, &bounded).await, Code::Unavailable);
    assert!(is_overloaded(&status), "{status:?}");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    for _ in 0..100 {
        evaluate(&bounded.channel, &keys.server, "f", 0).await.unwrap();
    }
    // Logins have places of their own.
    login(&bounded.channel, EMAIL, PASSWORD).await.unwrap();
    assert_eq!(bounded.refused("administration").await, 1);
    assert_eq!(bounded.refused("evaluation").await, 0);

    lock.rollback().await.unwrap();
    within("the stuck call", stuck).await.unwrap().unwrap();
    bounded.in_flight("administration", 0).await;
    list(&app, &bounded).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_away_gives_the_place_back() {
    let (app, bounded, _) = start(4, 10).await;
    let (mut locker, observer) = (app.database.client().await, app.database.client().await);
    let lock = lock_heads(&mut locker).await;
    let mut client = FlagServiceClient::new(administrator(&app, &bounded));
    let stuck = tokio::spawn(async move { client.toggle_flags(toggle("f", true)).await });
    waiting_for_locks(&observer, 1).await;
    refused(list(&app, &bounded).await, Code::Unavailable);
    stuck.abort();
    eventually("a place", async || list(&app, &bounded).await.ok()).await;
    waiting_for_locks(&observer, 0).await;
    lock.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_wait_for_the_database_and_no_more() {
    const CALLS: usize = 80;
    let (app, bounded, keys) = start(1, 10_000).await;
    let mut locker = app.database.client().await;
    let lock = lock_heads(&mut locker).await;
    let calls = (0..CALLS).map(|_| {
        let mut client = FlagServiceClient::new(administrator(&app, &bounded));
        async move { client.toggle_flags(toggle("f", true)).await }
    });
    let calls = tokio::spawn(join_all(calls));
    let refused_at_once = eventually("who finds no room", async || {
        let refused = bounded.refused("database").await;
        (refused > 0).then_some(refused)
    })
    .await;
    assert!(refused_at_once < CALLS as u64, "others wait");
    evaluate(&bounded.channel, &keys.server, "f", 0).await.unwrap();
    lock.rollback().await.unwrap();
    let answers = within("all answers", calls).await.unwrap();
    let overloaded = answers.iter().filter_map(|answer| answer.as_ref().err());
    let overloaded = overloaded.filter(|status| status.code() == Code::Unavailable && is_overloaded(status));
    assert_eq!(overloaded.count() as u64, bounded.refused("database").await);
    assert!(answers.iter().any(Result::is_ok), "those who waited were served");
    eventually("room", async || list(&app, &bounded).await.ok()).await;
}
