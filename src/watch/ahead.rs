//! A client that has seen what is not known here: the origin decides who is right.
//!
//! Such a client is never told that it is up to date. Either this replica is late, and catches up; or the client holds what no
//! longer exists, and gets a snapshot; or nobody can say, and it has to come again.

use std::sync::Arc;

use tokio::time::Instant;

use super::environment::Environment;
use super::hub::Hub;
use super::source::{Head, Unreachable};
use super::token::Token;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// The replica is as far as the client: decide again.
    CaughtUp,
    /// The origin, asked after the client came, does not hold what the client holds.
    Diverged,
    /// The environment does not exist.
    Gone,
    /// The origin cannot be asked, or says that there is more but it did not arrive in time.
    Unknown,
}

/// Asks the origin, and waits for what it says to arrive here. Takes [`super::Options::ahead_wait`] at most.
pub(super) async fn settle(hub: Arc<Hub>, environment: Arc<Environment>, token: Token) -> Settled {
    let deadline = Instant::now() + hub.options().ahead_wait;
    let settled = tokio::time::timeout_at(deadline, ask(&hub, &environment, &token)).await;
    settled.unwrap_or(Settled::Unknown)
}

async fn ask(hub: &Hub, environment: &Environment, token: &Token) -> Settled {
    let asked_at = Instant::now().into_std();
    let mut changes = environment.changes();
    let mut confirmations = hub.confirmations();
    let head = match hub.source().confirm_head(environment.id()).await {
        Ok(Some(head)) => head,
        Ok(None) => return Settled::Gone,
        Err(Unreachable) => return Settled::Unknown,
    };
    loop {
        if environment.is_removed() {
            return Settled::Gone;
        }
        let certain_at = environment.certain_at(confirmations.borrow_and_update().at);
        let here = environment.state().commit.position;
        if here.order() >= token.order() {
            return Settled::CaughtUp;
        }
        // The head says nothing about generations. But once the source is certain that it sent everything there was after the
        // client came, a higher generation would have been among it.
        let disproved = if here.identity.generation == token.identity.generation {
            lacks(&head, token)
        } else {
            certain_at.is_some_and(|at| at >= asked_at)
        };
        if disproved {
            return Settled::Diverged;
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = confirmations.changed() => {}
        }
    }
}

/// Whether the origin's head proves that the token's revision is not, or no longer, in its history.
fn lacks(head: &Head, token: &Token) -> bool {
    head.revision < token.revision || (head.revision == token.revision && !token.proves(&head.digest))
}
