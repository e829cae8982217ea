//! Tokens of people that an OpenID Connect issuer made: what is expected of them, and what they say once they are verified.
//!
//! The algorithm must be one that the key was made for; a header only chooses among those. Symmetric algorithms and `none` are
//! never among them, so that nobody signs with what is public. `now` is an argument.

mod address;
mod claims;
mod keys;
mod roles;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};

pub use address::Address;
pub use claims::ClaimPath;
pub use keys::{KeySet, UnreadableKeys};
pub use roles::RoleMap;

use super::jwt::Reason;
use crate::domain::email::Email;
use crate::domain::identity::{IdentityKey, Presented};
use crate::domain::limits;
use claims::Claims;

const TOKEN_BYTES: usize = limits::OPENID_TOKEN_BYTES as usize;
/// How far the issuer's clock may be ahead of ours. The end of a token is exact.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// What a token may call itself. Others, such as those that announce a logout, are made for something else.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];
/// The longest name of a token or key that audit entries repeat.
const CREDENTIAL_BYTES: usize = 100;
/// The longest name of a person that is kept for people to read.
const SHOWN_CHARS: usize = 200;

/// What is expected of an issuer's tokens, and what their claims mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectations {
    /// The issuer, exactly as its tokens have it.
    pub issuer: Address,
    /// Whom they must be meant for.
    pub audience: String,
    /// Where they name roles.
    pub roles_claim: ClaimPath,
    /// What these names mean.
    pub roles: RoleMap,
}

impl Expectations {
    /// Whether a token says that the issuer made it, which proves nothing: only then is it worth being verified.
    pub fn are_of(&self, token: &str) -> bool {
        token.len() <= TOKEN_BYTES
            && Claims::unverified(token).is_some_and(|claims| claims.text("iss") == Some(self.issuer.as_str()))
    }

    /// What a token says, if the issuer made it with one of `keys`, and it is valid now.
    pub fn verify(&self, token: &str, keys: &KeySet, now: Timestamp) -> Result<Presented, Reason> {
        if token.len() > TOKEN_BYTES {
            return Err(Reason::TooLong);
        }
        let header = read_header(token)?;
        // What says itself that it is worthless must not make anybody ask the issuer for new keys.
        let unverified = Claims::unverified(token).ok_or(Reason::Malformed)?;
        self.check(&unverified, now)?;
        let key = keys.find(header.kid.as_deref(), header.alg)?;
        let claims = self.decode(token, key, &header)?;
        self.check(&claims, now)?;
        self.presented(&claims, &header)
    }

    fn decode(&self, token: &str, key: &DecodingKey, header: &Header) -> Result<Claims, Reason> {
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[self.issuer.as_str()]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let decoded = jsonwebtoken::decode::<Claims>(token, key, &validation);
        decoded.map(|token| token.claims).map_err(|error| {
            let reason = Reason::of(error.kind());
            // Without a name it may be the key before or after the one that we know.
            if reason == Reason::Signature && header.kid.is_none() {
                Reason::UnknownKey
            } else {
                reason
            }
        })
    }

    fn check(&self, claims: &Claims, now: Timestamp) -> Result<(), Reason> {
        if claims.text("iss") != Some(self.issuer.as_str()) {
            return Err(Reason::Issuer);
        }
        if !claims.names_audience(&self.audience) {
            return Err(Reason::Audience);
        }
        let expires_at = claims.time("exp")?.ok_or(Reason::Malformed)?;
        let issued_at = claims.time("iat")?.ok_or(Reason::Malformed)?;
        let begins_at = claims.time("nbf")?.unwrap_or(issued_at);
        if issued_at.max(begins_at).duration_since(now) > CLOCK_SKEW {
            return Err(Reason::Premature);
        }
        if now >= expires_at {
            return Err(Reason::Expired);
        }
        Ok(())
    }

    fn presented(&self, claims: &Claims, header: &Header) -> Result<Presented, Reason> {
        let subject = claims.text("sub").ok_or(Reason::Malformed)?;
        let key = IdentityKey::new(self.issuer.as_str(), subject).map_err(|_| Reason::Malformed)?;
        let email = email(claims).unwrap_or_default();
        let name = ["name", "preferred_username"]
            .into_iter()
            .filter_map(|claim| claims.text(claim))
            .find(|name| is_readable(name));
        let shown = if email.is_empty() {
            name.unwrap_or(subject).to_owned()
        } else {
            email.clone()
        };
        let named = claims.text("jti").or(header.kid.as_deref());
        let named = named.filter(|name| name.len() <= CREDENTIAL_BYTES && !name.chars().any(char::is_control));
        Ok(Presented {
            key,
            email,
            shown,
            claimed: self.roles.meaning(&claims.names_at(&self.roles_claim)),
            issued_at: claims.time("iat")?.ok_or(Reason::Malformed)?,
            expires_at: claims.time("exp")?.ok_or(Reason::Malformed)?,
            credential: named.unwrap_or_default().to_owned(),
        })
    }
}

/// The header, if a token with it may be looked at any further.
fn read_header(token: &str) -> Result<Header, Reason> {
    let header = jsonwebtoken::decode_header(token).map_err(|error| {
        // `none`, and whatever else the library does not know, is not read at all.
        if matches!(error.kind(), ErrorKind::Json(_)) {
            Reason::Algorithm
        } else {
            Reason::of(error.kind())
        }
    })?;
    let symmetric = matches!(header.alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
    if symmetric || header.crit.is_some() {
        return Err(Reason::Algorithm);
    }
    let of_other_type = |typ: &String| !TYPES.contains(&typ.to_ascii_lowercase().as_str());
    if header.typ.as_ref().is_some_and(of_other_type) {
        return Err(Reason::Malformed);
    }
    Ok(header)
}

/// The e-mail address, if it is one and the issuer does not say that it is unproven.
fn email(claims: &Claims) -> Option<String> {
    let email = Email::new(claims.text("email")?).ok()?;
    (!claims.denies("email_verified")).then(|| email.given().to_owned())
}

fn is_readable(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= SHOWN_CHARS && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
