//! The hidden self-exec through which PostgreSQL is launched, so that it dies with Halyard however Halyard dies.
//!
//! Linux can send a process a signal when its parent dies. The process must ask for it itself, after any change of
//! user (which clears the wish) and before it becomes PostgreSQL. Doing that between `fork` and `exec` would take
//! unsafe code, so Halyard launches its own program once more, with [`SUPERVISED_EXEC`] as first argument; that
//! drops root, asks for the signal, makes sure it is not too late, and becomes PostgreSQL: same process, same pid.
//! Since root is dropped only there, nobody but root needs access to Halyard's program.
//!
//! Two things to mind. The signal comes when the parent *thread* ends, see `keeper`. And other systems have no such
//! signal: there a server that outlives a killed Halyard is stopped by the next start, see `orphans`.

use std::{
    convert::Infallible,
    env,
    ffi::{OsStr, OsString},
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use rustix::process::{Pid, getppid};

use super::privileges::Account;

/// The hidden first argument that makes Halyard's program become PostgreSQL: `main` calls [`run_supervised`] with
/// the arguments that follow it.
pub const SUPERVISED_EXEC: &str = "__run-postgres";

/// Stands for "stay the user you are".
const SAME_USER: &str = "-";

/// `EX_OSERR` of `sysexits.h`.
const FAILED: u8 = 71;

/// Becomes PostgreSQL. Returns only if it cannot, with what to exit with, having said why on standard error.
///
/// Must be called before anything else in `main`, from its only thread.
pub fn run_supervised(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Err(error) = Order::parse(arguments).and_then(Order::carry_out);
    // Standard error is the server's log; there is nowhere else to complain.
    let _ = writeln!(io::stderr(), "halyard: cannot become PostgreSQL: {error}");
    ExitCode::from(FAILED)
}

/// The signal by which a program learns that Halyard is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Farewell {
    /// SIGQUIT, for the server: its immediate shutdown. Within seconds no process is left, and the next start
    /// replays the write-ahead log as after a power cut. The orderly shutdowns could take as long as a checkpoint
    /// does, while a new Halyard may be waiting for the folder already. Children of the server leave when it does.
    Quit,
    /// SIGKILL, for `initdb`, which would only take note of any other and finish a step that may be long.
    Kill,
}

impl Farewell {
    fn name(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::Kill => "kill",
        }
    }

    fn named(name: &OsStr) -> io::Result<Self> {
        [Self::Quit, Self::Kill]
            .into_iter()
            .find(|farewell| name == farewell.name())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no such signal"))
    }
}

/// The command that runs `program` under supervision, as `account`, if any.
pub(super) fn command(
    supervisor: Option<&Path>,
    account: Option<&Account>,
    farewell: Farewell,
    program: &Path,
) -> Command {
    let (uid, gid) = match account {
        Some(account) => (account.uid.to_string(), account.gid.to_string()),
        None => (SAME_USER.to_owned(), SAME_USER.to_owned()),
    };
    let mut command = Command::new(supervisor_path(supervisor));
    command
        .arg0("halyard")
        .args([
            SUPERVISED_EXEC,
            &std::process::id().to_string(),
            &uid,
            &gid,
            farewell.name(),
        ])
        .arg(program);
    // PostgreSQL's programs heed PGPORT, PGDATA and more; what they need, they get as arguments.
    command.env_clear().env("LC_ALL", "C");
    for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
        command.envs(env::var_os(name).map(|value| (name, value)));
    }
    // A group of its own: an interrupt from the keyboard is for Halyard, which then stops the server in its turn.
    command.current_dir("/").stdin(Stdio::null()).process_group(0);
    command
}

/// What [`command`] executes. By default the very file we are running, even if it has been replaced or removed since.
pub(super) fn supervisor_path(supervisor: Option<&Path>) -> PathBuf {
    match supervisor {
        Some(path) => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        None if cfg!(target_os = "linux") => "/proc/self/exe".into(),
        None => env::current_exe().unwrap_or_else(|_| "halyard".into()),
    }
}

