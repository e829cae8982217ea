//! A private PostgreSQL server, made from the machine's PostgreSQL programs: no network, one user, its data in one
//! folder, its life tied to ours.
//!
//! | file | question |
//! |---|---|
//! | `options` | what may the caller choose? |
//! | `launch` | what has to be in place before the server can be launched? |
//! | `binaries` | where are PostgreSQL's programs? |
//! | `folders`, `lock`, `log` | what lies where, whose is it? |
//! | `privileges` | whom does the server run as? |
//! | `initialise` | how is PostgreSQL's own folder made? |
//! | `orphans` | what did an earlier server leave behind? |
//! | `settings` | how is it configured, who may enter? |
//! | `supervise` | how does it die with us? |
//! | `keeper` | who launches it, waits for it, launches it again? |
//! | `ready` | does it answer? |
//!
//! Not here: the schema (migrations), the pool, and anything about flags. This room knows nothing of the rest.

mod binaries;
mod error;
mod folders;
mod initialise;
mod keeper;
mod launch;
mod lock;
mod log;
mod options;
mod orphans;
mod privileges;
mod ready;
mod settings;
mod supervise;

use std::{
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use rustix::process::{Pid, Signal};
use tokio::time::timeout;
use tokio_postgres::Config;

pub use self::{
    error::Error,
    options::{Durability, Options},
    supervise::{SUPERVISED_EXEC, run_supervised},
};
use self::{
    folders::PORT,
    keeper::{Keeper, Phase, Report},
    launch::Launch,
    log::Log,
    settings::{DATABASE, ROLE},
};

/// How long a server may take to accept connections: after a crash it first replays its write-ahead log.
const READY_LIMIT: Duration = Duration::from_mins(1);

/// How a server is stopped: each signal, and how long it is given. The first is the orderly one, ending sessions.
const STOP_STEPS: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(30)),
    (Signal::QUIT, Duration::from_secs(10)),
    (Signal::KILL, Duration::from_secs(10)),
];

/// A private PostgreSQL server.
///
/// It lives at most as long as this process: [`stop`](Self::stop) ends it in order, `drop` begins to, and should the
/// process be killed, the server goes down with it at once (on Linux; elsewhere the next start stops it).
///
/// Dropping without `stop` asks the server to shut down and does not wait: a thread sees it off and then lets go of
/// the data folder, which a new `start` is refused until then. If the process ends before that, the server is told
/// to stop immediately. Either way no committed transaction of a durable server is lost.
#[derive(Debug)]
pub struct Cluster {
    keeper: Keeper,
    data_dir: PathBuf,
    socket_folder: PathBuf,
    supervisor: PathBuf,
    log: Log,
}

