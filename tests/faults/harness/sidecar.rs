//! A sidecar as the built program, with its state on disk.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::calls;
use super::doors::{Doors, connect};
use super::spans::Spans;
use super::template::Environment;
use crate::support::eventually;
use crate::support::program::clean;

/// One place of a sidecar.
pub struct Sidecar {
    /// The number of its door, and of its answers.
    pub number: usize,
    pub doors: Doors,
    /// When it could not answer.
    pub absences: Spans,
    environment: Environment,
    upstream: SocketAddr,
    folder: PathBuf,
    lives: u32,
    process: Option<Child>,
}

impl Sidecar {
    /// Not started yet.
    pub fn new(number: usize, environment: Environment, upstream: SocketAddr, folder: &Path, doors: Doors) -> Self {
        Self {
            number,
            doors,
            absences: Spans::default(),
            environment,
            upstream,
            folder: folder.to_owned(),
            lives: 0,
            process: None,
        }
    }

    /// Starts a process and waits until it answers. To be called from the test's own task: the process dies with the thread that
    /// started it.
    pub async fn start(&mut self) {
        self.lives += 1;
        let mut command = clean(Command::new("setpriv"));
        command.args(["--pdeathsig=KILL", env!("CARGO_BIN_EXE_halyard"), "sidecar"]);
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--worker-threads",
            "1",
            "--log-format",
            "json",
        ]);
        command.args(["--drain-window", "200ms", "--shutdown-grace", "5s"]);
        command.args(["--upstream", &format!("http://{}", self.upstream)]);
        command.arg("--state-file").arg(self.state_file());
        command.env("HALYARD_KEY", &self.environment.server_key);
        let log = std::fs::File::create(self.log()).unwrap();
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let address = eventually("the address of a sidecar", async || self.listens()).await;
        let channel = connect(address);
        eventually("the first answer of a sidecar", async || {
            calls::evaluate_all(channel.clone(), &self.environment.server_key)
                .await
                .ok()
        })
        .await;
        self.doors.open(self.number, address);
        self.absences.close(Instant::now());
    }

    fn listens(&mut self) -> Option<SocketAddr> {
        let said = self.said();
        let process = self.process.as_mut().expect("it was not started");
        if let Some(status) = process.try_wait().unwrap() {
            panic!("sidecar {} ended, {status}: {said}", self.number);
        }
        let line = said.lines().find(|line| line.contains("\"listening\""))?;
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let address = line.pointer("/fields/address").or_else(|| line.get("address"))?;
        address.as_str()?.parse().ok()
    }

    /// What the process that lives here has logged so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("sidecar-{}.{}.log", self.number, self.lives))
    }

    /// Where its state is.
    pub fn state_file(&self) -> PathBuf {
        self.folder.join(format!("sidecar-{}.state", self.number))
    }

    /// Kills it with signal 9.
    pub fn kill(&mut self) {
        self.absences.open();
        self.doors.close(self.number);
        if let Some(mut process) = self.process.take() {
            let _gone = process.kill();
            process.wait().unwrap();
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.kill();
    }
}
