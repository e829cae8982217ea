//! Stands between a server and PostgreSQL, and can swallow notifications or cut connections.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// What happens to what PostgreSQL sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It passes.
    Pass,
    /// Notifications are swallowed; everything else passes.
    SwallowNotifications,
    /// Nothing passes, and nobody is told.
    Hold,
    /// On connections from before nothing passes, ever, and nobody is told; on new ones everything.
    Strand,
    /// Connections are cut and none is accepted.
    Cut,
}

/// The proxy; gone when dropped.
pub struct Proxy {
    /// How to connect through it.
    pub config: Config,
    mode: watch::Sender<Mode>,
    swallowed: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
}

impl Proxy {
    /// Stands before the server of `config`, which is on a unix socket.
    pub async fn before(config: &Config) -> Self {
        let [Host::Unix(folder)] = config.get_hosts() else {
            panic!("the cluster listens on a unix socket")
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let socket = folder.join(format!(".s.PGSQL.{port}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(Mode::Pass);
        let (swallowed, accepted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = (swallowed.clone(), accepted.clone());
        tokio::spawn(accept(listener, socket, modes, counted));
        Self {
            config: through(config, address),
            mode,
            swallowed,
            accepted,
        }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many connections were made, those that ask to cancel something among them.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many notifications were swallowed.
    pub fn swallowed(&self) -> usize {
        self.swallowed.load(Ordering::Relaxed)
    }
}

fn through(config: &Config, address: SocketAddr) -> Config {
    let mut through = Config::new();
    through.host(address.ip().to_string()).port(address.port());
    through
        .user(config.get_user().unwrap())
        .dbname(config.get_dbname().unwrap());
    through
}

async fn accept(
    listener: TcpListener,
    socket: PathBuf,
    mode: watch::Receiver<Mode>,
    (swallowed, count): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    let mut closing = mode.clone();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            closed = closing.wait_for(|_| false) => { assert!(closed.is_err()); return }
        };
        count.fetch_add(1, Ordering::Relaxed);
        if *mode.borrow() != Mode::Cut {
            tokio::spawn(carry(client, socket.clone(), mode.clone(), swallowed.clone()));
        }
    }
}

async fn carry(client: TcpStream, socket: PathBuf, mut mode: watch::Receiver<Mode>, swallowed: Arc<AtomicUsize>) {
    let Ok(server) = UnixStream::connect(Path::new(&socket)).await else {
        return;
    };
    let is_new = *mode.borrow() == Mode::Strand;
    let (mut from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let modes = mode.clone();
    let forth = async move { copy(&mut from_client, &mut to_server).await.map(drop) };
    let back = async move { answers(from_server, &mut to_client, (&modes, is_new), &swallowed).await };
    tokio::select! {
        _ = forth => {}
        _ = back => {}
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

/// Passes what PostgreSQL sends on a connection, which is new if it was made while others were stranded.
///
/// Each message is a type, a length that counts itself, and a body.
async fn answers(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    (mode, is_new): (&watch::Receiver<Mode>, bool),
    swallowed: &AtomicUsize,
) -> std::io::Result<()> {
    loop {
        let kind = from.read_u8().await?;
        let length = from.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        from.read_exact(&mut body).await?;
        if kind == b'A' && *mode.borrow() == Mode::SwallowNotifications {
            swallowed.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let mut held = mode.clone();
        let passes = |mode: &Mode| !matches!((mode, is_new), (Mode::Hold, _) | (Mode::Strand, false));
        drop(held.wait_for(passes).await);
        if *mode.borrow() == Mode::Cut {
            return Ok(());
        }
        let mut message = vec![kind];
        message.extend(length.to_be_bytes());
        message.extend(body);
        to.write_all(&message).await?;
    }
}
