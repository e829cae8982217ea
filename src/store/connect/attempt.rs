//! Connecting: to one address after the other, at each for so long and no longer.
//!
//! The driver bounds how long it takes until a connection is accepted, and nothing of what comes then. A server that is stopped,
//! or a balancer with nobody behind it, accepts and says nothing. So everything is bounded here, as psql does it: for each address
//! anew, so that the next one gets its turn.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Connection, Error, NoTls, Socket};

use super::PATIENCE;
use super::failure::Failure;
use super::tls::{Handshake, Stream, Tls};

/// A connection, the second part of which has to be polled for the first to work.
pub(super) type Connected = (Client, Connection<Socket, Stream>);

/// Connects to the first address that lets us in.
pub(super) async fn connect(config: &Config, tls: &Tls) -> Result<Connected, Error> {
    let patience = config.get_connect_timeout().copied().unwrap_or(PATIENCE);
    let is_random = config.get_load_balance_hosts() == LoadBalanceHosts::Random;
    let mut order: Vec<usize> = (0..config.get_hosts().len()).collect();
    if is_random {
        fastrand::shuffle(&mut order);
    }
    let mut last = None;
    for place in order.into_iter().filter_map(|n| Place::of(config, n, patience)) {
        let mut addresses = match place.addresses().await {
            Ok(addresses) => addresses,
            Err(silence) => {
                last = Some(silence.into_error().await);
                continue;
            }
        };
        if is_random {
            fastrand::shuffle(&mut addresses);
        }
        for address in addresses {
            match place.attempt(&place.alone(config, address), tls).await {
                Ok(connected) => return Ok(connected),
                Err(error) => last = Some(error),
            }
        }
    }
    match last {
        Some(error) => Err(error),
        // No host is named: the driver says so.
        None => config.connect(tls.clone()).await,
    }
}

/// One of the hosts.
#[derive(Clone, Copy)]
struct Place<'a> {
    host: &'a Host,
    given: Option<IpAddr>,
    port: u16,
    patience: Duration,
}

impl<'a> Place<'a> {
    fn of(config: &'a Config, n: usize, patience: Duration) -> Option<Self> {
        let ports = config.get_ports();
        Some(Self {
            host: config.get_hosts().get(n)?,
            given: config.get_hostaddrs().get(n).copied(),
            port: ports.get(n).or(ports.first()).copied().unwrap_or(5432),
            patience,
        })
    }

    /// Its addresses. `None`: the driver finds it by itself, or finds out why not.
    async fn addresses(&self) -> Result<Vec<Option<IpAddr>>, Silence> {
        let name = match (self.host, self.given) {
            (_, Some(given)) => return Ok(vec![Some(given)]),
            (Host::Unix(_), None) => return Ok(vec![None]),
            (Host::Tcp(name), None) => name.as_str(),
        };
        match timeout(self.patience, lookup_host((name, self.port))).await {
            Ok(Ok(found)) => {
                let mut found: Vec<_> = found.map(|address| Some(address.ip())).collect();
                if found.is_empty() {
                    found.push(None);
                }
                Ok(found)
            }
            Ok(Err(_)) => Ok(vec![None]),
            Err(_) => Err(self.silence(Stage::Resolving, None)),
        }
    }

    /// The same settings, for this place and this address of it alone.
    fn alone(&self, config: &Config, address: Option<IpAddr>) -> Config {
        let mut alone = Config::new();
        match self.host {
            Host::Tcp(name) => alone.host(name),
            Host::Unix(folder) => alone.host_path(folder),
        };
        if let Some(address) = address {
            alone.hostaddr(address);
        }
        alone
            .port(self.port)
            .ssl_mode(config.get_ssl_mode())
            .ssl_negotiation(config.get_ssl_negotiation())
            .keepalives(config.get_keepalives())
            .keepalives_idle(config.get_keepalives_idle())
            .target_session_attrs(config.get_target_session_attrs())
            .channel_binding(config.get_channel_binding())
            .load_balance_hosts(config.get_load_balance_hosts());
        config.get_user().map(|user| alone.user(user));
        config.get_password().map(|password| alone.password(password));
        config.get_dbname().map(|name| alone.dbname(name));
        config.get_options().map(|options| alone.options(options));
        config.get_application_name().map(|name| alone.application_name(name));
        config.get_connect_timeout().map(|time| alone.connect_timeout(*time));
        config.get_tcp_user_timeout().map(|time| alone.tcp_user_timeout(*time));
        config
            .get_keepalives_interval()
            .map(|time| alone.keepalives_interval(time));
        config
            .get_keepalives_retries()
            .map(|count| alone.keepalives_retries(count));
        alone
    }

    async fn attempt(&self, config: &Config, tls: &Tls) -> Result<Connected, Error> {
        let progress = Progress::default();
        let tls = Followed {
            tls: tls.clone(),
            progress: progress.clone(),
        };
        if let Ok(connected) = timeout(self.patience, config.connect(tls)).await {
            return connected;
        }
        let address = config.get_hostaddrs().first().copied();
        Err(self.silence(progress.stage(), address).into_error().await)
    }