impl Cluster {
    /// Starts a server, making its data folder when there is none, and waits until it accepts connections to the
    /// database `halyard`, which takes a quarter of a second, or three with a new folder.
    ///
    /// Every error says what to do about it. If the future is dropped, the server is stopped as if by `drop`.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let restart_on_crash = options.restart_on_crash;
        let launch = tokio::task::spawn_blocking(move || Launch::prepare(&options))
            .await
            .map_err(Error::Interrupted)??;
        let cluster = Self::launch(launch)?;
        cluster.wait_until_ready().await?;
        if restart_on_crash {
            cluster.keeper.launch_after_crash();
        }
        tracing::info!(folder = %cluster.data_dir.display(), pid = cluster.pid(), "PostgreSQL is up");
        Ok(cluster)
    }

    fn launch(launch: Launch) -> Result<Self, Error> {
        let data_dir = launch.folders.data_dir.clone();
        let socket_folder = launch.socket_folder.path.clone();
        let supervisor = launch.supervisor_path();
        let log = launch.log.clone();
        let keeper = Keeper::start(launch).map_err(Error::run(&supervisor))?;
        Ok(Self {
            keeper,
            data_dir,
            socket_folder,
            supervisor,
            log,
        })
    }

    /// How to connect to it. Stays the same as long as the data folder does.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.socket_folder)
            .port(PORT)
            .user(ROLE)
            .dbname(DATABASE);
        config
    }

    /// The same as a URL, for this crate's driver as well as for `psql`. There is no password in it: the server
    /// knows the user at the other end of its socket.
    pub fn url(&self) -> String {
        // The folder's name was chosen such that nothing in it needs an escape.
        format!(
            "postgresql:///{DATABASE}?host={}&port={PORT}&user={ROLE}",
            self.socket_folder.display()
        )
    }

    /// The data folder, as an absolute path.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The server's log.
    pub fn log(&self) -> &Path {
        &self.log.path
    }

    /// The process id of the server, while there is one.
    pub fn pid(&self) -> Option<u32> {
        match self.keeper.report().phase {
            Phase::Up(pid) => Some(number(pid)),
            Phase::Launching | Phase::Down | Phase::Finished => None,
        }
    }

    /// Resolves once the server is down and will not come back by itself: it died and `restart_on_crash` is off, or
    /// [`stop`](Self::stop) was called. Tells how it ended, if that is known.
    pub async fn exited(&self) -> Option<ExitStatus> {
        let mut reports = self.keeper.reports();
        match reports.wait_for(Report::is_down).await {
            Ok(report) => report.status,
            Err(_) => None,
        }
    }

    /// Stops the server if it runs, starts it (again), and waits until it accepts connections, at the same address.
    pub async fn restart(&self) -> Result<(), Error> {
        let (process, launches) = self.keeper.launch_again();
        self.bring_down(process, |report| {
            report.launches > launches || report.phase == Phase::Finished
        })
        .await?;
        self.wait_until_ready().await
    }

    /// Stops the server in order, by force if that takes too long, and lets go of the data folder. A second call
    /// changes nothing.
    pub async fn stop(&self) -> Result<(), Error> {
        let process = self.keeper.finish();
        self.bring_down(process, |report| report.phase == Phase::Finished)
            .await?;
        self.keeper.join();
        Ok(())
    }

    /// Makes `process` go away, and waits for what is to come of it.
    async fn bring_down(&self, process: Option<Pid>, is_done: impl Fn(&Report) -> bool) -> Result<(), Error> {
        let mut reports = self.keeper.reports();
        for (signal, patience) in STOP_STEPS {
            if let Some(process) = process {
                self.keeper.signal(process, signal);
            }
            // The error is that the thread is gone, and with it the server.
            if timeout(patience, reports.wait_for(|report| is_done(report)))
                .await
                .is_ok()
            {
                return Ok(());
            }
            tracing::warn!(?signal, ?patience, "PostgreSQL is slow to stop");
        }
        Err(Error::StillRunning {
            pid: process.map_or(0, number),
            folder: self.data_dir.clone(),
        })
    }

    async fn wait_until_ready(&self) -> Result<(), Error> {
        let config = self.config();
        let mut reports = self.keeper.reports();
        tokio::select! {
            biased;
            down = reports.wait_for(Report::is_down) => Err(self.why_down(down.ok().as_deref())),
            ready = timeout(READY_LIMIT, ready::wait_until_ready(&config)) => match ready {
                Ok(Ok(())) => Ok(()),
                Ok(Err(source)) => Err(Error::Refused { log: self.log.path.clone(), source }),
                Err(_) => Err(Error::NotReady { limit: READY_LIMIT, log: self.log.path.clone() }),
            },
        }
    }

    fn why_down(&self, report: Option<&Report>) -> Error {
        match report {
            Some(Report {
                failure: Some(failure), ..
            }) => Error::Launch {
                program: self.supervisor.clone(),
                source: failure.clone(),
            },
            Some(Report {
                phase: Phase::Down,
                status,
                ..
            }) => Error::Exited {
                status: *status,
                log: self.log.path.clone(),
                tail: self.log.tail(),
            },
            Some(_) | None => Error::Stopped,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(process) = self.keeper.finish() {
            self.keeper.signal(process, Signal::INT);
        }
        if self.keeper.report().is_down() {
            self.keeper.join();
        }
    }
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_pid().unsigned_abs()
}
