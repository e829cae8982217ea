//! What an earlier server may have left behind: processes, and files that claim there are some.
//!
//! We hold the folder's lock, so no Halyard looks after whatever still runs there. A server whose Halyard was
//! killed is on its way out, and the children of a server that was itself killed leave as soon as they notice; both
//! need a moment. A server somebody started by hand is stopped.

use std::{
    fs,
    io::ErrorKind,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Error, folders::PORT};

/// When to send what to the processes that remain. The first wait is for those on their way out.
const STEPS: [(Duration, Signal); 3] = [
    (Duration::from_secs(5), Signal::INT),
    (Duration::from_secs(25), Signal::QUIT),
    (Duration::from_secs(35), Signal::KILL),
];

const LIMIT: Duration = Duration::from_secs(45);

const PAUSE: Duration = Duration::from_millis(20);

/// Waits until no server process runs in `pgdata` any more, making it so if need be, and removes the files by which
/// PostgreSQL would mistake a stranger for one.
pub(super) fn clear(pgdata: &Path, socket_folder: &Path) -> Result<(), Error> {
    let began = Instant::now();
    let mut steps = STEPS.iter().peekable();
    loop {
        let pids = server_processes(pgdata);
        if pids.is_empty() {
            break;
        }
        if began.elapsed() > LIMIT {
            let pids = pids
                .into_iter()
                .filter_map(|pid| u32::try_from(pid.as_raw_pid()).ok())
                .collect();
            return Err(Error::Orphans {
                folder: pgdata.to_owned(),
                pids,
            });
        }
        if let Some((_, signal)) = steps.next_if(|(after, _)| began.elapsed() >= *after) {
            tracing::warn!(folder = %pgdata.display(), ?pids, ?signal, "stopping an earlier PostgreSQL server");
            for pid in pids {
                // It may be gone by now, which is what we want.
                let _ = kill_process(pid, *signal);
            }
        }
        thread::sleep(PAUSE);
    }
    remove_stale_claims(pgdata, socket_folder)
}

/// PostgreSQL takes a lock file for stale only if its process id is unused; in a container, where ids are few and
/// begin anew, an innocent process often has it. Having looked at what really runs there, we know better.
#[cfg(target_os = "linux")]
fn remove_stale_claims(pgdata: &Path, socket_folder: &Path) -> Result<(), Error> {
    let claims = [
        pgdata.join("postmaster.pid"),
        socket_folder.join(format!(".s.PGSQL.{PORT}.lock")),
    ];
    for claim in claims {
        match fs::remove_file(&claim) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::file("remove", claim)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Elsewhere we did not see every process, so PostgreSQL's own caution stays in force.
#[cfg(not(target_os = "linux"))]
fn remove_stale_claims(_pgdata: &Path, _socket_folder: &Path) -> Result<(), Error> {
    Ok(())
}

/// The server and its children: PostgreSQL's processes all live in the data folder.
#[cfg(target_os = "linux")]
fn server_processes(pgdata: &Path) -> Vec<Pid> {
    use std::os::unix::fs::MetadataExt;

    let Ok(folder) = fs::metadata(pgdata) else {
        return Vec::new();
    };
    let lives_there = |process: &Path| {
        // A link that leads to the folder itself, whatever the path by which the process knows it.
        fs::metadata(process.join("cwd")).is_ok_and(|cwd| (cwd.dev(), cwd.ino()) == (folder.dev(), folder.ino()))
            && fs::read_to_string(process.join("comm"))
                .is_ok_and(|name| ["postgres", "postmaster"].contains(&name.trim_end()))
    };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
            lives_there(&entry.path()).then_some(pid)
        })
        .collect()
}

/// The server that `postmaster.pid` names, if its command line says that it is one of this folder.
#[cfg(not(target_os = "linux"))]
fn server_processes(pgdata: &Path) -> Vec<Pid> {
    let named = fs::read_to_string(pgdata.join("postmaster.pid"))
        .ok()
        .and_then(|text| Pid::from_raw(text.lines().next()?.trim().parse().ok()?));
    let runs_here = |pid: &Pid| {
        std::process::Command::new("ps")
            .args(["-o", "command=", "-p", &pid.as_raw_pid().to_string()])
            .output()
            .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&*pgdata.to_string_lossy()))
    };
    named.into_iter().filter(runs_here).collect()
}
