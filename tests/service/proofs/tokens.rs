//! That no token but ours is one: forged, swapped, early, late, incomplete, or as large as a book.

use std::time::Duration;

use halyard::auth::jwt::{SigningKey, Tokens};
use halyard::pb::admin::v1 as pb;
use halyard::pb::admin::v1::auth_service_client::AuthServiceClient;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::app::{App, Bearer, SIGNING_KEY, connect, evaluate};
use crate::follower::Follower;
use crate::people::Person;
use crate::refusals::refused;
use crate::support::within;

async fn who_am_i(channel: &Channel, credential: &str) -> Result<(), Status> {
    let service = InterceptedService::new(channel.clone(), Bearer::new(credential));
    AuthServiceClient::new(service)
        .who_am_i(pb::WhoAmIRequest {})
        .await
        .map(drop)
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for n in 0..=chunk.len() {
            text.push(LETTERS[((bits >> (18 - 6 * n)) & 63) as usize].into());
        }
    }
    text
}

/// What is signed.
fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| base64url(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

fn signed(header: &Value, claims: &Value, key: &[u8], algorithm: Algorithm) -> String {
    let message = message(header, claims);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(key), algorithm).unwrap();
    format!("{message}.{signature}")
}

fn with(object: &Value, name: &str, value: Value) -> Value {
    let mut object = object.clone();
    object[name] = value;
    object
}

fn without(object: &Value, name: &str) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove(name);
    object
}

