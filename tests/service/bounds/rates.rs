//! How many requests one credential makes a second.

use std::num::NonZeroU32;
use std::time::Duration;

use halyard::pb::admin::v1 as admin;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use halyard::rpc::front::Limits;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::Bounded;
use crate::app::{App, Bearer, PASSWORD, evaluate, login};
use crate::follower::Follower;
use crate::refusals::refused;
use crate::support::eventually;

/// A second, and so many at once.
const RATE: u64 = 3;

async fn start() -> (App, Bounded, crate::app::Keys) {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let limits = Limits {
        key_rate: NonZeroU32::new(u32::try_from(RATE).unwrap()),
        ..Limits::default()
    };
    let bounded = Bounded::start(&app, 4, limits).await;
    (app, bounded, keys)
}

/// Asks until it is refused, and says how often it was answered before. However slow it is: nobody asks as slowly as that for long.
async fn until_refused<T: std::fmt::Debug>(mut ask: impl AsyncFnMut() -> Result<T, Status>) -> u64 {
    let mut answered = 0;
    let status = eventually("a refusal", async || match ask().await {
        Ok(_) => {
            answered += 1;
            None
        }
        refusal => Some(refused(refusal, Code::ResourceExhausted)),
    })
    .await;
    assert_eq!(status.get_details_error_info().unwrap().reason, "RATE_EXCEEDED");
    let retry = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(
        retry > Duration::ZERO && retry <= Duration::from_secs(1),
        "{retry:?}: at {RATE} a second"
    );
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_asks_too_often_is_told_when_to_come_again_and_another_is_not_touched() {
    let (_app, bounded, keys) = start().await;
    let ask = async |key: &str| evaluate(&bounded.channel, key, "f", 0).await;
    // Eventually, which asks every ten milliseconds, is faster than the rate.
    let answered = until_refused(async || ask(&keys.server).await).await;
    assert!(answered >= RATE, "as many at once are allowed: {answered}");
    ask(&keys.client).await.unwrap();
    assert!(bounded.refused("rate").await >= 1);
    eventually("a later question", async || ask(&keys.server).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_counts_when_it_is_opened() {
    let (_app, bounded, keys) = start().await;
    let mut open = Vec::new();
    let opened = until_refused(async || {
        let mut follower = Follower::new(&bounded.channel, &keys.server).await?;
        follower.step().await.unwrap();
        open.push(follower);
        Ok(())
    })
    .await;
    assert!(opened >= RATE);
    assert_eq!(opened, open.len() as u64, "those that are open stay so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_counts_whatever_token_is_shown_and_who_shows_none_does_not() {
    let (app, bounded, _) = start().await;
    let other = login(&app.channel, crate::app::EMAIL, PASSWORD).await.unwrap();
    let who_am_i = async |token: &str| {
        let by = InterceptedService::new(bounded.channel.clone(), Bearer::new(token));
        AuthServiceClient::new(by)
            .who_am_i(admin::WhoAmIRequest::default())
            .await
    };
    let mut turn = 0;
    let answered = until_refused(async || {
        turn += 1;
        who_am_i(if turn % 2 == 0 { &app.token } else { &other }).await
    })
    .await;
    assert!(answered >= RATE);
    for _ in 0..=RATE {
        login(&bounded.channel, crate::app::EMAIL, PASSWORD).await.unwrap();
    }
    eventually("a later question", async || who_am_i(&app.token).await.ok()).await;
}
