//! The thread that owns the server's process: launches it, waits for it and, when told or allowed to, launches it
//! again.
//!
//! It is a thread and not a task because the kernel takes the *thread* that launched a process for its parent: the
//! server is told to die when that thread ends, so the thread must last as long as the server.

use std::{
    io,
    process::{Child, ExitStatus},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid},
};
use tokio::sync::watch;

use super::launch::Launch;

/// Pauses before a crashed server is started again: doubling from the first to the longest, beginning anew after a
/// run that was long enough to call it sound.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const SOUND_RUN: Duration = Duration::from_mins(1);

/// How the server is doing.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// How often it has been launched, successfully or not.
    pub launches: u64,
    pub phase: Phase,
    /// How it ended last.
    pub status: Option<ExitStatus>,
    /// Why it could not be launched.
    pub failure: Option<Arc<io::Error>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// About to be launched, or about to be decided whether it is.
    Launching,
    /// The process exists.
    Up(Pid),
    /// Down until somebody asks for it.
    Down,
    /// Down for good: the thread has let go of the folder.
    Finished,
}

impl Report {
    /// Whether nobody will start the server unasked.
    pub fn is_down(&self) -> bool {
        matches!(self.phase, Phase::Down | Phase::Finished)
    }
}

/// The handle of the thread.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    reports: watch::Receiver<Report>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    wishes: Mutex<Wishes>,
    changed: Condvar,
}

/// What is wanted of the thread, and the process it has. The process id is only here until it is reaped, so that a
/// signal sent under the lock can never reach a stranger. Reports about it are made under the lock too.
#[derive(Debug, Default)]
struct Wishes {
    process: Option<Pid>,
    launch: bool,
    launch_after_crash: bool,
    finish: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Starts the thread, and with it the server.
    pub fn start(launch: Launch) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let first = Report {
            launches: 0,
            phase: Phase::Launching,
            status: None,
            failure: None,
        };
        let (reporter, reports) = watch::channel(first);
        let thread = Thread {
            launch,
            shared: Arc::clone(&shared),
            reporter,
        };
        let thread = thread::Builder::new()
            .name("postgres-keeper".into())
            .spawn(|| thread.run())?;
        Ok(Self {
            shared,
            reports,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Reports from now on; the present one counts as seen.
    pub fn reports(&self) -> watch::Receiver<Report> {
        self.reports.clone()
    }

    /// The present report.
    pub fn report(&self) -> Report {
        self.reports.borrow().clone()
    }

    /// From now on a server that dies unasked is started again.
    pub fn launch_after_crash(&self) {
        self.shared.lock().launch_after_crash = true;
        self.shared.changed.notify_all();
    }

    /// The server is to be launched as soon as it is down. Tells the process that is in the way, if any, and how
    /// many launches there have been up to it.
    pub fn launch_again(&self) -> (Option<Pid>, u64) {
        let mut wishes = self.shared.lock();
        wishes.launch = true;
        self.shared.changed.notify_all();
        (wishes.process, self.reports.borrow().launches)
    }

    /// The server is not to be launched any more, and the thread to end when it is down. Tells the process that is
    /// left, if any.
    pub fn finish(&self) -> Option<Pid> {
        let mut wishes = self.shared.lock();
        wishes.finish = true;
        self.shared.changed.notify_all();
        wishes.process
    }

    /// Signals the server's process, if it still is `pid`.
    pub fn signal(&self, pid: Pid, signal: Signal) {
        if self.shared.lock().process == Some(pid)
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::warn!(?pid, ?signal, %error, "PostgreSQL could not be signalled");
        }
    }

    /// Waits for the thread's last steps, of which none takes time once the server is down.
    pub fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has been reported already.
            let _ = thread.join();
        }
    }
}

struct Thread {
    launch: Launch,
    shared: Arc<Shared>,
    reporter: watch::Sender<Report>,
}

impl Thread {
    fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            self.run_server();
            if began.elapsed() >= SOUND_RUN {
                pause = FIRST_PAUSE;
            }
            if !self.next_launch(pause) {
                break;
            }
            pause = LONGEST_PAUSE.min(pause * 2);
            if let Err(error) = self.launch.clear_remains() {
                tracing::error!(%error, "the remains of the PostgreSQL server could not be cleared away");
            }
        }
        let Self { launch, reporter, .. } = self;
        // The folder is let go before that is said.
        drop(launch);
        reporter.send_modify(|report| report.phase = Phase::Finished);
    }

    /// Launches the server and waits for its end.
    fn run_server(&self) {
        let Some(mut child) = self.launch_unless_finished() else {
            return;
        };
        let pid = Pid::from_child(&child);
        // Waits without reaping: until we say so below, the process id stays taken.
        let until_exit = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(pid), until_exit), Err(Errno::INTR)) {}
        let mut wishes = self.shared.lock();
        wishes.process = None;
        let status = child.wait().ok();
        let asked = wishes.finish || wishes.launch;
        let restarts = wishes.launch_after_crash;
        self.reporter.send_modify(|report| {
            report.phase = Phase::Launching;
            report.status = status;
        });
        drop(wishes);
        let status = status.map_or_else(|| "no exit status".to_owned(), |status| status.to_string());
        if asked {
            tracing::info!(status, "PostgreSQL stopped");
        } else {
            let log = self.launch.log.path.display();
            tracing::error!(status, %log, restarts, "PostgreSQL stopped unasked");
        }
    }

    fn launch_unless_finished(&self) -> Option<Child> {
        let mut wishes = self.shared.lock();
        if wishes.finish {
            return None;
        }
        wishes.launch = false;
        let launched = self.launch.spawn();
        let pid = launched.as_ref().ok().map(Pid::from_child);
        wishes.process = pid;
        let (child, failure) = match launched {
            Ok(child) => {
                tracing::info!(pid = child.id(), "PostgreSQL launched");
                (Some(child), None)
            }
            Err(error) => {
                tracing::error!(%error, "PostgreSQL could not be launched");
                (None, Some(Arc::new(error)))
            }
        };
        self.reporter.send_modify(|report| {
            report.launches += 1;
            report.phase = pid.map_or(Phase::Down, Phase::Up);
            report.failure = failure;
        });
        child
    }

    /// Waits until the server is to be launched again (true) or never more.
    fn next_launch(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        let mut wishes = self.shared.lock();
        loop {
            if wishes.finish {
                return false;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if wishes.launch || (wishes.launch_after_crash && left.is_zero()) {
                self.reporter.send_modify(|report| report.phase = Phase::Launching);
                return true;
            }
            let changed = &self.shared.changed;
            if wishes.launch_after_crash {
                self.reporter.send_modify(|report| report.phase = Phase::Launching);
                wishes = changed
                    .wait_timeout(wishes, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            } else {
                self.reporter.send_modify(|report| report.phase = Phase::Down);
                wishes = changed.wait(wishes).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
