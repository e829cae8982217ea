//! Which tokens are believed, of keys of every kind, and everything that is not.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Value, json};

use super::*;
use crate::domain::access::Role;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://login.example.com/main";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn expectations() -> Expectations {
    Expectations {
        issuer: Address::issuer(ISSUER).unwrap(),
        audience: "halyard".to_owned(),
        roles_claim: ClaimPath::new("groups").unwrap(),
        roles: RoleMap::parse("ops=administrator,web=shop:developer").unwrap(),
    }
}

/// A private key, and what it is published as under the name of its algorithm.
struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
    published: Value,
}

impl Signer {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum may grow")]
    fn new(algorithm: Algorithm) -> Self {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let key = match algorithm {
            ES256 => EncodingKey::from_ec_der(
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                    .unwrap()
                    .to_pkcs8v1()
                    .unwrap()
                    .as_ref(),
            ),
            ES384 => EncodingKey::from_ec_der(
                EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)
                    .unwrap()
                    .to_pkcs8v1()
                    .unwrap()
                    .as_ref(),
            ),
            EdDSA => EncodingKey::from_ed_der(Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref()),
            RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => {
                EncodingKey::from_rsa_der(rsa(KeySize::Rsa2048).as_slice())
            }
            _ => panic!("{algorithm:?} is not asymmetric"),
        };
        let mut published = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        published["kid"] = format!("{algorithm:?}").into();
        Self {
            algorithm,
            key,
            published,
        }
    }

    fn header(&self) -> Header {
        Header {
            kid: Some(format!("{:?}", self.algorithm)),
            ..Header::new(self.algorithm)
        }
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }

    fn sign_as(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }

    fn keys(&self) -> KeySet {
        published(&[&self.published])
    }
}

/// A new RSA key as PKCS #1: what lies behind the fixed head of PKCS #8.
fn rsa(size: KeySize) -> Vec<u8> {
    let key = RsaKeyPair::generate(size).unwrap();
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
    der.as_ref().get(26..).unwrap().to_vec()
}

fn published(keys: &[&Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "halyard", "sub": "ada-1", "iat": NOW - 10, "exp": NOW + 300, "jti": "token-1",
        "email": "Ada@example.com", "name": "Ada", "groups": ["web", "others"],
    })
}

