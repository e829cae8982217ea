//! Why a connection could not be encrypted, in words that say what to do.

use std::io;

use rustls::CertificateError;

/// A handshake with PostgreSQL failed.
#[derive(Debug, thiserror::Error)]
#[error("{advice}")]
pub struct Failure {
    advice: &'static str,
    #[source]
    source: io::Error,
}

impl Failure {
    pub(super) fn new(source: io::Error) -> Self {
        let inner = source.get_ref().and_then(|inner| inner.downcast_ref());
        let advice = inner.map_or(
            "PostgreSQL ended the connection in the middle of the handshake; look into its log",
            advice,
        );
        Self { advice, source }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum may grow")]
fn advice(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(refused) => about_certificate(refused),
        rustls::Error::AlertReceived(_) => {
            "PostgreSQL refused the handshake; if it wants a certificate of its clients, give sslcert and sslkey"
        }
        rustls::Error::PeerIncompatible(_) => "PostgreSQL offers no TLS that is safe; allow TLS 1.2 or newer there",
        rustls::Error::InvalidMessage(_) => {
            "what answers does not go on with TLS; is this the port of PostgreSQL, without a proxy that changes what passes?"
        }
        _ => "the handshake failed",
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum may grow")]
fn about_certificate(refused: &CertificateError) -> &'static str {
    match refused {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "PostgreSQL's certificate is not signed by an authority that is trusted; give the certificate of the one that signed it \
             in sslrootcert"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "PostgreSQL's certificate is not for the host that was connected to; connect by a name that it has, or have one made with \
             this host among its subject alternative names"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "PostgreSQL's certificate is no longer valid; renew it, or set the clock of this machine"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "PostgreSQL's certificate is not valid yet; set the clock of this machine, or of the one that made it"
        }
        // What the verifier says has no name of its own here.
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "PostgreSQL's certificate is an authority's own; have one made for the server, signed by that authority"
        }
        _ => "PostgreSQL's certificate is refused",
    }
}
