//! The secrets of invitations, which their links carry: `halyard_invitation_<id>_<secret>_<checksum>`; see
//! [`secret`].

use super::Error;
use super::secret;
pub use super::secret::Generated;
use crate::domain::change::Digest;

const PREFIX: &str = "halyard_invitation_";

/// What somebody shows, well formed but not yet verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented<'a> {
    /// Which invitation it claims to be.
    pub id: &'a str,
    /// What is stored of the secret if the claim is true.
    pub hash: Digest,
}

/// Makes the secret of an invitation.
pub fn generate() -> Result<Generated, Error> {
    secret::generate(PREFIX)
}

/// Reads what somebody shows. `None`: it is not an invitation, whatever is stored.
pub fn parse(text: &str) -> Option<Presented<'_>> {
    let (id, hash) = secret::read(PREFIX, text)?;
    Some(Presented { id, hash })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn what_is_generated_is_read_back() {
        let invitation = generate().unwrap();
        let text = invitation.secret.expose_secret();
        let expected = Presented {
            id: &invitation.id,
            hash: invitation.hash,
        };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse(&text.replace("invitation", "invitatiom")), None);
    }
}
