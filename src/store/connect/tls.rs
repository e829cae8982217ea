//! TLS to PostgreSQL: whom each `sslmode` trusts, the certificates it is given, and handshakes that fail in words that say what
//! to do.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::Socket;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::Failure;
use super::malformed::Malformed;

/// What is asked of a connection, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    /// No TLS.
    Disable,
    /// TLS if the server has it; with whom is not verified.
    Prefer,
    /// TLS; with whom is not verified.
    Require,
    /// TLS with a server whose certificate an authority has signed.
    VerifyCa,
    /// The same, and the certificate is for the name that was connected to.
    VerifyFull,
}

impl Mode {
    pub fn read(text: &str) -> Result<Self, Malformed> {
        match text {
            "disable" => Ok(Self::Disable),
            "allow" => Err(Malformed::Allow),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(Malformed::Mode),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// What the driver has to know: with which servers to go on.
    pub fn for_driver(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }
}

/// Whom to trust, as it was written.
pub(super) enum Authorities {
    /// Those in a file.
    File(String),
    /// Those of the machine.
    System,
}

/// How connections are encrypted: made once, shared by all of them.
#[derive(Clone)]
pub struct Tls(Option<MakeRustlsConnect>);

impl Tls {
    /// No connection is.
    pub(super) fn off() -> Self {
        Self(None)
    }

    /// With these authorities, and with a certificate and its key to show.
    pub(super) fn new(
        mode: Mode,
        authorities: Option<Authorities>,
        identity: Option<(String, String)>,
    ) -> Result<Self, Malformed> {
        if mode == Mode::Disable {
            return Ok(Self::off());
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = authorities.map(|authorities| read_roots(&authorities)).transpose()?;
        let verifier = verifier(mode, roots, &provider)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| Malformed::Authorities)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, key) = read_identity(&certificate, &key).ok_or(Malformed::Identity)?;
                config
                    .with_client_auth_cert(chain, key)
                    .map_err(|_| Malformed::Identity)?
            }
        };
        // What PostgreSQL 17 wants where TLS begins with the connection; servers before it do not look.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self(Some(MakeRustlsConnect::new(config))))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "on" } else { "off" })
    }
}

/// An encrypted connection.
pub type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = std::convert::Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Self::Error> {
        let make = |tls: &mut MakeRustlsConnect| MakeTlsConnect::<Socket>::make_tls_connect(tls, host);
        Ok(Handshake(self.0.as_mut().map(make).transpose()?))
    }
}

/// A handshake about to begin. It says what to do when it fails.
pub struct Handshake(Option<<MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect>);

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Failure>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            match self.0 {
                Some(connect) => connect.connect(socket).await.map_err(Failure::new),
                // The driver was told never to ask.
                None => Err(Failure::new(io::Error::other("TLS is off"))),
            }
        })
    }
}

fn read_roots(authorities: &Authorities) -> Result<RootCertStore, Malformed> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Authorities::System => {
            let found = rustls_native_certs::load_native_certs();
            // A machine's collection holds what nobody can parse; what is left is trusted.
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(Malformed::NoSystem);
            }
        }
        Authorities::File(path) => {
            for certificate in certificates(path).ok_or(Malformed::Authorities)? {
                roots.add(certificate).map_err(|_| Malformed::Authorities)?;
            }
        }
    }
    Ok(roots)
}

/// Certificates of a file, at least one.
fn certificates(path: impl AsRef<Path>) -> Option<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path)
        .ok()?
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    (!all.is_empty()).then_some(all)
}

fn read_identity(certificate: &str, key: &str) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    Some((certificates(certificate)?, PrivateKeyDer::from_pem_file(key).ok()?))
}

fn verifier(
    mode: Mode,
    roots: Option<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Malformed> {
    let provider = Arc::clone(provider);
    let Some(roots) = roots.filter(|_| mode >= Mode::VerifyCa) else {
        return if mode >= Mode::VerifyCa {
            Err(Malformed::NoAuthority)
        } else {
            Ok(Arc::new(Anybody(provider)))
        };
    };
    if mode == Mode::VerifyCa {
        return Ok(Arc::new(AnyName { roots, provider }));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    Ok(verifier.map_err(|_| Malformed::Authorities)?)
}

/// `prefer` and `require`: whoever listens to the wire understands nothing; who stands in its middle does, whatever the certificate
/// says. So nothing about the certificate is looked at, and one that no verifier could parse is as good as any.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// `verify-ca`: an authority has signed the certificate, whomever it is for.
#[derive(Debug)]
struct AnyName {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