/// The usual claims with some changed; null takes one away.
fn with(changes: &Value) -> Value {
    let mut claims = claims();
    for (claim, value) in changes.as_object().unwrap() {
        claims[claim] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn verify(token: &str, keys: &KeySet) -> Result<Presented, Reason> {
    expectations().verify(token, keys, at(NOW))
}

/// A token with these claims, made properly otherwise, comes to this.
fn check(changes: &Value, expected: Result<(), Reason>) {
    let signer = Signer::new(Algorithm::ES256);
    let verified = verify(&signer.sign(&with(changes)), &signer.keys());
    assert_eq!(verified.map(|_| ()), expected, "{changes}");
}

#[test]
fn a_token_says_who_and_which_roles() {
    let signer = Signer::new(Algorithm::ES256);
    let presented = verify(&signer.sign(&claims()), &signer.keys()).unwrap();
    assert_eq!(
        (presented.key.issuer.as_str(), presented.key.subject.as_str()),
        (ISSUER, "ada-1")
    );
    assert_eq!(
        (presented.email.as_str(), presented.shown.as_str()),
        ("Ada@example.com", "Ada@example.com")
    );
    assert_eq!(
        (presented.issued_at, presented.expires_at),
        (at(NOW - 10), at(NOW + 300))
    );
    assert_eq!(presented.audited_credential(), "oidc:token-1");
    let roles: Vec<_> = presented
        .claimed
        .projects
        .iter()
        .map(|(key, role)| (key.as_str(), *role))
        .collect();
    assert_eq!(roles, [("shop", Role::Developer)]);
    assert!(!presented.claimed.administrator);
}

#[test]
fn every_asymmetric_algorithm_is_accepted_with_its_key() {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    for algorithm in [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA] {
        let signer = Signer::new(algorithm);
        assert!(verify(&signer.sign(&claims()), &signer.keys()).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn a_key_signs_with_the_algorithm_that_it_names_and_no_other_of_its_kind() {
    let signer = Signer::new(Algorithm::RS256);
    let header = |alg| Header { alg, ..signer.header() };
    let other = signer.sign_as(&header(Algorithm::PS256), &claims());
    assert_eq!(verify(&other, &signer.keys()), Err(Reason::Algorithm));
    let mut free = signer.published.clone();
    free.as_object_mut().unwrap().remove("alg");
    assert!(verify(&other, &published(&[&free])).is_ok());
}

#[test]
fn the_name_of_a_key_of_another_kind_is_refused() {
    let (elliptic, rsa) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::RS256));
    let header = Header {
        kid: Some("RS256".to_owned()),
        ..elliptic.header()
    };
    let token = elliptic.sign_as(&header, &claims());
    let keys = published(&[&elliptic.published, &rsa.published]);
    assert_eq!(verify(&token, &keys), Err(Reason::Algorithm));
}

/// The classic swap: a public key is no secret, so it must never serve as one.
#[test]
fn nothing_is_signed_with_what_is_public() {
    let signer = Signer::new(Algorithm::RS256);
    let modulus = signer.published["n"].as_str().unwrap();
    let secrets = [
        EncodingKey::from_secret(modulus.as_bytes()),
        EncodingKey::from_urlsafe_base64_secret(&format!("{modulus}==")).unwrap(),
        EncodingKey::from_secret(signer.published.to_string().as_bytes()),
        EncodingKey::from_secret(b""),
    ];
    for secret in secrets {
        for alg in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = Header { alg, ..signer.header() };
            let token = jsonwebtoken::encode(&header, &claims(), &secret).unwrap();
            assert_eq!(verify(&token, &signer.keys()), Err(Reason::Algorithm), "{alg:?}");
        }
    }
}

#[test]
fn a_published_secret_is_no_key() {
    let secret = json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "HS256", "alg": "HS256" });
    assert!(published(&[&secret]).is_empty());
    let key = EncodingKey::from_secret(b"secret");
    let header = Header {
        kid: Some("HS256".to_owned()),
        ..Header::new(Algorithm::HS256)
    };
    let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
    assert_eq!(verify(&token, &published(&[&secret])), Err(Reason::Algorithm));
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let signer = Signer::new(Algorithm::ES256);
    let token = signer.sign(&claims());
    let (message, _) = token.rsplit_once('.').unwrap();
    let payload = message.split_once('.').unwrap().1;
    // {"alg":"none","kid":"ES256"}, and the same in other letters.
    for header in [
        "eyJhbGciOiJub25lIiwia2lkIjoiRVMyNTYifQ",
        "eyJhbGciOiJOb25lIiwia2lkIjoiRVMyNTYifQ",
    ] {
        for signature in ["", "e30"] {
            let token = format!("{header}.{payload}.{signature}");
            assert_eq!(verify(&token, &signer.keys()), Err(Reason::Algorithm));
        }
    }
    assert_eq!(verify(&format!("{message}."), &signer.keys()), Err(Reason::Signature));
}

#[test]
fn a_key_of_somebody_else_with_the_same_name_does_not_do() {
    let (ours, theirs) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256));
    assert_eq!(verify(&theirs.sign(&claims()), &ours.keys()), Err(Reason::Signature));
}

#[test]
fn an_unknown_name_is_told_apart_since_the_issuer_may_know_it() {
    let signer = Signer::new(Algorithm::ES256);
    assert_eq!(
        verify(&signer.sign(&claims()), &KeySet::default()),
        Err(Reason::UnknownKey)
    );
    // What is worthless anyway makes nobody ask.
    let expired = signer.sign(&with(&json!({ "exp": NOW })));
    assert_eq!(verify(&expired, &KeySet::default()), Err(Reason::Expired));
}

