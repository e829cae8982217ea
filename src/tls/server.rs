//! What a server shows its callers, and whose certificates it takes.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};

use super::error::{Error, Flaw, Part, Refused, both};
use super::pem::{self, Read};

/// What is spoken over TLS, the preferred first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where a server finds what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Its certificate, with those between it and its authority.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// Whose certificates callers may show. `None`: they are not asked for any.
    pub clients: Option<ClientCertificates>,
}

/// What certificates callers show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The certificates of the authorities whose certificates are taken.
    pub authorities: PathBuf,
    /// Whether it goes without.
    pub demand: Demand,
}

/// Whether callers must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// They may; one that is not accepted is refused all the same.
    Optional,
    /// Nobody comes in without.
    Required,
}

/// What was made of the files.
pub(super) struct Usable {
    pub config: Arc<ServerConfig>,
    /// When the first of its certificates expires, in seconds since 1970.
    pub expires: i64,
}

/// The files as they were found.
pub(super) struct Found<'a> {
    certificate: Read<'a>,
    key: Read<'a>,
    authorities: Option<(Read<'a>, Demand)>,
}

impl Files {
    /// Refuses files that cannot be used.
    pub fn check(&self) -> Result<(), Refused> {
        self.find().load().map(drop)
    }

    /// Reads them all.
    pub(super) fn find(&self) -> Found<'_> {
        let clients = self.clients.as_ref();
        Found {
            certificate: Read::of(Part::Certificate, &self.certificate),
            key: Read::of(Part::Key, &self.key),
            authorities: clients.map(|clients| (Read::of(Part::Authorities, &clients.authorities), clients.demand)),
        }
    }
}

impl Found<'_> {
    /// Tells these contents from others.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.certificate.note(&mut hash);
        self.key.note(&mut hash);
        if let Some((authorities, _)) = &self.authorities {
            authorities.note(&mut hash);
        }
        hash.finalize().into()
    }

    /// What is served with them.
    pub fn load(&self) -> Result<Usable, Refused> {
        let identity = pem::identity(&self.certificate, &self.key);
        let authorities = self.authorities.as_ref();
        let authorities = authorities.map(|(read, demand)| Ok((read.authorities()?, *demand)));
        let (identity, authorities) = both(identity, authorities.transpose())?;
        let builder = ServerConfig::builder_with_provider(super::provider());
        let builder = builder.with_safe_default_protocol_versions();
        // The provider is ours, and has the ciphers of both versions.
        let builder = builder.map_err(|_| self.unusable(Part::Certificate))?;
        let takes_certificates = authorities.is_some();
        let builder = match authorities {
            None => builder.with_no_client_auth(),
            Some((authorities, demand)) => {
                let verifier = verifier(authorities, demand).ok_or_else(|| self.unusable(Part::Authorities))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key)));
        if takes_certificates {
            // A session that is resumed shows no certificate anew: one that has expired meanwhile would still come in.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Usable {
            config: Arc::new(config),
            expires: identity.expires,
        })
    }

    fn unusable(&self, part: Part) -> Refused {
        let read = match (&self.authorities, part) {
            (Some((authorities, _)), Part::Authorities) => authorities,
            _ => &self.certificate,
        };
        let path = read.path().to_owned();
        let flaw = Flaw::Authorities;
        Error { part, path, flaw }.into()
    }
}

fn verifier(authorities: RootCertStore, demand: Demand) -> Option<Arc<dyn ClientCertVerifier>> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), super::provider());
    let builder = match demand {
        Demand::Optional => builder.allow_unauthenticated(),
        Demand::Required => builder,
    };
    builder.build().ok()
}
