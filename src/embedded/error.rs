//! Why a private PostgreSQL server cannot be had. Every message says what to do about it.

use std::{io, path::PathBuf, process::ExitStatus, sync::Arc, time::Duration};

/// Why [`Cluster`](super::Cluster) cannot start, answer or stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither `XDG_DATA_HOME` nor `HOME` says where the data could live.
    #[error("no home directory to keep the data in: set HOME or XDG_DATA_HOME, or name a data folder")]
    NoHome,

    /// No PostgreSQL server programs anywhere on the machine.
    #[error(
        "no PostgreSQL server programs (initdb, postgres) found: install them \
         (Debian, Ubuntu: `apt-get install postgresql`; Fedora: `dnf install postgresql-server`; \
         macOS: `brew install postgresql@17`) or name the folder that holds them"
    )]
    NoBinaries,

    /// The folder the options name does not hold both programs.
    #[error(
        "{} does not hold the PostgreSQL programs initdb and postgres: name the folder that does \
         (on Debian /usr/lib/postgresql/<version>/bin)",
        folder.display()
    )]
    BinariesFolder {
        /// The folder named in the options.
        folder: PathBuf,
    },

    /// PostgreSQL is there, but older than Halyard can use.
    #[error(
        "PostgreSQL {major} in {} is too old: install version {} or newer",
        folder.display(),
        super::binaries::OLDEST_MAJOR
    )]
    TooOld {
        /// Major version found.
        major: u32,
        /// Where it was found.
        folder: PathBuf,
    },

    /// The data folder belongs to a major version that this machine does not have.
    #[error(
        "{} was made by PostgreSQL {made_by}, and this machine offers version {available}: \
         install PostgreSQL {made_by}, or move the data over with pg_upgrade or pg_dump, \
         or choose another data folder",
        folder.display()
    )]
    OtherMajor {
        /// PostgreSQL's data folder.
        folder: PathBuf,
        /// Major version in its `PG_VERSION`.
        made_by: String,
        /// Major version of the newest usable programs.
        available: u32,
    },

    /// PostgreSQL's data folder exists but is not one.
    #[error(
        "{} is not a PostgreSQL data folder (no PG_VERSION in it): restore it from a backup, \
         or move it away to begin with an empty database",
        folder.display()
    )]
    Damaged {
        /// PostgreSQL's data folder.
        folder: PathBuf,
    },

    /// A program could not be run at all.
    #[error("cannot run {}: check that it is installed, and that the user PostgreSQL runs as may execute it", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A program ran and answered nonsense, or failed.
    #[error("{} {arguments} failed ({status}): check the installation of PostgreSQL", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: &'static str,
        /// How it ended.
        status: ExitStatus,
    },

    /// `initdb` did not finish.
    #[error("initdb could not make the database ({status}); its last words, more in {}:\n{tail}", log.display())]
    Initdb {
        /// How it ended.
        status: ExitStatus,
        /// The log that holds all of its output.
        log: PathBuf,
        /// The end of that log.
        tail: String,
    },

    /// Another process holds the data folder.
    #[error(
        "{} is in use by another Halyard ({}): stop that one, or choose another data folder",
        folder.display(),
        holder.map_or_else(|| "process unknown".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// The process that holds it, when it has said so.
        holder: Option<u32>,
    },

    /// Processes of an earlier server on this folder will not go away.
    #[error(
        "an earlier PostgreSQL server still runs on {} (processes {pids:?}) and does not stop: \
         end these processes, then start again",
        folder.display()
    )]
    Orphans {
        /// PostgreSQL's data folder.
        folder: PathBuf,
        /// The processes.
        pids: Vec<u32>,
    },

    /// Started by root on a machine without an unprivileged account for PostgreSQL.
    #[error(
        "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`: \
         create one (`useradd --system postgres`) or start Halyard as an ordinary user"
    )]
    NoAccount,

    /// The user running Halyard has no name, which PostgreSQL insists on.
    #[error(
        "user id {uid} has no name, and PostgreSQL needs one: add it to /etc/passwd or start Halyard as a named user"
    )]
    NoUserName {
        /// The nameless user.
        uid: u32,
    },

    /// PostgreSQL's user may not pass through a folder above the data.
    #[error(
        "user `{user}`, as whom PostgreSQL runs, may not enter {}: \
         `chmod o+x {}`, or choose a data folder elsewhere (/var/lib/halyard)",
        folder.display(),
        folder.display()
    )]
    Unreachable {
        /// The folder that shuts it out.
        folder: PathBuf,
        /// The user.
        user: String,
    },

    /// The data belongs to another user, and we may not change that.
    #[error(
        "{} belongs to user id {owner}: start Halyard as that user, or hand the folder over with `chown -R`",
        folder.display()
    )]
    Owner {
        /// PostgreSQL's data folder.
        folder: PathBuf,
        /// Whose it is.
        owner: u32,
    },

    /// A file or folder could not be read, written or changed.
    #[error("cannot {action} {}: check the permissions and the free space there", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The server could not even be launched.
    #[error("cannot launch PostgreSQL: check that {} may be executed", program.display())]
    Launch {
        /// What was to be executed.
        program: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },

    /// What was executed is not Halyard's program.
    #[error("{} ran but did not become initdb: name Halyard's own program as the supervisor", program.display())]
    Supervisor {
        /// What was executed.
        program: PathBuf,
    },

    /// The server went away while it was waited for.
    #[error(
        "PostgreSQL stopped while starting ({}); its last words, more in {}:\n{tail}",
        status.map_or_else(|| "no exit status".to_owned(), |status| status.to_string()),
        log.display()
    )]
    Exited {
        /// How it ended.
        status: Option<ExitStatus>,
        /// The server's log.
        log: PathBuf,
        /// The end of that log.
        tail: String,
    },

    /// The server runs but did not accept connections in time.
    #[error(
        "PostgreSQL accepted no connection within {limit:?}: look into {}, it may still be recovering",
        log.display()
    )]
    NotReady {
        /// How long it was waited for.
        limit: Duration,
        /// The server's log.
        log: PathBuf,
    },

    /// The server answered, and refused.
    #[error("PostgreSQL started but refuses Halyard: look into {}", log.display())]
    Refused {
        /// The server's log.
        log: PathBuf,
        /// What it said.
        source: tokio_postgres::Error,
    },

    /// The server outlived every signal.
    #[error("PostgreSQL (process {pid}) does not stop, not even by SIGKILL: check the disk under {}", folder.display())]
    StillRunning {
        /// The server's process.
        pid: u32,
        /// The data folder.
        folder: PathBuf,
    },

    /// [`Cluster::stop`](super::Cluster::stop) came first.
    #[error("the PostgreSQL server has been stopped: start a new one")]
    Stopped,

    /// The runtime went away in the middle of the preparations.
    #[error("starting PostgreSQL was interrupted: start again")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl Error {
    /// For `map_err` on file operations.
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// For `map_err` on running programs.
    pub(super) fn run(program: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let program = program.into();
        move |source| Self::Run { program, source }
    }
}
