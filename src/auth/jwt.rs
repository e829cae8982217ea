//! Access tokens: JSON Web Tokens that this installation signs for people who logged in.
//!
//! A token says who, in which session, and until when. It says nothing of roles: those are looked up at every call, so that a
//! change bites at once.
//!
//! One key signs; others, which signed before or will sign next, only verify. A key is found by the id in the token's header, so
//! that keys can be changed while tokens are out.
//!
//! The algorithm is the key's, never the header's: a header that names another algorithm, another key or none is refused before
//! anything is verified. `now` is an argument, so the times are checked here and not by the library, which reads the clock.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::Error;
use crate::domain::limits;

/// How long a token works.
pub const LIFETIME: Duration = Duration::from_secs(limits::ACCESS_TOKEN_SECONDS as u64);
/// How far in the future a token may begin: the clocks of two replicas differ a little. Its end is exact.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(5);
/// The fewest bytes of a signing key: as many as HMAC-SHA-256 puts out.
pub const SIGNING_KEY_BYTES: usize = 32;
/// The most bytes of a token that are looked at.
const TOKEN_BYTES: usize = 4 * 1024;
const ISSUER: &str = "halyard";
const AUDIENCE: &str = "halyard.admin.v1";

/// What tokens are signed with: secret bytes, at least [`SIGNING_KEY_BYTES`] of them.
#[derive(Debug, Clone)]
pub struct SigningKey(SecretSlice<u8>);

/// Who holds a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The account's id.
    pub user: Uuid,
    /// The login that the token comes from; what is revoked to end it.
    pub session: Uuid,
    /// The token's own id.
    pub token: Uuid,
}

/// A token just made.
#[derive(Debug)]
pub struct Issued {
    /// What the caller sends.
    pub token: SecretString,
    /// When it stops working.
    pub expires_at: Timestamp,
}

/// What a verified token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Who holds it.
    pub holder: Holder,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When it stops working.
    pub expires_at: Timestamp,
}

/// A token that proves nothing. Callers are told no more than that; the reason is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the access token is not valid")]
pub struct Rejected {
    /// Why.
    pub reason: Reason,
}

/// Why a token was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is longer than any token of ours.
    TooLong,
    /// It is not a token, or lacks a claim.
    Malformed,
    /// It names another algorithm than its key's, or an extension that we do not know.
    Algorithm,
    /// It names no key, or one that we do not have.
    UnknownKey,
    /// It was not signed with our key, or was altered.
    Signature,
    /// Another issuer made it.
    Issuer,
    /// It is meant for somebody else.
    Audience,
    /// It is not valid yet.
    Premature,
    /// It is no longer valid.
    Expired,
}

/// Makes and verifies tokens.
pub struct Tokens {
    /// Names the key that signs in the token's header.
    key_id: String,
    algorithm: Algorithm,
    signing: EncodingKey,
    /// The keys that verify, by their ids: few, so a list.
    verifying: Vec<(String, DecodingKey)>,
    validation: Validation,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    sid: Uuid,
    jti: Uuid,
    iat: i64,
    nbf: i64,
    exp: i64,
}

impl SigningKey {
    /// Takes the bytes of a key; too few are refused.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() < SIGNING_KEY_BYTES {
            return Err(Error::ShortSigningKey { bytes: bytes.len() });
        }
        Ok(Self(bytes.to_vec().into()))
    }

    /// Makes a key of random bytes.
    pub fn generate() -> Result<Self, Error> {
        let mut bytes = vec![0; SIGNING_KEY_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes.into()))
    }

    /// Names the key without telling it.
    fn id(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"halyard signing key id\0");
        hash.update(self.0.expose_secret());
        let mut id = hex::encode(hash.finalize());
        id.truncate(16);
        id
    }
}

impl Tokens {
    /// Tokens signed with one key, and verified with it or one of the others.
    pub fn new(key: &SigningKey, others: &[SigningKey]) -> Self {
        let algorithm = Algorithm::HS256;
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "nbf", "exp"]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let verifying = |key: &SigningKey| (key.id(), DecodingKey::from_secret(key.0.expose_secret()));
        Self {
            key_id: key.id(),
            algorithm,
            signing: EncodingKey::from_secret(key.0.expose_secret()),
            verifying: std::iter::once(key).chain(others).map(verifying).collect(),
            validation,
        }
    }

    /// Makes a token that works from now on for [`LIFETIME`].
    pub fn issue(&self, holder: Holder, now: Timestamp) -> Result<Issued, Error> {
        let Holder { user, session, token } = holder;
        let iat = now.as_second();
        let exp = iat.saturating_add_unsigned(LIFETIME.as_secs());
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user,
            sid: session,
            jti: token,
            iat,
            nbf: iat,
            exp,
        };
        let header = Header {
            kid: Some(self.key_id.clone()),
            ..Header::new(self.algorithm)
        };
        let token = jsonwebtoken::encode(&header, &claims, &self.signing)?;
        Ok(Issued {
            token: token.into(),
            expires_at: Timestamp::from_second(exp).unwrap_or(Timestamp::MAX),
        })
    }

    /// What a token says, if we made it and it is valid now.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Verified, Rejected> {
        self.check(token, now).map_err(|reason| Rejected { reason })
    }

    fn check(&self, token: &str, now: Timestamp) -> Result<Verified, Reason> {
        if token.len() > TOKEN_BYTES {
            return Err(Reason::TooLong);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Reason::Malformed)?;
        if header.alg != self.algorithm || header.crit.is_some() {
            return Err(Reason::Algorithm);
        }
        let key_id = header.kid.ok_or(Reason::UnknownKey)?;
        let known = self.verifying.iter().find(|(id, _)| *id == key_id);
        let (_, key) = known.ok_or(Reason::UnknownKey)?;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.validation)
            .map_err(|error| Reason::of(error.kind()))?
            .claims;
        verified(&claims, now)
    }
}

fn verified(claims: &Claims, now: Timestamp) -> Result<Verified, Reason> {
    let time = |seconds| Timestamp::from_second(seconds).map_err(|_| Reason::Malformed);
    let (issued_at, begins_at, expires_at) = (time(claims.iat)?, time(claims.nbf)?, time(claims.exp)?);
    if begins_at.duration_since(now) > CLOCK_SKEW {
        return Err(Reason::Premature);
    }
    if now >= expires_at {
        return Err(Reason::Expired);
    }
    Ok(Verified {
        holder: Holder {
            user: claims.sub,
            session: claims.sid,
            token: claims.jti,
        },
        issued_at,
        expires_at,
    })
}

impl Reason {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum may grow")]
    pub(super) fn of(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::InvalidAlgorithm | ErrorKind::MissingAlgorithm => Self::Algorithm,
            _ => Self::Malformed,
        }
    }

    /// The name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Premature => "premature",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
