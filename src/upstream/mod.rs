//! The other source of changes: another server's Watch, followed with a server key. What a sidecar is fed by.
//!
//! | file | what |
//! |---|---|
//! | `held`, `step` | what is held of the upstream's environment, and how a step changes it: values |
//! | `road` | how to connect, in clear or over TLS |
//! | `link`, `end` | the connection: opened, read, given up, opened again |
//! | `publish` | what came of it, as events for the hub |
//! | `callers` | who may ask this sidecar, as a directory |
//! | `file`, `layout`, `keeper` | the last state on disk |
//! | `backoff` | how long to wait before connecting again |
//!
//! What holds here:
//!
//! - What is held changes at a Commit and at no other time, and only if its hash is the upstream's.
//! - It is kept for ever: nothing but a newer state replaces it, whatever becomes of the upstream or the key.
//! - Revisions, digests and tokens are the upstream's. A client may move between sidecars and servers with its token.
//! - The age of what is held counts from what the upstream last was certain of, not from when it last spoke.

mod backoff;
mod callers;
mod end;
mod file;
mod held;
mod keeper;
mod layout;
mod link;
mod publish;
mod road;
mod step;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use http::Uri;
use secrecy::SecretString;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use backoff::{Backoff, HEALTHY};
pub use callers::{ANONYMOUS, Callers};
pub use road::Road;

use self::file::{Origin, StateFile};
use self::keeper::Keeper;
use self::link::Link;
use self::publish::{Publisher, Told};
use crate::domain::change::EnvironmentId;
use crate::tls::ClientFiles;
use crate::watch::source::{Answer, Event, Head, Source, Unreachable};

/// By how much what the upstream says may have been on its way here: across oceans, through a lost packet or two. Whoever waits for the
/// upstream's word waits so much longer.
const TRANSIT: Duration = Duration::from_secs(3);
/// Events that wait for the hub before the link does.
const EVENTS: usize = 64;

/// Whom to follow, and for whom.
#[derive(Debug)]
pub struct Options {
    /// Where the upstream is: over TLS if the address begins with `https`.
    pub endpoint: Uri,
    /// Whom to trust there, and what to show. `None`: it is asked in clear.
    pub tls: Option<ClientFiles>,
    /// The server key to show it.
    pub key: SecretString,
    /// The key's id.
    pub key_id: String,
    /// Who may ask this sidecar.
    pub callers: Callers,
    /// Where to keep the last state. `None`: nowhere.
    pub state_file: Option<PathBuf>,
    /// How long what may take.
    pub timing: Timing,
}

/// How long what may take.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often the upstream is to say that it is there; three missed, and it is not.
    pub heartbeat: Duration,
    /// Until a connection stands.
    pub connect: Duration,
    /// Until a stream says its first word.
    pub open: Duration,
    /// Before trying again what was refused for good: a key that is not known any more, say. Give or take a fifth.
    pub refused: Duration,
    /// Between two writes of the state file, at least.
    pub save: Duration,
    /// Between two notes on disk that the state is still the newest.
    pub note: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            connect: Duration::from_secs(5),
            open: Duration::from_secs(10),
            refused: Duration::from_mins(5),
            save: Duration::from_secs(1),
            note: Duration::from_secs(5),
        }
    }
}

/// What the link counts. Plain numbers; they only rise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Streams that were opened.
    pub streams: AtomicU64,
    /// Streams that ended, and attempts that never became one.
    pub ends: AtomicU64,
    /// Steps that replaced everything.
    pub snapshots: AtomicU64,
    /// Steps that changed some items.
    pub deltas: AtomicU64,
    /// Steps that were not what the contract says, a wrong hash among them.
    pub broken: AtomicU64,
    /// Times that the state was written to disk.
    pub saves: AtomicU64,
}

/// What a sidecar needs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state file cannot be read, or not be written where it is to be.
    #[error("the state file {} cannot be used", path.display())]
    StateFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// A task of the source: runs until it is cancelled.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The source. Its tasks run until the token is cancelled, whatever becomes of this handle.
#[derive(Debug)]
pub struct Upstream {
    told: watch::Receiver<Told>,
    counters: Arc<Counters>,
}

impl Upstream {
    /// Reads what is on disk and starts to follow. Events come in the order that [`source`](crate::watch::source) promises; the
    /// state from disk is the first, if there is one.
    pub async fn start(
        options: Options,
        cancel: CancellationToken,
        spawn: impl Fn(&'static str, Task),
    ) -> Result<(Arc<Self>, mpsc::Receiver<Event>), Error> {
        let Options {
            endpoint,
            tls,
            key,
            key_id,
            callers,
            state_file,
            timing,
        } = options;
        let (events, receiver) = mpsc::channel(EVENTS);
        let (publisher, told, latest) = Publisher::new(events, callers);
        let counters = Arc::new(Counters::default());
        let mut found = None;
        if let Some(path) = state_file {
            let origin = Origin {
                endpoint: endpoint.to_string(),
                key_id,
            };
            let (file, kept) = open(path, origin).await?;
            found = kept;
            let keeper = Keeper {
                file,
                latest,
                timing,
                counters: counters.clone(),
                cancel: cancel.clone(),
            };
            spawn("state keeper", Box::pin(keeper.run()));
        }
        let link = Link::new(
            Road::new(endpoint, tls, &timing),
            key,
            timing,
            publisher,
            counters.clone(),
            cancel,
        );
        spawn("upstream", Box::pin(link.run(found)));
        Ok((Arc::new(Self { told, counters }), receiver))
    }

    /// What the link has counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// Reads the state file, away from the runtime.
async fn open(path: PathBuf, origin: Origin) -> Result<(StateFile, Option<file::Kept>), Error> {
    let failed = |source| Error::StateFile {
        path: path.clone(),
        source,
    };
    let file = path.clone();
    let opened = tokio::task::spawn_blocking(move || StateFile::open(file, origin)).await;
    opened.map_err(|error| failed(error.into()))?.map_err(failed)
}

impl Source for Upstream {
    /// Waits for the upstream to say that it was certain of its head after this call was made.
    fn confirm_head(&self, environment: EnvironmentId) -> Answer<'_, Option<Head>> {
        let asked_at = Instant::now() + TRANSIT;
        let mut told = self.told.clone();
        Box::pin(async move {
            let certain = |told: &Told| told.confirmed_at.is_some_and(|at| at >= asked_at);
            let told = told.wait_for(certain).await.map_err(|_| Unreachable)?;
            let here = told.head.filter(|(id, _)| *id == environment);
            Ok(here.map(|(_, head)| head))
        })
    }

    /// Whom this sidecar lets in is its own matter, and known as soon as there is a state to let them see.
    fn confirm_access(&self) -> Answer<'_, u64> {
        let directory = self.told.borrow().directory;
        Box::pin(async move { directory.ok_or(Unreachable) })
    }
}
