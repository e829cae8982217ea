//! All that has to be in place before the server can be launched, and the launching of its process.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{Child, Stdio},
};

use super::{
    Error, Options,
    binaries::Binaries,
    folders::{Folders, SocketFolder},
    initialise::{initialise, made_by},
    lock::Lock,
    log::Log,
    orphans,
    privileges::{self, Account},
    settings,
    supervise::{self, Farewell},
};

/// A data folder that is ours alone and ready, and the command to launch a server on it. Dropping it lets go of
/// the folder.
#[derive(Debug)]
pub(super) struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
    supervisor: Option<PathBuf>,
    account: Option<Account>,
    pub folders: Folders,
    pub socket_folder: SocketFolder,
    pub log: Log,
    /// The last field, since the fields are dropped in this order.
    _lock: Lock,
}

impl Launch {
    /// Finds the programs, takes the data folder, makes or checks PostgreSQL's own, and clears away what an earlier
    /// server left. Blocks, for seconds when PostgreSQL's folder has to be made.
    pub fn prepare(options: &Options) -> Result<Self, Error> {
        let account = Account::for_server()?;
        let folders = Folders::open(&options.data_dir, account.as_ref())?;
        let lock = Lock::take(&folders.data_dir, &folders.lock())?;
        let pgdata = folders.pgdata();
        let made_by = made_by(&pgdata)?;
        let data_folder = made_by.as_deref().map(|version| (pgdata.as_path(), version));
        let binaries = Binaries::find(options.binaries.as_deref(), data_folder, account.as_ref())?;
        let log_path = options.log.clone().unwrap_or_else(|| folders.log());
        let log = Log::open(log_path.clone()).map_err(Error::file("open", log_path))?;
        let owner = privileges::own_name()?;
        if made_by.is_none() {
            tracing::info!(folder = %pgdata.display(), postgres = binaries.major, "making a new database");
            initialise(options, &folders, &binaries, account.as_ref(), &log)?;
        }
        privileges::own_tree(&pgdata, account.as_ref())?;
        settings::write_access_rules(&folders, &owner)?;
        let socket_folder = SocketFolder::open(&folders, account.as_ref())?;
        orphans::clear(&pgdata, &socket_folder.path)?;
        Ok(Self {
            program: binaries.postgres(),
            arguments: settings::arguments(options, &folders, &socket_folder.path),
            supervisor: options.supervisor.clone(),
            account,
            folders,
            socket_folder,
            log,
            _lock: lock,
        })
    }

    /// Launches the server's process, a child of the calling thread.
    pub fn spawn(&self) -> io::Result<Child> {
        let mut command = supervise::command(
            self.supervisor.as_deref(),
            self.account.as_ref(),
            Farewell::Quit,
            &self.program,
        );
        command
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(self.log.append()?)
            .spawn()
    }

    /// What is executed, for an error's message.
    pub fn supervisor_path(&self) -> PathBuf {
        supervise::supervisor_path(self.supervisor.as_deref())
    }

    /// Prepares for launching the server once more.
    pub fn clear_remains(&self) -> Result<(), Error> {
        orphans::clear(&self.folders.pgdata(), &self.socket_folder.path)
    }
}
