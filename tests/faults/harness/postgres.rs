//! PostgreSQL as its operating system sees it: processes to kill and stop, a folder to copy.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{Client, Config, NoTls};

use super::spans::Spans;
use crate::support::cluster::Folder;
use crate::support::eventually;

/// A cluster on a unix socket; gone with the value.
pub struct Postgres {
    folder: Folder,
    settings: Vec<String>,
    server: Option<Child>,
    /// When it could not answer.
    pub outages: Spans,
}

impl Postgres {
    /// A cluster made anew, not started.
    pub fn initialise() -> Self {
        let postgres = Self::empty(&["fsync=off"]);
        let mut command = postgres.command("initdb");
        command.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        finish(command.args(["--username=postgres", "-D"]).arg(postgres.data()));
        postgres
    }

    /// A copy of the files of another, which is down.
    pub fn copy_of(data: &Path, settings: &[&str]) -> Self {
        let postgres = Self::empty(settings);
        copy(data, &postgres.data());
        postgres
    }

    fn empty(settings: &[&str]) -> Self {
        let folder = Folder::new();
        if let Some((user, group)) = owner() {
            std::os::unix::fs::chown(&folder.path, Some(user), Some(group)).unwrap();
        }
        Self {
            folder,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            server: None,
            outages: Spans::default(),
        }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path.join("data")
    }

    /// What it has logged.
    pub fn log(&self) -> PathBuf {
        self.folder.path.join("log")
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path.join(".s.PGSQL.5432")
    }

