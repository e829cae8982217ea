//! Which tokens let nobody in.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::issuer::{Signer, TestIssuer};
use super::{count, start, start_with, turned_away, who_am_i};
use crate::app::{App, connect};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_issuers_token_for_us_lets_nobody_in() {
    let (app, issuer) = start_with(TestIssuer::start_with(Signer::rsa("first")).await).await;
    let now = Timestamp::now().as_second();
    for changes in [
        json!({ "aud": "another-application" }),
        json!({ "aud": null }),
        json!({ "iss": "https://login.example.com" }),
        json!({ "iss": format!("{}/", issuer.url) }),
        json!({ "iss": "halyard" }),
        json!({ "exp": now - 1 }),
        json!({ "exp": null }),
        json!({ "nbf": now + 600 }),
        json!({ "iat": now + 600 }),
        json!({ "sub": null }),
    ] {
        turned_away(&app, &issuer.token_with("grace", &changes)).await;
    }
    let claims = issuer.claims("grace", &["ops"], 10);
    // Signed by somebody else, under the name of the right key, and by a key of another kind.
    turned_away(&app, &Signer::rsa("first").sign(&claims)).await;
    turned_away(&app, &Signer::new("first").sign(&claims)).await;
    // Signed with the public key as if it were a secret.
    let modulus = issuer.signer.published["n"].as_str().unwrap();
    for secret in [modulus.as_bytes(), issuer.signer.published.to_string().as_bytes()] {
        let header = Header {
            kid: Some("first".to_owned()),
            ..Header::new(Algorithm::HS256)
        };
        turned_away(
            &app,
            &jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap(),
        )
        .await;
    }
    // Not signed: {"alg":"none","kid":"first"}.
    let signed = issuer.signer.sign(&claims);
    let payload = signed.split('.').nth(1).unwrap();
    turned_away(&app, &format!("eyJhbGciOiJub25lIiwia2lkIjoiZmlyc3QifQ.{payload}.")).await;
    // Altered behind the signature.
    let altered = issuer.token_with("eve", &json!({}));
    let (_, signature) = signed.rsplit_once('.').unwrap();
    let (message, _) = altered.rsplit_once('.').unwrap();
    turned_away(&app, &format!("{message}.{signature}")).await;
    assert_eq!(count(&app, "identities").await, 0);
    assert!(who_am_i(&app.channel, &signed).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_token_is_read_and_a_huge_one_harms_nobody() {
    let (app, issuer) = start().await;
    let padded = |bytes: usize| issuer.token_with("grace", &json!({ "padding": "a".repeat(bytes) }));
    let large = padded(11_900);
    assert!(large.len() > 16_000 && large.len() < 16 * 1024, "{}", large.len());
    assert!(who_am_i(&app.channel, &large).await.is_ok());
    turned_away(&app, &padded(13_000)).await;
    // The connection may be closed over it; others are served.
    let own = connect(&app.server).await;
    assert!(who_am_i(&own, &padded(1024 * 1024)).await.is_err());
    assert!(who_am_i(&app.channel, &large).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_let_in_where_no_issuer_is_configured() {
    let (app, issuer) = (App::start().await, TestIssuer::start().await);
    turned_away(&app, &issuer.token("grace", &["ops"], 10)).await;
    assert_eq!(issuer.requests(), 0);
}
