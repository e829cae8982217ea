//! TLS as operators and callers have it: what is refused at the start, what is spoken, what is reloaded, and who comes in.

mod doubtful;
mod hostile;
mod mutual;
mod refusals;
mod reload;

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::serve::free_address;
use crate::support::cluster::{Database, Folder, database};
use crate::support::program::{Ended, Program, halyard, run_halyard};
use crate::support::tls::{Authority, Pair, text};
use crate::support::{Scrape, eventually, within};

const SIGNING_KEY: (&str, &str) = ("HALYARD_SIGNING_KEY", "a signing key for tests, 32 bytes or more");
/// Whom servers of tests are.
const HOSTS: &[&str] = &["localhost", "127.0.0.1"];

/// `halyard serve`, ready.
struct Served {
    program: Program,
    address: String,
    metrics: SocketAddr,
    _database: Database,
}

impl Served {
    async fn start(further: &[impl AsRef<OsStr>]) -> Self {
        let database = database().await;
        let (address, metrics) = (free_address(), free_address());
        let mut command = halyard();
        command.args(["serve", "--drain-window", "0s", "--listen", &address]);
        command.args(["--metrics-listen", &metrics]).args(further);
        command.envs([SIGNING_KEY, ("DATABASE_URL", &database.url)]);
        let program = Program::start(command);
        let metrics = metrics.parse().unwrap();
        eventually("readiness", async || {
            (Scrape::attempt(metrics).await?.count("halyard_ready") == 1).then_some(())
        })
        .await;
        Self {
            program,
            address,
            metrics,
            _database: database,
        }
    }

    async fn scrape(&self) -> Scrape {
        Scrape::of(self.metrics).await
    }
}

/// The same over TLS.
struct Secure {
    served: Served,
    folder: Folder,
    authority: Authority,
    own: Pair,
}

impl Secure {
    async fn start(further: &[&str]) -> Self {
        let folder = Folder::new();
        let authority = Authority::new(&folder.path, "authority");
        let own = authority.pair(&folder.path, "server", HOSTS);
        let further = further
            .iter()
            .map(|argument| argument.replace("{folder}", text(&folder.path)));
        let arguments: Vec<_> = own.served().map(str::to_owned).into_iter().chain(further).collect();
        Self {
            served: Served::start(&arguments).await,
            folder,
            authority,
            own,
        }
    }

    /// `halyard health` with these arguments.
    fn health(&self, host: &str, further: &[&str]) -> Ended {
        let port = self.served.address.rsplit(':').next().unwrap();
        let endpoint = format!("https://{host}:{port}");
        run_halyard(&[&["health", "--endpoint", &endpoint], further].concat(), &[])
    }

    fn trust(&self) -> [&str; 2] {
        ["--server-ca-file", text(&self.authority.file)]
    }

    async fn scrape(&self) -> Scrape {
        self.served.scrape().await
    }

    /// A connection that offers these protocols.
    async fn handshake(&self, protocols: &[&str]) -> TlsStream<TcpStream> {
        let connecting = handshake(&self.served.address, &self.authority.file, protocols);
        within("the handshake", connecting).await.unwrap()
    }
}

async fn handshake(address: &str, authority: &Path, protocols: &[&str]) -> io::Result<TlsStream<TcpStream>> {
    let mut authorities = RootCertStore::empty();
    authorities
        .add(CertificateDer::from_pem_file(authority).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .unwrap()
        .with_root_certificates(authorities)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn both_versions_of_http_are_offered_and_clients_say_why_they_do_not_connect() {
    let secure = Secure::start(&[]).await;
    for (offered, chosen) in [("h2,http/1.1", "h2"), ("http/1.1", "http/1.1"), ("", "")] {
        let protocols: Vec<_> = offered.split(',').filter(|protocol| !protocol.is_empty()).collect();
        let stream = secure.handshake(&protocols).await;
        let agreed = stream.get_ref().1.alpn_protocol().unwrap_or_default();
        assert_eq!(agreed, chosen.as_bytes(), "{offered}");
    }
    assert_eq!(secure.health("localhost", &secure.trust()).done(), "SERVING\n");
    assert_eq!(secure.health("127.0.0.1", &secure.trust()).done(), "SERVING\n");

    // Nobody on this machine trusts the test's authority.
    let said = secure.health("localhost", &[]).refused(69);
    assert!(said.contains("an authority that is not trusted here"), "{said}");
    assert!(said.contains("--server-ca-file"), "{said}");
    // That address is this machine too, and in no certificate.
    let said = secure.health("0.0.0.0", &secure.trust()).refused(69);
    assert!(said.contains("the server's certificate is not for 0.0.0.0"), "{said}");
    let plain = format!("http://{}", secure.served.address);
    run_halyard(&["health", "--endpoint", &plain], &[]).refused(69);
    let scrape = secure.scrape().await;
    assert!(scrape.count("halyard_tls_handshakes_total") >= 5);
    assert!(scrape.count("halyard_tls_handshakes_failed_total") >= 3);
    let expiry = scrape.value("halyard_tls_certificate_expiry_timestamp_seconds");
    assert!(expiry.is_finite() && expiry > 1_700_000_000.0, "{expiry}");

    // A client that expects TLS where there is none.
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", plain.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = plain.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Until the client has read it, and gone.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let said = run_halyard(&["health", "--endpoint", &endpoint], &[]).refused(69);
    answering.join().unwrap();
    assert!(said.contains("does not speak TLS"), "{said}");
}
