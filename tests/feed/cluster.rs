//! A throw-away PostgreSQL of one test: its own processes, on a unix socket, gone with the value whatever becomes of the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

/// A running cluster.
pub struct Cluster {
    folder: TempDir,
    server: Option<Child>,
}

impl Cluster {
    /// Makes and starts a cluster.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("hf").tempdir_in("/tmp").unwrap();
        if let Some((user, group)) = owner() {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let mut cluster = Self { folder, server: None };
        let made = cluster
            .command("initdb")
            .args([
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--username=postgres",
                "-D",
            ])
            .arg(cluster.data())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster.launch().await;
        cluster
    }

    /// How to connect.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host_path(self.folder.path()).user("postgres").dbname("postgres");
        config
    }

    /// A connection outside of any pool.
    pub async fn client(&self) -> Client {
        let (client, connection) = self.config().connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Starts the server, and waits until it answers.
    pub async fn launch(&mut self) {
        self.server = Some(self.spawn());
        let deadline = Instant::now() + Duration::from_mins(1);
        while self.config().connect(NoTls).await.is_err() {
            assert!(Instant::now() < deadline, "PostgreSQL does not start");
            // It refuses while a process of the server before has not ended yet, whose memory they would share.
            if self
                .server
                .as_mut()
                .is_some_and(|server| server.try_wait().unwrap().is_some())
            {
                self.server = Some(self.spawn());
            }
            // Its start is an event of another process that nothing else announces.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn spawn(&self) -> Child {
        self.command("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.folder.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60"])
            .spawn()
            .unwrap()
    }

    /// Kills every process of the server at once.
    pub fn kill(&mut self) {
        self.signal(Signal::STOP);
        self.signal(Signal::KILL);
        if let Some(mut server) = self.server.take() {
            server.wait().unwrap();
        }
    }

    /// Makes a server that is down a standby when it is launched, or a primary again.
    pub fn set_standby(&self, standby: bool) {
        let signal = self.data().join("standby.signal");
        if standby {
            std::fs::write(signal, "").unwrap();
        } else {
            std::fs::remove_file(signal).unwrap();
        }
    }

    /// Sends a signal to every process of the server.
    pub fn signal(&self, signal: Signal) {
        let Some(server) = &self.server else {
            return;
        };
        let postmaster = i32::try_from(server.id()).unwrap();
        // Not before its children are known: a dead parent has none.
        let children = children(postmaster);
        for process in [postmaster].into_iter().chain(children) {
            signal_process(process, signal);
        }
    }

    /// Keeps a copy of the files of a server that is down.
    pub fn back_up(&self) {
        self.copy("data", "backup");
    }

    /// Puts the copy in the place of the files of a server that is down.
    pub fn restore(&self) {
        std::fs::remove_dir_all(self.data()).unwrap();
        self.copy("backup", "data");
    }

    /// A copy of a server that is down, which is down as well.
    pub fn twin(&self) -> Self {
        let folder = tempfile::Builder::new().prefix("hf").tempdir_in("/tmp").unwrap();
        if let Some((user, group)) = owner() {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        self.copy("data", folder.path().join("data").to_str().unwrap());
        Self { folder, server: None }
    }

    fn copy(&self, from: &str, to: &str) {
        let mut copy = Command::new("cp");
        let copied = copy
            .args(["-a", from, to])
            .current_dir(self.folder.path())
            .status()
            .unwrap();
        assert!(copied.success());
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.run_as_owner(binaries().join(program), self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("FEED_TEST_LOG").is_none() {
            command.stderr(Stdio::null());
        }
        command
    }

    /// A program that refuses to run as root, as PostgreSQL does; it ends when the thread of the test does, however that ends. It
    /// runs in a folder, which becomes the user's.
    #[allow(clippy::unused_self, reason = "whose owner it is")]
    pub fn run_as_owner(&self, program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL");
        if let Some((user, group)) = owner() {
            std::os::unix::fs::chown(folder, Some(user), Some(group)).unwrap();
            command.args([
                format!("--reuid={user}"),
                format!("--regid={group}"),
                "--clear-groups".into(),
            ]);
        }
        command.arg(program).current_dir(folder);
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to one process, which may be gone.
pub fn signal_process(process: i32, signal: Signal) {
    if let Some(process) = Pid::from_raw(process) {
        let _gone = kill_process(process, signal);
    }
}

fn children(parent: i32) -> Vec<i32> {
    let listed = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let text = listed.unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Whom the server belongs to, when that cannot be us.
fn owner() -> Option<(u32, u32)> {
    let id = |flag: &str| {
        let output = Command::new("id").args([flag, "postgres"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    rustix::process::geteuid().is_root().then(|| (id("-u"), id("-g")))
}

fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut folders: Vec<_> = versions.map(|version| version.unwrap().path().join("bin")).collect();
    folders.retain(|folder| folder.join("initdb").exists());
    folders.sort();
    folders.pop().unwrap_or_else(|| Path::new("/usr/bin").to_owned())
}
