//! What a client of Watch was sent: whole steps, in order, each once, and every one a state that the history had.

use halyard::domain::change::Digest;
use halyard::pb::evaluation::v1::{Intent, SnapshotReason};

use super::history::Histories;
use super::{Kind, Violations};
use crate::evidence::{Recording, What};

/// Where a client stands.
#[derive(Default)]
struct Client {
    connection: u32,
    /// Whether its connection has begun no step yet.
    resumes: bool,
    /// Generation and revision.
    held: Option<(u64, u64)>,
    step: Option<Step>,
    over: bool,
}

struct Step {
    intent: Intent,
    reason: SnapshotReason,
    to: (u64, u64),
    announced: u32,
    received: u32,
    /// Whether it tells one client alone that what it holds is in no history.
    convicts: bool,
}

pub fn check(recording: &Recording, histories: &Histories<'_>, violations: &mut Violations) {
    let mut client = Client::default();
    for seen in &recording.seen {
        if seen.connection != client.connection {
            // What had begun on the connection before is forgotten.
            (client.connection, client.step, client.over) = (seen.connection, None, false);
            client.resumes = true;
        }
        let mut tell = |kind, words: String| {
            let (name, environment) = (&recording.client, &recording.environment);
            violations.add(
                kind,
                format!("{name} of {environment}, connection {}: {words}", seen.connection),
            );
        };
        client.see(&seen.what, histories.replaced_by(seen.at) > 0, &mut tell);
        match &seen.what {
            What::Put { name, form_hash } if !histories.knows(&recording.environment, name, *form_hash) => {
                tell(Kind::Phantom, format!("{name:?} never had the form {form_hash} here"));
            }
            &What::Commit {
                generation,
                revision,
                server,
                own,
            } => {
                let hashes = histories.hashes(&recording.environment, generation, revision);
                check_hashes((generation, revision), &hashes, server, own, &mut tell);
            }
            What::Put { .. }
            | What::Opened { .. }
            | What::Begin { .. }
            | What::Delete { .. }
            | What::Heartbeat { .. }
            | What::Goodbye
            | What::Ended(_) => {}
        }
    }
}

fn check_hashes(at: (u64, u64), history: &[Digest], server: Digest, own: Digest, tell: &mut impl FnMut(Kind, String)) {
    if own != server {
        tell(
            Kind::WrongHash,
            format!("at {at:?} it holds {own}, the server {server}"),
        );
    }
    if history.is_empty() {
        tell(Kind::Phantom, format!("{at:?} was committed and is not in the history"));
    } else if !history.contains(&server) {
        tell(
            Kind::WrongHash,
            format!("at {at:?} the server has {server}, the history {history:?}"),
        );
    }
}

impl Client {
    fn see(&mut self, what: &What, replaced: bool, tell: &mut impl FnMut(Kind, String)) {
        if self.over && !matches!(what, What::Ended(_)) {
            tell(Kind::Torn, format!("{what:?} came after Goodbye"));
        }
        match *what {
            What::Opened { .. } => {}
            What::Begin {
                intent,
                reason,
                generation,
                from,
                to,
                count,
            } => {
                if self.step.is_some() {
                    tell(Kind::Torn, "a step within a step".to_owned());
                }
                // Whoever comes with a token of a history that is no more may be told so before the generation rises, and nobody else.
                let is_same = self.held.is_some_and(|(held, _)| held == generation);
                let convicts = reason == SnapshotReason::Diverged && is_same;
                if convicts && !(self.resumes && replaced) {
                    let held = self.held;
                    tell(
                        Kind::OutOfOrder,
                        format!("{held:?} was said to be of no history, in the same generation"),
                    );
                }
                self.resumes = false;
                let follows = intent == Intent::Snapshot || self.held == Some((generation, from));
                if !follows {
                    let words = format!("a step from {:?} to one that holds {:?}", (generation, from), self.held);
                    tell(Kind::OutOfOrder, words);
                }
                self.step = Some(Step {
                    intent,
                    reason,
                    to: (generation, to),
                    announced: count,
                    received: 0,
                    convicts,
                });
            }
            What::Put { .. } | What::Delete { .. } => match &mut self.step {
                Some(step) => step.received += 1,
                None => tell(Kind::Torn, "an item outside of a step".to_owned()),
            },
            What::Commit {
                generation, revision, ..
            } => match self.step.take() {
                Some(step) => self.commit(&step, (generation, revision), tell),
                None => tell(Kind::Torn, "a commit outside of a step".to_owned()),
            },
            What::Heartbeat {
                generation, revision, ..
            } => {
                if self.step.is_some() {
                    tell(Kind::Torn, "a heartbeat within a step".to_owned());
                }
                if self.held != Some((generation, revision)) {
                    let words = format!(
                        "a heartbeat at {:?} to one that holds {:?}",
                        (generation, revision),
                        self.held
                    );
                    tell(Kind::Lost, words);
                }
            }
            What::Goodbye => {
                if self.step.is_some() {
                    tell(Kind::Torn, "Goodbye within a step".to_owned());
                }
                self.over = true;
            }
            What::Ended(_) => self.step = None,
        }
    }

    fn commit(&mut self, step: &Step, at: (u64, u64), tell: &mut impl FnMut(Kind, String)) {
        if step.announced != step.received {
            let words = format!("{} items of {} in the step to {at:?}", step.received, step.announced);
            tell(Kind::Torn, words);
        }
        if step.to != at {
            tell(Kind::Torn, format!("a step to {:?} ended at {at:?}", step.to));
        }
        if let Some(held) = self.held {
            if at <= held && step.convicts {
                // Told above, if that may not be.
            } else if at < held {
                tell(
                    Kind::OutOfOrder,
                    format!("from {held:?} back to {at:?} ({:?})", step.reason),
                );
            } else if at == held && step.intent != Intent::None {
                tell(
                    Kind::Duplicate,
                    format!("{at:?} was committed again ({:?})", step.reason),
                );
            }
        }
        self.held = Some(at);
    }
}
