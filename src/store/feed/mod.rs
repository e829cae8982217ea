//! From PostgreSQL to the hub: the feed of one replica.
//!
//! Tables are the truth, NOTIFY is a hint. Three things make the feed look: hints of this process, notifications of other
//! replicas, and a poll every second that finds whatever those have missed. What it then reads proves itself by revision and
//! digest, or is read whole.
//!
//! - [`hint`]: what is passed around, and its spelling on the channel.
//! - [`notify`]: tells other replicas; [`listen`]: hears them; [`pace`]: how often is asked and told.
//! - [`poll`]: which heads have moved, and whether this is still the same database.
//! - [`access`], [`chain`], [`environments`], [`failures`], [`confirmations`]: the decisions, pure.
//! - [`fetch`], [`together`], [`directory`], [`generation`]: the statements behind them.
//! - [`engine`], [`apply`]: the one task that owns the cursors and sends events.
//! - [`confirm`]: answers the hub's questions.
//!
//! Architecture invariant: nothing here writes, but for the generation.

mod access;
mod apply;
mod backoff;
mod chain;
mod confirm;
mod confirmations;
mod counters;
mod directory;
mod engine;
mod environments;
mod error;
mod failures;
mod fetch;
mod generation;
mod hint;
mod lease;
mod listen;
mod notify;
mod options;
mod pace;
mod poll;
mod rows;
mod together;

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use counters::Counters;
pub use hint::{Hint, Hints};
pub use options::Options;

use self::confirm::Question;
use self::engine::Engine;
use self::listen::{Link, Listener};
use super::connect::Target;
use crate::domain::change::EnvironmentId;
use crate::store::pool::Pool;
use crate::watch::source::{Answer, Event, Head, Source, Unreachable};

/// The feed. Its tasks run until the token is cancelled, whatever becomes of this handle.
#[derive(Debug)]
pub struct Feed {
    questions: mpsc::Sender<Question>,
    counters: Arc<Counters>,
}

/// A task of the feed: runs until the feed is cancelled.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What every task of the feed has at hand.
#[derive(Clone)]
struct Shared {
    pool: Pool,
    hints: Hints,
    options: Arc<Options>,
    counters: Arc<Counters>,
    cancel: CancellationToken,
}

impl Feed {
    /// Starts the feed on the current runtime, which must be the one that the pool's connections live on. `target` is for the
    /// listener's own connection; `hints` is what this process's writes are told to; `spawn` runs the feed's tasks, each by its
    /// name, and whoever gives it decides what becomes of the process should one die. Events come in the order that
    /// [`source`](crate::watch::source) promises.
    pub fn start(
        target: impl Into<Target>,
        pool: impl Into<Pool>,
        hints: Hints,
        options: Options,
        cancel: CancellationToken,
        spawn: impl Fn(&'static str, Task),
    ) -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(options.event_capacity.max(1));
        let (questions, asked) = mpsc::channel(confirm::QUESTIONS);
        let (link_sender, link) = watch::channel(Link::default());
        let (pool_origin_sender, pool_origin) = watch::channel(None);
        let counters = Arc::new(Counters::default());
        let shared = Shared {
            pool: pool.into(),
            hints,
            options: Arc::new(options),
            counters: Arc::clone(&counters),
            cancel,
        };
        let listener = Listener {
            target: target.into(),
            shared: shared.clone(),
            link: link_sender,
            pool_origin,
        };
        spawn("feed listener", Box::pin(listener.run()));
        spawn("feed notifier", Box::pin(notify::run(shared.clone())));
        spawn("feed confirmer", Box::pin(confirm::run(shared.clone(), asked)));
        spawn(
            "feed engine",
            Box::pin(Engine::new(shared, events, link, pool_origin_sender).run()),
        );
        (Arc::new(Self { questions, counters }), receiver)
    }

    /// What the feed has counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, Unreachable> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(question(reply)).await.map_err(|_| Unreachable)?;
        answer.await.map_err(|_| Unreachable)
    }
}

impl Source for Feed {
    fn confirm_head(&self, environment: EnvironmentId) -> Answer<'_, Option<Head>> {
        Box::pin(self.ask(move |reply| Question::Head(environment, reply)))
    }

    fn confirm_access(&self) -> Answer<'_, u64> {
        Box::pin(self.ask(Question::Access))
    }
}