    fn silence(&self, stage: Stage, address: Option<IpAddr>) -> Silence {
        let port = self.port;
        let place = match (self.host, address) {
            (Host::Tcp(name), Some(address)) if *name != address.to_string() => format!("{name}:{port} ({address})"),
            (Host::Tcp(name), _) => format!("{name}:{port}"),
            (Host::Unix(folder), _) => format!("{}/.s.PGSQL.{port}", folder.display()),
        };
        Silence {
            place,
            stage,
            patience: self.patience,
        }
    }
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A name is looked up.
    Resolving,
    /// Nobody has accepted the connection.
    Reaching,
    /// Nothing was heard since.
    Accepted,
    /// It speaks TLS, and is at the handshake.
    Handshake,
    /// What is said is encrypted, and we are not logged in.
    Encrypted,
}

impl Stage {
    const ALL: [Self; 5] = [
        Self::Resolving,
        Self::Reaching,
        Self::Accepted,
        Self::Handshake,
        Self::Encrypted,
    ];
}

/// Notes how far it has come, by what the driver asks of TLS.
#[derive(Clone)]
struct Progress(Arc<AtomicU8>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(AtomicU8::new(Stage::Reaching as u8)))
    }
}

impl Progress {
    fn note(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }

    fn stage(&self) -> Stage {
        let stage = usize::from(self.0.load(Ordering::Relaxed));
        Stage::ALL.get(stage).copied().unwrap_or(Stage::Reaching)
    }
}

/// What encrypts, and is followed while it does.
struct Followed {
    tls: Tls,
    progress: Progress,
}

impl MakeTlsConnect<Socket> for Followed {
    type Stream = Stream;
    type TlsConnect = FollowedHandshake;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<FollowedHandshake, Infallible> {
        // The driver asks once it has a socket.
        self.progress.note(Stage::Accepted);
        Ok(FollowedHandshake {
            handshake: self.tls.make_tls_connect(host)?,
            progress: self.progress.clone(),
        })
    }
}

struct FollowedHandshake {
    handshake: Handshake,
    progress: Progress,
}

impl TlsConnect<Socket> for FollowedHandshake {
    type Stream = Stream;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Failure>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            self.progress.note(Stage::Handshake);
            let stream = self.handshake.connect(socket).await?;
            self.progress.note(Stage::Encrypted);
            Ok(stream)
        })
    }
}

/// Nothing more came.
#[derive(Debug)]
struct Silence {
    place: String,
    stage: Stage,
    patience: Duration,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, stage, patience } = self;
        match stage {
            Stage::Resolving => write!(f, "the address of {place} was not found out within {patience:?}"),
            Stage::Reaching => write!(f, "{place} did not accept the connection within {patience:?}"),
            Stage::Accepted => write!(
                f,
                "{place} accepted the connection and did not answer within {patience:?}; is PostgreSQL there, or behind what is \
                 there, and is it well?"
            ),
            Stage::Handshake => write!(f, "{place} did not end the handshake of TLS within {patience:?}"),
            Stage::Encrypted => write!(
                f,
                "{place} did not end the log-in within {patience:?}; is PostgreSQL behind what encrypts there, and is it well?"
            ),
        }?;
        f.write_str(" (connect_timeout says how long to wait)")
    }
}

impl std::error::Error for Silence {}

impl Silence {
    /// The same as an error of the driver's, which only makes its own: it is shown a stream on which nothing can be written, for
    /// this reason.
    async fn into_error(self) -> Error {
        let mut config = Config::new();
        config.user("nobody").ssl_mode(SslMode::Disable);
        match config.connect_raw(Silent(Some(self)), NoTls).await {
            Err(error) => error,
            Ok(_) => unreachable!("nothing can be written"),
        }
    }
}

struct Silent(Option<Silence>);

impl AsyncRead for Silent {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Silent {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        let error = self
            .0
            .take()
            .map(|silence| io::Error::new(io::ErrorKind::TimedOut, silence));
        Poll::Ready(Err(error.unwrap_or_else(|| io::ErrorKind::TimedOut.into())))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::connect::parse;

    #[test]
    fn one_place_has_every_setting_of_them_all() {
        let settings =
            "user=u password=p dbname=d options='-c a=b' application_name=x connect_timeout=7 tcp_user_timeout=8
            keepalives=0 keepalives_idle=9 keepalives_interval=10 keepalives_retries=11 target_session_attrs=read-write
            channel_binding=disable load_balance_hosts=random sslmode=require sslnegotiation=direct";
        let both = parse(&format!("host=one,two hostaddr=10.0.0.1,10.0.0.2 port=1,2 {settings}")).unwrap();
        for (n, text) in [
            (0, "host=one hostaddr=10.0.0.1 port=1"),
            (1, "host=two hostaddr=10.0.0.2 port=2"),
        ] {
            let alone = parse(&format!("{text} {settings}")).unwrap();
            let place = Place::of(both.config(), n, PATIENCE).unwrap();
            assert_eq!(&place.alone(both.config(), place.given), alone.config());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_is_waited_for_so_long_and_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = parse(&format!(
            "postgres://u:hunter2@localhost:{port}/d?hostaddr=127.0.0.1&connect_timeout=7"
        ))
        .unwrap();
        let error = connect(target.config(), target.tls()).await.err().unwrap();
        let said = crate::store::Error::from(error).summary();
        for words in [
            &format!("localhost:{port} (127.0.0.1)"),
            "did not answer within 7s",
            "is not available",
        ] {
            assert!(said.contains(words), "{said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
    }
}
