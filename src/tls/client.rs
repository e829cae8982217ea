//! Whom a client trusts, what it shows, and how it connects.

mod failure;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Scheme;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;
use tower_service::Service;

use super::error::{Part, Refused, both};
use super::pem::{self, Read};
use failure::Failed;
pub use failure::{Failure, Told};

const PORT: u16 = 443;
/// What is spoken: gRPC knows nothing else.
const PROTOCOL: &[u8] = b"h2";

/// Where a client finds what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    /// The certificates of the authorities that are trusted. `None`: those that the machine trusts.
    pub authorities: Option<PathBuf>,
    /// The certificate to show, and its key. `None`: none is shown.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// The files as they were found.
struct Found<'a> {
    authorities: Option<Read<'a>>,
    own: Option<(Read<'a>, Read<'a>)>,
}

/// Connects to servers over TLS. The files are read again for every connection, so that one which begins after they were renewed
/// shows and trusts what they hold then.
#[derive(Clone)]
pub struct Connector {
    files: Arc<Files>,
    /// What was made of the files, and of which contents.
    kept: Arc<Mutex<Option<Kept>>>,
    /// What TLS failed for last.
    failed: Failed,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

#[derive(Clone)]
struct Kept {
    digest: [u8; 32],
    config: Arc<ClientConfig>,
}

impl Files {
    /// Refuses files that cannot be used.
    pub fn check(&self) -> Result<(), Refused> {
        self.find().load().map(drop)
    }

    fn find(&self) -> Found<'_> {
        let authorities = self.authorities.as_deref();
        let own = self.own.as_ref();
        Found {
            authorities: authorities.map(|path| Read::of(Part::Authorities, path)),
            own: own.map(|(certificate, key)| (Read::of(Part::Certificate, certificate), Read::of(Part::Key, key))),
        }
    }
}

impl Found<'_> {
    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        if let Some(authorities) = &self.authorities {
            authorities.note(&mut hash);
        }
        if let Some((certificate, key)) = &self.own {
            certificate.note(&mut hash);
            key.note(&mut hash);
        }
        hash.finalize().into()
    }

    fn load(&self) -> Result<ClientConfig, Refused> {
        let authorities = match &self.authorities {
            Some(read) => read.authorities().map(Arc::new),
            None => Ok(trusted_by_the_machine()),
        };
        let own = self.own.as_ref();
        let own = own
            .map(|(certificate, key)| pem::identity(certificate, key))
            .transpose();
        let (authorities, own) = both(authorities, own)?;
        let builder = ClientConfig::builder_with_provider(super::provider());
        let builder = builder.with_safe_default_protocol_versions();
        // The provider is ours, and has the ciphers of both versions; nothing is wrong with any file.
        let builder = builder
            .map_err(|_| Refused(Vec::new()))?
            .with_root_certificates(authorities);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key))),
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }
}

/// Whom the machine trusts, asked once; on a machine that trusts nobody, as in an empty container, whom browsers trust.
fn trusted_by_the_machine() -> Arc<RootCertStore> {
    static TRUSTED: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let trusted = TRUSTED.get_or_init(|| {
        let mut trusted = RootCertStore::empty();
        trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if trusted.is_empty() {
            trusted.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        }
        Arc::new(trusted)
    });
    trusted.clone()
}

impl Connector {
    /// One that has read nothing yet.
    pub fn new(files: Files) -> Self {
        Self {
            files: Arc::new(files),
            kept: Arc::default(),
            failed: Failed::default(),
        }
    }

    /// What TLS failed for, unless a server has talked with us since. A server that takes no certificate of ours says so when the first
    /// request is on its way, and between here and who called that is lost.
    pub fn failure(&self) -> Option<String> {
        self.failed.last()
    }

    /// What the files hold now; what they held before, if that is not usable.
    fn config(&self) -> Result<Arc<ClientConfig>, Failure> {
        let found = self.files.find();
        let digest = found.digest();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.digest == digest) {
            return Ok(kept.config.clone());
        }
        match (found.load(), kept.as_ref()) {
            (Ok(config), _) => {
                let config = Arc::new(config);
                *kept = Some(Kept {
                    digest,
                    config: config.clone(),
                });
                Ok(config)
            }
            (Err(refused), Some(before)) => {
                tracing::warn!(
                    error = &refused as &dyn std::error::Error,
                    "the files of TLS have changed and cannot be used; connecting with what they held before"
                );
                Ok(before.config.clone())
            }
            (Err(refused), None) => Err(Failure::Files(refused)),
        }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<Told<TcpStream>>, Failure> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(PORT);
        let name = ServerName::try_from(host.clone()).map_err(|_| Failure::Name(host.clone()))?;
        let this = self.clone();
        let config = tokio::task::spawn_blocking(move || this.config()).await;
        let config = config.map_err(|ended| Failure::Connection(ended.into()))??;
        let stream = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(Failure::Connection)?;
        stream.set_nodelay(true).map_err(Failure::Connection)?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        let stream = connected.map_err(|error| Failure::of(error, &host))?;
        Ok(TokioIo::new(Told::new(stream, host, self.failed)))
    }
}

/// Where to connect to, in clear or with a [`Connector`]. Requests say `https` where the address does; but the transport, if it is the
/// connector that makes TLS, must not hear of it: it would want to make it itself.
pub fn endpoint(address: Uri, connector: Option<&Connector>) -> Endpoint {
    if connector.is_none() {
        return Endpoint::from(address);
    }
    let mut parts = address.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    match Uri::from_parts(parts) {
        Ok(dialled) => Endpoint::from(dialled).origin(address),
        Err(_) => Endpoint::from(address),
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Told<TcpStream>>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (this, failed) = (self.clone(), self.failed.clone());
        Box::pin(async move { failed.after(this.connect(uri)).await })
    }
}
