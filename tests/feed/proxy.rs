//! What stands between a listener and PostgreSQL, and may swallow notifications as a transaction pooler does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// A proxy that knows the frames of the protocol.
pub struct Proxy {
    folder: TempDir,
    swallowing: Arc<AtomicBool>,
}

impl Proxy {
    /// Stands in front of a server.
    pub fn start(server: &Config) -> Self {
        let folder = tempfile::Builder::new().prefix("hp").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let swallowing = Arc::new(AtomicBool::new(false));
        let Host::Unix(server) = &server.get_hosts()[0] else {
            panic!("the server is not on a unix socket");
        };
        tokio::spawn(accept(listener, server.join(".s.PGSQL.5432"), Arc::clone(&swallowing)));
        Self { folder, swallowing }
    }

    /// How to connect through the proxy.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host_path(self.folder.path()).user("postgres").dbname("postgres");
        config
    }

    /// From now on no notification passes.
    pub fn swallow(&self) {
        self.swallowing.store(true, Ordering::SeqCst);
    }

    /// Notifications pass again.
    pub fn pass(&self) {
        self.swallowing.store(false, Ordering::SeqCst);
    }
}

async fn accept(listener: UnixListener, server: std::path::PathBuf, swallowing: Arc<AtomicBool>) {
    while let Ok((client, _)) = listener.accept().await {
        let (mut from_client, to_client) = client.into_split();
        let (from_server, mut to_server) = UnixStream::connect(&server).await.unwrap().into_split();
        tokio::spawn(async move {
            let _ended = tokio::io::copy(&mut from_client, &mut to_server).await;
        });
        tokio::spawn(pass_messages(from_server, to_client, Arc::clone(&swallowing)));
    }
}

async fn pass_messages(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, swallowing: Arc<AtomicBool>) -> Option<()> {
    loop {
        let kind = from.read_u8().await.ok()?;
        let length = from.read_u32().await.ok()?;
        let mut body = vec![0; usize::try_from(length).ok()? - 4];
        from.read_exact(&mut body).await.ok()?;
        if kind == b'A' && swallowing.load(Ordering::SeqCst) {
            continue;
        }
        to.write_u8(kind).await.ok()?;
        to.write_u32(length).await.ok()?;
        to.write_all(&body).await.ok()?;
    }
}
