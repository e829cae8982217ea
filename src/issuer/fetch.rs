//! Asking the issuer where its keys are, and which they are.
//!
//! With TLS unless the issuer is on the machine itself, and never led away from TLS. An answer is read to a limit, and waited for
//! to a limit.

use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, StatusCode};
use serde::Deserialize;

use crate::auth::openid::{Address, KeySet, UnreadableKeys};
use crate::domain::limits;

/// How long one answer may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
const REDIRECTS: usize = 3;

/// Why the issuer's keys are not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached, took too long, or led elsewhere.
    #[error("the issuer cannot be asked")]
    Unreachable(#[from] reqwest::Error),
    /// It did not answer with what was asked for.
    #[error("{url} answers with status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// What it answered.
        status: StatusCode,
    },
    /// An answer is larger than any that makes sense.
    #[error("{url} answers with more than {} bytes", limits::ISSUER_ANSWER_BYTES)]
    TooLarge {
        /// What was asked for.
        url: String,
    },
    /// What is to be known of it cannot be read.
    #[error("the discovery document cannot be read")]
    Document(#[source] serde_json::Error),
    /// It is another issuer than the configured one.
    #[error(
        "the discovery document is that of another issuer, {found:?}; configure the issuer exactly so, or its right URL"
    )]
    OtherIssuer {
        /// What it calls itself.
        found: String,
    },
    /// Its keys lie where they cannot be trusted.
    #[error("the address of the keys, {address:?}, {reason}")]
    Address {
        /// Where they lie.
        address: String,
        /// Why not.
        reason: String,
    },
    /// Its keys cannot be read.
    #[error(transparent)]
    Keys(#[from] UnreadableKeys),
}

/// Asks one issuer.
pub(super) struct Fetcher {
    client: Client,
    issuer: Address,
}

/// What of the discovery document counts.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Fetcher {
    pub fn new(issuer: Address) -> Result<Self, Error> {
        let origin = issuer.clone();
        let mut client = Client::builder()
            .user_agent("halyard")
            .timeout(TIMEOUT)
            .https_only(issuer.is_secure())
            .redirect(Policy::custom(move |attempt| follow(&origin, attempt)));
        if !issuer.is_secure() {
            // A proxy does not reach what is on the machine itself.
            client = client.no_proxy();
        }
        let client = client.build()?;
        Ok(Self { client, issuer })
    }

    pub fn issuer(&self) -> &Address {
        &self.issuer
    }

    /// The issuer's keys as of now.
    pub async fn fetch(&self) -> Result<KeySet, Error> {
        let discovery = self.get(&self.issuer.discovery()).await?;
        let Discovery { issuer, jwks_uri } = serde_json::from_slice(&discovery).map_err(Error::Document)?;
        if issuer != self.issuer.as_str() {
            return Err(Error::OtherIssuer { found: issuer });
        }
        let refuse = |reason| Error::Address {
            address: jwks_uri.clone(),
            reason,
        };
        let address = Address::new(&jwks_uri).map_err(refuse)?;
        if !self.issuer.may_lead_to(&address) {
            return Err(refuse("is not https although the issuer's is".to_owned()));
        }
        Ok(KeySet::parse(&self.get(address.as_str()).await?)?)
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, Error> {
        let mut response = self.client.get(url).send().await?;
        let status = response.status();
        if status != StatusCode::OK {
            let url = url.to_owned();
            return Err(Error::Status { url, status });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > limits::ISSUER_ANSWER_BYTES {
                return Err(Error::TooLarge { url: url.to_owned() });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn follow(origin: &Address, attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > REDIRECTS {
        return attempt.error("it leads on and on");
    }
    match Address::new(attempt.url().as_str()) {
        Ok(address) if origin.may_lead_to(&address) => attempt.follow(),
        Ok(_) | Err(_) => attempt.error("it leads to where nothing can be trusted"),
    }
}
