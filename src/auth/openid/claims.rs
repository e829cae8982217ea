//! What a token claims, and how it is read.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::auth::jwt::Reason;

/// Where a claim lies: its name, behind the names of the objects that it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(String);

/// The claims of a token.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Claims(Map<String, Value>);

impl ClaimPath {
    /// Reads a path such as `groups` or `realm_access.roles`. What is wrong is said so that it goes on after the setting's name.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.split('.').any(str::is_empty) {
            return Err("is not the name of a claim, such as groups or realm_access.roles".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl Claims {
    /// What a token claims, whoever made it. `None`: it is no token.
    pub fn unverified(token: &str) -> Option<Self> {
        jsonwebtoken::dangerous::insecure_decode_claims(token).ok()
    }

    pub fn text(&self, claim: &str) -> Option<&str> {
        self.0.get(claim)?.as_str()
    }

    /// A time in seconds, fractions of which do not count. `None`: it is not claimed.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a time out of bounds is refused just after"
    )]
    pub fn time(&self, claim: &str) -> Result<Option<Timestamp>, Reason> {
        let Some(value) = self.0.get(claim) else {
            return Ok(None);
        };
        let seconds = value
            .as_i64()
            .or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64));
        let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        time.map(Some).ok_or(Reason::Malformed)
    }

    /// Whether the token is meant for this audience, perhaps among others.
    pub fn names_audience(&self, audience: &str) -> bool {
        match self.0.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
        }
    }

    /// Whether a claim says no, in either of the ways in which issuers do.
    pub fn denies(&self, claim: &str) -> bool {
        let claim = self.0.get(claim);
        claim.is_some_and(|value| value == &Value::Bool(false) || value.as_str() == Some("false"))
    }

    /// The texts at a path: one, or a list of them. A claim whose own name holds dots, as those with URLs for names do, is found
    /// too. Whatever else is there names nothing.
    pub fn names_at(&self, path: &ClaimPath) -> Vec<&str> {
        let mut found = self.0.get(&path.0);
        if found.is_none() {
            let mut steps = path.0.split('.');
            found = steps.next().and_then(|step| self.0.get(step));
            for step in steps {
                found = found.and_then(|value| value.get(step));
            }
        }
        match found {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
        }
    }
}
