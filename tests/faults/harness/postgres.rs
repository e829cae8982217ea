//! PostgreSQL as faults break it: killed, stopped, without room, with older files, or behind a standby; and when it was away.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio_postgres::{Client, Config, NoTls};

use super::spans::Spans;
use crate::support::cluster::Folder;
use crate::support::eventually_within;
use crate::support::server::Server;
pub use crate::support::server::signal;

/// How long PostgreSQL may take to start anew by itself: it waits for its processes to be gone, and one that waits for a busy disk was
/// seen to take a minute to die.
const RESTART: Duration = Duration::from_mins(3);

/// A cluster on a unix socket; gone with the value.
pub struct Postgres {
    server: Server,
    folder: Folder,
    /// When it could not answer.
    pub outages: Spans,
}

impl Postgres {
    /// A cluster made anew, not started.
    pub fn initialise() -> Self {
        let postgres = Self::empty(&["fsync=off"]);
        postgres.server.initialise();
        postgres
    }

    /// A copy of the files of another, which is down.
    pub fn copy_of(data: &Path, settings: &[&str]) -> Self {
        let settings: Vec<_> = ["max_connections=100"].iter().chain(settings).copied().collect();
        let postgres = Self::empty(&settings);
        postgres.server.copy(data, &postgres.data());
        postgres
    }

    fn empty(settings: &[&str]) -> Self {
        let folder = Folder::new();
        Self {
            server: Server::below(&folder.path, settings),
            folder,
            outages: Spans::default(),
        }
    }

    pub fn data(&self) -> PathBuf {
        self.server.data()
    }

    /// What it has logged.
    pub fn log(&self) -> PathBuf {
        self.server.log()
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.server.socket()
    }

    /// How to connect to it, past every wire.
    pub fn config(&self) -> Config {
        let mut config = self.server.config();
        config.application_name("faults");
        config
    }

    /// A connection for looking and for breaking, past every wire.
    pub async fn sql(&self) -> Client {
        self.server.client(&self.config()).await
    }

    /// Starts it, or starts it again, and returns once it answers. To be called from the test's own task: the server dies with the
    /// thread that started it.
    pub async fn start(&mut self) {
        let before = self.server.start().await;
        self.outages.close(before);
    }

    /// Returns once it answers, of a server that starts anew by itself.
    pub async fn answers(&self) {
        let answers = async || self.config().connect(NoTls).await.ok().map(drop);
        eventually_within(RESTART, "PostgreSQL", answers).await;
    }

    /// Kills every process of it at once, with signal 9.
    pub fn kill(&mut self) {
        self.server.signal(Signal::STOP);
        self.outages.open();
        self.server.kill();
    }

    /// Ends it in order, cutting whoever is connected.
    pub fn shut_down(&mut self) {
        self.outages.open();
        self.fall_behind();
    }

    /// The same of a standby that nobody uses yet, which is no outage.
    pub fn fall_behind(&mut self) {
        self.server.shut_down();
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
        self.server.signal(Signal::STOP);
        self.outages.open();
    }

    /// Lets every process of it go on.
    pub fn thaw(&self) {
        self.outages.close(Instant::now());
        self.server.signal(Signal::CONT);
    }

    /// Keeps a copy of its files under a name, while it is down.
    pub fn keep(&self, name: &str) {
        self.server.copy(&self.data(), &self.folder.path.join(name));
    }

    /// Puts files that were kept in the place of its own, while it is down.
    pub fn restore(&self, name: &str) {
        std::fs::remove_dir_all(self.data()).unwrap();
        self.server.copy(&self.folder.path.join(name), &self.data());
    }

    /// A standby of this one, which runs; not started. Its outages count as this one's, whose place it may take: put it there with
    /// `std::mem::replace`, lead the wires to its socket, and promote it by `select pg_promote()`.
    pub fn standby(&self) -> Self {
        let mut postgres = Self::empty(&self.server.settings());
        postgres.outages = self.outages.clone();
        let mut command = self.server.command("pg_basebackup");
        command.args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"]);
        command.args(["-U", "postgres", "-h"]).arg(&self.folder.path);
        self.server.finish(command.arg("-D").arg(postgres.data()));
        postgres
    }
}

/// What fills the disk.
#[must_use]
pub struct Room(PathBuf);
