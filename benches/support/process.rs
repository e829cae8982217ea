//! Processes that are kept to cores, and what they have cost so far.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::Result;

/// Where servers run.
pub const SERVER: &[usize] = &[0];
/// Where load is made.
pub const CLIENT: &[usize] = &[1];
/// No separation: both share both.
pub const SHARED: &[usize] = &[0, 1];

/// Keeps this thread, and the threads and processes that it starts from now on, to cores.
pub fn keep_to(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    Ok(sched_setaffinity(None, &set).map_err(|error| format!("two cores are needed: {error}"))?)
}

/// A running process; stopped when dropped.
pub struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a program on cores. This thread is left free to run on both afterwards.
    pub fn start(cores: &[usize], command: &mut Command) -> Result<Self> {
        keep_to(cores)?;
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        keep_to(SHARED)?;
        let mut child = started.map_err(|error| format!("{command:?}: {error}"))?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, lines })
    }

    /// Starts this program once more, as something else.
    pub fn again(cores: &[usize], arguments: &[String]) -> Result<Self> {
        Self::start(cores, Command::new(std::env::current_exe()?).args(arguments))
    }

    /// The next line that it writes.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err("a process ended early".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The time that it has computed, all threads, in the kernel and out of it.
    pub fn cpu(&self) -> Result<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        let (_, fields) = text.rsplit_once(')').ok_or("unreadable stat")?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || -> Result<u64> { Ok(fields.next().ok_or("unreadable stat")?.parse()?) };
        let ticks = ticks()? + ticks()?;
        Ok(Duration::from_secs(1) * u32::try_from(ticks)? / u32::try_from(rustix::param::clock_ticks_per_second())?)
    }

    /// The memory that it has, in KiB.
    pub fn resident_kib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.trim().strip_suffix(" kB"));
        Ok(kib.ok_or("unreadable status")?.parse()?)
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Asks it to stop, and waits.
    pub fn stop(&mut self) -> Result<()> {
        if !self.has_ended()? {
            let id = Pid::from_child(&self.child);
            kill_process(id, Signal::TERM)?;
            self.child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; that is what is wanted.
        let _ = self.stop();
    }
}
