//! The road between clients and a replica: it can be cut, held up without a word, and narrow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, tcp};
use tokio::sync::watch;

/// What is carried at once.
const PIECE: usize = 512;
/// What a machine on the way holds back at most where the road is narrow.
const BUFFER: u32 = 4 * 1024;

/// How the road is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    Free,
    /// Nothing is carried and nobody is told.
    Silent,
    /// So many bytes a second to the client.
    Slow(u32),
    /// Each connection is reset once it has carried some bytes to the client, up to so many: wherever that is.
    Short(u32),
}

#[derive(Debug, Clone, Copy)]
struct Way {
    to: SocketAddr,
    traffic: Traffic,
    /// Connections of another epoch are reset.
    epoch: u64,
}

/// The road; gone when dropped.
pub struct Road {
    pub address: SocketAddr,
    way: watch::Sender<Way>,
    resets: Arc<AtomicUsize>,
}

impl Road {
    pub async fn to(address: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let (way, ways) = watch::channel(Way {
            to: address,
            traffic: Traffic::Free,
            epoch: 0,
        });
        let resets = Arc::default();
        tokio::spawn(accept(
            listener,
            ways,
            Arc::clone(&resets),
            fastrand::Rng::with_seed(seed),
        ));
        Self {
            address: here,
            way,
            resets,
        }
    }

    pub fn set(&self, traffic: Traffic) {
        self.way.send_modify(|way| way.traffic = traffic);
    }

    /// Leads elsewhere from the next connection on.
    pub fn lead_to(&self, address: SocketAddr) {
        self.way.send_modify(|way| way.to = address);
    }

    /// Resets everything that is connected.
    pub fn reset(&self) {
        self.way.send_modify(|way| way.epoch += 1);
    }

    /// How many connections were reset.
    pub fn resets(&self) -> usize {
        self.resets.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, way: watch::Receiver<Way>, resets: Arc<AtomicUsize>, mut rng: fastrand::Rng) {
    let mut closing = way.clone();
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            closed = closing.wait_for(|_| false) => { assert!(closed.is_err()); return }
        };
        let (way, resets, seed) = (way.clone(), Arc::clone(&resets), rng.u64(..));
        tokio::spawn(async move {
            if carry(client, way, fastrand::Rng::with_seed(seed)).await {
                resets.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// Returns whether the connection was reset.
async fn carry(mut client: TcpStream, way: watch::Receiver<Way>, rng: fastrand::Rng) -> bool {
    let Way { to, traffic, epoch } = *way.borrow();
    let socket = TcpSocket::new_v4().unwrap();
    if matches!(traffic, Traffic::Slow(_)) {
        socket.set_recv_buffer_size(BUFFER).unwrap();
    }
    let Ok(mut server) = socket.connect(to).await else {
        return false;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let mut ended = way.clone();
    let is_reset = tokio::select! {
        _ = up(from_client, to_server, way.clone()) => false,
        is_reset = down(from_server, to_client, way, rng) => is_reset.unwrap_or(false),
        changed = ended.wait_for(|way| way.epoch != epoch) => changed.is_ok(),
    };
    if is_reset {
        for stream in [&client, &server] {
            let _gone = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
    is_reset
}

async fn passable(way: &mut watch::Receiver<Way>) -> std::io::Result<Traffic> {
    let open = way.wait_for(|way| way.traffic != Traffic::Silent).await;
    open.map(|way| way.traffic).map_err(std::io::Error::other)
}

async fn up(
    mut from: tcp::ReadHalf<'_>,
    mut to: tcp::WriteHalf<'_>,
    mut way: watch::Receiver<Way>,
) -> std::io::Result<()> {
    let mut piece = [0; 4 * PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        passable(&mut way).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&piece[..length]).await?;
    }
}

/// Returns whether the connection is to be reset.
async fn down(
    mut from: tcp::ReadHalf<'_>,
    mut to: tcp::WriteHalf<'_>,
    mut way: watch::Receiver<Way>,
    mut rng: fastrand::Rng,
) -> std::io::Result<bool> {
    let (mut piece, mut left) = ([0; PIECE], None);
    loop {
        let length = from.read(&mut piece).await?;
        let traffic = passable(&mut way).await?;
        if length == 0 {
            return Ok(false);
        }
        match traffic {
            Traffic::Slow(rate) => {
                let time = Duration::from_secs(1) * u32::try_from(length).unwrap() / rate;
                tokio::time::sleep(time).await;
            }
            Traffic::Short(most) => {
                let left = left.get_or_insert_with(|| rng.usize(..most as usize));
                if *left < length {
                    to.write_all(&piece[..*left]).await?;
                    // A reset takes what the client has not read yet with it.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    return Ok(true);
                }
                *left -= length;
            }
            Traffic::Free | Traffic::Silent => {}
        }
        to.write_all(&piece[..length]).await?;
    }
}