/// The id by which a token names the key that signed it.
fn key_id(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_access_token_lets_nobody_in() {
    let app = App::start().await;
    let ada = Person::administrator(&app).await;
    let now = jiff::Timestamp::now().as_second();
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": key_id(&app.token) });
    let claims = json!({
        "iss": "halyard", "aud": "halyard.admin.v1",
        "sub": ada.id, "sid": Uuid::now_v7(), "jti": Uuid::now_v7(),
        "iat": now, "nbf": now, "exp": now + 900,
    });
    let sign = |header: &Value, claims: &Value| signed(header, claims, SIGNING_KEY, Algorithm::HS256);
    // What follows is refused for what is altered, not for what it is made of.
    who_am_i(&app.channel, &sign(&header, &claims)).await.unwrap();

    let mut forged = vec![(
        "another key",
        signed(
            &header,
            &claims,
            b"a foreign key, which is of 32 bytes or more",
            Algorithm::HS256,
        ),
    )];
    for algorithm in ["none", "None", "NONE", ""] {
        let unsigned = message(&with(&header, "alg", json!(algorithm)), &claims);
        forged.push(("no algorithm", format!("{unsigned}.")));
        forged.push(("no algorithm, no end", unsigned.clone()));
        let signature = sign(&header, &claims);
        forged.push((
            "no algorithm, a signature",
            format!("{unsigned}.{}", signature.rsplit('.').next().unwrap()),
        ));
    }
    for algorithm in ["HS384", "HS512", "RS256", "ES256", "PS256", "EdDSA", "hs256"] {
        forged.push((
            "another algorithm's name",
            sign(&with(&header, "alg", json!(algorithm)), &claims),
        ));
    }
    for (name, algorithm) in [("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)] {
        let header = with(&header, "alg", json!(name));
        forged.push((
            "our key, another algorithm",
            signed(&header, &claims, SIGNING_KEY, algorithm),
        ));
    }
    for (name, value) in [
        ("kid", json!("x")),
        ("kid", json!("")),
        ("kid", json!("../../../dev/null")),
        ("kid", json!("' union all --")),
        ("kid", Value::Null),
        ("crit", json!(["exp"])),
    ] {
        forged.push(("header", sign(&with(&header, name, value), &claims)));
    }
    // A key that comes along with the token, and one that is to be fetched.
    let brought = with(
        &without(&header, "kid"),
        "jwk",
        json!({ "kty": "oct", "k": base64url(SIGNING_KEY) }),
    );
    forged.push(("a key of its own", sign(&brought, &claims)));
    let fetched = with(&without(&header, "kid"), "jku", json!("https://127.0.0.1/keys"));
    forged.push(("a key elsewhere", sign(&fetched, &claims)));
    for (name, value) in [
        ("exp", json!(now)),
        ("exp", json!(now - 900)),
        ("exp", json!(-1)),
        ("exp", json!("tomorrow")),
        ("exp", json!(1e300)),
        ("nbf", json!(now + 60)),
        ("nbf", json!(i64::MAX)),
        ("iss", json!("someone")),
        ("aud", json!("halyard.evaluation.v1")),
        ("aud", json!([])),
        ("sub", json!(Uuid::now_v7())),
        ("sub", json!("ada@example.com")),
        ("sub", json!("' or '1'='1")),
        ("sid", json!(1)),
    ] {
        forged.push(("claims", sign(&header, &with(&claims, name, value))));
    }
    for name in ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp"] {
        forged.push(("a claim is missing", sign(&header, &without(&claims, name))));
    }
    let [one, other] = [SIGNING_KEY, b"a foreign key, which is of 32 bytes or more"]
        .map(|key| signed(&header, &claims, key, Algorithm::HS256));
    forged.push(("cut short", one[..one.len() - 1].to_owned()));
    forged.push((
        "more than three parts",
        format!("{one}.{}", other.rsplit('.').next().unwrap()),
    ));
    forged.push(("padding", format!("{one}=")));
    let expected = refused(who_am_i(&app.channel, "x").await, Code::Unauthenticated);
    for (what, token) in forged {
        let status = refused(who_am_i(&app.channel, &token).await, Code::Unauthenticated);
        // What is wrong with it is nobody's business.
        assert_eq!(
            (status.message(), status.details()),
            (expected.message(), expected.details()),
            "{what}"
        );
    }
    who_am_i(&app.channel, &app.token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_kind_of_credential_is_not_another() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let ours = Tokens::new(&SigningKey::new(SIGNING_KEY).unwrap(), &[]);
    assert!(ours.verify(&app.token, jiff::Timestamp::now()).is_ok());
    let refresh = crate::app::log_in(&app.channel, crate::app::EMAIL, crate::app::PASSWORD)
        .await
        .unwrap()
        .refresh_token;
    let request = pb::CreateInvitationRequest {
        project: "shop".into(),
        role: pb::ProjectRole::Admin.into(),
        ..Default::default()
    };
    let invitation = app
        .projects()
        .create_invitation(request)
        .await
        .unwrap()
        .into_inner()
        .token;
    let (_, machine) = crate::people::service_token(&app, "shop", pb::ProjectRole::Owner).await;
    for credential in [&refresh, &invitation, &keys.server, &keys.client] {
        refused(who_am_i(&app.channel, credential).await, Code::Unauthenticated);
    }
    for credential in [&refresh, &invitation, &machine, &app.token] {
        refused(evaluate(&app.channel, credential, "f", 0).await, Code::Unauthenticated);
    }
    let signing_key = std::str::from_utf8(SIGNING_KEY).unwrap();
    refused(who_am_i(&app.channel, signing_key).await, Code::Unauthenticated);
}

/// However large, it costs its connection at most; who is on another one does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_huge_credential_is_refused_and_harms_nobody_else() {
    let app = App::start().await;
    let keys = app.shop().await;
    app.flag("f").await;
    let mut follower = Follower::new(&app.channel, &keys.server).await.unwrap();
    follower.step().await.unwrap();
    for size in [4_096, 4_097, 8_000, 16_000, 60_000, 1_000_000] {
        for prefix in ["", "halyard_service_", "halyard_server_", "eyJhbGciOiJIUzI1NiJ9."] {
            let token = format!("{prefix}{}", "x".repeat(size));
            let stranger = connect(&app.server).await;
            let answer = within("an answer", who_am_i(&stranger, &token)).await;
            let code = answer.expect_err("nobody is let in").code();
            if size <= 8_000 {
                assert_eq!(code, Code::Unauthenticated, "{size} {prefix}");
            }
            let evaluated = within("an answer", evaluate(&stranger, &token, "f", 0)).await;
            assert!(evaluated.is_err(), "{size} {prefix}");
            let began_at = std::time::Instant::now();
            evaluate(&app.channel, &keys.server, "f", 0).await.unwrap();
            who_am_i(&app.channel, &app.token).await.unwrap();
            assert!(began_at.elapsed() < Duration::from_secs(20), "{:?}", began_at.elapsed());
        }
    }
    let revision = app.toggle("f", true).await;
    within("the toggle", follower.until(revision)).await.unwrap();
}
