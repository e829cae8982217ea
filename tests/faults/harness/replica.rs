//! A replica as the built program.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::ages::Endpoint;
use super::calls;
use super::doors::{Doors, connect};
use super::postgres::signal;
use super::spans::Spans;
use super::template::Furniture;
use crate::support::eventually;
use crate::support::program::clean;

pub const SIGNING_KEY: &str = "a signing key for tests, 32 bytes or more";

/// One place of a replica: whoever lives there is replaced when it dies.
pub struct Replica {
    pub number: usize,
    /// When it could not answer.
    pub absences: Spans,
    url: String,
    arguments: Vec<String>,
    /// Where its processes log, each into a file of its own.
    folder: PathBuf,
    lives: u32,
    doors: Doors,
    /// Where whoever watches over it finds its metrics.
    pub metrics: Endpoint,
    process: Option<Child>,
}

impl Replica {
    /// Not started yet.
    pub fn new(number: usize, url: String, arguments: &[&str], folder: &std::path::Path, doors: Doors) -> Self {
        Self {
            number,
            absences: Spans::default(),
            url,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            folder: folder.to_owned(),
            lives: 0,
            doors,
            metrics: Endpoint::default(),
            process: None,
        }
    }

    /// Starts a process, without waiting for it. To be called from the test's own task: the process dies with the thread that
    /// started it.
    pub fn launch(&mut self) {
        self.lives += 1;
        let mut command = clean(Command::new("setpriv"));
        command.args(["--pdeathsig=KILL", env!("CARGO_BIN_EXE_halyard"), "serve"]);
        command.args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]);
        command.args(["--worker-threads", "2"]);
        command.args(["--log-format", "json", "--shutdown-grace", "5s"]);
        if !self.arguments.iter().any(|argument| argument == "--drain-window") {
            command.args(["--drain-window", "200ms"]);
        }
        command.args(&self.arguments);
        command.envs([("HALYARD_SIGNING_KEY", SIGNING_KEY), ("DATABASE_URL", &self.url)]);
        command
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.log()).unwrap());
        self.process = Some(command.spawn().unwrap());
    }

    /// Waits until what was launched answers evaluations, and lets clients know where.
    pub async fn ready(&mut self, furniture: &Furniture) {
        // Before there is a world nobody else keeps what it has logged.
        let _log = Log(self.log());
        let address = eventually("the address of a replica", async || {
            self.is_alive();
            self.listens()
        })
        .await;
        let channel = connect(address);
        let key = &furniture.environments[0].server_key;
        eventually("the first answer of a replica", async || {
            self.is_alive();
            calls::evaluate_all(channel.clone(), key).await.ok()
        })
        .await;
        self.doors.open(self.number, address);
        *self.metrics.lock().unwrap() = self.said_of("metrics");
        self.absences.close(Instant::now());
    }

    pub async fn start(&mut self, furniture: &Furniture) {
        self.launch();
        self.ready(furniture).await;
    }

    fn is_alive(&mut self) {
        let process = self.process.as_mut().expect("it was not launched");
        if let Some(status) = process.try_wait().unwrap() {
            panic!("replica {} ended, {status}: {}", self.number, self.said());
        }
    }

    /// Where it says that it listens, once it does.
    pub fn listens(&self) -> Option<SocketAddr> {
        self.said_of("address")
    }

    /// An address in the line in which it says that it listens.
    fn said_of(&self, field: &str) -> Option<SocketAddr> {
        let said = self.said();
        let line = said.lines().find(|line| line.contains("\"listening\""))?;
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let address = line
            .pointer(&format!("/fields/{field}"))
            .or_else(|| line.get(field))?
            .as_str()?;
        address.parse().ok()
    }

    /// What the process that lives here has logged so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("replica-{}.{}.log", self.number, self.lives))
    }

    /// Kills it with signal 9.
    pub fn kill(&mut self) {
        self.absences.open();
        self.doors.close(self.number);
        *self.metrics.lock().unwrap() = None;
        if let Some(mut process) = self.process.take() {
            let _gone = process.kill();
            process.wait().unwrap();
        }
    }

    /// Asks it to stop, and waits until it has. Returns how it ended and how long that took.
    pub async fn stop(&mut self) -> (ExitStatus, Duration) {
        self.absences.open();
        *self.metrics.lock().unwrap() = None;
        let (asked, mut process) = (Instant::now(), self.process.take().expect("it was not launched"));
        signal(process.id(), Signal::TERM);
        let status = eventually("the end of a replica", async || process.try_wait().unwrap()).await;
        self.doors.close(self.number);
        (status, asked.elapsed())
    }

    /// Stops it where it is.
    pub fn freeze(&self) {
        self.absences.open();
        signal(self.process(), Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        signal(self.process(), Signal::CONT);
        self.absences.close(Instant::now() + Duration::from_millis(500));
    }

    /// The process that lives here.
    pub fn process(&self) -> u32 {
        self.process.as_ref().expect("it was not launched").id()
    }

    /// How much memory it has resident, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// How much it ever had, in KiB.
    pub fn most_resident_kib(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
        number.unwrap_or_default()
    }

    /// How much time of a processor it has used.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process())).unwrap_or_default();
        // Behind the name, which may hold anything: the 12th and the 13th, in ticks of 10 ms.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        Duration::from_millis(10 * ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>())
    }

    /// How many files and connections it has open.
    pub fn open_files(&self) -> usize {
        let listed = std::fs::read_dir(format!("/proc/{}/fd", self.process()));
        listed.map_or(0, Iterator::count)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Shown if the test fails meanwhile.
struct Log(PathBuf);

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = std::fs::read_to_string(&self.0).unwrap_or_default();
            println!("{} says:\n{said}", self.0.display());
        }
    }
}
