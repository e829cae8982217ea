//! Why a client could not connect, in words that say what to do; of a server that takes no certificate of ours it is heard only when
//! the first answer is read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::tls::Refused;

/// What the verifier calls a certificate that may sign others, which has no kind of its own among its errors.
const AUTHORITYS_OWN: &str = "CaUsedAsEndEntity";

/// Why a client could not connect.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What it is to show or to trust cannot be used.
    #[error("{0}")]
    Files(Refused),
    /// No certificate can be of this name.
    #[error("{0:?} is neither a host's name nor an IP address")]
    Name(String),
    /// There is no connection.
    #[error("{0}")]
    Connection(io::Error),
    /// The authority is not trusted.
    #[error(
        "the certificate of {0} comes from an authority that is not trusted here; if it is yours, name the file with the \
         authority's certificate in --server-ca-file"
    )]
    UnknownAuthority(String),
    /// The certificate is another's.
    #[error(
        "the server's certificate is not for {0}; ask by one of the names in it, or have it issued for this one too"
    )]
    WrongName(String),
    /// The certificate is out of date.
    #[error("the certificate of {0} has expired; it has to be renewed there")]
    Expired(String),
    /// The certificate is ahead of its time.
    #[error("the certificate of {0} is not valid yet; is this machine's clock right?")]
    NotYet(String),
    /// The certificate may sign others, and must not be shown by a server.
    #[error(
        "the certificate of {0} is marked as an authority's, which no server may show; let it sign one for the server, or make \
         it again without that mark (openssl req -x509 -addext basicConstraints=critical,CA:FALSE)"
    )]
    AuthoritysOwn(String),
    /// The certificate is wrong in another way.
    #[error("the certificate of {0} is not accepted: {1}")]
    Certificate(String, TlsError),
    /// The server wants a certificate.
    #[error("{0} lets nobody in without a client certificate; give one in --own-certificate-file and --own-key-file")]
    CertificateRequired(String),
    /// The server does not accept ours.
    #[error(
        "{0} does not accept our client certificate: {1}; is it of an authority that the server trusts, and still valid?"
    )]
    OurCertificate(String, TlsError),
    /// There is no TLS at the other end.
    #[error("{0} does not speak TLS; is its address http://?")]
    NotTls(String),
    /// What the connection before this one ended for.
    #[error("{0}")]
    Before(String),
    /// Something else.
    #[error("TLS with {0} failed: {1}")]
    Other(String, TlsError),
}

impl Failure {
    /// Why a handshake with a host, or the first reading after it, failed.
    pub(super) fn of(error: io::Error, host: &str) -> Self {
        let host = host.to_owned();
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
            return Self::Connection(error);
        };
        if let TlsError::InvalidCertificate(certificate) = tls {
            return Self::of_certificate(certificate, tls, host);
        }
        if let TlsError::AlertReceived(alert) = tls {
            return Self::of_alert(*alert, tls, host);
        }
        if matches!(tls, TlsError::InvalidMessage(_)) {
            return Self::NotTls(host);
        }
        Self::Other(host, tls.clone())
    }

    /// What is wrong with the server's certificate.
    fn of_certificate(certificate: &CertificateError, tls: &TlsError, host: String) -> Self {
        use CertificateError as Wrong;
        if matches!(certificate, Wrong::UnknownIssuer) {
            Self::UnknownAuthority(host)
        } else if matches!(
            certificate,
            Wrong::NotValidForName | Wrong::NotValidForNameContext { .. }
        ) {
            Self::WrongName(host)
        } else if matches!(certificate, Wrong::Expired | Wrong::ExpiredContext { .. }) {
            Self::Expired(host)
        } else if matches!(certificate, Wrong::NotValidYet | Wrong::NotValidYetContext { .. }) {
            Self::NotYet(host)
        } else if matches!(certificate, Wrong::Other(other) if other.to_string() == AUTHORITYS_OWN) {
            Self::AuthoritysOwn(host)
        } else {
            Self::Certificate(host, tls.clone())
        }
    }

    /// What the server says is wrong.
    fn of_alert(alert: AlertDescription, tls: &TlsError, host: String) -> Self {
        let of_ours = [
            AlertDescription::UnknownCA,
            AlertDescription::BadCertificate,
            AlertDescription::UnsupportedCertificate,
            AlertDescription::CertificateRevoked,
            AlertDescription::CertificateExpired,
            AlertDescription::CertificateUnknown,
            AlertDescription::DecryptError,
        ];
        if alert == AlertDescription::CertificateRequired {
            Self::CertificateRequired(host)
        } else if of_ours.contains(&alert) {
            Self::OurCertificate(host, tls.clone())
        } else {
            Self::Other(host, tls.clone())
        }
    }
}

/// What TLS failed for last, of one who connects again and again.
#[derive(Debug, Clone, Default)]
pub(super) struct Failed(Arc<Mutex<Last>>);

#[derive(Debug, Default)]
struct Last {
    told: Option<String>,
    /// Whoever called heard of the end of the connection, and not why.
    unheard: bool,
}

impl Failed {
    /// Notes why it could not connect, which whoever called is told.
    fn heard(&self, failure: &Failure) {
        if !matches!(failure, Failure::Connection(_)) {
            *self.lock() = Last {
                told: Some(failure.to_string()),
                unheard: false,
            };
        }
    }

    /// Notes why a connection ended that seemed to be made.
    fn unheard(&self, failure: &Failure) {
        self.heard(failure);
        let mut last = self.lock();
        last.unheard = last.told.is_some();
    }

    /// The peer talks with us, so nothing is wrong.
    fn forget(&self) {
        *self.lock() = Last::default();
    }

    /// Connects, unless there is still to say why that came to nothing the last time: otherwise it would be tried again until whoever
    /// called has lost patience.
    pub async fn after<T>(&self, connect: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        if let Some(failure) = self.left_to_say() {
            return Err(failure);
        }
        connect.await.inspect_err(|failure| self.heard(failure))
    }

    fn left_to_say(&self) -> Option<Failure> {
        let mut last = self.lock();
        std::mem::take(&mut last.unheard).then(|| Failure::Before(last.told.clone().unwrap_or_default()))
    }

    pub fn last(&self) -> Option<String> {
        self.lock().told.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection whose failures are told in our words.
pub struct Told<S> {
    stream: TlsStream<S>,
    host: String,
    failed: Failed,
    /// The peer has said something.
    talks: bool,
}

impl<S> Told<S> {
    pub(super) fn new(stream: TlsStream<S>, host: String, failed: Failed) -> Self {
        Self {
            stream,
            host,
            failed,
            talks: false,
        }
    }

    fn told(&self, error: io::Error) -> io::Error {
        let failure = Failure::of(error, &self.host);
        self.failed.unheard(&failure);
        if let Failure::Connection(error) = failure {
            return error;
        }
        io::Error::new(io::ErrorKind::InvalidData, failure)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Told<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if !self.talks && buffer.filled().len() > before {
            self.talks = true;
            self.failed.forget();
        }
        read.map_err(|error| self.told(error))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Told<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
