//! The issuer's keys: found when they are new, and asked for no more often than need be.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tonic::Code;

use super::issuer::{Answer, Signer, TestIssuer};
use super::{start, start_with, turned_away, who_am_i};
use crate::refusals::refused;
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_of_the_issuer_is_found_and_a_withdrawn_one_is_forgotten() {
    let (app, issuer) = start().await;
    assert!(who_am_i(&app.channel, &issuer.token("grace", &[], 10)).await.is_ok());
    let second = Signer::new("second");
    issuer.publishes(&[&second]);
    let token = second.sign(&issuer.claims("grace", &[], 10));
    assert!(who_am_i(&app.channel, &token).await.is_ok());
    // The answer that brought the new key no longer had the old one.
    turned_away(&app, &issuer.token("grace", &[], 10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_issuer_is_away_known_keys_work_and_unknown_ones_wait() {
    let (app, issuer) = start().await;
    let token = issuer.token("grace", &[], 10);
    assert!(who_am_i(&app.channel, &token).await.is_ok());
    issuer.answers(Answer::Nothing);
    let second = Signer::new("second");
    let unknown = second.sign(&issuer.claims("grace", &[], 10));
    refused(who_am_i(&app.channel, &unknown).await, Code::Unavailable);
    assert!(who_am_i(&app.channel, &token).await.is_ok());
    assert!(who_am_i(&app.channel, &issuer.token("new", &[], 10)).await.is_ok());
    issuer.publishes(&[&issuer.signer, &second]);
    assert!(who_am_i(&app.channel, &unknown).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_away_at_the_start_keeps_nobody_else_out() {
    let issuer = TestIssuer::start().await;
    issuer.answers(Answer::Nothing);
    let (app, issuer) = start_with(issuer).await;
    let token = issuer.token("grace", &[], 10);
    refused(who_am_i(&app.channel, &token).await, Code::Unavailable);
    assert!(who_am_i(&app.channel, &app.token).await.is_ok());
    issuer.publishes(&[&issuer.signer]);
    assert!(who_am_i(&app.channel, &token).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unknown_keys_does_not_flood_the_issuer() {
    let (app, issuer) = start().await;
    eventually("the first look at the keys", async || {
        (issuer.requests() >= 2).then_some(())
    })
    .await;
    let stranger = Signer::new("stranger");
    let forged = |n: usize| stranger.sign_as(&format!("unknown-{n}"), &issuer.claims("grace", &[], 10));
    let tokens: Vec<_> = (0..200).map(forged).collect();
    for refusal in join_all(tokens.iter().map(|token| who_am_i(&app.channel, token))).await {
        assert_eq!(refusal.unwrap_err().code(), Code::Unauthenticated);
    }
    for token in tokens.iter().take(50) {
        turned_away(&app, token).await;
    }
    // Two questions a look: the one at the start, and as many as tokens can have in a row.
    let most = 2 * (1 + halyard::issuer::BURST.get() as usize + 1);
    assert!(issuer.requests() <= most, "{} requests", issuer.requests());
    assert!(who_am_i(&app.channel, &issuer.token("grace", &[], 10)).await.is_ok());
}

/// An issuer that answers so lets nobody in, and nobody is led astray by it.
async fn distrusted(answer: impl FnOnce(&TestIssuer) -> Answer) {
    let issuer = TestIssuer::start().await;
    issuer.answers(answer(&issuer));
    let (app, issuer) = start_with(issuer).await;
    refused(
        who_am_i(&app.channel, &issuer.token("grace", &[], 10)).await,
        Code::Unavailable,
    );
}

fn discovery(issuer: &str, keys: &str) -> Value {
    json!({ "issuer": issuer, "jwks_uri": keys })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_another_than_configured_is_not_trusted() {
    distrusted(|issuer| Answer::Discovery(discovery(&format!("{}/", issuer.url), &issuer.url))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_not_fetched_from_elsewhere_without_tls() {
    distrusted(|issuer| Answer::Discovery(discovery(&issuer.url, "http://192.0.2.1/keys"))).await;
    distrusted(|_| Answer::Redirect("http://192.0.2.1/".to_owned())).await;
    distrusted(|issuer| Answer::Redirect(issuer.url.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_end_are_not_read_to_it() {
    distrusted(|_| Answer::Endless).await;
}