/// What the hidden arguments say.
#[derive(Debug, Eq, PartialEq)]
struct Order {
    parent: u32,
    /// User and group.
    become_user: Option<(u32, u32)>,
    farewell: Farewell,
    program: OsString,
    arguments: Vec<OsString>,
}

impl Order {
    fn parse(arguments: impl IntoIterator<Item = OsString>) -> io::Result<Self> {
        let mut arguments = arguments.into_iter();
        let mut next = || {
            arguments
                .next()
                .ok_or_else(|| io::Error::other("an argument is missing"))
        };
        let (parent, uid, gid, farewell, program) = (next()?, next()?, next()?, next()?, next()?);
        let become_user = if uid == SAME_USER {
            None
        } else {
            Some((number(&uid)?, number(&gid)?))
        };
        Ok(Self {
            parent: number(&parent)?,
            become_user,
            farewell: Farewell::named(&farewell)?,
            program,
            arguments: arguments.collect(),
        })
    }

    fn carry_out(self) -> io::Result<Infallible> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        if let Some((uid, gid)) = self.become_user {
            drop_root(&mut command, uid, gid)?;
        }
        die_with_parent(self.farewell)?;
        // The parent may have died before the wish was heard.
        if getppid().map(Pid::as_raw_pid).and_then(|pid| u32::try_from(pid).ok()) != Some(self.parent) {
            return Err(io::Error::other("the Halyard that wanted it is gone"));
        }
        Err(command.exec())
    }
}

fn number(argument: &OsStr) -> io::Result<u32> {
    argument
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an argument is not a number"))
}

/// On Linux users belong to threads. This is the only one, and `exec` keeps what the calling thread is.
#[cfg(target_os = "linux")]
fn drop_root(_command: &mut Command, uid: u32, gid: u32) -> io::Result<()> {
    use rustix::{
        process::{Gid, Uid},
        thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
    };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Elsewhere the standard library does it in `exec`; it drops the supplementary groups with it.
#[cfg(not(target_os = "linux"))]
fn drop_root(command: &mut Command, uid: u32, gid: u32) -> io::Result<()> {
    command.gid(gid).uid(uid);
    Ok(())
}

#[cfg(target_os = "linux")]
fn die_with_parent(farewell: Farewell) -> io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    let signal = match farewell {
        Farewell::Quit => Signal::QUIT,
        Farewell::Kill => Signal::KILL,
    };
    Ok(set_parent_process_death_signal(Some(signal))?)
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_farewell: Farewell) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> io::Result<Order> {
        Order::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_hidden_arguments_are_read_back() {
        let account = Account {
            name: "postgres".into(),
            uid: 101,
            gid: 104,
        };
        let mut written = command(None, Some(&account), Farewell::Kill, Path::new("/bin/postgres"));
        written.args(["-D", "/data"]);
        let mut arguments = written.get_args();
        assert_eq!(arguments.next(), Some(OsStr::new(SUPERVISED_EXEC)));
        let order = Order::parse(arguments.map(OsStr::to_owned)).unwrap();
        assert_eq!(
            order,
            Order {
                parent: std::process::id(),
                become_user: Some((101, 104)),
                farewell: Farewell::Kill,
                program: "/bin/postgres".into(),
                arguments: vec!["-D".into(), "/data".into()],
            }
        );
        assert_eq!(parse(&["1", "-", "-", "quit", "true"]).unwrap().become_user, None);
    }

    #[test]
    fn broken_arguments_are_refused() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["1", "-", "-", "quit"]).is_err());
        assert!(parse(&["1", "-", "-", "quiet", "true"]).is_err());
        assert!(parse(&["x", "-", "-", "quit", "true"]).is_err());
        assert!(parse(&["1", "101", "-", "quit", "true"]).is_err());
    }

    #[test]
    fn an_orphan_does_not_become_postgres() {
        let error = parse(&["4294967295", "-", "-", "quit", "/nonexistent"])
            .unwrap()
            .carry_out()
            .unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }
}
