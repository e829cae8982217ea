//! What is read of a file: its bytes, once, and the certificates and the key in them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use super::error::{Error, Flaw, Part, Refused, both};

/// The most bytes of a file: several times all the authorities that there are.
const FILE_BYTES: usize = 4 * 1024 * 1024;
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// A file as it was found.
pub(super) struct Read<'a> {
    part: Part,
    path: &'a Path,
    bytes: io::Result<Zeroizing<Vec<u8>>>,
}

/// What shows who one is.
pub(super) struct Identity {
    pub key: Arc<CertifiedKey>,
    /// When the first of its certificates expires, in seconds since 1970.
    pub expires: i64,
}

impl<'a> Read<'a> {
    /// Reads it.
    pub fn of(part: Part, path: &'a Path) -> Self {
        let read = || {
            let mut bytes = Zeroizing::new(Vec::new());
            File::open(path)?.take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        Self {
            part,
            path,
            bytes: read(),
        }
    }

    pub fn path(&self) -> &Path {
        self.path
    }

    /// Tells this content from another; of a file that cannot be read, why not.
    pub fn note(&self, hash: &mut Sha256) {
        match &self.bytes {
            Ok(bytes) => {
                hash.update(b"bytes");
                hash.update(Sha256::digest(bytes));
            }
            Err(error) => {
                hash.update(b"error");
                hash.update(error.kind().to_string());
            }
        }
    }

    fn wrong(&self, flaw: Flaw) -> Refused {
        let (part, path) = (self.part, self.path.to_owned());
        Error { part, path, flaw }.into()
    }

    fn bytes(&self) -> Result<&[u8], Refused> {
        match &self.bytes {
            Ok(bytes) if bytes.len() > FILE_BYTES => Err(self.wrong(Flaw::TooLarge(FILE_BYTES))),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(self.wrong(Flaw::Unreadable(error.kind().into()))),
        }
    }

    /// Every certificate, and when the first of them expires.
    fn certificates(&self) -> Result<(Vec<CertificateDer<'static>>, i64), Refused> {
        let mut certificates = Vec::new();
        let mut expires = i64::MAX;
        for (n, read) in CertificateDer::pem_slice_iter(self.bytes()?).enumerate() {
            let unusable = || self.wrong(Flaw::Certificate(n + 1));
            let certificate: CertificateDer<'static> = read.map_err(|_| unusable())?;
            let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| unusable())?;
            expires = expires.min(parsed.validity().not_after.timestamp());
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(self.wrong(Flaw::NoCertificate));
        }
        Ok((certificates, expires))
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, Refused> {
        let bytes = self.bytes()?;
        let mut keys = PrivateKeyDer::pem_slice_iter(bytes);
        let is_encrypted = bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED);
        match (keys.next(), keys.next()) {
            (_, Some(_)) => Err(self.wrong(Flaw::SeveralKeys)),
            (_, None) if is_encrypted => Err(self.wrong(Flaw::EncryptedKey)),
            (Some(Ok(key)), None) => Ok(key),
            (Some(Err(_)), None) => Err(self.wrong(Flaw::Key)),
            (None, None) => Err(self.wrong(Flaw::NoKey)),
        }
    }

    /// The authorities whose certificates are taken.
    pub fn authorities(&self) -> Result<RootCertStore, Refused> {
        let (certificates, _) = self.certificates()?;
        let mut authorities = RootCertStore::empty();
        for certificate in certificates {
            let added = authorities.add(certificate);
            added.map_err(|_| self.wrong(Flaw::Authorities))?;
        }
        Ok(authorities)
    }
}

/// A certificate and its key, which belong together.
pub(super) fn identity(certificate: &Read<'_>, key: &Read<'_>) -> Result<Identity, Refused> {
    let signer = key.key().and_then(|der| {
        let loaded = super::provider().key_provider.load_private_key(der);
        loaded.map_err(|_| key.wrong(Flaw::Key))
    });
    let ((certificates, expires), signer) = both(certificate.certificates(), signer)?;
    let certified = CertifiedKey::new(certificates, signer);
    match certified.keys_match() {
        Ok(()) => {}
        Err(rustls::Error::InconsistentKeys(_)) => return Err(key.wrong(Flaw::Mismatch(certificate.path.to_owned()))),
        Err(_) => return Err(certificate.wrong(Flaw::Certificate(1))),
    }
    Ok(Identity {
        key: Arc::new(certified),
        expires,
    })
}
