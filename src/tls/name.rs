//! Whose certificate it is.

use std::fmt;

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// What is told of a name: enough for every name in use; the fingerprint tells apart what is longer.
const NAME_CHARS: usize = 255;

/// Who showed a certificate that was verified. Written as `sha256:<fingerprint> <kind>:<name>`.
///
/// The name is the certificate's first URI, or else its first DNS name, its first e-mail address, or its common name. Nothing is in it
/// but printable ASCII, so that it is one line and one thing wherever it is shown; other characters are written as `\u{…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    fingerprint: [u8; 32],
    /// Such as `URI:spiffe://example.org/deployer`. Empty: the certificate has none.
    name: String,
}

impl Holder {
    /// Of a certificate that was verified.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let parsed = X509Certificate::from_der(certificate);
        Self {
            fingerprint: Sha256::digest(certificate).into(),
            name: parsed.map(|(_, parsed)| name(&parsed)).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name comes last: whatever is in it cannot pass for the rest.
        write!(f, "sha256:{}", hex::encode(self.fingerprint))?;
        if self.name.is_empty() {
            return Ok(());
        }
        write!(f, " {}", self.name)
    }
}

fn name(certificate: &X509Certificate<'_>) -> String {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.map(|extension| extension.value.general_names.as_slice());
    let alternatives = alternatives.unwrap_or_default();
    let uri = |name: &GeneralName<'_>| {
        let GeneralName::URI(uri) = name else { return None };
        Some(plain("URI", uri))
    };
    let dns = |name: &GeneralName<'_>| {
        let GeneralName::DNSName(dns) = name else { return None };
        Some(plain("DNS", dns))
    };
    let email = |name: &GeneralName<'_>| {
        let GeneralName::RFC822Name(email) = name else {
            return None;
        };
        Some(plain("email", email))
    };
    let common = || {
        let first = certificate.subject().iter_common_name().next();
        first.and_then(|name| name.as_str().ok()).map(|name| plain("CN", name))
    };
    let alternative = alternatives.iter().find_map(uri);
    let alternative = alternative.or_else(|| alternatives.iter().find_map(dns));
    let alternative = alternative.or_else(|| alternatives.iter().find_map(email));
    alternative.or_else(common).unwrap_or_default()
}

fn plain(kind: &str, name: &str) -> String {
    let mut plain = format!("{kind}:");
    for character in name.chars().take(NAME_CHARS) {
        if character.is_ascii_graphic() || character == ' ' {
            plain.push(character);
        } else {
            plain.extend(character.escape_unicode());
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn holder(common: &str, alternatives: Vec<SanType>) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common);
        params.subject_alt_names = alternatives;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Holder::of(certificate.der()).to_string()
    }

    #[test]
    fn the_name_is_the_first_that_says_most() {
        let uri = SanType::URI("spiffe://example.org/deployer".try_into().unwrap());
        let dns = SanType::DnsName("deploy.example.org".try_into().unwrap());
        let email = SanType::Rfc822Name("ada@example.org".try_into().unwrap());
        for (alternatives, name) in [
            (
                vec![email.clone(), dns.clone(), uri],
                " URI:spiffe://example.org/deployer",
            ),
            (vec![email.clone(), dns], " DNS:deploy.example.org"),
            (vec![email], " email:ada@example.org"),
            (vec![], " CN:Ada"),
        ] {
            let written = holder("Ada", alternatives);
            let (fingerprint, rest) = written.split_at("sha256:".len() + 64);
            assert!(fingerprint.starts_with("sha256:"), "{written}");
            assert_eq!(rest, name);
        }
    }

    #[test]
    fn a_name_is_one_line_of_bounded_length() {
        let written = holder("Ada\nsha256:0 \u{202e}x", Vec::new());
        assert!(written.ends_with(r" CN:Ada\u{a}sha256:0 \u{202e}x"), "{written}");
        assert!(holder(&"\u{1}".repeat(1_000), Vec::new()).len() < 2_000);
    }
}
