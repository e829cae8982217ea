//! What tokens are accepted, and which are not.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: i64 = 1_700_000_000;

fn tokens() -> Tokens {
    Tokens::new(&SigningKey::new(KEY).unwrap(), &[])
}

fn other_key() -> SigningKey {
    SigningKey::new(b"another key of thirty-two bytes..").unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn holder() -> Holder {
    Holder {
        user: Uuid::from_u128(1),
        session: Uuid::from_u128(2),
        token: Uuid::from_u128(3),
    }
}

fn header() -> Value {
    json!({ "alg": "HS256", "typ": "JWT", "kid": tokens().key_id })
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE,
        "sub": Uuid::from_u128(1), "sid": Uuid::from_u128(2), "jti": Uuid::from_u128(3),
        "iat": NOW, "nbf": NOW, "exp": NOW + 900,
    })
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}

/// A token of any header and claims, signed with our own key by HMAC with SHA-256, whatever the header says.
fn forge(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| base64url(value.to_string().as_bytes());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(KEY);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for n in 0..=chunk.len() {
            let letter = (bits >> (18 - 6 * n)) & 63;
            text.push(LETTERS[letter as usize].into());
        }
    }
    text
}

fn check(token: &str, second: i64, expected: Result<(), Reason>) {
    let answer = tokens().verify(token, at(second));
    assert_eq!(
        answer.map(|_| ()).map_err(|rejected| rejected.reason),
        expected,
        "{token}"
    );
}

fn refused(header: &Value, claims: &Value, reason: Reason) {
    check(&forge(header, claims), NOW, Err(reason));
}

#[test]
fn what_is_issued_is_verified() {
    let issued = tokens().issue(holder(), at(NOW)).unwrap();
    assert_eq!(issued.expires_at, at(NOW + 900));
    let verified = tokens().verify(issued.token.expose_secret(), at(NOW)).unwrap();
    let expected = Verified {
        holder: holder(),
        issued_at: at(NOW),
        expires_at: at(NOW + 900),
    };
    assert_eq!(verified, expected);
}

#[test]
fn the_forged_token_is_valid_unless_altered() {
    check(&forge(&header(), &claims()), NOW, Ok(()));
}

#[test]
fn a_token_works_for_its_lifetime_and_not_a_second_longer() {
    let token = forge(&header(), &claims());
    check(&token, NOW + 899, Ok(()));
    check(&token, NOW + 900, Err(Reason::Expired));
    check(&token, NOW + 100_000, Err(Reason::Expired));
}

#[test]
fn a_token_may_be_ahead_of_our_clock_by_five_seconds() {
    let token = forge(&header(), &claims());
    check(&token, NOW - 5, Ok(()));
    check(&token, NOW - 6, Err(Reason::Premature));
}

#[test]
fn the_algorithm_is_ours_to_choose() {
    for algorithm in ["HS384", "HS512", "RS256", "EdDSA", "ES256"] {
        refused(&with(header(), "alg", json!(algorithm)), &claims(), Reason::Algorithm);
    }
    for algorithm in ["none", "None", "hs256", ""] {
        refused(&with(header(), "alg", json!(algorithm)), &claims(), Reason::Malformed);
    }
    refused(&with(header(), "crit", json!(["exp"])), &claims(), Reason::Algorithm);
}

#[test]
fn an_unsigned_token_is_refused() {
    let token = forge(&header(), &claims());
    let (message, _) = token.rsplit_once('.').unwrap();
    check(&format!("{message}."), NOW, Err(Reason::Signature));
    check(message, NOW, Err(Reason::Malformed));
}

#[test]
fn a_foreign_key_is_refused_even_under_our_key_id() {
    let mut stranger = Tokens::new(&other_key(), &[]);
    let issue = |stranger: &Tokens| stranger.issue(holder(), at(NOW)).unwrap();
    check(issue(&stranger).token.expose_secret(), NOW, Err(Reason::UnknownKey));
    stranger.key_id = tokens().key_id;
    check(issue(&stranger).token.expose_secret(), NOW, Err(Reason::Signature));
}

#[test]
fn a_key_that_signed_before_or_will_sign_next_verifies() {
    let (ours, other) = (SigningKey::new(KEY).unwrap(), other_key());
    let (before, after) = (
        Tokens::new(&ours, &[]),
        Tokens::new(&other, std::slice::from_ref(&ours)),
    );
    let old = before.issue(holder(), at(NOW)).unwrap();
    assert!(after.verify(old.token.expose_secret(), at(NOW)).is_ok());
    let new = after.issue(holder(), at(NOW)).unwrap();
    assert!(after.verify(new.token.expose_secret(), at(NOW)).is_ok());
    check(new.token.expose_secret(), NOW, Err(Reason::UnknownKey));
    let prepared = Tokens::new(&ours, &[other_key()]);
    assert!(prepared.verify(new.token.expose_secret(), at(NOW)).is_ok());
}

#[test]
fn a_token_must_name_its_key() {
    refused(&without(header(), "kid"), &claims(), Reason::UnknownKey);
    refused(&with(header(), "kid", json!("")), &claims(), Reason::UnknownKey);
}

#[test]
fn issuer_and_audience_must_be_ours() {
    refused(&header(), &with(claims(), "iss", json!("stranger")), Reason::Issuer);
    refused(&header(), &with(claims(), "aud", json!("stranger")), Reason::Audience);
    refused(
        &header(),
        &with(claims(), "aud", json!([AUDIENCE, "stranger"])),
        Reason::Malformed,
    );
}

#[test]
fn every_claim_is_required() {
    for claim in ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp"] {
        refused(&header(), &without(claims(), claim), Reason::Malformed);
        refused(&header(), &with(claims(), claim, json!(null)), Reason::Malformed);
        refused(&header(), &with(claims(), claim, json!({})), Reason::Malformed);
    }
    refused(&header(), &with(claims(), "exp", json!(i64::MAX)), Reason::Malformed);
}

#[test]
fn every_altered_character_is_refused() {
    let issued = tokens().issue(holder(), at(NOW)).unwrap();
    let token = issued.token.expose_secret();
    for at_byte in 0..token.len() - 1 {
        let replacement = if token.as_bytes()[at_byte] == b'A' { "B" } else { "A" };
        let mut altered = token.to_owned();
        altered.replace_range(at_byte..=at_byte, replacement);
        assert!(tokens().verify(&altered, at(NOW)).is_err(), "{altered}");
    }
}

#[test]
fn long_tokens_are_not_looked_at() {
    check(&"a".repeat(TOKEN_BYTES + 1), NOW, Err(Reason::TooLong));
    check(&"a".repeat(1_000_000), NOW, Err(Reason::TooLong));
    check(&"a".repeat(TOKEN_BYTES), NOW, Err(Reason::Malformed));
}

#[test]
fn short_signing_keys_are_refused() {
    let refused = SigningKey::new(&KEY[1..]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the signing key has 31 bytes; at least 32 are required"
    );
}

#[test]
fn secrets_are_not_printed() {
    let key = SigningKey::new(KEY).unwrap();
    let tokens = Tokens::new(&key, &[]);
    let issued = tokens.issue(holder(), at(NOW)).unwrap();
    let printed = format!("{key:?} {tokens:?} {issued:?}");
    assert!(!printed.contains("0123456789abcdef"), "{printed}");
    assert!(!printed.contains("eyJ"), "{printed}");
}

proptest! {
    #[test]
    fn no_text_is_a_token(text in "[A-Za-z0-9._-]{0,200}") {
        prop_assert!(tokens().verify(&text, at(NOW)).is_err());
    }
}
