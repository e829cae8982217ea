//! An authority of the test's own, and the files that it hands out.

use std::fs;
use std::path::{Path, PathBuf};

use halyard::tls::{self, ClientFiles, Connector};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tonic::transport::{Channel, Error};

use super::program::{Program, dev_with};

/// An authority whose certificate is in a file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub file: PathBuf,
}

/// A certificate and its key, in files.
#[derive(Clone)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// One whose certificate is kept in a folder.
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = folder.join(format!("{name}.pem"));
        fs::write(&file, certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            file,
        }
    }

    /// A certificate for these hosts, as the texts of two files.
    pub fn issue(&self, hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// The same in files of a folder.
    pub fn pair(&self, folder: &Path, name: &str, hosts: &[&str]) -> Pair {
        let pair = Pair::named(folder, name);
        pair.write(&self.issue(hosts, |_| ()));
        pair
    }
}

impl Pair {
    pub fn named(folder: &Path, name: &str) -> Self {
        Self {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        }
    }

    /// As arguments of a server that shows it.
    pub fn served(&self) -> [&str; 4] {
        let (certificate, key) = (text(&self.certificate), text(&self.key));
        ["--tls-certificate-file", certificate, "--tls-key-file", key]
    }

    /// As arguments of a client that shows it.
    pub fn shown(&self) -> [&str; 4] {
        let (certificate, key) = (text(&self.certificate), text(&self.key));
        ["--own-certificate-file", certificate, "--own-key-file", key]
    }

    /// Writes both.
    pub fn write(&self, (certificate, key): &(String, String)) {
        fs::write(&self.certificate, certificate).unwrap();
        fs::write(&self.key, key).unwrap();
    }
}

/// `halyard dev` over TLS on a folder, ready, for whoever shows a certificate of the authority.
pub fn dev_over_tls(data: &Path, own: &Pair, authority: &Authority) -> Program {
    let clients = ["--tls-client-ca-file", text(&authority.file)];
    dev_with(data, &[&own.served()[..], &clients].concat())
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Connects as our own clients do.
pub async fn connect(address: &str, authority: &Authority, own: Option<&Pair>) -> Result<Channel, Error> {
    let files = ClientFiles {
        authorities: Some(authority.file.clone()),
        own: own.map(|pair| (pair.certificate.clone(), pair.key.clone())),
    };
    let connector = Connector::new(files);
    let endpoint = tls::endpoint(format!("https://{address}").parse().unwrap(), Some(&connector));
    endpoint.connect_with_connector(connector).await
}
