//! What a server does, counted from outside: instructions with callgrind, system calls with strace.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::Result;
use super::process::Process;

/// The calls that hand bytes to a socket.
const WRITES: &str = "trace=write,writev,sendto,sendmsg";

/// What comes before a program to count its instructions. The name tells its profile from others.
pub fn callgrind(name: &str) -> Vec<String> {
    let out = format!("--callgrind-out-file={}", profile(name));
    ["valgrind", "-q", "--tool=callgrind", &out].map(str::to_owned).into()
}

fn profile(name: &str) -> String {
    format!("target/callgrind.{name}")
}

/// Forgets what was counted so far.
pub fn zero(process: &Process) -> Result<()> {
    control(process, "--zero")
}

/// The instructions since it was last forgotten or counted. `turn` says how often that has been, beginning with 1.
pub fn instructions(process: &Process, name: &str, turn: u32) -> Result<f64> {
    control(process, "--dump")?;
    let dump = fs::read_to_string(format!("{}.{turn}", profile(name)))?;
    let total = dump.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.ok_or("a dump without totals")?.trim().parse()?)
}

fn control(process: &Process, what: &str) -> Result<()> {
    let status = Command::new("callgrind_control")
        .stdout(Stdio::null())
        .arg(what)
        .arg(process.id().to_string())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err("callgrind_control failed".into())
    }
}

/// How often the process writes, all threads, while something is done.
pub fn writes(process: &Process, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let table = folder.path().join("calls");
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls", "-e", WRITES, "-o"])
        .arg(&table)
        .args(["-p", &process.id().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("strace: {error}"))?;
    let mut said = BufReader::new(strace.stderr.take().ok_or("no output")?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    if !line.contains("attached") {
        return Err(format!("strace: {line}").into());
    }
    let done = work();
    kill_process(Pid::from_child(&strace), Signal::INT)?;
    strace.wait()?;
    done?;
    let table = fs::read_to_string(table)?;
    let total = table.lines().find_map(|line| line.trim_start().strip_prefix("total"));
    Ok(total.ok_or("strace counted nothing")?.trim().parse()?)
}
