//! A PostgreSQL that speaks TLS, and nothing else over TCP.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use halyard::store::connect::{Malformed, Target, parse};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_postgres::Client;

use crate::serve::free_address;
use crate::support::cluster::Folder;
use crate::support::server::{Server, own};

/// A server with a certificate for `localhost`, which it is reached by, and for no other name.
pub struct Encrypted {
    pub server: Server,
    pub port: u16,
    /// The authority that signed its certificate.
    pub ca: String,
    /// One that signed nothing.
    pub other_ca: String,
    /// A certificate that it knows, and the key to it.
    pub identity: (String, String),
    folder: Folder,
}

impl Encrypted {
    /// Started. Whoever comes over TCP without TLS is refused.
    pub async fn start() -> Self {
        let folder = Folder::new();
        let (ca, other) = (authority("right"), authority("other"));
        let port = free_address().rsplit(':').next().unwrap().parse().unwrap();
        let file = |name: &str| folder.path.join(name).to_str().unwrap().to_owned();
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", file("server.pem")),
            format!("ssl_key_file={}", file("server.key")),
            format!("ssl_ca_file={}", file("ca.pem")),
            "fsync=off".to_owned(),
        ];
        let settings: Vec<_> = settings.iter().map(String::as_str).collect();
        let server = Server::below(&folder.path, &settings);
        server.initialise();
        let (certificate, key) = signed("localhost", &ca);
        let (ours, our_key) = signed("halyard-client", &ca);
        for (name, content) in [
            ("server.pem", certificate),
            ("server.key", key),
            ("client.pem", ours),
            ("client.key", our_key),
            ("ca.pem", ca.pem()),
            ("other.pem", other.pem()),
            (
                "data/pg_hba.conf",
                "local all all trust\nhostssl all all all trust\n".to_owned(),
            ),
        ] {
            let path = folder.path.join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            own(&path);
        }
        let mut encrypted = Self {
            ca: file("ca.pem"),
            other_ca: file("other.pem"),
            identity: (file("client.pem"), file("client.key")),
            server,
            port,
            folder,
        };
        encrypted.server.start().await;
        encrypted
    }

    /// A URL of it, by this name.
    pub fn url(&self, host: &str, options: &str) -> String {
        format!("postgres://postgres@{host}:{}/postgres?{options}", self.port)
    }

    /// The URL with which everything is verified.
    pub fn verified(&self) -> String {
        self.url("localhost", &format!("sslmode=verify-full&sslrootcert={}", self.ca))
    }

    /// A connection over the socket, to look at what the others do.
    pub async fn look(&self) -> Client {
        self.server.client(&self.server.config()).await
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path.clone()
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

fn signed(name: &str, authority: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// What comes of a connection string.
pub enum Outcome {
    /// It is refused before anything is connected to.
    Malformed(Malformed),
    /// There is no connection, for these reasons.
    Failed(String),
    Connected(Client),
}

/// Connects once.
pub async fn connect(text: &str) -> Outcome {
    let target: Target = match parse(text) {
        Ok(target) => target,
        Err(wrong) => return Outcome::Malformed(wrong),
    };
    match halyard::store::connect::dedicated(&target).await {
        Ok((client, connection)) => {
            tokio::spawn(connection);
            Outcome::Connected(client)
        }
        Err(error) => Outcome::Failed(error.summary()),
    }
}
