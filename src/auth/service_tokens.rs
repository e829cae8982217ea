//! The secrets of service tokens: `halyard_service_<id>_<secret>_<checksum>`; see [`secret`].

use super::Error;
use super::secret;
pub use super::secret::{Generated, verify};
use crate::domain::access::TokenId;
use crate::domain::change::Digest;

const PREFIX: &str = "halyard_service_";

/// What a caller shows, well formed but not yet verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented {
    /// Which token it claims to be.
    pub id: TokenId,
    /// What is stored of the secret if the claim is true.
    pub hash: Digest,
}

/// Makes a token.
pub fn generate() -> Result<Generated, Error> {
    secret::generate(PREFIX)
}

/// Whether a text is meant to be a service token, rather than some other credential.
pub fn is_meant(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Reads what a caller shows. `None`: it is not a service token, whatever is stored.
pub fn parse(text: &str) -> Option<Presented> {
    let (id, hash) = secret::read(PREFIX, text)?;
    TokenId::parse(id).map(|id| Presented { id, hash })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::auth::keys;
    use crate::domain::access::KeyKind;

    #[test]
    fn what_is_generated_is_read_back_and_is_no_environment_key() {
        let token = generate().unwrap();
        let text = token.secret.expose_secret();
        let presented = parse(text).unwrap();
        assert_eq!(presented.id.to_string(), token.id);
        assert!(is_meant(text) && verify(&presented.hash, &token.hash));
        assert_eq!(keys::parse(text), None);
        assert_eq!(parse(&text.replace("service", "server")), None);
    }

    #[test]
    fn environment_keys_are_no_service_tokens() {
        let key = keys::generate(KeyKind::Server).unwrap();
        let text = key.secret.expose_secret();
        assert!(!is_meant(text) && parse(text).is_none());
    }
}