    /// How to connect to it, past every wire.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.folder.path)
            .user("postgres")
            .dbname("postgres")
            .application_name("faults");
        config
    }

    /// A connection for looking and for breaking, past every wire.
    pub async fn sql(&self) -> Client {
        let (client, connection) = self.config().connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Starts it, or starts it again, and returns once it answers. To be called from the test's own task: the server dies with the
    /// thread that started it.
    pub async fn start(&mut self) {
        self.server = Some(self.spawn());
        eventually("PostgreSQL", async || {
            // It refuses while a process of the server before has not ended yet, whose memory they would share.
            if self
                .server
                .as_mut()
                .is_some_and(|server| server.try_wait().unwrap().is_some())
            {
                self.server = Some(self.spawn());
            }
            let before = Instant::now();
            let answers = self.config().connect(NoTls).await.is_ok();
            answers.then(|| self.outages.close(before))
        })
        .await;
    }

    /// Returns once it answers, of a server that starts anew by itself.
    pub async fn answers(&self) {
        eventually("PostgreSQL", async || self.config().connect(NoTls).await.ok().map(drop)).await;
    }

    fn spawn(&self) -> Child {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(&self.folder.path);
        command.args(["-c", "listen_addresses=", "-c", "max_connections=100"]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command.spawn().unwrap()
    }

    /// Kills every process of it at once, with signal 9.
    pub fn kill(&mut self) {
        self.signal(Signal::STOP);
        self.outages.open();
        self.kill_unnoted();
    }

    fn kill_unnoted(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut server) = self.server.take() {
            server.wait().unwrap();
        }
    }

    /// Ends it in order, cutting whoever is connected.
    pub fn shut_down(&mut self) {
        self.outages.open();
        self.fall_behind();
    }

    /// The same of a standby that nobody uses yet, which is no outage.
    pub fn fall_behind(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(server.id(), Signal::INT);
            server.wait().unwrap();
        }
    }

    /// Leaves no room on the disk for the log to go on: where its next file must lie is a device that is always full. That needs no
    /// rights that a test may lack, and is found out as it would be on a full disk.
    pub async fn fill_disk(&self, client: &Client) -> Room {
        let mut next = client
            .query_one("select pg_walfile_name(pg_current_wal_insert_lsn())", &[])
            .await;
        loop {
            let current: String = next.unwrap().get(0);
            let (before, number) = current.split_at(16);
            let number = u64::from_str_radix(number, 16).unwrap() + 1;
            let file = self.data().join("pg_wal").join(format!("{before}{number:08X}"));
            let _kept_for_later = std::fs::remove_file(&file);
            std::os::unix::fs::symlink("/dev/full", &file).unwrap();
            // Whatever is written next must go there. The answer may get lost with the server.
            let _switched = client.batch_execute("select pg_switch_wal()").await;
            let _written = client
                .batch_execute("select pg_logical_emit_message(true, '', '')")
                .await;
            next = client
                .query_one("select pg_walfile_name(pg_current_wal_insert_lsn())", &[])
                .await;
            if next.is_err() {
                self.outages.open();
                return Room(file);
            }
        }
    }

    /// Gives it room again, and returns once it answers.
    pub async fn make_room(&self, Room(file): Room) {
        self.outages.close(Instant::now());
        std::fs::remove_file(file).unwrap();
        self.answers().await;
    }

    /// Whether its log has these words.
    pub fn has_said(&self, words: &str) -> bool {
        std::fs::read_to_string(self.log()).unwrap_or_default().contains(words)
    }

    /// Stops every process of it, which then says nothing, not even that it is away.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        self.outages.open();
    }

    /// Lets every process of it go on.
    pub fn thaw(&self) {
        self.outages.close(Instant::now());
        self.signal(Signal::CONT);
    }

    /// Keeps a copy of its files under a name, while it is down.
    pub fn keep(&self, name: &str) {
        copy(&self.data(), &self.folder.path.join(name));
    }

    /// Puts files that were kept in the place of its own, while it is down.
    pub fn restore(&self, name: &str) {
        std::fs::remove_dir_all(self.data()).unwrap();
        copy(&self.folder.path.join(name), &self.data());
    }

    /// A standby of this one, which runs; not started. Its outages count as this one's, whose place it may take: put it there with
    /// `std::mem::replace`, lead the wires to its socket, and promote it by `select pg_promote()`.
    pub fn standby(&self) -> Self {
        let settings: Vec<_> = self.settings.iter().map(String::as_str).collect();
        let mut postgres = Self::empty(&settings);
        postgres.outages = self.outages.clone();
        let mut command = self.command("pg_basebackup");
        command.args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"]);
        command.args(["-U", "postgres", "-h"]).arg(&self.folder.path);
        finish(command.arg("-D").arg(postgres.data()));
        postgres
    }

    /// Sends a signal to every process of it.
    fn signal(&self, which: Signal) {
        let Some(server) = &self.server else {
            return;
        };
        // Not before its children are known: a dead parent has none.
        let children = children(server.id());
        for process in [server.id()].into_iter().chain(children) {
            signal(process, which);
        }
    }

    /// PostgreSQL refuses to run as root; and it ends when the thread of the test does, however that ends.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL");
        if let Some((user, group)) = owner() {
            command.args([
                format!("--reuid={user}"),
                format!("--regid={group}"),
                "--clear-groups".into(),
            ]);
        }
        command.arg(binaries().join(program));
        let log = std::fs::File::options().create(true).append(true).open(self.log());
        command
            .current_dir(&self.folder.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A standby that is given up is no outage. Stopped first, so that none is started anew meanwhile.
        self.signal(Signal::STOP);
        self.kill_unnoted();
        // A backend that was stopped when its parent died.
        for process in crate::support::processes::processes_below(&self.folder.path) {
            signal(process, Signal::KILL);
        }
    }
}

/// What fills the disk.
#[must_use]
pub struct Room(PathBuf);

/// Sends a signal to one process, which may be gone.
pub fn signal(process: u32, signal: Signal) {
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _gone = kill_process(process, signal);
    }
}

fn finish(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    finish(command.args(["-a", "--reflink=auto"]).arg(from).arg(to));
}

fn children(parent: u32) -> Vec<u32> {
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