#[test]
fn without_a_name_the_only_key_that_fits_counts() {
    let signer = Signer::new(Algorithm::ES256);
    let (other, rsa) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::RS256));
    let token = signer.sign_as(&Header::new(Algorithm::ES256), &claims());
    assert!(verify(&token, &published(&[&rsa.published, &signer.published])).is_ok());
    assert_eq!(
        verify(&token, &published(&[&signer.published, &other.published])),
        Err(Reason::Malformed)
    );
    // It may have been replaced meanwhile.
    assert_eq!(verify(&token, &other.keys()), Err(Reason::UnknownKey));
}

#[test]
fn keys_for_other_things_than_signatures_are_left_out() {
    let signer = Signer::new(Algorithm::ES256);
    for (field, value, kept) in [
        ("use", json!("sig"), true),
        ("use", json!("enc"), false),
        ("key_ops", json!(["verify"]), true),
        ("key_ops", json!(["encrypt"]), false),
        ("alg", json!("HS256"), false),
        ("alg", json!("RS256"), false),
        ("alg", json!("ECDH-ES"), false),
        ("crv", json!("P-521"), false),
        ("kty", json!("strange"), false),
    ] {
        let mut key = signer.published.clone();
        key[field] = value.clone();
        assert_eq!(published(&[&key]).len(), usize::from(kept), "{field} {value}");
    }
    // One that cannot be read spoils no other.
    assert_eq!(
        published(&[&json!(7), &json!({ "kty": "RSA" }), &signer.published]).len(),
        1
    );
    assert!(KeySet::parse(b"[]").is_err() && KeySet::parse(b"").is_err());
    let many = vec![&signer.published; limits::ISSUER_KEYS + 1];
    assert_eq!(published(&many).len(), limits::ISSUER_KEYS);
}

#[test]
fn issuer_and_audience_are_compared_exactly() {
    check(
        &json!({ "iss": "https://login.example.com/main/" }),
        Err(Reason::Issuer),
    );
    check(&json!({ "iss": [ISSUER] }), Err(Reason::Issuer));
    check(&json!({ "iss": null }), Err(Reason::Issuer));
    check(&json!({ "aud": "Halyard" }), Err(Reason::Audience));
    check(&json!({ "aud": null }), Err(Reason::Audience));
    check(&json!({ "aud": [] }), Err(Reason::Audience));
    check(&json!({ "aud": ["other"] }), Err(Reason::Audience));
    check(&json!({ "aud": ["other", "halyard"] }), Ok(()));
}

#[test]
fn the_times_are_kept() {
    check(&json!({ "exp": NOW }), Err(Reason::Expired));
    check(&json!({ "exp": NOW + 1 }), Ok(()));
    check(&json!({ "exp": null }), Err(Reason::Malformed));
    check(&json!({ "exp": "later" }), Err(Reason::Malformed));
    check(&json!({ "exp": 1e300 }), Err(Reason::Malformed));
    check(&json!({ "iat": null }), Err(Reason::Malformed));
    check(&json!({ "iat": NOW + 60 }), Ok(()));
    check(&json!({ "iat": NOW + 61 }), Err(Reason::Premature));
    check(&json!({ "nbf": NOW + 60 }), Ok(()));
    check(&json!({ "nbf": NOW + 61 }), Err(Reason::Premature));
    check(&json!({ "iat": 1_799_999_990.75, "exp": 1_800_000_300.25 }), Ok(()));
}

#[test]
fn a_subject_is_a_short_text() {
    check(&json!({ "sub": null }), Err(Reason::Malformed));
    check(&json!({ "sub": "" }), Err(Reason::Malformed));
    check(&json!({ "sub": 7 }), Err(Reason::Malformed));
    check(&json!({ "sub": "a\nb" }), Err(Reason::Malformed));
    check(&json!({ "sub": "a".repeat(255) }), Ok(()));
    check(&json!({ "sub": "a".repeat(256) }), Err(Reason::Malformed));
}

