//! What a caller may choose about its private server.

use std::{env, path::PathBuf};

use super::Error;

/// How to run a [`Cluster`](super::Cluster). [`Options::new`] gives the defaults of a durable server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything lives: PostgreSQL's own data folder, its log, the lock, the socket. Made when missing.
    pub data_dir: PathBuf,
    /// The folder that holds `initdb` and `postgres`; `None` looks for it.
    pub binaries: Option<PathBuf>,
    /// Whether the data must survive a crash of the machine.
    pub durability: Durability,
    /// The server's log; `None` is `postgres.log` in the data folder.
    pub log: Option<PathBuf>,
    /// Further settings of `postgresql.conf`, stronger than ours.
    pub settings: Vec<(String, String)>,
    /// How many connections the server accepts.
    pub max_connections: u16,
    /// Whether a server that dies unasked is started again, with growing pauses, for as long as the cluster lives.
    pub restart_on_crash: bool,
    /// The program that answers to [`SUPERVISED_EXEC`](super::SUPERVISED_EXEC); `None` is the running one.
    /// Tests, whose running program is a test binary, name the service's here.
    pub supervisor: Option<PathBuf>,
}

/// What a committed transaction is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// It survives a power cut. For a user's data.
    Durable,
    /// It survives only a crash of PostgreSQL itself; faster. For tests.
    Volatile,
}

impl Options {
    /// A durable server on `data_dir` that stays down when it dies.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            binaries: None,
            durability: Durability::Durable,
            log: None,
            settings: Vec::new(),
            max_connections: 100,
            restart_on_crash: false,
            supervisor: None,
        }
    }

    /// Where data lives unless the user says otherwise: `/var/lib/halyard` for root (whose home is closed to
    /// PostgreSQL's user), else `$XDG_DATA_HOME/halyard` or `~/.local/share/halyard`.
    pub fn default_data_dir() -> Result<PathBuf, Error> {
        if rustix::process::geteuid().is_root() {
            return Ok(PathBuf::from("/var/lib/halyard"));
        }
        user_data_dir(
            env::var_os("XDG_DATA_HOME").map(PathBuf::from),
            env::var_os("HOME").map(PathBuf::from),
        )
        .ok_or(Error::NoHome)
    }
}

/// The XDG base directory rule: a relative path there is as good as none.
fn user_data_dir(xdg_data_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let base = xdg_data_home.filter(|path| path.is_absolute()).or_else(|| {
        home.filter(|path| path.is_absolute())
            .map(|home| home.join(".local/share"))
    })?;
    Some(base.join("halyard"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(xdg_data_home: Option<&str>, home: Option<&str>, expected: Option<&str>) {
        assert_eq!(
            user_data_dir(xdg_data_home.map(PathBuf::from), home.map(PathBuf::from)),
            expected.map(PathBuf::from)
        );
    }

    #[test]
    fn data_lives_under_the_xdg_folder_or_the_home() {
        check(Some("/x"), Some("/home/ada"), Some("/x/halyard"));
        check(None, Some("/home/ada"), Some("/home/ada/.local/share/halyard"));
        check(
            Some("relative"),
            Some("/home/ada"),
            Some("/home/ada/.local/share/halyard"),
        );
        check(Some(""), None, None);
        check(None, None, None);
    }
}
