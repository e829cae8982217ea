//! Folders, connections, looking at processes, and a second process of our own to hold a cluster.

use std::{
    env,
    fs::{self, Permissions},
    future::Future,
    io::{BufRead, BufReader},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use halyard::embedded::{Cluster, Durability, Options};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::{Client, NoTls};

pub use crate::processes::processes_below;

/// The account that stands for "somebody else on this machine".
pub const NOBODY: u32 = 65_534;

const PATIENCE: Duration = Duration::from_mins(1);

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A temporary folder that every user may enter.
pub fn open_folder() -> TempDir {
    tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .unwrap()
}

/// A fast server; its data folder does not exist yet.
pub fn volatile(folder: &TempDir) -> Options {
    Options {
        durability: Durability::Volatile,
        supervisor: Some(env!("CARGO_BIN_EXE_halyard").into()),
        ..Options::new(folder.path().join("data"))
    }
}

pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The single text value that `sql` yields.
pub async fn ask(cluster: &Cluster, sql: &str) -> String {
    connect(&cluster.url())
        .await
        .unwrap()
        .query_one(sql, &[])
        .await
        .unwrap()
        .get(0)
}

pub async fn execute(cluster: &Cluster, sql: &str) {
    connect(&cluster.url()).await.unwrap().batch_execute(sql).await.unwrap();
}

/// Polls until `is_so`, and fails the test if that never comes.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The same for a question that has to be awaited.
pub async fn eventually_async<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A line of `/proc/<pid>/status`, split into words.
pub fn process_status(pid: u32, field: &str) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{field}:")))
        .unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

pub fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

pub fn owner(path: &Path) -> u32 {
    fs::metadata(path).unwrap().uid()
}

/// This test program once more, playing one of the parts of `part`.
pub struct Other {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    /// Holds the copy of the service's program that another user can reach.
    _program: Option<TempDir>,
}

impl Other {
    /// Plays as the user we are.
    pub fn play(part: &str, argument: &str) -> Self {
        Self::spawn(part, argument, None)
    }

    /// Plays as an ordinary user: `uid` if we are root, else the one we are.
    pub fn play_as(uid: u32, part: &str, argument: &str) -> Self {
        Self::spawn(part, argument, is_root().then_some(uid))
    }

    fn spawn(part: &str, argument: &str, uid: Option<u32>) -> Self {
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_halyard"));
        // Reaches our own program even where the other user has no access to the folders above.
        let mut command = Command::new("/proc/self/exe");
        let mut copy = None;
        if let Some(uid) = uid {
            let folder = open_folder();
            let to = folder.path().join("halyard");
            fs::copy(&program, &to).unwrap();
            program = to;
            copy = Some(folder);
            command.uid(uid).gid(uid).current_dir("/");
        }
        command.args(["--exact", "part", "--nocapture"]);
        command
            .env("PART", part)
            .env("ARGUMENT", argument)
            .env("SUPERVISOR", &program);
        command.env_remove("XDG_RUNTIME_DIR");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            lines,
            _program: copy,
        }
    }

    /// What it says next.
    pub fn says(&mut self) -> String {
        loop {
            let line = self
                .lines
                .next()
                .expect("the other process ended without a word")
                .unwrap();
            if let Some((_, said)) = line.split_once("SAYS ") {
                return said.to_owned();
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    pub fn ends(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::print_stdout, reason = "this is how the two processes talk")]
fn say(text: impl std::fmt::Display) {
    println!("SAYS {text}");
}

/// What the other process does. Called by the test `part`, which is none unless `PART` is set.
pub async fn play_part(part: &str) {
    let argument = env::var("ARGUMENT").unwrap();
    let options = Options {
        durability: Durability::Volatile,
        supervisor: env::var_os("SUPERVISOR").map(PathBuf::from),
        ..Options::new(&argument)
    };
    match part {
        // Holds a cluster until told to stop.
        "hold" => {
            let mut terminate = signal(SignalKind::terminate()).unwrap();
            let cluster = Cluster::start(options).await.unwrap();
            say(cluster.url());
            terminate.recv().await;
            cluster.stop().await.unwrap();
        }
        // The same, but leaves without stopping it.
        "leave" => {
            let mut terminate = signal(SignalKind::terminate()).unwrap();
            let cluster = Cluster::start(options).await.unwrap();
            say(cluster.url());
            terminate.recv().await;
        }
        // Everything once.
        "use" => {
            let cluster = Cluster::start(options).await.unwrap();
            execute(
                &cluster,
                "create table kept (word text); insert into kept values ('yes')",
            )
            .await;
            cluster.restart().await.unwrap();
            say(ask(&cluster, "select word from kept").await);
            let uid = process_status(cluster.pid().unwrap(), "Uid")[0].clone();
            say(uid);
            cluster.stop().await.unwrap();
        }
        // Tries to connect to somebody's server.
        "connect" => match connect(&argument).await {
            Ok(_) => say("connected"),
            Err(error) => say(error.code().map_or("no connection", |code| code.code())),
        },
        part => panic!("no such part: {part}"),
    }
}

/// A folder that belongs to an ordinary user.
pub fn folder_of(uid: u32) -> TempDir {
    let folder = open_folder();
    if is_root() {
        chown(folder.path(), Some(uid), Some(uid)).unwrap();
    }
    folder
}
