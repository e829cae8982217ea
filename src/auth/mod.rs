//! Verifying who is calling: environment keys, service tokens, access and refresh tokens, tokens of an OpenID Connect issuer, and
//! passwords; and invitations.
//!
//! Architecture invariant: nothing here does IO or reads a clock (`now` is an argument), and nothing here decides what a caller
//! may do; that is [`access`](crate::domain::access)'s. Random numbers are drawn only where a secret is made.

pub mod invitations;
pub mod jwt;
pub mod keys;
pub mod mask;
pub mod openid;
pub mod password;
pub mod refresh;
mod secret;
pub mod service_tokens;

/// A secret could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    Randomness(#[from] getrandom::Error),
    /// The password could not be hashed.
    #[error("the password could not be hashed")]
    Hashing(#[from] argon2::password_hash::Error),
    /// The access token could not be signed.
    #[error("the access token could not be signed")]
    Signing(#[from] jsonwebtoken::errors::Error),
    /// The signing key is too short to be safe.
    #[error(
        "the signing key has {bytes} bytes; at least {} are required",
        jwt::SIGNING_KEY_BYTES
    )]
    ShortSigningKey {
        /// How many bytes it has.
        bytes: usize,
    },
}
