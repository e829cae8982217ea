//! An OpenID Connect issuer that tests run themselves: keys of its own, over HTTP on a loopback port.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use halyard::auth::openid::{Address, ClaimPath, Expectations, RoleMap};
use jiff::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub const AUDIENCE: &str = "halyard";

/// A private key, and what it is published as.
#[derive(Clone)]
pub struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
    pub id: String,
    pub published: Value,
}

impl Signer {
    /// A new elliptic key.
    pub fn new(id: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let key = EncodingKey::from_ec_der(key.to_pkcs8v1().unwrap().as_ref());
        Self::of(id, Algorithm::ES256, key)
    }

    /// A new RSA key, as PKCS #1: what lies behind the fixed head of PKCS #8.
    pub fn rsa(id: &str) -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
        Self::of(id, Algorithm::RS256, EncodingKey::from_rsa_der(&der.as_ref()[26..]))
    }

    fn of(id: &str, algorithm: Algorithm, key: EncodingKey) -> Self {
        let mut published = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        published["kid"] = id.into();
        published["use"] = "sig".into();
        Self {
            algorithm,
            key,
            id: id.to_owned(),
            published,
        }
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.id, claims)
    }

    /// Under the name of another key.
    pub fn sign_as(&self, id: &str, claims: &Value) -> String {
        let header = Header {
            kid: Some(id.to_owned()),
            ..Header::new(self.algorithm)
        };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

/// What the issuer answers.
#[derive(Clone)]
pub enum Answer {
    /// This to every question, as JSON.
    Keys(Vec<Value>),
    /// This as the discovery document, and never any keys.
    Discovery(Value),
    /// A redirection of every question.
    Redirect(String),
    /// More than anybody needs.
    Endless,
    /// Nothing: it hangs up.
    Nothing,
}

/// A running issuer.
pub struct TestIssuer {
    pub url: String,
    pub signer: Signer,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for TestIssuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl TestIssuer {
    pub async fn start() -> Self {
        Self::start_with(Signer::new("first")).await
    }

    pub async fn start_with(signer: Signer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/realm", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(Answer::Keys(vec![signer.published.clone()])));
        let requests = Arc::new(AtomicUsize::new(0));
        let server = tokio::spawn(serve(listener, url.clone(), answer.clone(), requests.clone()));
        Self {
            url,
            signer,
            answer,
            requests,
            server,
        }
    }

    pub fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// From now on these keys alone are published.
    pub fn publishes(&self, signers: &[&Signer]) {
        self.answers(Answer::Keys(
            signers.iter().map(|signer| signer.published.clone()).collect(),
        ));
    }

    /// How many questions it was asked. Two are one look at its keys.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// What a server expects of its tokens.
    pub fn expectations(&self) -> Expectations {
        Expectations {
            issuer: Address::issuer(&self.url).unwrap(),
            audience: AUDIENCE.to_owned(),
            roles_claim: ClaimPath::new("groups").unwrap(),
            roles: RoleMap::parse("ops=administrator\nweb=shop:developer\nleads=shop:owner\nlater=later:viewer")
                .unwrap(),
        }
    }

    /// The claims of a token that was made some seconds ago.
    pub fn claims(&self, subject: &str, groups: &[&str], seconds_ago: i64) -> Value {
        let now = Timestamp::now().as_second();
        json!({
            "iss": self.url, "aud": AUDIENCE, "sub": subject, "email": format!("{subject}@example.com"), "groups": groups,
            "iat": now - seconds_ago, "exp": now + 300, "jti": format!("{subject}-{seconds_ago}"),
        })
    }

    /// A token that was made some seconds ago.
    pub fn token(&self, subject: &str, groups: &[&str], seconds_ago: i64) -> String {
        self.signer.sign(&self.claims(subject, groups, seconds_ago))
    }

    /// A token with some claims changed; null takes one away.
    pub fn token_with(&self, subject: &str, changes: &Value) -> String {
        let mut claims = self.claims(subject, &[], 10);
        for (claim, value) in changes.as_object().unwrap() {
            claims[claim] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.signer.sign(&claims)
    }
}

async fn serve(listener: TcpListener, url: String, answer: Arc<Mutex<Answer>>, requests: Arc<AtomicUsize>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (url, answer, requests) = (url.clone(), answer.clone(), requests.clone());
        tokio::spawn(async move { converse(stream, &url, &answer, &requests).await });
    }
}

/// Answers the questions of one connection, until either side has had enough.
async fn converse(mut stream: TcpStream, url: &str, answer: &Mutex<Answer>, requests: &AtomicUsize) -> Option<()> {
    let mut received = Vec::new();
    loop {
        while !received.ends_with(b"\r\n\r\n") {
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
            received.extend_from_slice(&buffer[..read]);
        }
        requests.fetch_add(1, Ordering::SeqCst);
        let asked = String::from_utf8(std::mem::take(&mut received)).unwrap();
        let discovers = asked.starts_with("GET /realm/.well-known/openid-configuration ");
        let answer = answer.lock().unwrap().clone();
        let body = match answer {
            Answer::Keys(_) if discovers => json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }).to_string(),
            Answer::Keys(keys) => json!({ "keys": keys }).to_string(),
            Answer::Discovery(document) if discovers => document.to_string(),
            Answer::Discovery(_) | Answer::Nothing => return None,
            Answer::Endless => " ".repeat(1024 * 1024),
            Answer::Redirect(to) => {
                let response = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(response.as_bytes()).await.ok()?;
                continue;
            }
        };
        let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(response.as_bytes()).await.ok()?;
    }
}
