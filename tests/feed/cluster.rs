//! A throw-away PostgreSQL of one test: its own processes, on a unix socket, gone with the value whatever becomes of the test.

use rustix::process::Signal;
use tempfile::TempDir;
use tokio_postgres::{Client, Config};

use crate::support::server::{Server, own};

const SETTINGS: &[&str] = &["fsync=off", "max_connections=60"];

/// A running cluster.
pub struct Cluster {
    server: Server,
    folder: TempDir,
}

impl Cluster {
    /// Makes and starts a cluster.
    pub async fn start() -> Self {
        let mut cluster = Self::empty();
        cluster.server.initialise();
        cluster.launch().await;
        cluster
    }

    fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("hf").tempdir_in("/tmp").unwrap();
        let server = Server::below(folder.path(), SETTINGS);
        Self { server, folder }
    }

    /// How to connect.
    pub fn config(&self) -> Config {
        self.server.config()
    }

    /// A connection outside of any pool.
    pub async fn client(&self) -> Client {
        self.server.client(&self.config()).await
    }

    /// Starts the server, and waits until it answers.
    pub async fn launch(&mut self) {
        self.server.start().await;
    }

    /// Kills every process of the server at once.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Makes a server that is down a standby when it is launched, or a primary again.
    pub fn set_standby(&self, standby: bool) {
        let signal = self.server.data().join("standby.signal");
        if standby {
            std::fs::write(&signal, "").unwrap();
            own(&signal);
        } else {
            std::fs::remove_file(signal).unwrap();
        }
    }

    /// Sends a signal to every process of the server.
    pub fn signal(&self, signal: Signal) {
        self.server.signal(signal);
    }

    /// Keeps a copy of the files of a server that is down.
    pub fn back_up(&self) {
        self.server
            .copy(&self.server.data(), &self.folder.path().join("backup"));
    }

    /// Puts the copy in the place of the files of a server that is down.
    pub fn restore(&self) {
        std::fs::remove_dir_all(self.server.data()).unwrap();
        self.server
            .copy(&self.folder.path().join("backup"), &self.server.data());
    }

    /// A copy of a server that is down, which is down as well.
    pub fn twin(&self) -> Self {
        let twin = Self::empty();
        self.server.copy(&self.server.data(), &twin.server.data());
        twin
    }
}
