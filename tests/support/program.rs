//! The built binary as a process: started, listened to, signalled, and gone when the test is over.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub use super::processes::processes_below;

/// Longer than anything should take, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_mins(2);

/// The binary, with nothing of ours in its environment.
pub fn halyard() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_halyard")))
}

/// A command that sees none of the caller's settings of Halyard.
pub fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("HALYARD_") || name == "DATABASE_URL" {
            command.env_remove(&*name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Standard output, of a command that must have gone well.
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }

    /// Standard error, of a command that must have failed with this exit code.
    pub fn refused(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self.stderr
    }
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Ended {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Ended {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// Runs the binary to its end.
pub fn run_halyard(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = halyard();
    command.args(arguments).envs(variables.iter().copied());
    run(command)
}

/// A process that goes on beside the test; killed when dropped.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Program {
    pub fn start(command: Command) -> Self {
        let (mut program, mut from) = Self::start_unread(command);
        program.stderr = Some(thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        }));
        program
    }

    /// The same, but nobody reads its standard error, unless whoever is given it does.
    pub fn start_unread(mut command: Command) -> (Self, ChildStderr) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| send.send(line))
        });
        let unread = child.stderr.take().unwrap();
        let program = Self {
            child,
            lines,
            stderr: None,
        };
        (program, unread)
    }

    /// The next line of standard output that holds these words.
    pub fn says(&mut self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(words) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("{words:?} was not said within {PATIENCE:?}: {}", self.kill()),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended before it said {words:?}: {}", self.kill()),
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended by itself, and everything that it said on standard error.
    pub fn ends(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "it did not end within {PATIENCE:?}: {}",
                self.kill()
            );
            thread::sleep(Duration::from_millis(10));
        };
        (status, self.said_on_stderr())
    }

    fn ends_kindly(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        if matches!(self.child.try_wait(), Ok(None)) {
            let _gone = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn kill(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.said_on_stderr()
    }

    fn said_on_stderr(&mut self) -> String {
        self.stderr
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // What is killed leaves no profile of what it ran, and `make coverage` asks for it: there it may end by itself.
        if std::env::var_os("LLVM_PROFILE_FILE").is_some() {
            self.ends_kindly();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `halyard dev` on a folder, ready.
pub fn dev(data_dir: &Path) -> Program {
    dev_with(data_dir, &[])
}

/// The same, with further options.
pub fn dev_with(data_dir: &Path, options: &[&str]) -> Program {
    let mut command = halyard();
    command
        .args(["dev", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir)
        .args(options);
    let mut program = Program::start(command);
    program.says("Halyard is ready");
    program
}

/// A command that a shell runs with the settings that `halyard dev` left in its folder.
pub fn with_dev_settings(data_dir: &Path, line: impl AsRef<OsStr>) -> Command {
    let mut command = clean(Command::new("sh"));
    command
        .args(["-c", ". \"$0\"; eval \"$1\""])
        .arg(data_dir.join("dev.env"))
        .arg(line);
    command
}

/// Waits until no process lives in a folder any more.
pub fn nobody_below(data_dir: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !processes_below(data_dir).is_empty() {
        assert!(
            Instant::now() < deadline,
            "processes live on: {:?}",
            processes_below(data_dir)
        );
        thread::sleep(Duration::from_millis(10));
    }
}