#[test]
fn tokens_for_other_things_and_with_extensions_are_refused() {
    let signer = Signer::new(Algorithm::ES256);
    let typed = |typ: Option<&str>| Header {
        typ: typ.map(str::to_owned),
        ..signer.header()
    };
    for (typ, accepted) in [
        (None, true),
        (Some("JWT"), true),
        (Some("at+jwt"), true),
        (Some("logout+jwt"), false),
    ] {
        let token = signer.sign_as(&typed(typ), &claims());
        assert_eq!(verify(&token, &signer.keys()).is_ok(), accepted, "{typ:?}");
    }
    let critical = Header {
        crit: Some(vec!["b64".to_owned()]),
        ..signer.header()
    };
    let token = signer.sign_as(&critical, &claims());
    assert_eq!(verify(&token, &signer.keys()), Err(Reason::Algorithm));
}

#[test]
fn long_tokens_are_accepted_to_a_limit_and_nonsense_never() {
    let signer = Signer::new(Algorithm::ES256);
    let padded = |bytes: usize| signer.sign(&with(&json!({ "padding": "a".repeat(bytes) })));
    assert!(verify(&padded(11_000), &signer.keys()).is_ok());
    let long = padded(TOKEN_BYTES);
    assert_eq!(verify(&long, &signer.keys()), Err(Reason::TooLong));
    assert!(!expectations().are_of(&long));
    for nonsense in ["", ".", "..", "a.b.c", "ä.ö.ü", "e30.e30.e30"] {
        assert!(verify(nonsense, &signer.keys()).is_err(), "{nonsense}");
        assert!(!expectations().are_of(nonsense), "{nonsense}");
    }
    assert!(expectations().are_of(&signer.sign(&claims())));
    assert!(!expectations().are_of(&signer.sign(&with(&json!({ "iss": "halyard" })))));
}

#[test]
fn what_people_read_is_an_address_or_a_name_or_the_subject() {
    let signer = Signer::new(Algorithm::ES256);
    for (changes, email, shown) in [
        (json!({}), "Ada@example.com", "Ada@example.com"),
        (json!({ "email_verified": true }), "Ada@example.com", "Ada@example.com"),
        (json!({ "email_verified": false }), "", "Ada"),
        (json!({ "email_verified": "false" }), "", "Ada"),
        (json!({ "email": "ada\u{200b}@example.com" }), "", "Ada"),
        (json!({ "email": 7 }), "", "Ada"),
        (
            json!({ "email": null, "name": " ", "preferred_username": "ada" }),
            "",
            "ada",
        ),
        (json!({ "email": null, "name": null }), "", "ada-1"),
    ] {
        let presented = verify(&signer.sign(&with(&changes)), &signer.keys()).unwrap();
        assert_eq!(
            (presented.email.as_str(), presented.shown.as_str()),
            (email, shown),
            "{changes}"
        );
    }
}

#[test]
fn roles_lie_where_they_are_said_to() {
    let signer = Signer::new(Algorithm::ES256);
    for (path, changes, administrator) in [
        ("groups", json!({ "groups": "ops" }), true),
        ("groups", json!({ "groups": ["x", 7, "ops"] }), true),
        ("groups", json!({ "groups": { "ops": true } }), false),
        ("groups", json!({ "groups": null }), false),
        (
            "realm_access.roles",
            json!({ "realm_access": { "roles": ["ops"] } }),
            true,
        ),
        ("realm_access.roles", json!({ "realm_access": ["ops"] }), false),
        (
            "https://a.example/roles",
            json!({ "https://a.example/roles": ["ops"] }),
            true,
        ),
    ] {
        let expectations = Expectations {
            roles_claim: ClaimPath::new(path).unwrap(),
            ..expectations()
        };
        let token = signer.sign(&with(&changes));
        let presented = expectations.verify(&token, &signer.keys(), at(NOW)).unwrap();
        assert_eq!(presented.claimed.administrator, administrator, "{path} {changes}");
    }
}
