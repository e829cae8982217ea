//! PostgreSQL as its operating system sees it: files below a folder, and processes to stop and to kill.

use std::ffi::OsStr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{Client, Config, NoTls};

use super::eventually;
use super::processes::processes_below;

/// A server on a unix socket; its processes are gone with the value, its files with the folder.
pub struct Server {
    folder: PathBuf,
    settings: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// Below a folder, which becomes that of PostgreSQL's user; without files, not started. With settings such as
    /// `max_connections=30`.
    pub fn below(folder: &Path, settings: &[&str]) -> Self {
        own(folder);
        Self {
            folder: folder.to_owned(),
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            process: None,
        }
    }

    /// Makes its files.
    pub fn initialise(&self) {
        let mut command = self.command("initdb");
        command.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        self.finish(command.args(["--username=postgres", "-D"]).arg(self.data()));
    }

    pub fn settings(&self) -> Vec<&str> {
        self.settings.iter().map(String::as_str).collect()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What it has logged.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{}", self.port()))
    }

    fn port(&self) -> u16 {
        let port = self.settings.iter().find_map(|setting| setting.strip_prefix("port="));
        port.map_or(5432, |port| port.parse().unwrap())
    }

    /// How to connect.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host_path(&self.folder).port(self.port());
        config.user("postgres").dbname("postgres");
        config
    }

    /// A connection outside of any pool.
    pub async fn client(&self, config: &Config) -> Client {
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Starts it, or starts it again, and returns once it answers; the moment is the last at which it certainly did not. To be called
    /// from the test's own task: the server dies with the thread that started it.
    pub async fn start(&mut self) -> Instant {
        let mut away = Instant::now();
        self.process = Some(self.spawn());
        eventually("PostgreSQL", async || {
            let process = self.process.as_mut();
            // It refuses while a process of the server before has not ended yet, whose memory they would share.
            if process.is_some_and(|process| process.try_wait().unwrap().is_some()) {
                self.process = Some(self.spawn());
            }
            let asked = Instant::now();
            let answer = self.config().connect(NoTls).await;
            if answer.is_err() {
                away = asked;
            }
            answer.is_ok().then_some(away)
        })
        .await
    }

    fn spawn(&self) -> Child {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(&self.folder);
        for setting in ["listen_addresses="].into_iter().chain(self.settings()) {
            command.args(["-c", setting]);
        }
        command.spawn().unwrap()
    }

    /// Kills every process of it at once, with signal 9.
    pub fn kill(&mut self) {
        // First, so that none is started anew meanwhile.
        self.signal(Signal::STOP);
        self.signal(Signal::KILL);
        if let Some(mut process) = self.process.take() {
            process.wait().unwrap();
        }
    }

    /// Ends it in order, cutting whoever is connected.
    pub fn shut_down(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal(process.id(), Signal::INT);
            process.wait().unwrap();
        }
    }

    /// Sends a signal to every process of it.
    pub fn signal(&self, which: Signal) {
        let Some(process) = &self.process else {
            return;
        };
        // Not before its children are known: a dead parent has none.
        let children = children(process.id());
        for process in [process.id()].into_iter().chain(children) {
            signal(process, which);
        }
    }

    /// One of PostgreSQL's programs, which logs where the server does.
    pub fn command(&self, program: &str) -> Command {
        let mut command = as_owner(binaries().join(program), &self.folder);
        let log = std::fs::File::options().create(true).append(true).open(self.log());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap());
        command
    }

    /// Runs a program to its end, which must be a good one.
    pub fn finish(&self, command: &mut Command) {
        let status = command.status().unwrap();
        let said = || std::fs::read_to_string(self.log()).unwrap_or_default();
        assert!(status.success(), "{command:?}: {status}: {}", said());
    }

    /// Copies files of a server that is down.
    pub fn copy(&self, from: &Path, to: &Path) {
        let mut command = Command::new("cp");
        self.finish(command.args(["-a", "--reflink=auto"]).arg(from).arg(to));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // A backend that was stopped when its parent died.
        for process in processes_below(&self.folder) {
            signal(process, Signal::KILL);
        }
    }
}

/// Sends a signal to one process, which may be gone.
pub fn signal(process: u32, signal: Signal) {
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _gone = kill_process(process, signal);
    }
}

/// A program that refuses to run as root, as PostgreSQL does, in a folder. It ends when the thread of the test does, however that
/// ends.
pub fn as_owner(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=KILL");
    if let Some((user, group)) = owner() {
        command.args([
            format!("--reuid={user}"),
            format!("--regid={group}"),
            "--clear-groups".into(),
        ]);
    }
    command.arg(program).current_dir(folder);
    command
}

/// Makes a folder that of whoever runs such a program.
pub fn own(folder: &Path) {
    if let Some((user, group)) = owner() {
        chown(folder, Some(user), Some(group)).unwrap();
    }
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
